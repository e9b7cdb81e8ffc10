// How much of the machine a command may use.

import ArgumentParser
internal import SystemIO

struct MachineArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Peak resident memory of the process, e.g. 512MiB or 8GiB. Default: half of what is free to it.",
      valueName: "size"), transform: ByteSize.init)
  var memory: ByteSize?

  @Option(
    help: ArgumentHelp("Threads to compute with. Default: all cores it may use.", valueName: "n"))
  var threads: Int?

  func validate() throws {
    if let threads, threads < 1 || threads > 1024 {
      throw ValidationError("--threads is 1 to 1024")
    }
  }

  var memoryBytes: Int { memory?.bytes ?? MachineShare().availableBytes / 2 }
  var threadCount: Int { threads ?? MachineShare().processors }
}
