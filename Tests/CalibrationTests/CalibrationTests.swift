// Rows of token ids, and blocks of them.

import Calibration
import ScratchStore
import SystemIO
import Tensors
import TestSupport
import Testing

@Suite struct CalibrationDataTests {
  private func read(
    _ text: String, samples: Int = 10, sequenceLength: Int = 10, vocabularySize: Int = 100
  ) throws -> CalibrationData {
    try withTemporaryFolder { folder in
      try replaceFile(folder + "/data", with: Array(text.utf8))
      return try CalibrationData(
        path: folder + "/data", samples: samples, sequenceLength: sequenceLength,
        vocabularySize: vocabularySize)
    }
  }

  /// The error of reading `text`, with `data` for the path.
  private func refusal(_ text: String) throws -> CalibrationError? {
    let error = #expect(throws: CalibrationError.self) { try read(text) }
    return switch error {
    case .unreadable(_, let problem): .unreadable(path: "data", problem: problem)
    case .badRow(_, let line, let problem): .badRow(path: "data", line: line, problem: problem)
    case .noInputIDs(_, let line, let keys): .noInputIDs(path: "data", line: line, keys: keys)
    case .badToken(_, let line, let position, let found, let size):
      .badToken(path: "data", line: line, position: position, found: found, vocabularySize: size)
    case .empty: .empty(path: "data")
    case nil: nil
    }
  }

  @Test func everyLineIsASequence() throws {
    let data = try read("{\"input_ids\": [1, 2, 3]}\n{\"x\": null, \"input_ids\": [99]}\n")
    #expect(data.sequences == [[1, 2, 3], [99]])
    #expect(data.emptyRows == 0 && data.cutRows == 0)
    #expect(data.tokens == 4 && data.longest == 3)
  }

  @Test func blankLinesAndAMissingLastNewlineAreNoRows() throws {
    let data = try read("\n{\"input_ids\": [1]}\r\n  \r\n\n{\"input_ids\": [2]}")
    #expect(data.sequences == [[1], [2]])
    #expect(data.emptyRows == 0)
  }

  @Test func rowsWithoutTokensAreCountedAndDoNotUseUpSamples() throws {
    let data = try read(
      "{\"input_ids\": []}\n{\"input_ids\": [1]}\n{\"input_ids\": []}\n{\"input_ids\": [2]}\n",
      samples: 2)
    #expect(data.sequences == [[1], [2]])
    #expect(data.emptyRows == 2)
  }

  @Test func longRowsAreCutAndCounted() throws {
    let data = try read(
      "{\"input_ids\": [1, 2, 3]}\n{\"input_ids\": [4, 5]}\n{\"input_ids\": [6, 7, 8, 9]}",
      sequenceLength: 2)
    #expect(data.sequences == [[1, 2], [4, 5], [6, 7]])
    #expect(data.cutRows == 2)
  }

  @Test func readingEndsWithTheLastSample() throws {
    let data = try read("{\"input_ids\": [1]}\n{\"input_ids\": [2]}\nno row at all", samples: 2)
    #expect(data.sequences == [[1], [2]])
  }

  @Test func theFixtureIsReadWhole() throws {
    let data = try CalibrationData(
      path: fixturePath("calibration.jsonl"), samples: 512, sequenceLength: 256,
      vocabularySize: 2048)
    #expect(data.sequences.count == 64)
    #expect(data.longest <= 256 && data.cutRows == 0)
  }

  @Test func aFileWithoutTokensIsRefused() throws {
    for text in ["", "\n\n", "{\"input_ids\": []}\n"] {
      #expect(try refusal(text) == .empty(path: "data"))
    }
  }

