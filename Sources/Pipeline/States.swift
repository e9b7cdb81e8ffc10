// Hidden states in scratch, by kind and layer.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Safetensors
internal import ScratchStore
internal import SystemIO
internal import Tensors

enum StateKind: String {
  /// The input of a layer.
  case hidden
  /// Between its attention and its MLP.
  case attended
}

extension QuantizeModel {
  private var stateType: DType {
    HiddenStates.dtype(for: weights.tensor(plan.checkpoint.spec.embedding).dtype)
  }

  private func path(_ kind: StateKind, layer: Int) -> String {
    "\(scratch)/\(kind.rawValue)-\(layer).zst"
  }

  func writeStates(_ kind: StateKind, layer: Int) throws -> ScratchWriter {
    try ScratchWriter(path: path(kind, layer: layer), dtype: stateType)
  }

  /// Makes a finished file durable, name and all: what a commit speaks of must survive a power loss.
  func finishStates(_ states: ScratchWriter) throws {
    try states.synchronize()
    try synchronizeFolder(scratch)
  }

  func readStates(_ kind: StateKind, layer: Int) throws -> HiddenStates {
    try HiddenStates(
      path: path(kind, layer: layer), dtype: stateType, blocks: plan.blocks,
      columns: plan.checkpoint.spec.hiddenSize)
  }

  /// Values as they will be read back.
  func rounded(_ x: Matrix) -> Matrix {
    let result = x.prefix(x.rows)
    let type = stateType
    if type != .f32 {
      workers.forEach(x.rows) { unsafe type.round(result.row($0), count: x.columns) }
    }
    return result
  }

  /// Removes what no later step reads.
  func dropScratch(before layer: Int) throws {
    for old in [layer - 2, layer - 1] where old >= 0 {
      try FileSystem.remove(path(.hidden, layer: old))
      try FileSystem.remove(path(.attended, layer: old))
    }
  }
}
