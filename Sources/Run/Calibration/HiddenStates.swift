// The activations between two steps of the run, block by block in scratch.

package import LinearAlgebra
package import ScratchStore
package import Tensors

/// `[tokens, H]` for every block, written once by one step and read by the next.
package struct HiddenStates {
  private let reader: ScratchReader
  private let blocks: [TokenBlock]
  private let columns: Int
  private let dtype: DType
  private let backend: Backend

  /// The type that states of a model with weights of type `dtype` are kept in between steps: bf16 as the reference
  /// runs, float32 for the others (float16 has not the range).
  package static func dtype(for dtype: DType) -> DType { dtype == .bf16 ? .bf16 : .f32 }

  package init(
    path: String, dtype: DType, blocks: [TokenBlock], columns: Int, backend: Backend
  ) throws {
    reader = try backend.computes ? ScratchReader(path: path) : ScratchReader()
    self.dtype = dtype
    self.backend = backend
    self.blocks = blocks
    self.columns = columns
  }

  package func read(_ block: Int) throws(ScratchError) -> Matrix {
    try reader.read(
      block, rows: blocks[block].count, columns: columns, dtype: dtype, backend: backend,
      into: "hidden states of a block")
  }
}
