// One holder at a time, and none after death.

import Glibc
import SystemIO
import Testing
import TestSupport

@Suite struct FileLockTests {
  @Test func aSecondHolderIsTurnedAwayUntilTheFirstIsGone() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/lock"
      var first = try FileLock(path: path)
      #expect(first != nil)
      #expect(try FileLock(path: path) == nil)
      first = nil
      #expect(try FileLock(path: path) != nil)
    }
  }

  @Test func theLockOfAKilledProcessIsFree() async throws {
    try await withTemporaryFolder { folder in
      let path = "\(folder)/lock"
      await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String] in
        let lock = try FileLock(path: path)
        try #require(lock != nil)
        kill(getpid(), SIGKILL)
        withExtendedLifetime(lock) {}
      }
      #expect(FileSystem.exists(path))
      let next = try FileLock(path: path)
      #expect(next != nil)
    }
  }

  @Test func aLockInAMissingFolderIsAnError() throws {
    try withTemporaryFolder { folder in
      #expect(throws: SystemError(path: "\(folder)/a/lock", call: "open", code: ENOENT)) {
        _ = try FileLock(path: "\(folder)/a/lock")
      }
    }
  }
}
