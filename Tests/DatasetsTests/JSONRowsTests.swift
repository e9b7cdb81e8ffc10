// Rows of JSON lines, JSON lists and plain text.

import Datasets
import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

/// What a reader gives, one short string a row: the JSON of the row, or `! problem`.
func rows(_ dataset: Dataset) throws -> [String] {
  let reader = dataset.makeReader()
  var result: [String] = []
  while let row = try reader.next() {
    switch row.value {
    case .success(let object): result.append(JSONValue.object(object).serialized())
    case .failure(let problem): result.append("! \(row.place): \(problem)")
    }
  }
  return result
}

func write(_ bytes: [UInt8], to path: String) throws {
  // Some file systems write a file out at once when it replaces its content.
  try FileSystem.remove(path)
  guard let file = unsafe fopen(path, "w") else {
    throw SystemError(path: path, call: "fopen", code: errno)
  }
  defer { unsafe fclose(file) }
  _ = unsafe bytes.withUnsafeBytes { unsafe fwrite($0.baseAddress, 1, $0.count, file) }
}

func rows(of content: String, in name: String = "a.jsonl") throws -> [String] {
  try rows(of: Array(content.utf8), in: name)
}

func rows(of content: [UInt8], in name: String) throws -> [String] {
  try withTemporaryFolder { folder in
    try write(content, to: "\(folder)/\(name)")
    return try rows(Dataset(path: "\(folder)/\(name)")).map { $0.replacing(folder: folder) }
  }
}

extension String {
  func replacing(folder: String) -> String {
    guard let range = range(of: folder + "/") else { return self }
    return self[..<range.lowerBound] + String(self[range.upperBound...])
  }

  private func range(of other: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(other) { return start..<index(start, offsetBy: other.count) }
      start = index(after: start)
    }
    return nil
  }
}

@Suite struct JSONRowsTests {
  @Test func linesAreRowsAndBlankOnesAreNot() throws {
    #expect(
      try rows(of: "{\"a\":1}\r\n\n  \t\n{\"a\":2.50}\n{\"b\":[]}") == [
        "{\"a\":1}", "{\"a\":2.50}", "{\"b\":[]}",
      ])
    #expect(try rows(of: "") == [])
    #expect(try rows(of: "\n\n") == [])
    #expect(try rows(of: "\u{FEFF}{\"a\":1}\n", in: "a.ndjson") == ["{\"a\":1}"])
    #expect(try rows(of: "\u{FEFF}", in: "a.jsonl") == [])
  }

  @Test func aDamagedLineIsAValueAndTheNextIsRead() throws {
    let found = try rows(
      of:
        "{\"a\":1}\n{\"a\":\n\n\"\\ud83d\"\n{\"t\":\"\\ud83d x\"}\n[1]\n{\"a\":1,\"a\":2}\n{\"a\":3}\n"
    )
    #expect(
      found == [
        "{\"a\":1}", "! a.jsonl: line 2: expected a value at byte 5",
        "! a.jsonl: line 4: lone surrogate in an escape at byte 1",
        "! a.jsonl: line 5: lone surrogate in an escape at byte 6",
        "! a.jsonl: line 6: expected an object, found array",
        "! a.jsonl: line 7: key `a` appears twice at byte 7", "{\"a\":3}",
      ])
    let invalid = try rows(
      of: [UInt8]("{\"t\":\"".utf8) + [0xFF] + [UInt8]("\"}\n{}".utf8), in: "a.jsonl")
    #expect(invalid == ["! a.jsonl: line 1: invalid UTF-8 at byte 6", "{}"])
  }

  @Test(arguments: [
    "[{\"a\":1},{\"a\":\"],[\\\"\"}]", " [ {\"a\":1} , {\"a\":\"],[\\\"\"} ] \n",
    "{\"version\":\"1,2\",\"info\":{\"x\":{}},\"data\":[{\"a\":1},{\"a\":\"],[\\\"\"}],\"n\":2}",
    "{\"data\":[{\"a\":1},{\"a\":\"],[\\\"\"}]}\n",
    "{\"a\":1}\n{\"a\":\"],[\\\"\"}\n",
  ])
  func aJSONFileHoldsAnArrayOrAnObjectWithOneOrLines(content: String) throws {
    #expect(try rows(of: content, in: "a.json") == ["{\"a\":1}", "{\"a\":\"],[\\\"\"}"])
  }

  @Test func anEmptyArrayHasNoRows() throws {
    #expect(try rows(of: "[ ]", in: "a.json") == [])
    #expect(try rows(of: "{\"rows\":[]}", in: "a.json") == [])
  }

  @Test func aDamagedElementIsAValueAndTheNextIsRead() throws {
    #expect(
      try rows(of: "[{\"a\":tru},3,{\"b\":2},]", in: "a.json") == [
        "! a.json: row 1: expected a value at byte 5",
        "! a.json: row 2: expected an object, found number",
        "{\"b\":2}", "! a.json: row 4: expected a value at byte 0",
      ])
  }

  @Test func aTextFileIsOneRow() throws {
    #expect(try rows(of: "one\n\ntwo\n", in: "a.txt") == ["{\"text\":\"one\\n\\ntwo\\n\"}"])
    #expect(try rows(of: "", in: "a.txt") == ["{\"text\":\"\"}"])
    #expect(try rows(of: [0x61, 0xC3], in: "a.txt") == ["! a.txt: row 1: invalid UTF-8 at byte 1"])
  }

  @Test(arguments: ["rows.jsonl", "rows.json"])
  func longFilesAreReadInParts(name: String) throws {
    try withTemporaryFolder { folder in
      let line = { (index: Int) in
        "{\"index\":\(index),\"text\":\"\(String(repeating: "é\\\"", count: index % 1000))\"}"
      }
      let lines = (0..<4000).map(line)
      let content =
        name == "rows.json"
        ? "[" + lines.joined(separator: ",") + "]" : lines.joined(separator: "\n")
      try write(Array(content.utf8), to: "\(folder)/\(name)")
      let dataset = try Dataset(path: "\(folder)/\(name)")
      #expect(try rows(dataset) == lines)
      #expect(try dataset.rowCount() == 4000)
      let reader = dataset.makeReader()
      try reader.skip(to: 3000)
      #expect(try reader.next()?.value.get()["index"] == 3000)
      #expect(try reader.next()?.index == 3001)
      try reader.skip(to: 5000)
      #expect(try reader.next() == nil)
      #expect(reader.index == 4000)
    }
  }

  @Test func aLineAcrossManyWindowsIsOneRow() throws {
    let text = String(repeating: "x", count: 5 << 20)
    #expect(try rows(of: "{\"t\":\"\(text)\"}\n{}\n") == ["{\"t\":\"\(text)\"}", "{}"])
  }
}
