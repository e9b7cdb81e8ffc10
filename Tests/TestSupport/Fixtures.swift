// Where the fixtures and the other files of the project are, found from this file's own place in the sources.

internal import SystemIO

/// The path of a file of the project, such as `README.md`.
package func projectPath(_ name: String) -> String {
  let sourcePath = #filePath
  let root = sourcePath.split(separator: "/").dropLast(3).joined(separator: "/")
  return "/\(root)/\(name)"
}

/// The path of a page of the documentation, such as `Guide.md`.
package func pagePath(_ name: String) -> String {
  projectPath("Sources/sluice/Sluice.docc/\(name)")
}

/// The path of a file under `fixtures/`, such as `qwen3moe-tiny/config.json`.
package func fixturePath(_ name: String) -> String { projectPath("fixtures/\(name)") }

/// What lies in a folder of fixtures, in alphabetical order; nothing where it cannot be read.
package func fixtures(in folder: String) -> [String] {
  ((try? FileSystem.list(fixturePath(folder))) ?? []).sorted()
}
