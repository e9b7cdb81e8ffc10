// What errors of queries, keys and values do behind attention: gradients that are gathered beside statistics.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import SystemIO
internal import Tensors
internal import Transformer

/// Second moments of gradients at the outputs of a part's Linears, by heads.
struct OutputGradients {
  private let inputs: StepInputs
  private let layer: LayerSpec
  private let mixer: SequenceMixer?
  private let probed: [(linear: LinearSpec, size: Int)]
  /// For each of `probed`.
  let statistics: [ActivationStatistics]

  init(_ inputs: StepInputs, _ layer: LayerSpec, _ part: LayerPart) {
    self.inputs = inputs
    self.layer = layer
    mixer = part.sequence?.mixer
    let isAsked =
      inputs.output.method.compensatesOutputs && !inputs.measures
      && layer.index < inputs.calibratedLayers
    let known = isAsked ? mixer?.probed ?? [] : []
    probed = known.filter { linear, _ in
      inputs.output.fates[linear.weight] == .packed
        && inputs.quantized(linear).quantizer.roundsRowsInTurn
    }
    statistics = probed.map {
      ActivationStatistics(
        channels: $0.linear.outputs, withGram: true, block: $0.size, workers: inputs.workers)
    }
  }

  /// What the probes of all blocks are made with.
  func probes(weights: any SourceWeights) -> [Matrix] {
    guard let mixer, !probed.isEmpty else { return [] }
    return OutputProbe.factors(of: mixer, weights: weights, workers: inputs.workers)
  }

  /// The probe of a block of tokens; nil where nothing is probed.
  func probe(of block: Int, with probes: [Matrix]) -> OutputProbe? {
    if probed.isEmpty { return nil }
    let first = inputs.blocks[..<block].reduce(0) { $0 + $1.count }
    var seed = FNV1a<UInt64>()
    seed.add((mixer?.output.name ?? "").utf8)
    return OutputProbe(probes, token: first, seed: seed.value) { linear, gradient in
      guard let place = probed.firstIndex(where: { $0.linear == linear }) else { return }
      statistics[place].add(gradient, workers: inputs.workers.exact)
    }
  }

  /// By name, the factors of all that was probed.
  ///
  /// - Parameter applied: the smoothings of the layer.
  func factors(under applied: [AppliedSmoothing]) -> [String: OutputFactor] {
    var result: [String: OutputFactor] = [:]
    for ((linear, size), statistics) in zip(probed, statistics) {
      let scale = applied.first { $0.smoothing.producer == .linear(linear) }?.scale
      result[linear.name] = OutputFactor(
        statistics, size: size, smoothedBy: scale, workers: inputs.workers.exact)
    }
    return result
  }
}
