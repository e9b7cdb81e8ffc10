// A private folder for one test, gone when the test is.

import Glibc
import SystemIO

/// Calls `body` with the path of a fresh empty folder and removes it afterwards.
@discardableResult
package func withTemporaryFolder<R>(_ body: (String) throws -> R) throws -> R {
  let folder = try makeTemporaryFolder()
  defer { try? FileSystem.remove(folder) }
  return try body(folder)
}

/// For tests that wait for a process: one that traps cannot remove its own folder.
@discardableResult
package func withTemporaryFolder<R>(
  isolation: isolated (any Actor)? = #isolation, _ body: (String) async throws -> R
) async throws -> R {
  let folder = try makeTemporaryFolder()
  defer { try? FileSystem.remove(folder) }
  return try await body(folder)
}

private func makeTemporaryFolder() throws -> String {
  let parent = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? P_tmpdir
  var template = Array("\(parent)/sluice-test-XXXXXX".utf8CString)
  let folder = unsafe template.withUnsafeMutableBufferPointer { buffer -> String? in
    unsafe mkdtemp(buffer.baseAddress!).map { unsafe String(cString: $0) }
  }
  guard let folder else { throw SystemError(path: parent, call: "mkdtemp", code: errno) }
  return folder
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
