// What is written comes back, and what was damaged does not.

import ScratchStore
import SystemIO
import Tensors
import Testing
import TestSupport

@Suite struct ScratchStoreTests {
  /// Values as this type holds them, with the extremes.
  private func blocks(_ dtype: DType) -> [Matrix] {
    var generator = SeededGenerator(seed: 65)
    let extremes: [Float] = [0, -0.0, 0x1p-130, -3e38, .infinity, 1]
    return [(7, 12), (1, 1), (40, 33), (0, 5), (1, 6)].map { rows, columns in
      let values = rows * columns == 6 ? extremes : generator.floats(rows * columns)
      return Matrix(rows: rows, columns: columns, values: dtype.rounded(values))
    }
  }

  private func write(_ blocks: [Matrix], _ dtype: DType, to path: String) throws {
    let writer = try ScratchWriter(path: path, dtype: dtype)
    for block in blocks { try writer.append(block) }
    try writer.synchronize()
  }

  @Test(arguments: [DType.bf16, .f32, .f16])
  func blocksComeBackToTheBitInAnyOrder(dtype: DType) throws {
    try withTemporaryFolder { folder in
      let blocks = blocks(dtype)
      try write(blocks, dtype, to: folder + "/scratch")
      let reader = try ScratchReader(path: folder + "/scratch", dtype: dtype)
      #expect(reader.count == blocks.count)
      for index in [4, 2, 0, 3, 1, 2] {
        let block = blocks[index]
        let read = try reader.read(index, rows: block.rows, columns: block.columns)
        #expect(read.rows == block.rows && read.columns == block.columns)
        #expect(read.values.map(\.bitPattern) == block.values.map(\.bitPattern))
      }
    }
  }

  @Test func valuesAreRoundedToTheTypeOfTheFile() throws {
    try withTemporaryFolder { folder in
      let values: [Float] = [1.001, -2.7182818, 1e-3]
      try write([Matrix(rows: 1, columns: 3, values: values)], .bf16, to: folder + "/scratch")
      let reader = try ScratchReader(path: folder + "/scratch", dtype: .bf16)
      #expect(try reader.read(0, rows: 1, columns: 3).values == DType.bf16.rounded(values))
    }
  }

  @Test func theSameBlocksGiveTheSameFile() throws {
    try withTemporaryFolder { folder in
      for name in ["a", "b"] { try write(blocks(.bf16), .bf16, to: folder + "/" + name) }
      #expect(try FileSystem.readFile(folder + "/a") == FileSystem.readFile(folder + "/b"))
    }
  }

  @Test func anEmptyFileHoldsNoBlock() throws {
    try withTemporaryFolder { folder in
      try write([], .bf16, to: folder + "/scratch")
      let reader = try ScratchReader(path: folder + "/scratch", dtype: .bf16)
      #expect(reader.count == 0)
      let expected = ScratchError.corrupt(path: folder + "/scratch", block: 0, problem: "missing")
      #expect(throws: expected) { try reader.read(0, rows: 1, columns: 1) }
    }
  }

  @Test func anotherShapeThanTheBlocksIsRefused() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/scratch"
      try write([Matrix(zeros: 1, 2), Matrix(zeros: 3, 4)], .bf16, to: path)
      let reader = try ScratchReader(path: path, dtype: .bf16)
      #expect(throws: ScratchError.corrupt(path: path, block: 1, problem: "3 x 4 instead of 4 x 3"))
      {
        try reader.read(1, rows: 4, columns: 3)
      }
      #expect(throws: ScratchError.corrupt(path: path, block: 2, problem: "missing")) {
        try reader.read(2, rows: 3, columns: 4)
      }
    }
  }

  @Test func anotherTypeThanTheFilesIsRefused() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/scratch"
      try write([Matrix(zeros: 1, 2)], .f32, to: path)
      let expected = ScratchError.corrupt(path: path, block: 0, problem: "not the head of a block")
      #expect(throws: expected) { try ScratchReader(path: path, dtype: .bf16) }
    }
  }

  /// The block named by the error of opening and reading a file, or nil where all blocks are read and equal.
  private func damagedBlock(_ bytes: [UInt8], _ blocks: [Matrix], folder: String) throws -> Int? {
    let path = folder + "/damaged"
    // Not `replaceFile`: a thousand synchronizations are seconds.
    try AppendedFile(creating: path).append(bytes)
    do {
      let reader = try ScratchReader(path: path, dtype: .bf16)
      for (index, block) in blocks.enumerated() {
        let read = try reader.read(index, rows: block.rows, columns: block.columns)
        if read.values.map(\.bitPattern) != block.values.map(\.bitPattern) { return -1 }
      }
      return nil
    } catch let error as ScratchError {
      guard case .corrupt(path, let block, _) = error else { return -2 }
      return block
    }
  }

  @Test func aFlippedBitAnywhereIsFoundInItsBlock() throws {
    try withTemporaryFolder { folder in
      let blocks = [
        Matrix(rows: 2, columns: 3, values: [1, -2, 3, 0.5, 7, 9]), Matrix(zeros: 2, 2),
      ]
      try write(Array(blocks.prefix(1)), .bf16, to: folder + "/one")
      try write(blocks, .bf16, to: folder + "/two")
      let border = try FileSystem.fileSize(folder + "/one")
      let whole = try FileSystem.readFile(folder + "/two")
      #expect(try damagedBlock(whole, blocks, folder: folder) == nil)
      // Where zstd's frame header has bits without a meaning, what comes back is equal.
      let descriptors = [36, border + 36]
      for position in whole.indices {
        for bit in 0..<8 {
          var bytes = whole
          bytes[position] ^= 1 << bit
          let block = try damagedBlock(bytes, blocks, folder: folder)
          #expect(
            block == (position < border ? 0 : 1) || block == nil && descriptors.contains(position),
            "byte \(position) bit \(bit)")
        }
      }
    }
  }

  @Test func aFileCutAnywhereIsFoundToBe() throws {
    try withTemporaryFolder { folder in
      let blocks = [
        Matrix(rows: 2, columns: 3, values: [1, -2, 3, 0.5, 7, 9]), Matrix(zeros: 2, 2),
      ]
      try write(Array(blocks.prefix(1)), .bf16, to: folder + "/one")
      try write(blocks, .bf16, to: folder + "/two")
      let border = try FileSystem.fileSize(folder + "/one")
      let whole = try FileSystem.readFile(folder + "/two")
      for length in 0..<whole.count {
        let block = try damagedBlock(Array(whole.prefix(length)), blocks, folder: folder)
        #expect(block == (length < border ? 0 : 1), "\(length) bytes")
      }
    }
  }

  @Test func aMissingFileIsASystemError() throws {
    try withTemporaryFolder { folder in
      #expect(throws: SystemError.self) { try ScratchReader(path: folder + "/no", dtype: .bf16) }
    }
  }
}
