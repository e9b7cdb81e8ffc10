// What is written comes back, and what was damaged does not.

import Glibc
import LinearAlgebra
import ScratchStore
import SystemIO
import Tensors
import Testing
import TestSupport

private let backend = Backend(threads: 2)

extension ScratchReader {
  fileprivate func block(
    _ index: Int, _ rows: Int, _ columns: Int, _ dtype: DType
  ) throws(ScratchError) -> Matrix {
    try read(
      index, rows: rows, columns: columns, dtype: dtype, backend: backend, into: "a block")
  }
}

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
    for block in blocks { try writer.append(block, backend: backend) }
    try writer.synchronize()
  }

  @Test(arguments: [DType.bf16, .f32, .f16])
  func blocksComeBackToTheBitInAnyOrder(dtype: DType) throws {
    try withTemporaryFolder { folder in
      let blocks = blocks(dtype)
      try write(blocks, dtype, to: folder + "/scratch")
      let reader = try ScratchReader(path: folder + "/scratch")
      #expect(reader.count == blocks.count)
      for index in [4, 2, 0, 3, 1, 2] {
        let block = blocks[index]
        let read = try reader.block(index, block.rows, block.columns, dtype)
        #expect(read.rows == block.rows && read.columns == block.columns)
        #expect(read.values.map(\.bitPattern) == block.values.map(\.bitPattern))
      }
    }
  }

  @Test func valuesAreRoundedToTheTypeOfTheFile() throws {
    try withTemporaryFolder { folder in
      let values: [Float] = [1.001, -2.7182818, 1e-3]
      try write([Matrix(rows: 1, columns: 3, values: values)], .bf16, to: folder + "/scratch")
      let reader = try ScratchReader(path: folder + "/scratch")
      #expect(try reader.block(0, 1, 3, .bf16).values == DType.bf16.rounded(values))
    }
  }

  @Test func theSameBlocksGiveTheSameFile() throws {
    try withTemporaryFolder { folder in
      for name in ["a", "b"] { try write(blocks(.bf16), .bf16, to: folder + "/" + name) }
      #expect(try FileSystem.readFile(folder + "/a") == FileSystem.readFile(folder + "/b"))
    }
  }

  /// Zeros, and one number all over, take next to nothing.
  @Test(arguments: [0, 1.5] as [Float], [(1024, 2880), (3, 1), (1024, 256), (1023, 257)])
  func `what is hardly anything comes back`(value: Float, shape: (rows: Int, columns: Int)) throws {
    try withTemporaryFolder { folder in
      let block = Matrix(rows: shape.rows, columns: shape.columns)
      block.fill(value)
      try write([block, block], .f32, to: folder + "/scratch")
      let reader = try ScratchReader(path: folder + "/scratch")
      #expect(reader.count == 2)
      for index in 0..<2 {
        let read = try reader.block(index, shape.rows, shape.columns, .f32)
        #expect(read.values.allSatisfy { $0 == value })
      }
    }
  }

  @Test func anEmptyFileHoldsNoBlock() throws {
    try withTemporaryFolder { folder in
      try write([], .bf16, to: folder + "/scratch")
      let reader = try ScratchReader(path: folder + "/scratch")
      #expect(reader.count == 0)
      let expected = ScratchError.corrupt(path: folder + "/scratch", block: 0, problem: "missing")
      #expect(throws: expected) { try reader.block(0, 1, 1, .bf16) }
    }
  }

  @Test func anotherShapeThanTheBlocksIsRefused() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/scratch"
      try write([Matrix(zeros: 1, 2), Matrix(zeros: 3, 4)], .bf16, to: path)
      let reader = try ScratchReader(path: path)
      #expect(
        throws: ScratchError.corrupt(
          path: path, block: 1, problem: "3 x 4 of 2 bytes instead of 4 x 3 of 2")
      ) {
        try reader.block(1, 4, 3, .bf16)
      }
      #expect(throws: ScratchError.corrupt(path: path, block: 2, problem: "missing")) {
        try reader.block(2, 3, 4, .bf16)
      }
    }
  }

  @Test func anotherTypeThanTheFilesIsRefused() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/scratch"
      try write([Matrix(zeros: 1, 2)], .f32, to: path)
      let expected = ScratchError.corrupt(
        path: path, block: 0, problem: "1 x 2 of 4 bytes instead of 1 x 2 of 2")
      #expect(throws: expected) { try ScratchReader(path: path).block(0, 1, 2, .bf16) }
    }
  }

  @Test func numbersComeBackToTheBit() throws {
    try withTemporaryFolder { folder in
      let numbers = [0, -0.0, 1e300, .pi, .infinity, 0x1p-1070]
      let writer = try ScratchWriter(path: folder + "/scratch", dtype: .f32)
      try writer.append(numbers, backend: backend)
      let read = try ScratchReader(path: folder + "/scratch")
        .readNumbers(0, count: numbers.count, backend: backend)
      #expect(read.map(\.bitPattern) == numbers.map(\.bitPattern))
    }
  }

  @Test func aBlockOfSeveralStripsComesBackForEveryNumberOfThreads() throws {
    try withTemporaryFolder { folder in
      var generator = SeededGenerator(seed: 66)
      let block = Matrix(
        rows: 3, columns: 200_001, values: DType.bf16.rounded(generator.floats(600_003)))
      for threads in [1, 2, 5] {
        let writer = try ScratchWriter(path: "\(folder)/\(threads)", dtype: .bf16)
        try writer.append(block, backend: Backend(threads: threads))
        let read = try ScratchReader(path: "\(folder)/\(threads)").block(0, 3, 200_001, .bf16)
        #expect(read.values.map(\.bitPattern) == block.values.map(\.bitPattern))
      }
      #expect(try FileSystem.readFile(folder + "/1") == FileSystem.readFile(folder + "/5"))
    }
  }

  @Test func aFileGoesOnWhereACommitLeftIt() throws {
    try withTemporaryFolder { folder in
      let blocks = blocks(.bf16)
      try write(blocks, .bf16, to: folder + "/whole")
      let path = folder + "/cut"
      let writer = try ScratchWriter(path: path, dtype: .bf16)
      for block in blocks.prefix(2) { try writer.append(block, backend: backend) }
      let committed = writer.byteCount
      // Never committed.
      try writer.append(blocks[4], backend: backend)
      let second = try ScratchWriter(
        continuing: path, dtype: .bf16, blocks: 2, byteCount: committed)
      for block in blocks.dropFirst(2) { try second.append(block, backend: backend) }
      #expect(try FileSystem.readFile(path) == FileSystem.readFile(folder + "/whole"))
    }
  }

  /// The block named by the error of opening and reading a file, or nil where all blocks are read and equal.
  private func damagedBlock(_ bytes: [UInt8], _ blocks: [Matrix], folder: String) throws -> Int? {
    let path = folder + "/damaged"
    // Not `replaceFile`: a thousand synchronizations are seconds.
    try AppendedFile(creating: path).append(bytes)
    do {
      let reader = try ScratchReader(path: path)
      for (index, block) in blocks.enumerated() {
        let read = try reader.block(index, block.rows, block.columns, .bf16)
        if read.values.map(\.bitPattern) != block.values.map(\.bitPattern) { return -1 }
      }
      return nil
    } catch let error as ScratchError {
      guard case .corrupt(path, let block, _) = error else { return -2 }
      return block
    }
  }

  /// Two blocks, the bytes of their file, and where the second begins.
  private func twoBlocks(
    _ folder: String
  ) throws -> (blocks: [Matrix], whole: [UInt8], border: Int) {
    let blocks = [
      Matrix(rows: 2, columns: 3, values: [1, -2, 3, 0.5, 7, 9]), Matrix(zeros: 2, 2),
    ]
    try write(Array(blocks.prefix(1)), .bf16, to: folder + "/one")
    try write(blocks, .bf16, to: folder + "/two")
    return (
      blocks, try FileSystem.readFile(folder + "/two"), try FileSystem.fileSize(folder + "/one")
    )
  }

  @Test func aFlippedBitAnywhereIsFoundInItsBlock() throws {
    try withTemporaryFolder { folder in
      let (blocks, whole, border) = try twoBlocks(folder)
      #expect(try damagedBlock(whole, blocks, folder: folder) == nil)
      // Where zstd's frame header has bits without a meaning, what comes back is equal.
      let descriptors = [32, border + 32]
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
      let (blocks, whole, border) = try twoBlocks(folder)
      for length in 0..<whole.count {
        let block = try damagedBlock(Array(whole.prefix(length)), blocks, folder: folder)
        #expect(block == (length < border ? 0 : 1), "\(length) bytes")
      }
    }
  }

  @Test func aMissingFileIsRefusedWithTheWayOut() throws {
    try withTemporaryFolder { folder in
      #expect(throws: ScratchError.self) { try ScratchReader(path: folder + "/no") }
    }
  }

  /// It may well be whole.
  @Test func `a file that the system fails to open is not called damaged`() throws {
    try withTemporaryFolder { folder in
      try replaceFile(folder + "/file", with: [])
      let path = folder + "/file/scratch"
      #expect(throws: SystemError(path: path, call: "open", code: ENOTDIR)) {
        try ScratchReader(path: path)
      }
      let error = ScratchError.system(SystemError(path: path, call: "read", code: EIO))
      #expect(error.description.contains("read failed: Input/output error; check the disk"))
    }
  }
}
