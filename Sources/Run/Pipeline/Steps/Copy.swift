// The first unit of a run: tensors that no layer's work changes, an embedding and a head that are quantized, and the
// embeddings of the calibration tokens.

internal import Calibration
internal import CompressedTensors
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import LinearAlgebra
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

struct Copy {
  let inputs: StepInputs
  /// The parameters of the source.
  let tensors: [TensorSpec]

  private var backend: Backend { inputs.backend }

  /// Copies every unchanged tensor to its place, writes FP8 that stays unquantized as bf16, and rounds what is quantized
  /// and belongs to no layer.
  ///
  /// - Parameter finished: called after every tensor.
  func copyTensors(finished: () -> Void) throws {
    for tensor in tensors {
      switch inputs.output.fates[tensor.name] {
      case .copied: try copy(tensor)
      case .decoded: try rewrite(tensor.name)
      case .packed:
        guard let end = inputs.output.ends.first(where: { $0.weight == tensor.name }) else {
          continue
        }
        try round(end)
      default: continue
      }
      finished()
    }
  }

  /// A window at a time.
  private func copy(_ tensor: TensorSpec) throws {
    let window = min(Windows.bytes, tensor.byteCount)
    if !inputs.weights.isInOnePiece(tensor.name) { return try rewrite(tensor.name) }
    backend.ledger.note(.source, bytes: tensor.byteCount)
    backend.ledger.note(.output, bytes: tensor.byteCount)
    backend.ledger.take("a window of the source", window, from: .mapped)
    defer { backend.ledger.giveBack("a window of the source", window, to: .mapped) }
    guard let stored = inputs.checkpoint?.weights.parameter(tensor.name).tensor,
      let writer = inputs.writer
    else { return }
    for start in stride(from: 0, to: tensor.byteCount, by: Windows.bytes) {
      let window = start..<min(start + Windows.bytes, tensor.byteCount)
      do {
        try unsafe stored.withBytes { bytes in
          try unsafe writer.write(
            UnsafeRawBufferPointer(rebasing: bytes[window]), to: tensor.name, at: window.lowerBound)
        }
      } catch let error as NonFiniteOutput {
        throw inputs.nonFinite(error, tensor.name)
      }
      stored.release(bytes: window)
    }
  }

  /// An embedding or a head, by its own weights alone: within ranges that are best for them where others are compensated.
  private func round(_ end: LinearSpec) throws {
    let rounding: Rounding =
      inputs.output.method == .nearest
      ? .nearest : .clip([Float](repeating: 1, count: end.inputs))
    _ = try inputs.pack(end, inputs.weights.weight(end), by: ChosenRounding(rounding: rounding))
    inputs.weights.release([end])
  }

  /// What is FP8, or does not lie in one piece: number by number.
  private func rewrite(_ name: String) throws {
    if inputs.weights.rank(of: name) == 2 {
      try inputs.writeRows(of: inputs.weights.rows(ofTensor: name), to: name)
    } else if backend.computes {
      let dtype = inputs.weights.dtype(of: name)
      try unsafe dtype.encoded(inputs.weights.vector(name)).withUnsafeBytes {
        try unsafe inputs.writer?.write($0, to: name)
      }
    }
    inputs.weights.release(tensor: name)
  }

  /// The hidden states that the first layer reads.
  func embedTokens() throws {
    if inputs.calibratedLayers == 0 { return }
    if let kept = inputs.states.kept {
      if backend.computes { try kept.check([.hidden], 0, 0) }
      if kept.has(.hidden, 0, 0) { return }
    }
    let spec = inputs.spec
    let states = try inputs.states.write(.hidden, layer: 0, part: 0)
    try backend.forEach(of: inputs.blocks, alike: \.count) { block in
      try states.file.append(
        inputs.weights.embed(block.tokens, of: spec, backend: backend), backend: backend)
    }
    try inputs.states.finish(states)
  }
}
