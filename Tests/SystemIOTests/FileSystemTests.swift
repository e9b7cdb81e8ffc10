// Reading, listing, creating, copying and removing.

import Glibc
import SystemIO
import Testing
import TestSupport

@Suite struct FileSystemTests {
  @Test(arguments: [0, 1, 1 << 20, (1 << 20) + 1, 3_000_000])
  func aFileIsReadAndCopiedWhole(byteCount: Int) throws {
    try withTemporaryFolder { folder in
      let content = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 9) }
      try replaceFile("\(folder)/a", with: content)
      #expect(try FileSystem.readFile("\(folder)/a") == content)
      #expect(try FileSystem.fileSize("\(folder)/a") == byteCount)
      try replaceFile("\(folder)/b", with: [UInt8](repeating: 1, count: 4_000_000))
      try FileSystem.copyFile(from: "\(folder)/a", to: "\(folder)/b")
      #expect(try FileSystem.readFile("\(folder)/b") == content)
    }
  }

  @Test func aFileOfUnknownSizeIsReadWhole() throws {
    #expect(try FileSystem.readFile("/proc/self/status").count > 100)
  }

  @Test func foldersAreCreatedWithTheirParentsAndListedInOrder() throws {
    try withTemporaryFolder { folder in
      try FileSystem.createFolder("\(folder)/b/c/d/")
      try FileSystem.createFolder("\(folder)/b/c/d")
      try replaceFile("\(folder)/a", with: [])
      try replaceFile("\(folder)/.hidden", with: [])
      try replaceFile("\(folder)/é", with: [])
      #expect(FileSystem.isFolder("\(folder)/b/c/d"))
      #expect(try FileSystem.list(folder) == [".hidden", "a", "b", "é"])
    }
  }

  @Test func aFolderCannotBeCreatedUnderAFile() throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/a", with: [])
      #expect(throws: SystemError(path: "\(folder)/a", call: "mkdir", code: ENOTDIR)) {
        try FileSystem.createFolder("\(folder)/a/b")
      }
    }
  }

  @Test func dotsBelowAFolderThatIsYetToBeMadeAreResolved() throws {
    try withTemporaryFolder { folder in
      let real = FileSystem.resolved(folder)
      #expect(FileSystem.resolved("\(folder)/a/b") == "\(real)/a/b")
      #expect(FileSystem.resolved("\(folder)/a/./b/../c/") == "\(real)/a/c")
      #expect(FileSystem.resolved("\(folder)/a/..") == real)
      #expect(FileSystem.resolved("/no-such-folder") == "/no-such-folder")
    }
  }

  @Test func existenceTellsFilesFromFolders() throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/a", with: [])
      #expect(FileSystem.exists(folder) && FileSystem.isFolder(folder))
      #expect(FileSystem.exists("\(folder)/a") && !FileSystem.isFolder("\(folder)/a"))
      #expect(!FileSystem.exists("\(folder)/b") && !FileSystem.isFolder("\(folder)/b"))
    }
  }

  @Test func removingTakesAFolderWithItsContentButFollowsNoLink() throws {
    try withTemporaryFolder { folder in
      try FileSystem.createFolder("\(folder)/kept")
      try replaceFile("\(folder)/kept/file", with: [1])
      try FileSystem.createFolder("\(folder)/gone/deep")
      try replaceFile("\(folder)/gone/deep/file", with: [1])
      #expect(unsafe symlink("\(folder)/kept", "\(folder)/gone/link") == 0)
      try FileSystem.remove("\(folder)/gone")
      #expect(try FileSystem.list(folder) == ["kept"])
      #expect(try FileSystem.list("\(folder)/kept") == ["file"])
      try FileSystem.remove("\(folder)/gone")
    }
  }

  @Test func whatIsMissingIsReportedWithItsPath() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/no"
      #expect(throws: SystemError(path: path, call: "open", code: ENOENT)) {
        try FileSystem.readFile(path)
      }
      #expect(throws: SystemError(path: path, call: "stat", code: ENOENT)) {
        try FileSystem.fileSize(path)
      }
      #expect(throws: SystemError(path: path, call: "opendir", code: ENOENT)) {
        try FileSystem.list(path)
      }
      #expect(throws: SystemError(path: path, call: "open", code: ENOENT)) {
        try FileSystem.copyFile(from: path, to: "\(folder)/copy")
      }
      #expect(throws: SystemError(path: folder, found: .folder)) {
        try FileSystem.readFile(folder)
      }
    }
  }

  @Test func freeSpaceIsToldForAPathThatIsYetToBeCreated() throws {
    try withTemporaryFolder { folder in
      for path in [folder, "\(folder)/x/y/z", "not-there"] {
        let bytes = try FileSystem.freeBytes(path)
        #expect(bytes > 0)
      }
    }
  }
  @Test(arguments: ["a/", "/a", "../", "./a/"])
  func `a path of any length is an error`(part: String) {
    let path = String(repeating: part, count: 100_000)
    // However often one goes up, the root is the end.
    #expect(FileSystem.resolved(path) == (part == "../" ? "/" : path))
    let error = #expect(throws: SystemError.self) { try FileSystem.createFolder(path) }
    #expect(error?.code == ENAMETOOLONG)
  }

  @Test func `the size of a folder follows no link`() throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/a", with: [1, 2, 3])
      for name in ["x", "y", "z"] {
        let made = unsafe symlink(".", "\(folder)/\(name)")
        #expect(made == 0)
      }
      #expect(FileSystem.folderSize(folder) == 3)
    }
  }

  @Test(arguments: [
    (UInt64(3), UInt64(4096), 12_288), (.max, 1, .max), (.max, 4096, .max), (1 << 62, 4, .max),
    (1 << 63, 1, .max), (0, .max, 0),
  ])
  func `free space of any size is told`(blocks: UInt64, size: UInt64, expected: Int) {
    #expect(FileSystem.bytes(blocks: blocks, of: size) == expected)
  }
}
