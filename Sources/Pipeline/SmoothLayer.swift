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

extension QuantizeModel {
  /// Searches the scale between a producer and its consumers, records it, and writes it beside the output.
  func smooth(
    _ smoothing: Smoothing, _ statistics: ActivationStatistics, of layer: LayerSpec,
    weights: CheckpointWeights, routedTokens: Int?
  ) throws -> AppliedSmoothing {
    if let channel = statistics.firstNonFiniteChannel {
      throw nonFiniteActivation(channel, read: smoothing.consumers[0], of: layer)
    }
    let consumers = smoothing.consumers.filter { plan.output.fates[$0.weight] == .packed }
    let grid = plan.options.grid
    var search = SmoothingSearch(
      statistics: statistics, loss: plan.options.loss, grid: grid)
    for consumer in consumers {
      do {
        try search.addMagnitude(
          of: weights.weight(consumer), in: quantized(consumer).quantizer, workers: workers)
      } catch {
        throw nonFinite(error, consumer)
      }
      weights.letGo(consumer)
    }
    search.fixCandidates()
    for consumer in consumers {
      search.addErrors(
        of: weights.weight(consumer), in: quantized(consumer).quantizer, workers: workers)
      weights.letGo(consumer)
    }
    let best = search.best
    let scale = exactScale(smoothing, search.candidates[best])
    try unsafe scale.withUnsafeBytes {
      try unsafe smoothingWriter.write($0, to: OutputPlan.scaleTensor(smoothing))
    }
    try note(
      SmoothingChoice(
        smoothing: smoothing, point: best, gridPoint: grid[best],
        lossBefore: search.losses[0], lossAfter: search.losses[best], tokens: statistics.tokens,
        routedTokens: routedTokens),
      layer: layer)
    return AppliedSmoothing(smoothing, scale: scale)
  }

  /// The scale that the stored norm can express: the norm is rounded to its type first, and the consumers, which are
  /// rounded to few bits anyway, take up exactly what it became.
  private func exactScale(_ smoothing: Smoothing, _ scale: [Float]) -> [Float] {
    guard case .norm(let norm) = smoothing.producer else { return scale }
    let weight = weights.vector(norm.weight)
    let stored = weights.tensor(norm.weight).dtype.rounded(zip(weight, scale).map { $0 / $1 })
    return scale.indices.map { channel in
      let exact = weight[channel] / stored[channel]
      return exact.isFinite && exact > 0 ? exact : scale[channel]
    }
  }

  /// What made an activation NaN or infinite.
  func nonFiniteActivation(
    _ channel: Int, read reader: LinearSpec, of layer: LayerSpec
  ) -> QuantizeError {
    // Stored numbers were looked at when the run began; with its scale, one of FP8 may be none.
    if plan.checkpoint.fp8 != nil,
      let number = weights.firstNonFinite(in: layers.prefix(through: layer.index).flatMap(\.claims))
    {
      return QuantizeError(number)
    }
    let near = layers[max(0, layer.index - 1)...layer.index]
    return .nonFiniteActivation(
      layer: layer.index, tap: "the input of `\(reader.name)`", channel: channel,
      largest: weights.largest(in: near.flatMap(\.claims)).map { place, value in
        "\(value) at [\(place.row), \(place.column)] of `\(place.tensor.name)` in \(place.tensor.file.path)"
      })
  }

  /// A Linear that is quantized, with its scheme.
  func quantized(_ linear: LinearSpec) -> QuantizedLinear {
    let dtype = weights.tensor(linear.weight).dtype.unscaled
    guard let result = plan.output.schemes.quantized(linear, dtype: dtype) else {
      preconditionFailure("\(linear.name) is not quantized")
    }
    return result
  }

  func nonFinite(_ error: NonFiniteWeight, _ linear: LinearSpec) -> QuantizeError {
    nonFinite(error, weights.tensor(linear.weight))
  }

  /// - Parameter dtype: what the number goes beyond, where it is one in the source.
  private func nonFinite(
    _ error: NonFiniteWeight, _ tensor: StoredTensor, dtype: DType = .f32
  ) -> QuantizeError {
    weights.origin(ofNonFinite: tensor, row: error.row, column: error.column).map {
      QuantizeError($0)
    }
      ?? .overflow(
        file: tensor.file.path, tensor: tensor.name, row: error.row, column: error.column,
        dtype: dtype)
  }

