// What the processor is called.

/// As the kernel has it from the maker; empty where it does not say.
package func processorName() -> String {
  let text = (try? FileSystem.readFile("/proc/cpuinfo", limit: FileSystem.smallFile)) ?? []
  let line = String(decoding: text, as: UTF8.self).split(separator: "\n")
    .first { $0.hasPrefix("model name") }
  let name = line?.split(separator: ":", maxSplits: 1).last ?? ""
  return name.split(separator: " ").joined(separator: " ")
}
