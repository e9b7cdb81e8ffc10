// Rows that are larger than the memory that there is for them, and what reading them takes at most.

import Datasets
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct RoomTests {
  private static let room = Room(bytes: 32 << 20)

  private func read(_ bytes: [UInt8], as name: String, _ room: Room = room) throws -> [DatasetRow] {
    try withTemporaryFolder { folder in
      try write(bytes, to: "\(folder)/\(name)")
      let reader = try Dataset(path: "\(folder)/\(name)", room: room).makeReader()
      var rows: [DatasetRow] = []
      while let row = try reader.next() { rows.append(row) }
      return rows
    }
  }

  private func row(_ count: Int) -> [UInt8] {
    Array("{\"text\":\"".utf8) + [UInt8](repeating: UInt8(ascii: "a"), count: count)
      + Array("\"}".utf8)
  }

  @Test(arguments: ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.json.gz"])
  func aRowThatIsTooLongIsAnErrorThatNamesIt(name: String) throws {
    let isArray = name.hasPrefix("a.json.") || name == "a.json"
    func file(_ count: Int) throws -> [UInt8] {
      let rows = row(10) + Array((isArray ? "," : "\n").utf8) + row(count)
      return try packed(isArray ? Array("[".utf8) + rows + Array("]".utf8) : rows, as: name)
    }
    #expect(try read(file(4 << 20), as: name).count == 2)
    let error = try #require(throws: DatasetError.self) { try read(file(8 << 20), as: name) }
    guard case .rowTooLong(let file, let place, let limit) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(file.hasSuffix(name) && limit == 32 << 20 / 5)
    #expect(place == (isArray ? "a value" : "line 2"))
    #expect("\(error)".contains("6 MiB") && "\(error)".contains("--memory"))
  }

  /// Short to write, large in memory: a value of a list takes some thirty bytes and more.
  @Test(arguments: ["0", "[]", "[0]", "{}", "{\"a\":0}", "\"\""])
  func aRowOfManySmallValuesIsCountedByWhatTheyTake(value: String) throws {
    let list = repeatElement(value, count: 500_000).joined(separator: ",")
    let error = try #require(throws: DatasetError.self) {
      try read(Array("{\"input_ids\":[\(list)]}\n".utf8), as: "a.jsonl")
    }
    guard case .rowTooLong(_, "line 1", 16 << 20) = error else {
      Issue.record("\(error)")
      return
    }
  }

  @Test(arguments: ["a.txt", "a.txt.gz", "a.txt.zst"])
  func ofALongTextTheBeginningIsReadAndMoreWhereItIsWanted(name: String) throws {
    let text = String(repeating: "Ein längerer Text. ", count: 200_000)
    try withTemporaryFolder { folder in
      try write(packed(Array(text.utf8), as: name), to: "\(folder)/\(name)")
      let dataset = try Dataset(path: folder, room: Self.room)
      var row = try #require(try dataset.makeReader().next())
      for bytes in [Dataset.firstTextBytes, 3 << 20, 1 << 22] {
        if bytes > Dataset.firstTextBytes { row = try dataset.longer(row, bytes: bytes) }
        let found = try #require(row.value.get()["text"]?.string)
        #expect(text.utf8.starts(with: found.utf8))
        #expect(row.isCut == (bytes < text.utf8.count))
        #expect(found.utf8.count == min(bytes, text.utf8.count) || found.utf8.count == bytes - 1)
      }
      #expect(try dataset.longer(row, bytes: 1 << 40).isCut == false)
    }
  }

  @Test func moreOfATextThanThereIsMemoryForIsAnError() throws {
    try withTemporaryFolder { folder in
      try write([UInt8](repeating: 32, count: 10 << 20), to: "\(folder)/a.txt")
      let dataset = try Dataset(path: folder, room: Self.room)
      let row = try #require(try dataset.makeReader().next())
      #expect(try dataset.longer(row, bytes: 6 << 20).isCut)
      let error = DatasetError.rowTooLong(
        file: "\(folder)/a.txt", place: "row 1", limit: 32 << 20 / 5)
      #expect(throws: error) { try dataset.longer(row, bytes: 7 << 20) }
    }
  }

  /// RFC 8878: a frame that wants a window of 64 MiB, which a decoder would have to keep.
  @Test func aWindowThatIsTooLargeIsNotCalledDamage() throws {
    let frame: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x80, 0x01, 0x00, 0x00]
    let error = try #require(throws: DatasetError.self) { try read(frame, as: "a.jsonl.zst") }
    #expect("\(error)".contains("expected a window of at most 8 MiB, found a larger one"))
    #expect(try read(frame, as: "a.jsonl.zst", .standard).isEmpty)
  }

  /// Read in a process of its own, whose memory is told from the start.
  @Test func memoryStaysWithinTheRoom() async throws {
    try await withTemporaryFolder { folder in
      // What unpacks to 400 MB from few bytes, and what a single row of 100 MB is.
      try write(zeros(megabytes: 400), to: "\(folder)/bomb.jsonl.zst")
      try write(zeros(megabytes: 400), to: "\(folder)/bomb.txt.zst")
      try write(row(100 << 20), to: "\(folder)/row.jsonl")
      await #expect(processExitsWith: .success) { [folder = folder as String] in
        let before = ResidentMemory.current().residentBytes
        for name in try FileSystem.list(folder) {
          let path = "\(folder)/\(name)"
          do throws(DatasetError) {
            let reader = try Dataset(path: path, room: Room(bytes: 32 << 20)).makeReader()
            while var row = try reader.next() {
              // As much as there is, a step at a time.
              for bytes in [2 << 20, 4 << 20, 8 << 20] {
                row = try Dataset(path: path, room: Room(bytes: 32 << 20)).longer(row, bytes: bytes)
              }
            }
            preconditionFailure("\(name) fits")
          } catch {
            guard case .rowTooLong = error else { preconditionFailure("\(error)") }
          }
        }
        precondition(ResidentMemory.current().peakBytes - before < 32 << 20)
      }
    }
  }

  /// RFC 8878: blocks that repeat one byte, 128 KiB each.
  private func zeros(megabytes: Int) -> [UInt8] {
    let block: [UInt8] = [0x02, 0x00, 0x10, UInt8(ascii: "a")]
    return [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x38]
      + repeatElement(block, count: megabytes * 8).joined() + [0x01, 0x00, 0x00]
  }
}
