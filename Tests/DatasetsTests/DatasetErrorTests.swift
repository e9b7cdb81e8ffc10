// What is said of data sets that cannot be read.

import Datasets
import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

private let fixtures = fixturePath("datasets")

/// Opens and reads `name` after writing it; what goes wrong, without the folder's path.
private func failure(
  reading name: String, content: String = "", columns: Set<String>? = nil
) throws -> String {
  try failure(reading: name, bytes: Array(content.utf8), columns: columns)
}

private func failure(
  reading name: String, bytes: [UInt8], columns: Set<String>? = nil
) throws -> String {
  try withTemporaryFolder { folder in
    try write(bytes, to: "\(folder)/\(name)")
    let error = try #require(throws: DatasetError.self) {
      let reader = try Dataset(path: "\(folder)/\(name)", columns: columns).makeReader()
      while try reader.next() != nil {}
    }
    return "\(error)".replacing(folder: folder)
  }
}

@Suite struct DatasetErrorTests {
  @Test func unreadableNamesTheSystemsReason() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/absent.jsonl"
      #expect(throws: DatasetError.unreadable(SystemError(path: path, call: "stat", code: ENOENT)))
      {
        try Dataset(path: path)
      }
    }
  }

  @Test func noFilesListsWhatIsThere() throws {
    try withTemporaryFolder { folder in
      try write([], to: "\(folder)/a.xls")
      try write(Array("{}".utf8), to: "\(folder)/dataset_info.json")
      try FileSystem.createFolder("\(folder)/data")
      let error = try #require(throws: DatasetError.self) { try Dataset(path: folder) }
      #expect(
        error == .noFiles(path: folder, found: ["`a.xls`", "`data/`", "`dataset_info.json`"]))
      #expect(
        "\(error)".hasSuffix(
          "; name a file, a folder that holds such files, or a pattern in quotes"))
      #expect(throws: DatasetError.noFiles(path: "\(folder)/*.parquet", found: [])) {
        try Dataset(path: "\(folder)/*.parquet")
      }
    }
  }

  @Test(arguments: [
    ("a.xls", "`.xls`; convert the rows to JSON lines"),
    ("rows", "a name without ending; convert the rows to JSON lines"),
    ("a.jsonl.xz", "`.jsonl.xz`; convert the rows to JSON lines"),
    ("a.arrow", "`.arrow`; load the folder with `datasets` and save it with `to_parquet`"),
    ("a.jsonl.zst.gz", "`.zst.gz`; it is packed twice; unpack it once"),
    ("a.parquet.zst", "`.parquet.zst`; unpack it first, parquet packs its own pages"),
  ])
  func unknownEndingIsRefusedByName(name: String, end: String) throws {
    #expect(
      try failure(reading: name)
        == "\(name): expected `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt` (each also with `.gz` or `.zst`) or `.parquet`, "
        + "found \(end)")
  }

  @Test func damagedNamesThePlace() throws {
    #expect(
      try failure(reading: "a.parquet", content: "no parquet file")
        == "a.parquet: file: does not begin and end with `PAR1`; the file is damaged, download or write it again"
    )
    #expect(
      try failure(reading: "a.parquet").hasPrefix(
        "a.parquet: file: expected 12 bytes at least, found 0; "))
    #expect(
      try failure(reading: "a.json", content: "[{\"a\":1}, {\"a\":2}").hasPrefix(
        "a.json: after row 1: the array does not end; "))
    #expect(
      try failure(reading: "a.json", content: "[{\"a\":1}} ]").hasPrefix(
        "a.json: after row 1: expected `,` or `]`; "))
    #expect(
      try failure(reading: "a.json", content: "[{\"a\":1}] x").hasPrefix(
        "a.json: after row 1: expected the end of the")
    )
    #expect(
      try failure(reading: "a.json", content: "{\"a\":1]").hasPrefix(
        "a.json: before the first row: expected"))
    #expect(
      try failure(reading: "a.jsonl.gz", content: "xyz").hasPrefix("a.jsonl.gz: packed byte 0: "))
  }

  @Test func aPageThatWasChangedDoesNotMatchItsCheckSum() throws {
    var bytes = try FileSystem.readFile("\(fixtures)/text.groups.parquet")
    // The last byte of the first page, found by the magic of its zstd frame.
    let frames = bytes.indices.dropLast(4).filter {
      Array(bytes[$0..<$0 + 4]) == [0x28, 0xB5, 0x2F, 0xFD]
    }
    bytes[frames[0] + 5] ^= 0x10
    #expect(
      try failure(reading: "a.parquet", bytes: bytes).hasPrefix(
        "a.parquet: row group 1, column `text`: a page: does not match its check sum; "))
  }

  @Test func unsupportedNamesWhatWasFoundAndTheWayOut() throws {
    let bytes = try FileSystem.readFile("\(fixtures)/refused.brotli.parquet")
    #expect(
      try failure(reading: "a.parquet", bytes: bytes)
        == "a.parquet: column `text`: expected compression with snappy, zstd, gzip or none, found BROTLI; "
        + "write the file again with `datasets` or pyarrow")
  }

  @Test func encryptedFilesAreRefused() throws {
    // The footer itself, or pages under a footer whose field 8 says so.
    let encryptedFooter = Array("PAR1".utf8) + [0, 0, 0, 0] + Array("PARE".utf8)
    let encryptedPages = Array("PAR1".utf8) + [0x8C, 0x00, 0x00, 3, 0, 0, 0] + Array("PAR1".utf8)
    for bytes in [encryptedFooter, encryptedPages] {
      #expect(
        try failure(reading: "a.parquet", bytes: bytes)
          == "a.parquet: footer: expected plain data, found encryption; decrypt it with the library that wrote it"
      )
    }
  }

  @Test(arguments: [
    ("", "nothing"), ("3", "a single value"), ("{\"a\":1}", "an object without an array"),
    ("{}", "an object without an array"),
    ("{\"prompt\":[\"a\"],\"id\":[1]}", "an object with two arrays, `prompt` and `id`"),
  ])
  func notRowsNamesWhatTheFileHolds(content: String, found: String) throws {
    #expect(
      try failure(reading: "a.json", content: content)
        == "a.json: expected an array of objects, or an object with one array of them, found \(found); "
        + "write one object a line and end the name in `.jsonl`")
  }

  @Test func rowTooLongIsRefusedInBoundedMemory() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/a.jsonl"
      try write([], to: path)
      #expect(unsafe truncate(path, 300 << 20) == 0)
      let limit = Room.standard.bytes / 5
      #expect(readAnything(path) == .rowTooLong(file: path, place: "line 1", limit: limit))
    }
  }

  @Test func missingColumnNamesTheOnesThatAreThere() throws {
    #expect(
      try failure(reading: "a.jsonl", content: "{\"prompt\":1}\n{\"answer\":2}", columns: ["text"])
        == "a.jsonl: expected a column `text`, found `prompt`, `answer`; name one of these or rename it in the data set"
    )
    let chats = "\(fixtures)/chats.datasets.parquet"
    #expect(
      throws: DatasetError.missingColumn(
        file: chats, column: "text", found: ["prompt", "prompt_id", "messages"])
    ) {
      try Dataset(path: chats, columns: ["messages", "text"])
    }
  }

  @Test func aFurtherFileWithoutTheColumnIsNamedWhenItIsReached() throws {
    try withTemporaryFolder { folder in
      try FileSystem.copyFile(from: "\(fixtures)/chats.datasets.parquet", to: "\(folder)/a.parquet")
      try FileSystem.copyFile(from: "\(fixtures)/text.groups.parquet", to: "\(folder)/b.parquet")
      let reader = try Dataset(path: folder, columns: ["prompt"]).makeReader()
      try reader.skip(to: 24)
      #expect(
        throws: DatasetError.missingColumn(
          file: "\(folder)/b.parquet", column: "prompt", found: ["text"])
      ) {
        try reader.next()
      }
    }
  }
}