  /// A number that became of a source tensor's and cannot be written.
  func nonFinite(_ error: NonFiniteOutput, _ tensor: StoredTensor) -> QuantizeError {
    let columns = tensor.shape.count < 2 ? error.element + 1 : tensor.shape.last ?? 1
    return nonFinite(
      NonFiniteWeight(row: error.element / columns, column: error.element % columns), tensor,
      dtype: tensor.dtype.unscaled)
  }

  /// A scale that cannot be written.
  private func infiniteScale(
    _ error: NonFiniteOutput, _ tensor: StoredTensor, groupSize: Int
  ) -> QuantizeError {
    let groups = (tensor.shape.last ?? 1) / groupSize
    let start = error.element % groups * groupSize
    return .infiniteScale(
      file: tensor.file.path, tensor: tensor.name, row: error.element / groups,
      columns: start..<start + groupSize, dtype: tensor.dtype.unscaled)
  }

  /// Writes a tensor as its fate says: packed, or with the scales folded in. Those that no smoothing touches are there.
  ///
  /// - Parameter rounding: of a Linear that may be packed.
  func write(
    _ name: String, linear: LinearSpec?, from weights: SmoothedWeights, layer: LayerSpec,
    by rounding: ChosenRounding = .nearest
  ) throws {
    let dtype = self.weights.tensor(name).dtype.unscaled
    switch plan.output.fates[name] {
    case .packed:
      guard let linear else { preconditionFailure("\(name) is packed and no Linear") }
      let quantized = quantized(linear)
      do {
        let writer = writer
        let errors = try unsafe quantized.round(
          weights.weight(linear), by: rounding.rounding, workers: workers
        ) { bytes, tensor, offset in try unsafe writer.write(bytes, to: tensor, at: offset) }
        try note(linear, rounding, errors, layer: layer)
      } catch let error as NonFiniteWeight {
        throw nonFinite(error, linear)
      } catch let error as NonFiniteOutput {
        throw infiniteScale(
          error, self.weights.tensor(name), groupSize: quantized.quantizer.groupSize)
      }
    case .rescaled:
      let tensor = self.weights.tensor(name)
      if tensor.shape.count == 2 {
        let linear =
          linear
          ?? LinearSpec(
            String(name.dropLast(".weight".count)), inputs: tensor.shape[1],
            outputs: tensor.shape[0])
        try writeRows(of: weights.weight(linear), tensor)
      } else {
        do {
          try unsafe dtype.encoded(weights.vector(name)).withUnsafeBytes {
            try unsafe writer.write($0, to: name)
          }
        } catch let error as NonFiniteOutput {
          throw nonFinite(error, tensor)
        }
      }
      try choices.add(linear: name, fate: "rescaled", layer: layer.index)
    case .copied, .decoded, .dropped, nil: break
    }
  }

  /// Writes a weight as `tensor.dtype.unscaled` to the place of the same name.
  ///
  /// - Parameter weight: what became of `tensor`.
  func writeRows(of weight: any WeightRows, _ tensor: StoredTensor) throws {
    let dtype = tensor.dtype.unscaled
    let rowBytes = weight.columns * dtype.byteWidth
    let tiles = ranges(of: weight.rows, by: WeightTile.rows)
    let (writer, memory) = (writer, workers.memory)
    let results = workers.map(tiles.count) { index -> Result<NonFiniteWeight?, any Error> in
      Result {
        let rows = tiles[index]
        let decoded = weight.matrix(rows, from: memory)
        if let bad = decoded.firstNonFinite {
          return NonFiniteWeight(
            row: rows.lowerBound + bad / weight.columns, column: bad % weight.columns)
        }
        try unsafe decoded.encoded(as: dtype).withUnsafeBytes {
          try unsafe writer.write($0, to: tensor.name, at: rows.lowerBound * rowBytes)
        }
        return nil
      }
    }
    for result in results {
      do {
        if let bad = try result.get() { throw nonFinite(bad, tensor) }
      } catch let error as NonFiniteOutput {
        throw nonFinite(error, tensor)
      }
    }
  }
}
