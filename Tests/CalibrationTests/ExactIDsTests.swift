// Chats to the very ids that transformers gives, in whatever form of file they come.

import Calibration
import Datasets
import JSON
import SystemIO
import Testing
import TestSupport

private let folder = fixturePath("chats")
private let chats = folder + "/ultrachat.parquet"

/// `ultrachat-zstd-v2-delta.parquet` and so on: the first chats once more.
private let forms = ((try? FileSystem.list(folder)) ?? []).filter { $0.hasPrefix("ultrachat-") }

@Suite struct ExactIDsTests {
  private struct Digest: Equatable {
    let tokens: Int
    let fnv1a: String

    init(tokens: Int, fnv1a: String) {
      self.tokens = tokens
      self.fnv1a = fnv1a
    }

    /// The hash of the ids as little-endian Int32.
    init(of ids: [Int32]) {
      var hash = FNV1a<UInt64>()
      for id in ids {
        for shift in stride(from: 0, to: 32, by: 8) {
          hash.add(UInt8(truncatingIfNeeded: id >> shift))
        }
      }
      let digits = String(hash.value, radix: 16)
      self.init(
        tokens: ids.count, fnv1a: String(repeating: "0", count: 16 - digits.count) + digits)
    }
  }

  /// What transformers gave, one a row.
  private func digests() throws -> [Digest] {
    let reader = try Dataset(path: folder + "/digests.jsonl").makeReader()
    var digests: [Digest] = []
    while let row = try reader.next() {
      let entry = try row.value.get()
      #expect(entry["row"]?.int == digests.count)
      digests.append(
        Digest(
          tokens: try #require(entry["tokens"]?.int),
          fnv1a: try #require(entry["fnv1a"]?.string)))
    }
    return digests
  }

  /// More rows than there are, so that none is left out.
  private func load(_ path: String, length: Int = .max) throws -> CalibrationData {
    let data = try CalibrationSource(
      path: path, selection: RowSelection(samples: 1000, sequenceLength: length)
    ).load(model: fixturePath("glm4-moe-4m"), vocabularySize: 2048)
    #expect(data.failedRows.isEmpty && data.emptyRows == 0)
    #expect(data.rowsRead == data.sequences.count)
    return data
  }

  private func expect(_ sequences: [[Int32]], are digests: [Digest], in form: String) {
    #expect(sequences.count == digests.count, "\(form)")
    for (row, (ids, digest)) in zip(sequences, digests).enumerated() {
      #expect(Digest(of: ids) == digest, "\(form): row \(row)")
    }
  }

  @Test func `a digest is that of the published examples`() {
    // No bytes, and "foob".
    #expect(Digest(of: []) == Digest(tokens: 0, fnv1a: "cbf29ce484222325"))
    #expect(Digest(of: [0x626f_6f66]) == Digest(tokens: 1, fnv1a: "dd120e790c2512af"))
  }

  @Test func `every chat gives the ids that transformers gives`() throws {
    let digests = try digests()
    #expect(digests.count == 512)
    let data = try load(chats)
    expect(data.sequences, are: digests, in: "parquet")
    #expect(data.cutRows == 0)
  }

  @Test func `every codec, page and encoding is there, and what datasets writes`() {
    #expect(forms.count == 4 * 2 * 3 + 1)
  }

  @Test(arguments: forms)
  func `the first chats give the same ids in every form`(name: String) throws {
    expect(
      try load("\(folder)/\(name)").sequences, are: Array(try digests().prefix(24)), in: name)
  }

  @Test func `the same chats as JSON lines give the same ids`() throws {
    let reader = try Dataset(path: chats).makeReader()
    var lines = ""
    while let row = try reader.next() {
      lines += JSONValue.object(try row.value.get()).serialized() + "\n"
    }
    try withTemporaryFolder { folder in
      let path = folder + "/ultrachat.jsonl"
      try replaceFile(path, with: Array(lines.utf8))
      expect(try load(path).sequences, are: try digests(), in: "JSON lines")
    }
  }

  @Test(arguments: [1, 64, 300, 5000])
  func `a cut chat is the first ids of the whole one`(length: Int) throws {
    let whole = try load(chats)
    let cut = try load(chats, length: length)
    #expect(cut.sequences == whole.sequences.map { Array($0.prefix(length)) })
    #expect(cut.cutRows == whole.sequences.count { $0.count > length })
  }
}
