// Mapping, reading and giving back memory.

import Glibc
import SystemIO
import Testing
import TestSupport

@Suite struct MappedFileTests {
  private func pattern(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 12) }
  }

  @Test(arguments: [1, 4095, 4096, 4097, 100_000])
  func theContentIsReadableAlsoAfterRelease(byteCount: Int) throws {
    try withTemporaryFolder { folder in
      let content = pattern(byteCount)
      try replaceFile("\(folder)/file", with: content)
      let file = try MappedFile(path: "\(folder)/file")
      #expect(file.byteCount == byteCount)
      #expect(file.path == "\(folder)/file")
      for range in [0..<byteCount, 0..<0, byteCount..<byteCount, byteCount / 3..<byteCount] {
        unsafe file.withBytes { #expect(unsafe $0.elementsEqual(content)) }
        file.release(range)
        unsafe file.withBytes { #expect(unsafe $0.elementsEqual(content)) }
      }
    }
  }

  /// A folder on a disk, wherever temporary files are: files in memory count otherwise and stay in memory.
  private func withFolderOnDisk(
    isolation: isolated (any Actor)? = #isolation, _ body: (String) async throws -> Void
  ) async throws {
    let folder = "/var/tmp/sluice-test-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    try FileSystem.createFolder(folder)
    defer { try? FileSystem.remove(folder) }
    try await body(folder)
  }

  /// In a process of its own: in this one other tests map and release files at the same time.
  @Test func releaseGivesMemoryBack() async throws {
    try await withFolderOnDisk { folder in
      try replaceFile("\(folder)/file", with: [UInt8](repeating: 7, count: 32 << 20))
      await #expect(processExitsWith: .success) { [folder = folder as String] in
        let file = try MappedFile(path: "\(folder)/file")
        let byteCount = file.byteCount
        precondition(byteCount == 32 << 20)
        let before = ResidentMemory.current().fileBytes
        let sum = unsafe file.withBytes { unsafe $0.reduce(0) { $0 + Int($1) } }
        precondition(sum == 7 * byteCount)
        let touched = ResidentMemory.current().fileBytes
        file.release(0..<byteCount)
        let after = ResidentMemory.current().fileBytes
        precondition(touched - before > byteCount / 2)
        precondition(touched - after > byteCount / 2)
      }
    }
  }

  @Test func pagesThatAreOnlyPartlyInTheRangeStay() async throws {
    try await withFolderOnDisk { folder in
      let page = Int(sysconf(Int32(_SC_PAGESIZE)))
      try replaceFile("\(folder)/file", with: pattern(4 * page))
      let file = try MappedFile(path: "\(folder)/file")
      func resident() -> [Bool] {
        unsafe file.withBytes { bytes in
          var inCache = [UInt8](repeating: 0, count: 4)
          let base = unsafe UnsafeMutableRawPointer(mutating: bytes.baseAddress)
          #expect(unsafe mincore(base, bytes.count, &inCache) == 0)
          return inCache.map { $0 & 1 == 1 }
        }
      }
      file.release(0..<4 * page)
      // Dropping clean pages from the cache is advice, which some file systems do not follow.
      guard resident() == [false, false, false, false] else { return }
      unsafe file.withBytes { #expect(unsafe $0.elementsEqual(pattern(4 * page))) }
      file.release(1..<3 * page + 1)
      #expect(resident() == [true, false, false, true])
    }
  }

  @Test func anEmptyFileHasNoBytes() throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/empty", with: [])
      let file = try MappedFile(path: "\(folder)/empty")
      #expect(file.byteCount == 0)
      unsafe file.withBytes { #expect(unsafe $0.isEmpty) }
      file.release(0..<0)
    }
  }

  @Test func theContentSurvivesTheReplacementOfTheFile() throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/file", with: [1, 2, 3])
      let file = try MappedFile(path: "\(folder)/file")
      try replaceFile("\(folder)/file", with: [])
      unsafe file.withBytes { #expect(unsafe $0.elementsEqual([1, 2, 3])) }
    }
  }

  @Test func whatIsNotAFileIsRefused() throws {
    try withTemporaryFolder { folder in
      #expect(throws: SystemError(path: "\(folder)/no", call: "open", code: ENOENT)) {
        try MappedFile(path: "\(folder)/no")
      }
      #expect(throws: SystemError(path: folder, found: .folder)) {
        try MappedFile(path: folder)
      }
      #expect(throws: SystemError(path: "/dev/null", found: .characterDevice)) {
        try MappedFile(path: "/dev/null")
      }
    }
  }
}
