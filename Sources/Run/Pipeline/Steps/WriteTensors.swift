// The tensors of a layer as their fates say: packed, or with smoothing scales folded in.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import Tensors
internal import Transformer

/// Linears that read the same, and are rounded alike if they are packed.
struct LinearsReadAlike {
  let linears: [LinearSpec]
  let weights: SmoothedWeights
  let rounding: ChosenRounding
  /// By name, what `largestWeights` found.
  let largest: [String: Float]
  /// By name, what errors of a Linear's outputs do.
  let outputs: [String: OutputFactor]
  /// What is told before them.
  let smoothings: [ChosenSmoothing]

  init(
    _ linears: [LinearSpec], _ weights: SmoothedWeights, by rounding: ChosenRounding,
    largest: [String: Float] = [:], outputs: [String: OutputFactor] = [:],
    after smoothings: [ChosenSmoothing] = []
  ) {
    self.linears = linears
    self.weights = weights
    self.rounding = rounding
    self.largest = largest
    self.outputs = outputs
    self.smoothings = smoothings
  }
}

extension StepInputs {
  /// A Linear that is quantized, with its scheme.
  func quantized(_ linear: LinearSpec) -> QuantizedLinear {
    let dtype = weights.dtype(of: linear.weight).unscaled
    guard let result = output.schemes.quantized(linear, dtype: dtype) else {
      preconditionFailure("\(linear.name) is not quantized")
    }
    return result
  }

  /// Writes a tensor as its fate says: packed, or with the scales folded in. Those that no smoothing touches are there. A
  /// trial rounds what would be packed, and writes nothing.
  func write(
    _ name: String, linear: LinearSpec?, from weights: SmoothedWeights, layer: LayerSpec
  ) throws {
    let dtype = self.weights.dtype(of: name).unscaled
    switch output.fates[name] {
    case .packed:
      guard let linear else { preconditionFailure("\(name) is packed and no Linear") }
      let errors = try pack(linear, weights.weight(linear), by: .nearest)
      try note(errors, of: linear, .nearest, layer: layer)
    case .rescaled where trial != nil: break
    case .rescaled:
      if self.weights.rank(of: name) == 2 {
        let plain = self.weights.rows(ofTensor: name)
        let linear =
          linear
          ?? LinearSpec(
            ParameterName.module(ofWeight: name) ?? name, inputs: plain.columns, outputs: plain.rows
          )
        try writeRows(of: weights.weight(linear), to: name)
      } else if backend.computes {
        do {
          try unsafe dtype.encoded(weights.vector(name)).withUnsafeBytes {
            try unsafe writer?.write($0, to: name)
          }
        } catch let error as NonFiniteOutput {
          throw nonFinite(error, name)
        }
      }
      try results.note(rescaled: name, layer: layer.index)
    case .copied, .decoded, .dropped, nil: break
    }
  }

  /// Writes Linears, all that are packed in one loop, and their biases.
  func write(_ alike: [LinearsReadAlike], layer: LayerSpec) throws {
    let packed = alike.flatMap { each in
      each.linears.filter { output.fates[$0.weight] == .packed }.map { (linear: $0, with: each) }
    }
    let rounded = unsafe QuantizedLinear.round(
      packed.map { linear, each in
        LinearToRound(
          quantized(linear), each.weights.weight(linear), by: each.rounding.rounding,
          outputs: each.outputs[linear.name], largest: each.largest[linear.name],
          largestInput: each.rounding.largestInput)
      }, backend: backend, write: writing)
    var errors = zip(packed, rounded).map { ($0.linear.name, $1) }[...]
    for each in alike {
      if let warning = each.rounding.warning { results.warn(warning) }
      for smoothing in each.smoothings { try results.note(smoothing, layer: layer.index) }
      for linear in each.linears {
        if let (name, result) = errors.first, name == linear.name {
          errors.removeFirst()
          try note(told(linear) { try result.get() }, of: linear, each.rounding, layer: layer)
        } else {
          try write(linear.weight, linear: linear, from: each.weights, layer: layer)
        }
        if linear.hasBias { try write(linear.bias, linear: nil, from: each.weights, layer: layer) }
      }
    }
  }

