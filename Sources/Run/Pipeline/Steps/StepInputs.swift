// What the steps of a run are made from, and what they hand out: the seam between the work and everything around it.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Reporting
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// What of a layer's work steps do.
enum Stage {
  /// All of it: a layer is done before the next one begins.
  case whole
  /// Its states alone, which the layers behind it read.
  case states
  /// Statistics, scales and codes, from states that are there.
  case rounding
}

/// The inputs of every step. A step changes nothing of them: what it makes goes to `writer`, `scales` and `results`.
///
/// Where the backend computes nothing, the same steps run on shapes: there are no files, and the ledger of the backend
/// is all that comes of it.
struct StepInputs {
  let spec: ModelSpec
  var output: OutputPlan
  var stage = Stage.whole
  /// What a pass that measures takes in the output's place, one after the other; empty in a pass that writes.
  var trials: [OutputPlan] = []
  /// Which of them this is.
  private(set) var trial: Int?
  let options: QuantizeOptions
  var blocks: [TokenBlock]
  let passes: Passes
  /// Layers that the calibration tokens run through.
  let calibratedLayers: Int
  var backend: Backend
  let weights: any SourceWeights
  /// Hidden states and statistics between steps.
  var states: StateFiles
  var results: any StepResults
  /// The source, for errors that name its numbers; nil where there are none.
  var checkpoint: Checkpoint?
  /// Output tensors.
  var writer: ShardWriter?
  /// Smoothing scales.
  var scales: ShardWriter?

  /// Calibration tokens in all blocks.
  var tokens: Int { blocks.reduce(0) { $0 + $1.count } }

  var layers: [LayerSpec] { spec.layers }

  /// All that is smoothed and rounded with the statistics of a step: the output, or each of the trials.
  var rounds: [StepInputs] {
    if trials.isEmpty { return [self] }
    return trials.enumerated().map { number, output in
      var round = self
      round.trials = []
      round.trial = number
      round.output = output
      return round
    }
  }

  /// Whether this is what a pass does that measures, and writes nothing.
  var measures: Bool { trial != nil || !trials.isEmpty }

  /// The states that a part leaves to the one after it; nil where no calibration tokens go on, or where they are kept.
  ///
  /// - Parameter block: blocks before it are done.
  func writeNext(after part: LayerPart, from block: Int) throws -> StatesWriter? {
    if stage == .rounding { return nil }
    guard let next = next(after: part), states.kept?.has(.hidden, next.layer, next.part) != true
    else { return nil }
    return try states.write(.hidden, layer: next.layer, part: next.part, from: block)
  }

  /// The part that calibration tokens go on to.
  func next(after part: LayerPart) -> (layer: Int, part: Int)? {
    layers.next(after: part, calibrated: calibratedLayers)
  }

  /// What the layer behind a part reads of a block: its states, or what the entrance of a prediction layer makes of them.
  func entered(_ states: Matrix, block: Int, after part: LayerPart) throws -> Matrix {
    guard let entrance = layers.entrance(afterPart: part.index, of: part.layer) else {
      return states
    }
    let block = blocks[block]
    let ahead = entrance.read(block.tokens, sequences: block.sequences)
    let result = entrance.apply(
      to: states, try weights.embed(ahead, of: spec, backend: backend), sequences: block.sequences,
      weights: weights, backend: backend)
    weights.release([entrance.projection])
    return result
  }

  /// The indices of blocks from `first` on, each with whether it is like the one before it.
  func forEachBlock(
    from first: Int, _ body: (_ block: Int) throws -> Void
  ) throws {
    try backend.forEach(
      of: Array(first..<max(first, blocks.count)), alike: { blocks[$0].sequences }, body)
  }

  /// Empty statistics of an activation.
  func newStatistics(_ tap: Tap, of layer: LayerSpec) -> ActivationStatistics {
    newStatistics(statisticsKind(tap, of: layer))
  }

  func newStatistics(_ kind: StatisticsKind) -> ActivationStatistics {
    ActivationStatistics(
      channels: kind.channels, withGram: kind.withGram, withLargest: kind.withLargest,
      withMagnitudes: kind.withMagnitudes, block: kind.block, backend: backend)
  }

  /// What a run asks of an activation.
  func statisticsKind(_ tap: Tap, of layer: LayerSpec) -> StatisticsKind {
    StatisticsKind(
      channels: layer.channels(at: tap),
      withGram: !layer.readers(at: tap).isEmpty && options.gathersGrams,
      withLargest: output.storesScales(at: tap, of: layer),
      withMagnitudes: storedActivations(at: tap, of: layer)?.leastSquares == true)
  }

  /// How an activation is quantized that has a stored scale; what reads it has one scheme for it, since it is loaded as one
  /// or reads it alone.
  func storedActivations(at tap: Tap, of layer: LayerSpec) -> QuantizationArguments? {
    let stored = layer.readers(at: tap).filter(output.schemes.storesInputScale)
      .compactMap { output.schemes[$0]?.inputActivations }
    return stored.first(where: \.leastSquares) ?? stored.first
  }

