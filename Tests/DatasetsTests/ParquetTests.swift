// Parquet files of every form that is read, against what their makers wrote into them.

import Datasets
import JSON
import SystemIO
import Testing
import TestSupport

private let folder = fixturePath("datasets")

/// `chats.snappy-v1-plain.parquet` and so on: what is to be read.
private let readable = ((try? FileSystem.list(folder)) ?? []).filter {
  $0.hasSuffix(".parquet") && !$0.hasPrefix("refused.") && !$0.hasPrefix("damaged.")
}

/// Equal as values: 1e+16 and 1e16 are, 1 and 1.0 are not.
func sameValue(_ left: JSONValue, _ right: JSONValue) -> Bool {
  switch (left, right) {
  case (.number(let left), .number(let right)):
    if left.literal == right.literal { return true }
    return left.int == nil && right.int == nil
      && left.double?.bitPattern == right.double?.bitPattern
  case (.array(let left), .array(let right)):
    return left.count == right.count && zip(left, right).allSatisfy(sameValue)
  case (.object(let left), .object(let right)):
    return left.keys == right.keys
      && zip(left.entries, right.entries).allSatisfy { sameValue($0.value, $1.value) }
  default: return left == right
  }
}

func values(_ dataset: Dataset) throws -> [JSONValue] {
  let reader = dataset.makeReader()
  var values: [JSONValue] = []
  while let row = try reader.next() {
    #expect(row.index == values.count)
    values.append(.object(try row.value.get()))
  }
  return values
}

@Suite struct ParquetTests {
  @Test func theFixturesAreThere() {
    #expect(readable.count == 89)
  }

  @Test(arguments: readable)
  func rowsAreThoseThatPyarrowReads(name: String) throws {
    let table = name.prefix { $0 != "." }
    let golden = try values(Dataset(path: "\(folder)/\(table).jsonl"))
    let dataset = try Dataset(path: "\(folder)/\(name)")
    let found = try values(dataset)
    #expect(dataset.columns == golden[0].object?.keys)
    #expect(try dataset.rowCount() == golden.count)
    #expect(found.count == golden.count)
    for (index, (found, golden)) in zip(found, golden).enumerated() {
      #expect(
        sameValue(found, golden), "row \(index): \(found.serialized()) for \(golden.serialized())")
    }
  }

  @Test func rowGroupsAreSkippedWhole() throws {
    let golden = try values(Dataset(path: "\(folder)/nested.jsonl"))
    let dataset = try Dataset(path: "\(folder)/nested.groups.parquet")
    for index in 0..<golden.count {
      let reader = dataset.makeReader()
      try reader.skip(to: index)
      let row = try #require(try reader.next())
      #expect(row.index == index && row.line == index + 1)
      #expect(sameValue(.object(try row.value.get()), golden[index]))
    }
  }

  @Test func onlyTheColumnsAskedForAreRead() throws {
    let golden = try values(
      Dataset(path: "\(folder)/chats.jsonl", columns: ["prompt_id", "messages"]))
    #expect(golden[0].object?.keys == ["prompt_id", "messages"])
    let found = try values(
      Dataset(path: "\(folder)/chats.datasets.parquet", columns: ["prompt_id", "messages"]))
    #expect(found == golden)
    // What cannot be read is in nobody's way as long as nobody asks for it.
    let foreign = "\(folder)/refused.types.parquet"
    #expect(
      try values(Dataset(path: foreign, columns: ["text"])) == [
        .object(JSONObject([("text", "a")]))
      ])
    let dataset = try Dataset(path: foreign)
    #expect(dataset.columns == ["text", "at", "day", "price", "bytes", "map", "half"])
  }

  @Test(arguments: [
    ("brotli", "text", "BROTLI"), ("lz4", "text", "LZ4"),
    ("byte-stream-split", "score", "BYTE_STREAM_SPLIT"),
    ("types", "at", "TIMESTAMP"), ("types", "day", "DATE"), ("types", "price", "DECIMAL"),
    ("types", "bytes", "FIXED_LEN_BYTE_ARRAY"), ("types", "map", "MAP"),
    ("types", "half", "FLOAT16"),
  ])
  func whatIsNotReadIsRefusedByName(form: String, column: String, found: String) throws {
    let file = "\(folder)/refused.\(form).parquet"
    let reader = try Dataset(path: file, columns: [column]).makeReader()
    let error = try #require(throws: DatasetError.self) { _ = try reader.next() }
    guard case .unsupported(file, let what, _, let foundHere, _) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(what.hasPrefix("column `\(column)"))
    #expect(foundHere.hasPrefix(found))
  }

  @Test func aTextThatIsNoneIsADamagedRow() throws {
    let found = try rows(Dataset(path: "\(folder)/damaged.not-utf8.parquet"))
    #expect(
      found.map { $0.replacing(folder: folder) } == [
        "{\"text\":\"a\"}", "! damaged.not-utf8.parquet: row 2: bytes that are not UTF-8",
        "{\"text\":\"c\"}",
      ])
  }
}
