// How long a run will take on this machine: every kind of work timed once, for two seconds in all, on the model's own
// weights and shapes; then counted.

internal import Calibration
internal import CompressedTensors
internal import Glibc
internal import JSON
internal import LinearAlgebra
internal import Models
package import Planning
internal import Quantization
internal import Safetensors
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

/// Seconds of a run, by step.
package struct TimeEstimate: Sendable, Equatable {
  package private(set) var seconds: [RunStep: Double] = [:]
  /// What the run would take longer if every expert saw all tokens.
  package let secondsSaved: Double
  /// Floating-point operations per second of the experts' products, everything around them included.
  package let rate: Double

  /// The sum, always added in the order of the steps: a dictionary's own order would change the last bit.
  package var total: Double { RunStep.allCases.reduce(0) { $0 + (seconds[$1] ?? 0) } }

  /// - Parameters:
  ///   - costs: of this plan, or of one with another number of tokens.
  ///   - loading: seconds that opening the model and reading the data took.
  package init(_ plan: QuantizePlan, _ costs: Costs, loading: Double) {
    rate = 1 / costs.expertOperation
    let layers = plan.checkpoint.spec.layers
    let run = plan.run
    let blocks = Double(plan.blocks.count)
    let tokens = Double(run.tokens)
    func elements(_ linears: [LinearSpec]) -> Double {
      linears.reduce(0) { $0 + Double($1.inputs) * Double($1.outputs) }
    }
    func writing(_ linears: [LinearSpec]) -> Double {
      let packed = linears.filter { plan.output.fates[$0.weight] == .packed }
      let compensation = packed.reduce(0) {
        $0 + Rounding.compensationOperations(rows: $1.outputs, channels: $1.inputs)
      }
      return elements(packed) * (costs.packedElement + 0.53 * costs.writtenByte)
        + compensation * costs.compensationOperation
    }

    seconds[.load] = loading
    let copied = plan.checkpoint.model.tensors.reduce(0) { sum, tensor in
      switch plan.output.fates[tensor.name] {
      case .copied: sum + tensor.byteCount
      case .decoded: sum + tensor.byteCount * tensor.dtype.unscaled.byteWidth
      default: sum
      }
    }
    seconds[.copy] = Double(copied) * costs.writtenByte + blocks * costs.block / 2 + costs.commit
    var (attend, experts, advance) = (0.0, 0.0, 0.0)
    var secondsSaved = 0.0
    for (layer, smoothings) in zip(layers, plan.output.smoothings) {
      let units = layer.mlp.units
      let isCalibrated = layer.index < run.calibratedLayers
      if isCalibrated {
        attend +=
          tokens * layer.attendOperations(context: Double(run.longestSequence) / 2)
          * costs.attentionOperation
        attend += blocks * (costs.block + costs.mlpInput)
      }
      for smoothing in smoothings {
        let searched = smoothing.consumers.filter { plan.output.fates[$0.weight] == .packed }
        let search = elements(searched) * costs.searchedElement
        if case .hidden = smoothing.tap { experts += search } else { attend += search }
      }
      attend += writing(layer.attention.linears) + costs.commit
      // A few tokens prove the layer, before and after: in attention, unit by unit, and as a whole.
      if isCalibrated {
        let chosen = 8 * (layer.mlp.router?.expertsPerToken ?? 0)
        let together = layer.mlp.alwaysOn.count + min(chosen, layer.mlp.routed.count)
        attend += 4 * costs.fewTokens
        experts += 2 * Double(units.count) * costs.fewTokens
        advance += 2 * Double(together) * costs.fewTokens
      }
      experts += writing(units.flatMap(\.linears))
      let taps = plan.output.taps[layer.index]
      let calibrated = units.indices.filter { taps.contains(.hidden($0)) }
      func hidden(_ units: [GatedMLPSpec]) -> Double {
        tokens * units.reduce(0) { $0 + $1.hiddenOperations }
      }
      let all = hidden(calibrated.map { units[$0] }) * costs.expertOperation
      let routed = hidden(
        calibrated.filter { $0 >= layer.mlp.alwaysOn.count }.map { units[$0] })
      let share = run.layers[layer.index].seenShare
      let saved =
        share < 1 ? routed * (costs.expertOperation - share * costs.gatheredOperation) : 0
      experts += all - saved
      secondsSaved += saved
      let groups = Double((units.count + run.unitsPerGroup - 1) / run.unitsPerGroup)
      experts += groups * (costs.commit + (calibrated.isEmpty ? 0 : blocks * costs.block / 2))
      if layer.index + 1 < run.calibratedLayers {
        let always = layer.mlp.alwaysOn.reduce(0) {
          $0 + $1.hiddenOperations + $1.down.operations
        }
        advance += tokens * always * costs.expertOperation
        advance += blocks * (costs.block + costs.mlpInput)
        advance += blocks * Double(layer.mlp.routed.count) * costs.routedTokens
      }
      advance += costs.commit
    }
    let isCached = run.sourceBytes < MachineShare().availableBytes
    let read = Double(isCached ? run.sourceBytes : run.sourceReadBytes) * costs.readByte
    self.secondsSaved = secondsSaved
    seconds[.attend] = attend
    seconds[.experts] = experts + read
    seconds[.advance] = advance
    // Read from the kernel's cache or the disk, as the source was, at the speed of a checksum at most.
    let output = Double(run.outputBytes)
    seconds[.check] =
      output * max(costs.readByte, 1e-9 / Double(plan.options.threads)) + 2 * costs.commit
  }
}