  /// The scales that were found for the smoothings of a layer so far.
  func recordedSmoothings(of layer: LayerSpec) throws -> [AppliedSmoothing] {
    try results.recordedSmoothings(of: layer, in: output)
  }

  /// Whether what reads an activation is rounded by its statistics, or has a scale that comes of them.
  func needsStatistics(at tap: Tap, of layer: LayerSpec) -> Bool {
    output.method.needsStatistics || output.storesScales(at: tap, of: layer)
  }
}

extension [LayerSpec] {
  /// The part that calibration tokens go on to behind another one; nil where they end there.
  ///
  /// - Parameter calibrated: how many layers they run through.
  func next(after part: LayerPart, calibrated: Int) -> (layer: Int, part: Int)? {
    if part.layer >= calibrated { return nil }
    if part.index + 1 < self[part.layer].parts.count { return (part.layer, part.index + 1) }
    return part.layer + 1 < calibrated ? (part.layer + 1, 0) : nil
  }

  /// What stands before the layer that begins behind a part of another.
  func entrance(afterPart part: Int, of layer: Int) -> Entrance? {
    part + 1 == self[layer].parts.count && layer + 1 < count ? self[layer + 1].entrance : nil
  }
}

/// Takes what steps come to, and decides when it is committed.
protocol StepResults: AnyObject {
  /// What an earlier process left of the step in work.
  var resumption: Resumption { get }

  func note(_ choice: Choice) throws
  /// A line of what a pass found that measures.
  func note(measured line: String) throws
  func warn(_ warning: RunWarning)

  /// A part of a step is done: memory is looked at.
  func noteMemory()
  /// A block of tokens went through a step: the progress of the run is told.
  func noteBlock(_ block: Int, _ step: RunStep, layer: Int)
  /// A unit is written.
  func noteUnit(layer: Int)
  /// Keeps the checksums of what was written since the last call. Called for every unit, so that the order never
  /// depends on commits.
  ///
  /// - Parameter linears: whose tensors alone are looked at; nil for all.
  func recordChecksums(of linears: [LinearSpec]?) throws
  /// A commit where the last one is long ago, or someone wants to stop.
  ///
  /// - Parameters:
  ///   - writers: scratch files that the step goes on to write.
  ///   - statistics: what the step has gathered, in the order in which it will restore it.
  ///   - keepsStatistics: whether those of the last commit are still needed.
  ///   - isDue: whether it is time whatever the clock says.
  func commitIfDue(
    _ position: RunPosition, _ writers: [StatesWriter], statistics: [ActivationStatistics],
    keepsStatistics: Bool, isDue: Bool) throws
  /// The scales that were written for the smoothings of a layer so far.
  func recordedSmoothings(of layer: LayerSpec, in output: OutputPlan) throws -> [AppliedSmoothing]
}

/// What the last commit says of a step that was cut.
struct Resumption {
  /// Bytes of the scratch files that the step had written, by name.
  var appended: [String: Int] = [:]
  /// The scratch file with its statistics.
  var statistics: String?
  /// The first unit in that file, where the step is `experts`.
  var statisticsUnit = 0
}

/// Where only shapes are known: nothing comes of a step, and every scale is 1.
final class ShapeResults: StepResults {
  /// By their number: a layer has hundreds of smoothings, and every step asks for them.
  private var ones: [Int: [Float]] = [:]

  var resumption: Resumption { Resumption() }
  func note(_ choice: Choice) {}
  func note(measured line: String) {}
  func warn(_ warning: RunWarning) {}
  func noteMemory() {}
  func noteBlock(_ block: Int, _ step: RunStep, layer: Int) {}
  func noteUnit(layer: Int) {}
  func recordChecksums(of linears: [LinearSpec]?) {}
  func commitIfDue(
    _ position: RunPosition, _ writers: [StatesWriter], statistics: [ActivationStatistics],
    keepsStatistics: Bool, isDue: Bool
  ) {}
  func recordedSmoothings(of layer: LayerSpec, in output: OutputPlan) -> [AppliedSmoothing] {
    output.smoothings[layer.index].map { smoothing in
      let scale = ones[smoothing.channels] ?? [Float](repeating: 1, count: smoothing.channels)
      ones[smoothing.channels] = scale
      return AppliedSmoothing(smoothing, scale: scale)
    }
  }
}

extension ShardWriter {
  /// The checksums of the tensors of some Linears that were written whole since the last call, or of all tensors.
  func takeChecksums(of linears: [LinearSpec]?) -> [(tensor: String, checksum: Checksum)] {
    guard let linears else { return takeChecksums() }
    let starts = linears.map { $0.name + "." }
    // Scales of a trial lie behind its number.
    return takeChecksums { name in
      starts.contains { name.hasPrefix($0) || name.contains("/" + $0) }
    }
  }
}
