// Where the fixtures are, found from this file's own place in the sources.

/// The path of a file under `fixtures/`, such as `qwen3moe-tiny/config.json`.
package func fixturePath(_ name: String) -> String {
  let sourcePath = #filePath
  let root = sourcePath.split(separator: "/").dropLast(3).joined(separator: "/")
  return "/\(root)/fixtures/\(name)"
}
