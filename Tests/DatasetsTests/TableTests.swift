// Tables as text against Python's csv module, and tables that are none.

import Datasets
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct TableTests {
  private func read(_ path: String) throws -> [Result<JSONObject, RowProblem>] {
    let reader = try Dataset(path: path).makeReader()
    var rows: [Result<JSONObject, RowProblem>] = []
    while let row = try reader.next() { rows.append(row.value) }
    return rows
  }

  /// Python has empty text where a field is absent, too.
  @Test(arguments: ["minimal.csv", "all.csv", "tabs.tsv", "by-hand.csv"])
  func `fields are those of Python's csv`(name: String) throws {
    let path = fixturePath("tables/\(name)")
    let golden = String(name.prefix { $0 != "." }) + ".jsonl"
    let expected = try Dataset(path: fixturePath("tables/\(golden)")).makeReader()
    let rows = try read(path).map { try $0.get() }
    for row in rows {
      let wanted = try #require(try expected.next()).value.get()
      #expect(row.keys == wanted.keys)
      for (key, value) in row.entries { #expect((value.string ?? "") == wanted[key]?.string) }
    }
    #expect(try expected.next() == nil && rows.count >= 5)
    let dataset = try Dataset(path: path)
    #expect(try dataset.rowCount() == rows.count)
    let reader = dataset.makeReader()
    try reader.skip(to: 3)
    #expect(try reader.next()?.value.get() == rows[3])
    // Packed as well.
    #expect(dataset.columns == rows[0].keys)
  }

  @Test func `a row with other fields than the first is a problem of its own`() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/a.csv"
      try replaceFile(path, with: Array("text,n\na,1\nb\nc,1,2\n\"d\",\n\"e,5\n".utf8) + [0xFF])
      let rows = try read(path)
      let problems = rows.map { row -> String? in
        if case .failure(let problem) = row { problem.problem } else { nil }
      }
      #expect(
        problems == [
          nil, "has 1 fields, the first row 2", "has 3 fields, the first row 2", nil,
          "the quote that opens in line 6 is not closed, which takes in the rest of the file",
        ])
      #expect(try rows[3].get()["n"] == .null)
      try replaceFile(path, with: Array("text\n".utf8) + [0xFF, 0x0A])
      let problem = #expect(throws: RowProblem.self) { try read(path)[0].get() }
      #expect(problem?.problem == "field 1 is not UTF-8")
    }
  }

  @Test(arguments: [
    ("", "no row with names of columns"), ("a,a\n1,2\n", "two columns are called `a`"),
    (
      "\"a",
      "the quote that opens in line 1 is not closed, which takes in the rest of the file"
    ),
  ])
  func `a table without names is damaged`(text: String, problem: String) throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/a.csv"
      try replaceFile(path, with: Array(text.utf8))
      #expect(throws: DatasetError.damaged(file: path, place: "row 1", problem: problem)) {
        try Dataset(path: path)
      }
    }
  }

  @Test func `a table with more columns than any has is damaged, and is so at once`() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/a.csv"
      func columns(_ count: Int) throws -> [String] {
        let names = (0..<count).map { "c\($0)" }.joined(separator: ",")
        try replaceFile(path, with: Array(names.utf8))
        return try Dataset(path: path).columns
      }
      let most = try columns(10_000)
      #expect(most.last == "c9999")
      for count in [10_001, 300_000] {
        #expect(
          throws: DatasetError.damaged(
            file: path, place: "row 1", problem: "has more than 10000 fields")
        ) { try columns(count) }
      }
    }
  }

  /// Closed quotes before it, in this row and in others, may hold ends of lines, and blank lines are no rows.
  @Test func `a quote that is not closed is named by row and line`() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/a.csv"
      let text = "text,n\n\"a\nb\",1\n\n\"c\n\"\"\",\"2\n" + String(repeating: "d,3\n", count: 1000)
      try replaceFile(path, with: Array(text.utf8))
      let reader = try Dataset(path: path).makeReader()
      #expect(try reader.next()?.value.get()["n"] == "1")
      let row = try #require(try reader.next())
      #expect(row.line == 2)
      let problem = #expect(throws: RowProblem.self) { try row.value.get() }
      #expect(
        problem?.problem
          == "the quote that opens in line 6 is not closed, which takes in the rest of the file")
      #expect(try reader.next() == nil)
    }
  }

  @Test func `a row without an end stops at the memory there is`() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/a.csv"
      try replaceFile(path, with: Array("text\n\"".utf8) + [UInt8](repeating: 0x61, count: 4 << 20))
      let dataset = try Dataset(path: path, room: Room(bytes: 8 << 20))
      let reader = dataset.makeReader()
      let error = #expect(throws: DatasetError.self) { try reader.next() }
      #expect(
        error?.description
          == "\(path): row 1: the quote that opens in line 2 is not closed: expected a row of at most 1 MiB, "
          + "found more; close the quote, or raise --memory")
    }
  }
}
