// Files of planned size.

import Glibc
import SystemIO
import Testing
import TestSupport

@Suite struct OutputFileTests {
  private func write(_ bytes: [UInt8], to file: OutputFile, at offset: Int) throws {
    try unsafe bytes.withUnsafeBytes { try unsafe file.write($0, at: offset) }
  }

  @Test func bytesLandAtTheirOffsetsAndTheRestIsZero() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/out"
      let file = try OutputFile(creating: path, byteCount: 10)
      try write([1, 2], to: file, at: 8)
      try write([3], to: file, at: 0)
      try write([], to: file, at: 10)
      try file.synchronize()
      #expect(try FileSystem.readFile(path) == [3, 0, 0, 0, 0, 0, 0, 0, 1, 2])
    }
  }

  @Test func reopeningKeepsWhatWasWrittenAndCreatingDoesNot() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/out"
      try write([1], to: OutputFile(creating: path, byteCount: 3), at: 0)
      try write([2], to: OutputFile(opening: path, byteCount: 3), at: 2)
      #expect(try FileSystem.readFile(path) == [1, 0, 2])
      _ = try OutputFile(creating: path, byteCount: 2)
      #expect(try FileSystem.readFile(path) == [0, 0])
    }
  }

  @Test func theBlocksAreReservedFromTheStart() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/out"
      let file = try OutputFile(creating: path, byteCount: 1 << 20)
      var status = stat()
      #expect(unsafe stat(file.path, &status) == 0)
      #expect(status.st_size == 1 << 20)
      #expect(status.st_blocks * 512 >= 1 << 20)
    }
  }

  @Test func anEmptyFileCanBePlanned() throws {
    try withTemporaryFolder { folder in
      _ = try OutputFile(creating: "\(folder)/out", byteCount: 0)
      #expect(try FileSystem.fileSize("\(folder)/out") == 0)
    }
  }

  @Test func reopeningADifferentSizeIsRefused() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/out"
      _ = try OutputFile(creating: path, byteCount: 3)
      let expected = SystemError(path: path, call: "reopening 4 bytes (found 3)", code: EINVAL)
      #expect(throws: expected) { try OutputFile(opening: path, byteCount: 4) }
      #expect(throws: SystemError(path: "\(folder)/no", call: "open", code: ENOENT)) {
        try OutputFile(opening: "\(folder)/no", byteCount: 4)
      }
    }
  }

  // Asking more than the whole of a tmpfs fails at once; other file systems would try.
  @Test(
    .enabled(if: FileSystem.isFolder("/dev/shm"), "/dev/shm is needed to stand for a full disk"))
  func aFullDiskShowsAtOnceAndLeavesNothingBehind() throws {
    let path = "/dev/shm/sluice-test-\(getpid())"
    let expected = SystemError(path: path, call: "posix_fallocate", code: ENOSPC)
    #expect(throws: expected) { try OutputFile(creating: path, byteCount: 1 << 50) }
    #expect(!FileSystem.exists(path))
  }

  @Test(arguments: [(-1, 1), (3, 1), (0, 4), (Int.max, 1)])
  func writingBeyondThePlanIsAProgrammersError(offset: Int, count: Int) async throws {
    try await withTemporaryFolder { folder in
      await #expect(processExitsWith: .failure) { [offset, count, folder = folder as String] in
        // An error thrown here ends the process without a trap, which fails the test.
        let file = try? OutputFile(creating: "\(folder)/out", byteCount: 3)
        let bytes = [UInt8](repeating: 0, count: count)
        unsafe bytes.withUnsafeBytes { try? unsafe file?.write($0, at: offset) }
      }
    }
  }
}