  @Test func aFileThatCannotBeOpenedIsRefused() {
    let error = #expect(throws: CalibrationError.self) {
      try CalibrationData(path: "/no/such", samples: 1, sequenceLength: 1, vocabularySize: 1)
    }
    guard case .unreadable("/no/such", let problem) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(problem.contains("/no/such"))
    #expect(error?.description.components("/no/such") == 1, "the path is said once")
  }

  @Test func aRowThatIsNoObjectIsRefusedByItsLine() throws {
    #expect(
      try refusal("{\"input_ids\": [1]}\n\n[1, 2]")
        == .badRow(path: "data", line: 3, problem: "expected an object, found array"))
    #expect(
      try refusal("{\"input_ids\": 5}")
        == .badRow(path: "data", line: 1, problem: "`input_ids` is number"))
    guard case .badRow(_, 2, _) = try refusal("{\"input_ids\": [1]}\n{\"input_ids\": [1,]}") else {
      Issue.record("bad JSON was not refused by its line")
      return
    }
  }

  @Test func aRowWithOtherColumnsIsRefusedByTheirNames() throws {
    #expect(
      try refusal("{\"text\": \"a\", \"id\": 1}")
        == .noInputIDs(path: "data", line: 1, keys: ["text", "id"]))
  }

  @Test(arguments: ["100", "-1", "1.5", "\"a\"", "null", "1e1", "9223372036854775808"])
  func anIdThatIsNoTokenIsRefusedByItsPlace(id: String) throws {
    #expect(
      try refusal("{\"input_ids\": [1]}\n{\"input_ids\": [99, 0, \(id)]}")
        == .badToken(path: "data", line: 2, position: 2, found: id, vocabularySize: 100))
  }
}

extension String {
  fileprivate func components(_ part: String) -> Int {
    split(separator: part, omittingEmptySubsequences: false).count - 1
  }
}

@Suite struct TokenBlockTests {
  @Test(arguments: [
    [1], [1024], [1025], [512, 512], [512, 513], [1000, 24, 1], [3000, 5, 5], [5, 3000, 5],
    [256, 256, 256, 256, 256], [1023, 1, 1023, 2],
  ])
  func blocksHoldWholeSequencesInOrderAndNoMoreTokensThanFit(lengths: [Int]) {
    let sequences = lengths.enumerated().map { index, length in
      (0..<length).map { Int32(10_000 * index + $0) }
    }
    let blocks = TokenBlock.cut(sequences)
    #expect(
      blocks.flatMap { block in block.sequences.map { Array(block.tokens[$0]) } } == sequences)
    for block in blocks {
      #expect(block.count <= TokenBlock.size || block.sequences.count == 1)
      #expect(block.sequences.reduce(0) { $0 + $1.count } == block.count)
      #expect(block.sequences[0].lowerBound == 0)
    }
    // No block could have taken the first sequence of the next.
    for (block, next) in zip(blocks, blocks.dropFirst()) {
      #expect(block.count + next.sequences[0].count > TokenBlock.size)
    }
  }

  @Test func noSequencesMakeNoBlocks() { #expect(TokenBlock.cut([]).isEmpty) }
}

@Suite struct HiddenStatesTests {
  @Test func statesAreKeptInTheTypeTheReferenceRunsIn() {
    #expect(HiddenStates.dtype(for: .bf16) == .bf16)
    #expect(HiddenStates.dtype(for: .f16) == .f32)
    #expect(HiddenStates.dtype(for: .f32) == .f32)
  }

  @Test func everyBlockIsReadInTheShapeOfItsTokens() throws {
    try withTemporaryFolder { folder in
      let blocks = TokenBlock.cut([
        [Int32](repeating: 1, count: 1000), [1, 2, 3, 4, 5, 6, 7, 8],
        [Int32](repeating: 2, count: 30),
      ])
      var generator = SeededGenerator(seed: 66)
      let states = blocks.map { generator.matrix($0.count, 4) }
      let writer = try ScratchWriter(path: folder + "/states", dtype: .f32)
      for state in states { try writer.append(state) }
      let hidden = try HiddenStates(
        path: folder + "/states", dtype: .f32, blocks: blocks, columns: 4)
      for index in blocks.indices { #expect(try hidden.read(index).values == states[index].values) }
      let other = try HiddenStates(
        path: folder + "/states", dtype: .f32, blocks: blocks, columns: 5)
      #expect(throws: ScratchError.self) { try other.read(0) }
    }
  }
}
