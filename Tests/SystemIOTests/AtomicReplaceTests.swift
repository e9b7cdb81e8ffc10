// The old content or the new, and no stray files.

import Glibc
import SystemIO
import Testing
import TestSupport

@Suite struct AtomicReplaceTests {
  @Test func aFileIsCreatedAndReplacedWithoutLeftovers() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/state"
      try replaceFile(path, with: [1, 2, 3])
      try replaceFile(path, with: [4])
      #expect(try FileSystem.readFile(path) == [4])
      #expect(try FileSystem.list(folder) == ["state"])
    }
  }

  @Test func aLeftoverOfAKilledRunIsOverwritten() throws {
    try withTemporaryFolder { folder in
      let leftover = try OutputFile(creating: "\(folder)/state.tmp", byteCount: 100)
      try leftover.synchronize()
      try replaceFile("\(folder)/state", with: [1])
      #expect(try FileSystem.readFile("\(folder)/state") == [1])
      #expect(try FileSystem.list(folder) == ["state"])
    }
  }

  @Test func aFailureLeavesTheOldContentAndNoTemporary() throws {
    try withTemporaryFolder { folder in
      // A folder cannot be replaced by a file.
      try FileSystem.createFolder("\(folder)/state")
      #expect(throws: SystemError(path: "\(folder)/state", call: "rename", code: EISDIR)) {
        try replaceFile("\(folder)/state", with: [1])
      }
      #expect(try FileSystem.list(folder) == ["state"])
      #expect(FileSystem.isFolder("\(folder)/state"))
    }
  }

  @Test func whatCannotBeReplacedIsKnownBefore() throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/state", with: [1])
      try checkReplaceable("\(folder)/state")
      try checkReplaceable("\(folder)/new")
      #expect(try FileSystem.list(folder) == ["state"])
      #expect(try FileSystem.readFile("\(folder)/state") == [1])
      for place in ["\(folder)/none/new", "\(folder)/state/new", "/proc/new"] {
        let error = #expect(throws: SystemError.self) { try checkReplaceable(place) }
        #expect(error?.path == place)
      }
    }
  }

  @Test func onlyAFolderCanBeSynchronizedAsOne() throws {
    try withTemporaryFolder { folder in
      try synchronizeFolder(folder)
      try replaceFile("\(folder)/file", with: [])
      #expect(throws: SystemError(path: "\(folder)/file", call: "open", code: ENOTDIR)) {
        try synchronizeFolder("\(folder)/file")
      }
    }
  }
}
