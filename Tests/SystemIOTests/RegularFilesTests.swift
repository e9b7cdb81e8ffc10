// What only looks like a file is refused at once, by what it is; it is neither waited for nor read without end.

import Glibc
import SystemIO
import Testing
import TestSupport

@Suite struct RegularFilesTests {
  /// One of each kind that a test may make or find, by its path.
  private func kinds(_ folder: String) throws -> [(path: String, kind: FileKind)] {
    try #require(unsafe mkfifo("\(folder)/pipe", 0o600) == 0)
    try #require(unsafe mknod("\(folder)/socket", S_IFSOCK | 0o600, 0) == 0)
    try FileSystem.createFolder("\(folder)/folder")
    try #require(unsafe symlink("pipe", "\(folder)/link") == 0)
    return [
      ("\(folder)/pipe", .pipe), ("\(folder)/socket", .socket), ("\(folder)/folder", .folder),
      ("\(folder)/link", .pipe), ("/dev/zero", .characterDevice), ("/dev/tty", .characterDevice),
    ]
  }

  @Test func whateverIsNoRegularFileIsRefusedEverywhereAFileIsOpened() throws {
    try withTemporaryFolder { folder in
      for (path, kind) in try kinds(folder) {
        let openings: [(String) throws -> Void] = [
          { _ = try FileSystem.readFile($0) }, { _ = try MappedFile(path: $0) },
          { try FileSystem.copyFile(from: $0, to: "\(folder)/copy") },
          { try FileSystem.copyFile(from: "/proc/self/status", to: $0) },
          { _ = try OutputFile(creating: $0, byteCount: 1) },
          { _ = try OutputFile(opening: $0, byteCount: 1) },
          { _ = try AppendedFile(creating: $0) }, { _ = try AppendedFile(continuing: $0, at: 0) },
          { _ = try FileLock(path: $0) },
        ]
        for open in openings {
          #expect(throws: SystemError(path: path, found: kind)) { try open(path) }
        }
        #expect(!FileLock.isHeld(path: path))
        #expect(FileKind(at: path) == kind)
      }
      #expect(!FileSystem.exists("\(folder)/copy"))
    }
  }

  @Test func theMessageSaysWhatStandsThere() {
    #expect(
      SystemError(path: "model/config.json", found: .pipe).description
        == "model/config.json: expected a regular file, found a FIFO (named pipe); put a regular file "
        + "there, or name another path")
  }

  @Test func theKernelsOwnFilesAreRegular() throws {
    #expect(try FileSystem.readFile("/proc/self/status").starts(with: "Name:".utf8))
    #expect(FileKind(at: "/proc/self/status") == .regular)
    #expect(FileKind(at: "/no-such-file") == nil)
  }
}
