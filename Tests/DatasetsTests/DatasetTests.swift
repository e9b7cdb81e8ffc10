// Which files a data set is made of, and in which order its rows are read.

import Datasets
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct DatasetTests {
  @Test func theFilesOfAFolderAreReadInNameOrderAndTheOthersReported() throws {
    try withTemporaryFolder { folder in
      try write(Array("{\"a\":3}\n\n{\"a\":4}\n".utf8), to: "\(folder)/b.jsonl")
      try write(Array("[{\"a\":5}]".utf8), to: "\(folder)/c.json")
      try write(Array("{\"a\":1}\n{\"a\"}\n".utf8), to: "\(folder)/a.jsonl")
      for name in ["README.md", "LICENSE.txt", "dataset_infos.json", ".hidden.jsonl"] {
        try write(Array("{}".utf8), to: "\(folder)/\(name)")
      }
      try FileSystem.createFolder("\(folder)/other")
      let dataset = try Dataset(path: folder + "/")
      #expect(dataset.paths == ["a.jsonl", "b.jsonl", "c.json"].map { "\(folder)/\($0)" })
      #expect(
        dataset.passedOver
          == ["LICENSE.txt", "README.md", "dataset_infos.json", "other"].map { "\(folder)/\($0)" })
      #expect(try dataset.rowCount() == 5)
      let reader = dataset.makeReader()
      var places: [String] = []
      while let row = try reader.next() {
        #expect(row.index == places.count)
        places.append(row.place.replacing(folder: folder))
      }
      #expect(
        places == [
          "a.jsonl: line 1", "a.jsonl: line 2", "b.jsonl: line 1", "b.jsonl: line 3",
          "c.json: row 1",
        ])
      for index in 0...5 {
        let reader = dataset.makeReader()
        try reader.skip(to: index)
        #expect(
          try reader.next()?.place.replacing(folder: folder) == (index < 5 ? places[index] : nil))
      }
    }
  }

  @Test func aPatternChoosesFiles() throws {
    try withTemporaryFolder { folder in
      for name in ["train-1.jsonl", "train-0.jsonl", "test-0.jsonl", "train.md"] {
        try write(Array("{\"name\":\"\(name)\"}".utf8), to: "\(folder)/\(name)")
      }
      let dataset = try Dataset(path: "\(folder)/train*")
      #expect(
        try rows(dataset) == ["{\"name\":\"train-0.jsonl\"}", "{\"name\":\"train-1.jsonl\"}"])
      #expect(dataset.passedOver == ["\(folder)/train.md"])
      // A file whose name reads as a pattern is itself.
      try write(Array("{\"a\":1}".utf8), to: "\(folder)/[x].jsonl")
      #expect(try rows(Dataset(path: "\(folder)/[x].jsonl")) == ["{\"a\":1}"])
    }
  }

  @Test func aFolderOfTextsHasARowForEach() throws {
    try withTemporaryFolder { folder in
      for name in ["b.txt", "a.txt"] { try write(Array(name.utf8), to: "\(folder)/\(name)") }
      let dataset = try Dataset(path: folder)
      #expect(try rows(dataset) == ["{\"text\":\"a.txt\"}", "{\"text\":\"b.txt\"}"])
      #expect(dataset.columns == ["text"])
    }
  }

  @Test func rowsHoldOnlyTheColumnsAskedForAndLackWhatTheyLack() throws {
    try withTemporaryFolder { folder in
      try write(
        Array("{\"b\":1,\"a\":2,\"c\":3}\n{\"c\":4}\n{\"a\":null}\n".utf8), to: "\(folder)/a.jsonl")
      let dataset = try Dataset(path: "\(folder)/a.jsonl")
      #expect(dataset.columns == ["b", "a", "c"])
      #expect(
        try rows(dataset.selecting(["a", "b"])) == ["{\"b\":1,\"a\":2}", "{}", "{\"a\":null}"])
    }
  }

  @Test func readingStopsWhereTheCallerStops() throws {
    try withTemporaryFolder { folder in
      var bytes = try FileSystem.readFile(fixturePath("datasets/text.groups.parquet"))
      let frames = bytes.indices.dropLast(4).filter {
        Array(bytes[$0..<$0 + 4]) == [0x28, 0xB5, 0x2F, 0xFD]
      }
      bytes[(frames.last ?? 0) + 5] ^= 1
      try write(bytes, to: "\(folder)/a.parquet")
      let rows = try Dataset(path: "\(folder)/a.parquet").makeReader()
      for _ in 0..<7 { #expect(try rows.next() != nil) }
      #expect(readAnything("\(folder)/a.parquet") != nil)
    }
  }

  /// 40 MB each. The files are written here and read in a process of its own, whose memory is told from the start.
  @Test func memoryStaysSmallWhereFilesAreBig() async throws {
    try await withTemporaryFolder { folder in
      let line = "{\"text\":\"\(String(repeating: "word ", count: 20_000))\"}"
      let lines = Array(repeatElement(line, count: 400).joined(separator: "\n").utf8)
      try write(lines, to: "\(folder)/a.jsonl")
      try write(zstd(lines), to: "\(folder)/b.jsonl.zst")
      try write(gzip(lines), to: "\(folder)/c.jsonl.gz")
      let array = "[\(repeatElement(line, count: 400).joined(separator: ","))]"
      try write(Array(array.utf8), to: "\(folder)/d.json")
      await #expect(processExitsWith: .success) { [folder = folder as String] in
        let before = ResidentMemory.current().residentBytes
        let reader = try Dataset(path: folder).makeReader()
        while let row = try reader.next() { _ = try row.value.get() }
        precondition(reader.index == 1600)
        precondition(ResidentMemory.current().peakBytes - before < 24 << 20)
      }
    }
  }
}
