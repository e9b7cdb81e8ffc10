// The activations between two steps of the run, block by block in scratch.

package import LinearAlgebra
package import ScratchStore
package import Tensors

/// `[tokens, H]` for every block, written once by one step and read by the next: in one file, or in pieces.
package struct HiddenStates {
  /// The first block of each file, ascending.
  private let files: [(first: Int, reader: ScratchReader)]
  /// What block 0 is called in them.
  private let offset: Int
  private let blocks: [TokenBlock]
  private let columns: Int
  private let dtype: DType
  private let backend: Backend

  /// The type that states of a model with weights of type `dtype` are kept in between steps: bf16 as the reference
  /// runs, float32 for the others (float16 has not the range).
  package static func dtype(for dtype: DType) -> DType { dtype == .bf16 ? .bf16 : .f32 }

  /// - Parameters:
  ///   - files: the first block of each, ascending from 0.
  ///   - offset: how many blocks of the files stand before `blocks`.
  package init(
    files: [(first: Int, path: String)], offset: Int = 0, dtype: DType, blocks: [TokenBlock],
    columns: Int, backend: Backend
  ) throws {
    self.files = try files.map { first, path in
      (first, try backend.computes ? ScratchReader(path: path) : ScratchReader())
    }
    self.offset = offset
    self.dtype = dtype
    self.backend = backend
    self.blocks = blocks
    self.columns = columns
  }

  /// States in one file.
  package init(
    path: String, dtype: DType, blocks: [TokenBlock], columns: Int, backend: Backend
  ) throws {
    try self.init(
      files: [(0, path)], dtype: dtype, blocks: blocks, columns: columns, backend: backend)
  }

  package func read(_ block: Int) throws(ScratchError) -> Matrix {
    guard let file = files.last(where: { $0.first <= offset + block }) else {
      preconditionFailure("block \(block) lies in no file")
    }
    return try file.reader.read(
      offset + block - file.first, rows: blocks[block].count, columns: columns, dtype: dtype,
      backend: backend, into: "hidden states of a block")
  }
}
