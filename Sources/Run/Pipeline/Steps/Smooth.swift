// One smoothing of a layer: from statistics to the scale that is written.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

extension StepInputs {
  /// Searches the scale between a producer and its consumers, records it, and writes it beside the output.
  func smooth(
    _ smoothing: Smoothing, _ statistics: ActivationStatistics, of layer: LayerSpec,
    weights: any SourceWeights, routedTokens: Int?
  ) throws -> AppliedSmoothing {
    if let channel = statistics.firstNonFiniteChannel {
      throw nonFiniteActivation(channel, read: smoothing.consumers[0], of: layer)
    }
    let consumers = smoothing.consumers.filter { output.fates[$0.weight] == .packed }
    let grid = options.grid
    var search = SmoothingSearch(
      statistics: statistics, loss: options.loss, grid: grid,
      workers: workers)
    for consumer in consumers {
      do {
        try search.addMagnitude(
          of: weights.weight(consumer), in: quantized(consumer).quantizer, workers: workers)
      } catch {
        throw nonFinite(error, consumer)
      }
      weights.letGo(consumer)
    }
    search.fixCandidates(workers: workers)
    for consumer in consumers {
      search.addErrors(
        of: weights.weight(consumer), in: quantized(consumer).quantizer,
        inputs: output.schemes[consumer]?.inputActivations, workers: workers)
      weights.letGo(consumer)
    }
    let best = search.best
    if !workers.computes {
      return AppliedSmoothing(
        smoothing, scale: [Float](repeating: 1, count: smoothing.channels))
    }
    let scale = exactScale(smoothing, search.candidates[best])
    try unsafe scale.withUnsafeBytes {
      try unsafe scales?.write($0, to: output.scaleTensor(smoothing))
    }
    if measures { return AppliedSmoothing(smoothing, scale: scale) }
    try results.note(
      ChosenSmoothing(
        smoothing: smoothing, point: best, gridPoint: grid[best],
        lossBefore: search.losses[0], lossAfter: search.losses[best], tokens: statistics.tokens,
        routedTokens: routedTokens),
      layer: layer.index)
    return AppliedSmoothing(smoothing, scale: scale)
  }

  /// The scale that the stored norm can express: the norm is rounded to its type first, and the consumers, which are
  /// rounded to few bits anyway, take up exactly what it became.
  private func exactScale(_ smoothing: Smoothing, _ scale: [Float]) -> [Float] {
    guard case .norm(let norm) = smoothing.producer else { return scale }
    let gains = norm.gains(weights)
    let stored = weights.dtype(of: norm.weight).rounded(
      zip(gains, scale).map { $0 / $1 - norm.offset })
    return scale.indices.map { channel in
      let exact = gains[channel] / (norm.offset + stored[channel])
      if exact.isFinite && exact > 0 { return exact }
      // A gain that is stored as its distance from 1 may be too near 0 for its type: that channel stays.
      return norm.offset == 0 ? scale[channel] : 1
    }
  }
}
