// Blocks of sequences, and the states between steps.

import Calibration
import LinearAlgebra
import ScratchStore
import SystemIO
import Tensors
import Testing
import TestSupport

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
      let backend = Backend(threads: 2)
      let writer = try ScratchWriter(path: folder + "/states", dtype: .f32)
      for state in states { try writer.append(state, backend: backend) }
      let hidden = try HiddenStates(
        path: folder + "/states", dtype: .f32, blocks: blocks, columns: 4, backend: backend)
      for index in blocks.indices { #expect(try hidden.read(index).values == states[index].values) }
      let other = try HiddenStates(
        path: folder + "/states", dtype: .f32, blocks: blocks, columns: 5, backend: backend)
      #expect(throws: ScratchError.self) { try other.read(0) }
    }
  }
}
