// A private folder for one test, gone when the test is.

import Glibc
import SystemIO

/// Calls `body` with the path of a fresh empty folder and removes it afterwards.
@discardableResult
package func withTemporaryFolder<R>(_ body: (String) throws -> R) throws -> R {
  let parent = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
  var template = Array("\(parent)/sluice-test-XXXXXX".utf8CString)
  let folder = unsafe template.withUnsafeMutableBufferPointer { buffer -> String? in
    unsafe mkdtemp(buffer.baseAddress!).map { unsafe String(cString: $0) }
  }
  guard let folder else {
    throw SystemError(path: parent, call: "mkdtemp", code: errno)
  }
  defer { try? FileSystem.remove(folder) }
  return try body(folder)
}

/// Calls `body` with a private copy of a folder under `fixtures/`.
@discardableResult
package func withCopiedFixture<R>(_ name: String, _ body: (String) throws -> R) throws -> R {
  try withTemporaryFolder { folder in
    for file in try FileSystem.list(fixturePath(name)) {
      try FileSystem.copyFile(from: fixturePath(name) + "/" + file, to: folder + "/" + file)
    }
    return try body(folder)
  }
}
