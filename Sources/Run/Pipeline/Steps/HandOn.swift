// Errors handed on within a branch: its last projection is rounded for what those before it make once they are rounded.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import Tensors
internal import Transformer

/// All calibration tokens through a branch along the sequence once more: with the original weights, and with what was
/// written of its Linears. Both read the original states, so that layers do not depend on each other's rounding.
struct HandOn {
  let inputs: StepInputs
  let layer: LayerSpec
  let part: LayerPart
  /// Of the part, along the sequence.
  let branch: Branch<SequenceMixer>

  private var workers: Workers { inputs.workers }
  private var tap: Tap { branch.tap(.output) }

  private var weights: any SourceWeights {
    inputs.passes.holdsAttention ? inputs.weights.held : inputs.weights
  }

  /// Rounds and writes the output projection.
  ///
  /// - Parameter block: blocks before it are done.
  func run(from block: Int) throws {
    let weights = weights
    let applied = try inputs.recordedSmoothings(of: layer)
      .filter { $0.smoothing.tap.branch == branch.number }
    let smoothed = SmoothedWeights(weights, applied)
    let statistics = inputs.newStatistics(tap, of: layer, withErrors: true)
    let before = branch.mixer.linears.filter { $0 != branch.mixer.output }
    try gather(
      statistics, from: block, weights: weights,
      rounded: inputs.written(before, over: smoothed),
      scale: applied.first { $0.smoothing.tap == tap }?.scale)
    inputs.letGoOfWritten(before)
    // What was gathered is smoothed already.
    let rounding = try inputs.rounding(statistics, at: tap, under: [], of: layer)
    let readers = layer.readers(at: tap)
    let largest = try inputs.largestWeights(of: readers.map { [$0] }, from: smoothed)
    for linear in readers {
      try inputs.write(
        linear.weight, linear: linear, from: smoothed, layer: layer, by: rounding,
        largest: largest)
    }
    inputs.results.noteMemory()
    inputs.weights.release(branch.mixer.linears + branch.mixer.deciding.map(\.linear))
  }

  private func gather(
    _ statistics: ActivationStatistics, from block: Int, weights: any SourceWeights,
    rounded: WrittenWeights, scale: [Float]?
  ) throws {
    inputs.states.noteRoom(for: [statistics])
    if block > 0 { try inputs.states.restore([statistics]) }
    let states = try inputs.states.read(.hidden, part)
    try inputs.forEachBlock(from: block) { index in
      let x = try states.read(index)
      func read(_ weights: any LayerWeights) -> Matrix {
        branch.mixer.read(
          sequences: inputs.blocks[index].sequences, weights: weights, workers: workers
        ) { branch.input(x, weights: weights, workers: workers) }
      }
      let original = read(weights)
      let found = read(rounded)
      statistics.addErrors(
        of: found, insteadOf: original, smoothedBy: scale, workers: workers)
      statistics.add(found, workers: workers)
      inputs.results.noteBlock(index, .attend, layer: layer.index)
      if index + 1 < inputs.blocks.count {
        try inputs.results.commitIfDue(
          .handOn(layer: layer.index, part: part.index, block: index + 1), [],
          statistics: [statistics], keepsStatistics: false, isDue: false)
      }
    }
  }
}

extension StepInputs {
  /// The branch of a part whose output projection is rounded for what rounding makes of the Linears before it; nil where
  /// that one stays as it is, or all of these do.
  func handsOn(_ part: LayerPart) -> Branch<SequenceMixer>? {
    guard output.method.handsErrorsOn, !measures, part.layer < calibratedLayers,
      let branch = part.sequence
    else { return nil }
    let last = branch.mixer.output
    let packed = branch.mixer.linears.filter { output.fates[$0.weight] == .packed }
    return packed.contains(last) && packed.contains { $0 != last } ? branch : nil
  }
}

extension StepInputs {
  /// Whether the down projection of a unit is rounded for what rounding makes of its other Linears.
  func handsOn(to unit: UnitSpec, in part: LayerPart) -> Bool {
    output.method.handsErrorsOn && !measures && part.layer < calibratedLayers
      && output.fates[unit.down.weight] == .packed
      && unit.readers.contains { output.fates[$0.weight] == .packed }
  }

  /// Smoothed weights, but of those among some Linears that are quantized what was written.
  func written(_ linears: [LinearSpec], over smoothed: SmoothedWeights) throws -> WrittenWeights {
    let quantized = linears.filter { output.fates[$0.weight] == .packed }
      .map { ($0.name, self.quantized($0)) }
    let names = quantized.flatMap { $0.1.tensors.map(\.name) }
    let tensors = try workers.computes ? writer?.written(names) : nil
    return WrittenWeights(
      smoothed: smoothed,
      written: Dictionary(
        uniqueKeysWithValues: quantized.map { ($0.0, $0.1.written(tensors)) }))
  }

  func letGoOfWritten(_ linears: [LinearSpec]) {
    for linear in linears where output.fates[linear.weight] == .packed {
      quantized(linear).letGoOfWritten(in: workers.ledger)
    }
  }
}

/// Smoothed weights, but of quantized Linears what their codes stand for.
struct WrittenWeights: LayerWeights {
  fileprivate let smoothed: SmoothedWeights
  /// By name.
  fileprivate let written: [String: any WeightRows]

  func vector(_ tensor: String) -> [Float] { smoothed.vector(tensor) }

  func weight(_ linear: LinearSpec) -> any WeightRows {
    written[linear.name] ?? smoothed.weight(linear)
  }
}
