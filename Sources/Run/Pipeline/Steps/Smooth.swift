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

/// A smoothing with its scale, and what there is to tell of how that was chosen: nothing in a trial.
struct FoundSmoothing {
  let applied: AppliedSmoothing
  let chosen: ChosenSmoothing?
}

extension StepInputs {
  /// Searches the scale between a producer and its consumers, and writes it beside the output.
  ///
  /// - Parameter applied: the smoothings of the layer so far.
  func smooth(
    _ smoothing: Smoothing, _ statistics: ActivationStatistics, of layer: LayerSpec,
    weights: any SourceWeights, under applied: [AppliedSmoothing], routedTokens: Int?
  ) throws -> FoundSmoothing {
    if let channel = statistics.firstNonFiniteChannel {
      throw nonFiniteActivation(channel, read: smoothing.consumers[0], of: layer)
    }
    let consumers = smoothing.consumers.filter { output.fates[$0.weight] == .packed }
    let grid = options.grid
    var search = SmoothingSearch(
      statistics: statistics, loss: options.loss, grid: grid,
      backend: backend)
    for consumer in consumers {
      do {
        try search.addMagnitude(
          of: weights.weight(consumer), in: quantized(consumer).quantizer, backend: backend)
      } catch {
        throw nonFinite(error, consumer)
      }
      weights.letGo(consumer)
    }
    search.fixCandidates(backend: backend)
    var shared: (group: Set<String>, columns: SharedColumns)?
    for consumer in consumers {
      let quantizer = quantized(consumer).quantizer
      if !quantizer.needsLargest {
        shared = nil
      } else if shared?.group.contains(consumer.name) != true {
        let group = sharingScales(with: consumer, of: layer)
        shared = (Set(group.map(\.name)), columns(of: group, weights))
      }
      search.addErrors(
        of: weights.weight(consumer), in: quantizer, sharing: shared?.columns,
        inputs: output.schemes[consumer]?.inputActivations, backend: backend)
      weights.letGo(consumer)
    }
    try addLosses(of: smoothing, read: consumers, to: &search, weights, under: applied, of: layer)
    let best = search.best
    if !backend.computes {
      let applied = AppliedSmoothing(
        smoothing, scale: [Float](repeating: 1, count: smoothing.channels))
      return FoundSmoothing(applied: applied, chosen: nil)
    }
    let scale = exactScale(smoothing, search.candidates[best])
    try unsafe scale.withUnsafeBytes {
      try unsafe scales?.write($0, to: output.scaleTensor(smoothing))
    }
    let chosen = ChosenSmoothing(
      smoothing: smoothing, point: best, gridPoint: grid[best],
      lossBefore: search.losses[0], lossAfter: search.losses[best], tokens: statistics.tokens,
      routedTokens: routedTokens)
    return FoundSmoothing(
      applied: AppliedSmoothing(smoothing, scale: scale), chosen: measures ? nil : chosen)
  }

  /// The quantized Linears of a layer that share a scale above their own with one of them.
  private func sharingScales(with linear: LinearSpec, of layer: LayerSpec) -> [LinearSpec] {
    let group = layer.scaledTogether.first { $0.contains(linear) } ?? [linear]
    return group.filter { other in
      output.fates[other.weight] == .packed && quantized(other).quantizer.needsLargest
    }
  }

  private func columns(of linears: [LinearSpec], _ weights: any SourceWeights) -> SharedColumns {
    var result = SharedColumns(columns: linears.first?.inputs ?? 0)
    for linear in linears {
      result.add(weights.weight(linear), backend: backend)
      weights.letGo(linear)
    }
    return result
  }

  /// Adds what a search must know of a producer that is quantized itself, and loses rows that become small.
  private func addLosses(
    of smoothing: Smoothing, read consumers: [LinearSpec], to search: inout SmoothingSearch,
    _ weights: any SourceWeights, under applied: [AppliedSmoothing], of layer: LayerSpec
  ) throws {
    guard case .linear(let producer) = smoothing.producer,
      output.fates[producer.weight] == .packed
    else { return }
    let quantizer = quantized(producer).quantizer
    if !quantizer.losesSmallRows { return }
    let smoothed = SmoothedWeights(weights, applied)
    var largest: Float = 0
    do {
      for other in sharingScales(with: producer, of: layer) where other != producer {
        largest = max(
          largest,
          try quantized(other).quantizer.largest(of: smoothed.weight(other), backend: backend))
        weights.letGo(other)
      }
      try search.addLosses(
        ofProducer: smoothed.weight(producer), in: quantizer, beside: largest,
        readers: columns(of: consumers, weights), backend: backend)
    } catch {
      throw nonFinite(error, producer)
    }
    weights.letGo(producer)
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
