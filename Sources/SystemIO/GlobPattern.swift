// The paths a shell pattern stands for.

import Glibc

extension FileSystem {
  /// Whether `path` reads as a pattern: it holds `*`, `?` or `[`.
  package static func isPattern(_ path: String) -> Bool {
    path.utf8.contains {
      $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "[")
    }
  }

  /// The existing paths that `pattern` stands for, sorted; none where it fits nothing.
  package static func matches(_ pattern: String) throws(SystemError) -> [String] {
    var found = unsafe glob_t()
    defer { unsafe globfree(&found) }
    let code = unsafe glob(pattern, GLOB_ERR, nil, &found)
    if code == GLOB_NOMATCH { return [] }
    if code != 0 {
      throw SystemError(path: pattern, call: "glob", code: code == GLOB_NOSPACE ? ENOMEM : errno)
    }
    return (0..<Int(unsafe found.gl_pathc)).compactMap { index in
      unsafe found.gl_pathv[index].map { unsafe String(cString: $0) }
    }.sorted()
  }
}
