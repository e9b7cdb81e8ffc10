// The first unit of a run: tensors that no layer's work changes, and the embeddings of the calibration tokens.

internal import Calibration
internal import CompressedTensors
internal import Models
internal import Planning
internal import Safetensors
internal import ScratchStore
internal import SystemIO
internal import Tensors

extension QuantizeModel {
  /// Copies every unchanged tensor to its place, and writes FP8 that stays unquantized as bf16.
  func copyTensors() throws {
    for tensor in plan.checkpoint.model.tensors {
      switch plan.output.fates[tensor.name] {
      case .copied: try copy(tensor)
      case .decoded: try decode(tensor)
      default: continue
      }
      noteMemory()
      reportProgress(.copy, layer: nil, tokensDone: 0)
    }
  }

  /// A window at a time.
  private func copy(_ tensor: StoredTensor) throws {
    for start in stride(from: 0, to: tensor.byteCount, by: Windows.bytes) {
      let window = start..<min(start + Windows.bytes, tensor.byteCount)
      do {
        try unsafe tensor.withBytes { bytes in
          try unsafe writer.write(
            UnsafeRawBufferPointer(rebasing: bytes[window]), to: tensor.name, at: window.lowerBound)
        }
      } catch let error as NonFiniteOutput {
        throw nonFinite(error, tensor)
      }
      tensor.release(bytes: window)
    }
  }

  private func decode(_ tensor: StoredTensor) throws {
    try writeRows(of: weights.rows(of: tensor), tensor)
    weights.release(weight: tensor)
  }

  /// The hidden states that the first layer reads.
  func embedTokens() throws {
    if plan.run.calibratedLayers == 0 { return }
    let spec = plan.checkpoint.spec
    let states = try writeStates(.hidden, layer: 0)
    for block in plan.blocks {
      try states.file.append(
        weights.embed(block.tokens, spec.embedding, columns: spec.hiddenSize, workers: workers),
        workers: workers)
    }
    try finishStates(states)
  }
}
