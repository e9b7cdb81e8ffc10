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
    for name in weights.names {
      switch plan.output.fates[name] {
      case .copied: try copy(weights.parameter(name))
      case .decoded: try rewrite(weights.parameter(name))
      default: continue
      }
      noteMemory()
      reportProgress(.copy, layer: nil, tokensDone: 0)
    }
  }

  /// A window at a time.
  private func copy(_ parameter: StoredParameter) throws {
    guard let tensor = parameter.tensor else { return try rewrite(parameter) }
    for start in stride(from: 0, to: tensor.byteCount, by: Windows.bytes) {
      let window = start..<min(start + Windows.bytes, tensor.byteCount)
      do {
        try unsafe tensor.withBytes { bytes in
          try unsafe writer.write(
            UnsafeRawBufferPointer(rebasing: bytes[window]), to: tensor.name, at: window.lowerBound)
        }
      } catch let error as NonFiniteOutput {
        throw nonFinite(error, parameter)
      }
      tensor.release(bytes: window)
    }
  }

  /// What is FP8, or does not lie in one piece: number by number.
  private func rewrite(_ parameter: StoredParameter) throws {
    if parameter.shape.count == 2 {
      try writeRows(of: weights.rows(of: parameter), parameter)
    } else {
      try unsafe parameter.dtype.encoded(weights.vector(parameter.name)).withUnsafeBytes {
        try unsafe writer.write($0, to: parameter.name)
      }
    }
    weights.release(parameter)
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