  private func note(
    _ errors: RoundingErrors, of linear: LinearSpec, _ rounding: ChosenRounding, layer: LayerSpec
  ) throws {
    if let trial {
      return try results.note(
        MeasuredLinear(linear, errors, trial: trial, method: options.rounding, layer: layer))
    }
    if errors.lostRows > 0 {
      results.warn(
        .rowsLost(
          linear: linear.name, count: errors.lostRows, of: linear.outputs,
          scheme: output.schemes[linear]?.name ?? ""))
    }
    try results.note(linear, rounding, errors, layer: layer.index)
  }

  /// Takes the bytes of packed tensors; nil in a trial.
  private var writing: (@Sendable (UnsafeRawBufferPointer, String, Int) throws -> Void)? {
    if trial != nil { return nil }
    let writer = writer
    return { try unsafe writer?.write($0, to: $1, at: $2) }
  }

  /// What went wrong with a Linear in words that name it.
  private func told<Value>(_ linear: LinearSpec, _ body: () throws -> Value) throws -> Value {
    do {
      return try body()
    } catch let error as NonFiniteWeight {
      throw nonFinite(error, linear)
    } catch let error as NonFiniteOutput {
      let groupSize = quantized(linear).quantizer.groupSize
      throw infiniteScale(error, linear.weight, groupSize: groupSize)
    }
  }

  /// Rounds a Linear and writes its tensors; a trial writes nothing.
  ///
  /// - Parameter weight: of the Linear, smoothed.
  func pack(
    _ linear: LinearSpec, _ weight: any WeightRows, by rounding: ChosenRounding
  ) throws -> RoundingErrors {
    try told(linear) {
      try unsafe quantized(linear).round(
        weight, by: rounding.rounding, largestInput: rounding.largestInput, backend: backend,
        write: writing)
    }
  }

  /// The largest weight of each quantized Linear that must know it, among all that are loaded as one with it: they share
  /// a scale above their own.
  ///
  /// - Parameter groups: Linears that are loaded as one, or by themselves.
  func largestWeights(
    of groups: [[LinearSpec]], from weights: SmoothedWeights
  ) throws -> [String: Float] {
    var result: [String: Float] = [:]
    for group in groups {
      let packed = group.filter { linear in
        output.fates[linear.weight] == .packed && quantized(linear).quantizer.needsLargest
      }
      var largest: Float = 0
      for linear in packed {
        do {
          largest = max(
            largest,
            try quantized(linear).quantizer.largest(
              of: weights.weight(linear), backend: backend))
        } catch {
          throw nonFinite(error, linear)
        }
      }
      for linear in packed { result[linear.name] = largest }
    }
    return result
  }

  /// Writes a weight to the place of a tensor, in the type that this has without scales.
  ///
  /// - Parameter weight: what became of the tensor.
  func writeRows(of weight: any WeightRows, to name: String) throws {
    let dtype = weights.dtype(of: name).unscaled
    let rowBytes = weight.columns * dtype.byteWidth
    let tiles = ranges(of: weight.rows, by: WeightTile.rows)
    let (writer, memory) = (writer, backend.memory)
    let tile = min(WeightTile.rows, weight.rows) * weight.columns
    weight.noteReading(weight.rows, tileRows: WeightTile.rows, backend: backend)
    backend.ledger.note(Operation(.elements, [weight.rows * weight.columns]))
    backend.ledger.note(.output, bytes: weight.rows * rowBytes)
    let each = [
      TaskBuffer("weight tiles", floats: tile),
      TaskBuffer("rows being written", byteCount: tile * dtype.byteWidth, pool: .heap),
    ]
    let written = backend.map(tiles.count, each: each) {
      index -> Result<NonFiniteWeight?, any Error> in
      Result {
        let rows = tiles[index]
        let decoded = weight.matrix(rows, from: memory)
        if let bad = decoded.firstNonFinite {
          return NonFiniteWeight(
            row: rows.lowerBound + bad / weight.columns, column: bad % weight.columns)
        }
        try unsafe decoded.encoded(as: dtype).withUnsafeBytes {
          try unsafe writer?.write($0, to: name, at: rows.lowerBound * rowBytes)
        }
        return nil
      }
    }
    for result in written {
      do {
        if let bad = try result.get() { throw nonFinite(bad, name) }
      } catch let error as NonFiniteOutput {
        throw nonFinite(error, name)
      }
    }
  }
}
