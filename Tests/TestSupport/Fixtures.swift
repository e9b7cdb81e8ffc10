// Where the fixtures are, found from this file's own place in the sources.

internal import SystemIO

/// The path of a file under `fixtures/`, such as `qwen3moe-tiny/config.json`.
package func fixturePath(_ name: String) -> String {
  let sourcePath = #filePath
  let root = sourcePath.split(separator: "/").dropLast(3).joined(separator: "/")
  return "/\(root)/fixtures/\(name)"
}

/// What lies in a folder of fixtures, in alphabetical order; nothing where it cannot be read.
package func fixtures(in folder: String) -> [String] {
  ((try? FileSystem.list(fixturePath(folder))) ?? []).sorted()
}