/// What each kind of work takes on this machine, in seconds.
package struct Costs: Sendable {
  /// One floating-point operation of a block's attention.
  let attentionOperation: Double
  /// One of an expert's products on a block of tokens, with its statistics.
  let expertOperation: Double
  /// One operation of those products where the expert sees some tokens of the block alone.
  let gatheredOperation: Double
  /// An expert on the tokens of a block that are sent to it.
  let routedTokens: Double
  /// An expert on a handful of tokens, in float32.
  let fewTokens: Double
  /// The norm and the router on a block.
  let mlpInput: Double
  /// A weight under all points of the scale search.
  let searchedElement: Double
  let packedElement: Double
  /// A floating-point operation of error-compensated rounding.
  let compensationOperation: Double
  /// A block of hidden states to scratch and back.
  let block: Double
  let readByte: Double
  let writtenByte: Double
  /// A small file, replaced durably, and what else a commit makes durable.
  let commit: Double

  /// Measures for about two seconds.
  ///
  /// - Parameters:
  ///   - folder: where a small file may be written for a moment, on the disk that the run will write to.
  ///   - expertTokens: what an expert may see in another plan that these costs are for; it is less than in this one.
  package init(_ plan: QuantizePlan, folder: String, expertTokens: Int? = nil) throws {
    let spec = plan.checkpoint.spec
    let weights = plan.checkpoint.weights
    let workers = Workers(threads: plan.options.threads, engine: plan.run.engine)
    // The layer with most units stands for all.
    let layers = spec.layers.prefix(max(1, plan.run.calibratedLayers))
    let layer = layers.last { each in
      each.mlp.units.count == layers.map(\.mlp.units.count).max()
    }!
    let unit = layer.mlp.units.last!
    let rows = max(8, plan.blocks.map(\.count).max() ?? 0)
    func activations(_ rows: Int, _ columns: Int) -> Matrix {
      let result = Matrix(rows: rows, columns: columns)
      for index in 0..<result.count { unsafe result.base[index] = Float(index % 1021) / 510 - 1 }
      return result
    }
    let isGram = plan.options.loss == .gram
    let x = activations(rows, spec.hiddenSize)

    readByte = Self.read(layer, weights)
    let statistics = ActivationStatistics(
      channels: unit.gate.outputs, withGram: plan.options.gathersGrams)
    expertOperation =
      Self.seconds {
        statistics.add(
          unit.hidden(x, weights: weights.held, workers: workers), workers: workers)
      } / (Double(rows) * unit.hiddenOperations)
    let asked = plan.run.layers[layer.index].seenShare
    let share =
      expertTokens.map { wanted in
        let own = layer.mlp.router.map {
          Double($0.expertsPerToken) / Double(layer.mlp.routed.count)
        }
        return min(asked, (own ?? 0) + Double(wanted) / Double(max(1, plan.run.tokens)))
      } ?? asked
    let seen = SeenTokens(
      rows: Array(0..<max(1, Int(saturating: share * Double(rows)))), weights: nil)
    gatheredOperation =
      share < 1
      ? Self.seconds {
        statistics.add(
          seen, of: x, through: unit, weights: weights.held, workers: workers)
      } / (Double(seen.rows?.count ?? rows) * unit.hiddenOperations) : expertOperation
    let chosen = layer.mlp.router.map { rows * $0.expertsPerToken / layer.mlp.routed.count } ?? 0
    let routed = activations(max(1, min(chosen, MLPSpec.gatheredRows)), spec.hiddenSize)
    let calls = Double(chosen) / Double(routed.rows)
    routedTokens =
      max(1, calls)
      * Self.seconds { _ = unit.apply(to: routed, weights: weights, workers: workers) }
    mlpInput = Self.seconds {
      let normed = layer.postAttentionNorm.apply(to: x, weights: weights, workers: workers)
      for routing in layer.mlp.route([normed], weights: weights, workers: workers) {
        _ = routing.matrix(workers: workers)
      }
    }
    let few = activations(8, spec.hiddenSize)
    fewTokens = Self.seconds {
      _ = unit.apply(to: few, weights: weights.held, workers: workers.exact)
    }
    let sequence = max(8, min(plan.run.longestSequence, 256))
    let part = x.prefix(min(rows, sequence))
    attentionOperation =
      Self.seconds {
        _ = layer.attend(
          part, sequences: [0..<part.rows], weights: weights.held, workers: workers
        ) { _, activation in
          ActivationStatistics(channels: activation.columns, withGram: isGram)
            .add(activation, workers: workers)
        }
      } / (Double(part.rows) * layer.attendOperations(context: Double(part.rows) / 2))

    let elements = Double(unit.down.inputs * unit.down.outputs)
    let dtype = weights.tensor(unit.down.weight).dtype.unscaled
    let held = weights.held
    // One that stays as it is stands for those that do not.
    let quantized = QuantizedLinear(
      unit.down, plan.output.schemes[unit.down] ?? plan.output.schemes.schemes[0], dtype: dtype)
    let quantizer = quantized.quantizer
    let (grid, loss) = (plan.options.grid, plan.options.loss)
    searchedElement =
      try Self.seconds {
        var search = SmoothingSearch(
          statistics: statistics, loss: loss, grid: grid)
        try search.addMagnitude(of: held.weight(unit.down), in: quantizer, workers: workers)
        search.fixCandidates()
        search.addErrors(of: held.weight(unit.down), in: quantizer, workers: workers)
      } / elements
    func seconds(rounding: Rounding) throws -> Double {
      try Self.seconds {
        try unsafe quantized
          .round(held.weight(unit.down), by: rounding, workers: workers) { _, _, _ in }
      }
    }
    let method = plan.output.method
    let simple: Rounding = method.needsStatistics ? .clip(statistics.meanSquare) : .nearest
    packedElement = try seconds(rounding: simple) / elements
    if method == .compensated,
      let factors = try? statistics.factors(
        smoothedBy: nil, groupSizes: [quantizer.groupSize], dampening: plan.options.dampening,
        workers: workers)
    {
      let more =
        try seconds(rounding: .compensated(factors)) - elements * packedElement
      compensationOperation =
        max(0, more)
        / Rounding.compensationOperations(rows: unit.down.outputs, channels: unit.down.inputs)
    } else {
      compensationOperation = 0
    }
    weights.release(layer.linears)

    let path = "\(folder)/\(OutputFolder.measurementPrefix)\(getpid())"
    defer {
      try? FileSystem.remove(path)
      try? FileSystem.remove(temporaryPath(of: path))
    }
    let type = HiddenStates.dtype(for: weights.tensor(spec.embedding).dtype)
    block = try Self.seconds {
      try ScratchWriter(path: path, dtype: type).append(x, workers: workers)
      _ = try ScratchReader(path: path).read(
        0, rows: x.rows, columns: x.columns, dtype: type, workers: workers, into: "a block")
    }
    let megabytes = [UInt8](repeating: 0x5a, count: 16 << 20)
    writtenByte =
      try Self.seconds {
        let file = try AppendedFile(creating: path)
        try file.append(megabytes)
        try file.synchronize()
      } / Double(megabytes.count)
    // Shards, scales, choices, two scratch files and their folder beside the state itself.
    commit = 4 * (try Self.seconds { try replaceFile(path, with: [0]) })
  }

  /// The mean of what comes after a first time, as often as a fifth of a second allows; the first where it is long.
  private static func seconds(_ body: () throws -> Void) rethrows -> Double {
    let first = Clock()
    try body()
    if first.seconds > 0.2 { return first.seconds }
    let clock = Clock()
    var count = 0.0
    repeat {
      try body()
      count += 1
    } while clock.seconds < 0.2
    return clock.seconds / count
  }

  /// Maps what one expert after the other holds, as it lies on the disk or in the kernel's cache now.
  private static func read(_ layer: LayerSpec, _ weights: CheckpointWeights) -> Double {
    let clock = Clock()
    var bytes = 0
    var sum: UInt8 = 0
    for linear in layer.linears.reversed() where clock.seconds < 0.2 {
      let tensor = weights.tensor(linear.weight)
      unsafe tensor.withBytes { all in
        for offset in stride(from: 0, to: all.count, by: 4096) { unsafe sum &+= all[offset] }
      }
      tensor.release()
      bytes += tensor.byteCount
    }
    // The sum keeps the reads from being left out.
    return clock.seconds / Double(max(bytes, Int(sum & 1)))
  }
}
