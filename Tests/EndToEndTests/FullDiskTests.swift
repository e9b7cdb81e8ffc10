// A disk that is too small, or that someone else fills on the way.

import Glibc
import SystemIO
import Testing
import TestSupport

private let options = ["--calibration", fixtureCalibration]

/// Calls `body` with a folder on a file system of its own.
private func withDisk<R>(megabytes: Int, _ body: (String) throws -> R) throws -> R {
  try withTemporaryFolder { folder in
    let disk = "\(folder)/disk"
    try FileSystem.createFolder(disk)
    let mounted = unsafe mount("none", disk, "tmpfs", 0, "size=\(megabytes)m")
    if mounted != 0 { throw SystemError(path: disk, call: "mount", code: errno) }
    defer { unsafe umount2(disk, Int32(MNT_DETACH)) }
    return try body(disk)
  }
}

/// Only root may mount, and not in every container.
private let mayMount = getuid() == 0 && (try? withDisk(megabytes: 1) { _ in }) != nil

@Suite(.enabled(if: mayMount, "needs the right to mount a small disk"))
struct FullDiskTests {
  @Test func aDiskThatIsTooSmallIsRefusedAtOnce() throws {
    try withDisk(megabytes: 3) { disk in
      let output = "\(disk)/out"
      let refused = try Program.run(
        ["quantize", fixtureModel, "--output", output] + options)
      expectRefusal(refused, [output, "are needed", "are free", "--output"])
      #expect(try FileSystem.list(output).allSatisfy { $0 == ".sluice" })
    }
  }

  @Test func aDiskThatFillsUpStopsTheRunAndSpaceLetsItGoOn() throws {
    try withDisk(megabytes: 64) { disk in
      let output = "\(disk)/out"
      let program = try Program.halted(
        ["quantize", fixtureModel, "--output", output] + options, output: output)
      try fill("\(disk)/filler")
      program.send(SIGCONT)
      let stopped = try program.wait()
      expectRefusal(
        stopped,
        ["No space left on device", "free some space", "is kept", "the same command goes on"])
      #expect(!FileSystem.exists("\(output)/config.json"))
      // The reason finds its place on the full disk.
      let status = try Program.run(["status", output])
      #expect(status.stdout.contains("because      "), "\(status)")
      #expect(status.stdout.contains("No space left on device"), "\(status)")

      try FileSystem.remove("\(disk)/filler")
      let second = try Program.run(["quantize", fixtureModel, "--output", output] + options)
      #expect(second.end == .exit(0), "\(second)")
      #expect(second.stderr.contains("going on"))
      try withTemporaryFolder { folder in
        try quantize(to: "\(folder)/straight", options)
        #expect(differences(try result(output), try result("\(folder)/straight")) == [])
      }
    }
  }

  /// The output's own files are no scratch.
  @Test func aPlanOfAStoppedRunMissesTheRoomThatItsScratchStillNeeds() throws {
    try withDisk(megabytes: 64) { disk in
      let output = "\(disk)/out"
      let program = try Program.halted(
        ["quantize", fixtureModel, "--output", output] + options, output: output)
      program.send(SIGKILL)
      _ = try program.wait()
      let scratch = "\(output)/.sluice/scratch"
      for name in try FileSystem.list(scratch) { try FileSystem.remove("\(scratch)/\(name)") }
      try fill("\(disk)/filler")
      let plan = try Program.run(["plan", fixtureModel, "--output", output] + options)
      #expect(plan.end == .exit(1), "\(plan)")
      #expect(plan.stderr.contains("are needed"), "\(plan)")
    }
  }

  /// Writes until nothing more fits.
  private func fill(_ path: String) throws {
    // Programs that other tests start meanwhile would keep the file, and its space, after it is removed.
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    if descriptor < 0 { throw SystemError(path: path, call: "open", code: errno) }
    defer { close(descriptor) }
    for size in [1 << 20, 4096] {
      let block = [UInt8](repeating: 1, count: size)
      while unsafe Glibc.write(descriptor, block, size) > 0 {}
    }
  }
}
