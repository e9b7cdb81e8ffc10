// Folders with one file or with an index, and all that can be wrong between them.

import Glibc
import JSON
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

@Suite struct ShardedModelTests {
  private func put(_ text: String, _ path: String) throws {
    try replaceFile(path, with: Array(text.utf8))
  }

  /// One shard holding the named tensors, a byte each.
  private func shard(_ names: [String]) -> [UInt8] {
    let entries = names.enumerated().map { entry($1, "U8", "[1]", "[\($0),\($0 + 1)]") }
    return fileBytes("{" + entries.joined(separator: ",") + "}", data: names.count)
  }

  /// A folder with shards `x` (tensors a, b) and `y` (tensor c), and an index of the given entries.
  private func withModel(
    index entries: [(String, String)], _ body: (String) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/x.safetensors", with: shard(["b", "a"]))
      try replaceFile("\(folder)/y.safetensors", with: shard(["c"]))
      let map = JSONObject(entries.map { ($0.0, .string($0.1)) })
      let index = JSONObject([("metadata", nil), ("weight_map", .object(map))])
      try put(
        JSONValue.object(index).serialized(), "\(folder)/model.safetensors.index.json")
      try body(folder)
    }
  }

  private let right = [("a", "x.safetensors"), ("b", "x.safetensors"), ("c", "y.safetensors")]

  @Test func shardsAreOneNameSpaceSortedByName() throws {
    try withModel(index: right) { folder in
      let model = try ShardedModel(folder: folder)
      #expect(model.folder == folder)
      #expect(model.files.map(\.path) == ["\(folder)/x.safetensors", "\(folder)/y.safetensors"])
      #expect(model.tensors.map(\.name) == ["a", "b", "c"])
      #expect(model.totalBytes == 3)
      #expect(try content(of: #require(model["a"])) == [1])
      #expect(try content(of: #require(model["b"])) == [0])
      #expect(model["d"] == nil)
    }
  }

  @Test func aTensorIsCutAlongItsFirstDimension() throws {
    try withTemporaryFolder { folder in
      let entries = [
        entry("a", "U8", "[1]", "[0,1]"), entry("b", "U8", "[2,3]", "[1,7]"),
        entry("b-0", "U8", "[1]", "[7,8]"),
      ]
      try replaceFile(
        "\(folder)/model.safetensors",
        with: fileBytes("{" + entries.joined(separator: ",") + "}", data: 8))
      let model = try ShardedModel(folder: folder)
      #expect(try model.cut([]) { "\($1)\($0)" } === model)
      let cut = try model.cut(["b"]) { "\($1)[\($0)]" }
      #expect(cut.tensors.map(\.name) == ["a", "b-0", "b[0]", "b[1]"])
      #expect(cut.files[0].tensors.map(\.name) == ["a", "b[0]", "b[1]", "b-0"])
      #expect(cut["b[1]"]?.shape == [3] && cut["b"] == nil)
      #expect(try content(of: #require(cut["b[1]"])) == [4, 5, 6])
      #expect(cut.totalBytes == model.totalBytes)
      #expect(
        throws: SafetensorsError.duplicateName(file: "\(folder)/model.safetensors", tensor: "b-0")
      ) { try model.cut(["b"]) { "\($1)-\($0)" } }
    }
  }

  @Test func aSingleFileNeedsNoIndex() throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/model.safetensors", with: shard(["b", "a"]))
      let model = try ShardedModel(folder: folder)
      #expect(model.tensors.map(\.name) == ["a", "b"])
      #expect(model.files.count == 1)
    }
  }

  @Test func aFolderWithoutEitherIsRefused() throws {
    try withTemporaryFolder { folder in
      #expect(throws: SafetensorsError.noModel(folder: folder)) {
        try ShardedModel(folder: folder)
      }
    }
  }

  @Test func anIndexOfTheWrongFormIsRefused() throws {
    try withTemporaryFolder { folder in
      let index = "\(folder)/model.safetensors.index.json"
      let unfinished = JSONError(offset: 1, problem: "expected a key in quotes")
      let cases: [(String, SafetensorsError)] = [
        ("{", .invalidJSON(file: index, unfinished)),
        ("[]", .missingWeightMap(file: index, found: "nothing")),
        ("{}", .missingWeightMap(file: index, found: "nothing")),
        (#"{"weight_map":[]}"#, .missingWeightMap(file: index, found: "array")),
        (#"{"weight_map":{"a":1}}"#, .shardNotAString(file: index, tensor: "a", found: "number")),
        (#"{"weight_map":{"a":"x","a":"x"}}"#, .duplicateName(file: index, tensor: "a")),
      ]
      for (text, error) in cases {
        try put(text, index)
        #expect(throws: error) { try ShardedModel(folder: folder) }
      }
    }
  }

  @Test(arguments: [
    "../x.safetensors", "/x.safetensors", "d/x.safetensors", "..safetensors", "x.bin", "",
    "a\0.safetensors",
  ])
  func aShardNameMustStayInTheFolder(name: String) throws {
    try withModel(index: [("a", name)]) { folder in
      let index = "\(folder)/model.safetensors.index.json"
      #expect(throws: SafetensorsError.invalidShardName(file: index, tensor: "a", found: name)) {
        try ShardedModel(folder: folder)
      }
    }
  }

  @Test func anIndexThatTakesMoreMemoryThanItMayIsRefused() throws {
    try withModel(index: right) { folder in
      let index = "\(folder)/model.safetensors.index.json"
      let zeros = String(repeating: "0,", count: 400_000)
      try replaceFile(index, with: Array("{\"x\":[\(zeros)0],\"weight_map\":{}}".utf8))
      let error = SafetensorsError.takesTooMuch(file: index, part: "index", room: 16 << 20)
      #expect(throws: error) { try ShardedModel(folder: folder, room: 16 << 20) }
      let tooLong = SafetensorsError.system(
        SystemError(path: index, limit: 1 << 19, isLimitOfMemory: true))
      #expect(throws: tooLong) { try ShardedModel(folder: folder, room: 1 << 20) }
    }
  }

  @Test func missingShardsAreAllNamed() throws {
    let entries = [("d", "v.safetensors"), ("e", "u.safetensors"), ("f", "v.safetensors")]
    try withModel(index: right + entries) { folder in
      let expected = SafetensorsError.missingShards(
        file: "\(folder)/model.safetensors.index.json", names: ["u.safetensors", "v.safetensors"])
      #expect(throws: expected) { try ShardedModel(folder: folder) }
    }
  }

  @Test func tensorsAbsentFromTheirShardAreNamed() throws {
    let entries = [("d", "x.safetensors"), ("e", "x.safetensors")]
    try withModel(index: right + entries) { folder in
      let expected = SafetensorsError.absentTensors(
        file: "\(folder)/x.safetensors", names: ["d", "e"])
      #expect(throws: expected) { try ShardedModel(folder: folder) }
    }
  }

  @Test func tensorsTheIndexDoesNotListAreNamed() throws {
    try withModel(index: [("a", "x.safetensors"), ("c", "y.safetensors")]) { folder in
      let expected = SafetensorsError.unlistedTensors(
        file: "\(folder)/x.safetensors", names: ["b"])
      #expect(throws: expected) { try ShardedModel(folder: folder) }
    }
  }

  @Test func aTensorInAnotherShardThanListedIsRefused() throws {
    let entries = [("a", "x.safetensors"), ("b", "y.safetensors"), ("c", "y.safetensors")]
    try withModel(index: entries) { folder in
      let expected = SafetensorsError.misplacedTensor(
        file: "\(folder)/x.safetensors", tensor: "b", expected: "y.safetensors")
      #expect(throws: expected) { try ShardedModel(folder: folder) }
    }
  }

  @Test func namesThatDifferOnlyInUnicodeSpellingAreRefusedAcrossShards() throws {
    let entries = [("\u{E9}", "x.safetensors"), ("e\u{301}", "y.safetensors")]
    try withModel(index: entries) { folder in
      try replaceFile("\(folder)/x.safetensors", with: shard(["\u{E9}"]))
      try replaceFile("\(folder)/y.safetensors", with: shard(["e\u{301}"]))
      #expect {
        try ShardedModel(folder: folder)
      } throws: { error in
        guard case SafetensorsError.duplicateName = error else { return false }
        return true
      }
    }
  }

  @Test func aShardThatCannotBeOpenedIsASystemError() throws {
    try withModel(index: [("a", "z.safetensors")]) { folder in
      try FileSystem.createFolder("\(folder)/z.safetensors")
      let error = SystemError(path: "\(folder)/z.safetensors", found: .folder)
      #expect(throws: SafetensorsError.system(error)) { try ShardedModel(folder: folder) }
    }
  }

  /// What is mapped ends the process with the same words: `aShardCutUnderARunEndsItWithItsName`.
  @Test func readingOfAShardThatWasCutNamesItAndBothSizes() throws {
    try withModel(index: [("a", "x.safetensors"), ("b", "x.safetensors"), ("c", "y.safetensors")]) {
      folder in
      let path = "\(folder)/x.safetensors"
      let model = try ShardedModel(folder: folder)
      let whole = try FileSystem.fileSize(path)
      // Their bytes lie in the order b, a.
      try #require(unsafe truncate(path, whole - 1) == 0)
      var byte: [UInt8] = [0]
      func read(_ name: String) throws {
        let tensor = try #require(model[name])
        try unsafe byte.withUnsafeMutableBytes { try unsafe tensor.read(bytes: 0..<1, into: $0) }
      }
      try read("b")
      try read("c")
      let cut = SafetensorsError.cut(file: path, expected: whole, found: whole - 1)
      let error = #expect(throws: cut) { try read("a") }
      #expect(
        error?.description
          == "\(path): it was cut while it was read (\(whole - 1) bytes, expected \(whole)); "
          + "put the whole file back and give the same command again")
    }
  }

  @Test func tensorsAreReadAndReleasedInsideTheirRange() throws {
    try withTemporaryFolder { folder in
      let text =
        "{" + entry("big", "U8", "[20000]", "[8,20008]") + "," + entry("s", "I64", "[]", "[0,8]")
        + "}"
      try replaceFile("\(folder)/f.safetensors", with: fileBytes(text, data: 20008))
      let file = try SafetensorsFile(path: "\(folder)/f.safetensors")
      #expect(file.tensors.map(\.name) == ["s", "big"])
      let big = try #require(file["big"])
      #expect(big.byteCount == 20000)
      let expected = (8..<20008).map { UInt8(truncatingIfNeeded: $0) }
      #expect(content(of: big) == expected)
      big.release(bytes: 5..<19000)
      #expect(content(of: big) == expected)
      big.release()
      #expect(content(of: big) == expected)
      #expect(try content(of: #require(file["s"])) == [0, 1, 2, 3, 4, 5, 6, 7])
    }
  }
}
