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
  private let mixer: SequenceMixer?
  private let probed: [(linear: LinearSpec, size: Int)]
  /// For each of `probed`, and each group of heads with keys and values of its own.
  private let sums: [[ActivationStatistics]]

  init(_ inputs: StepInputs, _ layer: LayerSpec, _ part: LayerPart) {
    self.inputs = inputs
    mixer = part.sequence?.mixer
    probed = Self.probed(inputs, layer, part)
    let groups = mixer?.headGroups ?? 1
    sums = probed.map { linear, size in
      (0..<groups).map { _ in
        ActivationStatistics(
          channels: linear.outputs / groups, withGram: true, block: size, backend: inputs.backend)
      }
    }
  }

  private static func probed(
    _ inputs: StepInputs, _ layer: LayerSpec, _ part: LayerPart
  ) -> [(linear: LinearSpec, size: Int)] {
    let probed = inputs.gathersGradients(of: layer) ? part.sequence?.mixer.probed ?? [] : []
    return probed.filter { linear, _ in inputs.roundsRowsInTurn(linear) }
  }

  /// What is gathered of a part, by name.
  static func kinds(
    _ inputs: StepInputs, _ layer: LayerSpec, _ part: LayerPart
  ) -> [(name: String, kind: StatisticsKind)] {
    let groups = part.sequence?.mixer.headGroups ?? 1
    return probed(inputs, layer, part).flatMap { linear, size in
      (0..<groups).map { group in
        (
          "\(linear.name) \(group)",
          StatisticsKind(channels: linear.outputs / groups, withGram: true, block: size)
        )
      }
    }
  }

  static func entries(
    _ inputs: StepInputs, _ layer: LayerSpec, _ part: LayerPart
  ) -> [KeptEntry] {
    kinds(inputs, layer, part).map { $0.kind.entry($0.name) }
  }

  /// All of them, in a fixed order.
  func statistics(of layer: LayerSpec, _ part: LayerPart) -> [NamedStatistics] {
    zip(Self.kinds(inputs, layer, part), sums.joined()).map {
      NamedStatistics($0.name, $0.kind, $1)
    }
  }

  var all: [ActivationStatistics] { sums.flatMap(\.self) }

  var isEmpty: Bool { probed.isEmpty }

  /// What the probes of all blocks are made with.
  ///
  /// - Parameter stream: what errors of the output projection do; nil for all alike.
  func probes(before stream: StreamMoments?, weights: any SourceWeights) -> [Matrix] {
    guard let mixer, !isEmpty else { return [] }
    guard let stream, mixer.output.outputs == inputs.spec.hiddenSize else {
      return OutputProbe.factors(of: mixer, weights: weights, backend: inputs.backend)
    }
    return OutputProbe.factors(
      of: mixer,
      from: stream.moments(
        before: weights.weight(mixer.output), block: mixer.output.inputs / mixer.heads,
        backend: inputs.backend),
      backend: inputs.backend)
  }

  /// The probe of a block of tokens; nil where nothing is probed.
  func probe(of block: Int, with probes: [Matrix]) -> OutputProbe? {
    guard let mixer, !isEmpty else { return nil }
    let tokens = inputs.blocks[block].count
    for ((linear, size), sums) in zip(probed, sums) {
      inputs.backend.ledger.note(
        Operation(.gram, [tokens, size], arithmetic: Double(tokens * size * size)),
        times: Double(linear.outputs / size))
      inputs.backend.ledger.note(Operation(.elements, [tokens * linear.outputs / sums.count]))
    }
    let first = inputs.blocks[..<block].reduce(0) { $0 + $1.count }
    var seed = FNV1a<UInt64>()
    seed.add(mixer.output.name.utf8)
    // Every group has sums of its own, and its gradients are there once.
    nonisolated(unsafe) let sums = sums
    let names = probed.map(\.linear.name)
    // Noted above; a group's task is a thread's.
    let alone = Backend(threads: 1, memory: inputs.backend.memory)
    return OutputProbe(probes, of: mixer, token: first, seed: seed.value) {
      linear, group, gradient in
      guard let place = names.firstIndex(of: linear.name) else { return }
      unsafe sums[place][group].add(gradient, backend: alone)
    }
  }

  /// By name, the factors of all that was probed.
  ///
  /// - Parameter applied: the smoothings of the layer.
  func factors(under applied: [AppliedSmoothing]) -> [String: OutputFactor] {
    var result: [String: OutputFactor] = [:]
    for ((linear, size), statistics) in zip(probed, sums) {
      let scale = applied.first { $0.smoothing.producer == .linear(linear) }?.scale
      result[linear.name] = OutputFactor(
        statistics, size: size, smoothedBy: scale, backend: inputs.backend.exact)
    }
    return result
  }
}

extension OutputPlan {
  /// Whether it is looked at what errors of outputs do behind them. A pass that measures has no use for that, and one that
  /// comes after it finds it kept.
  func looksAtReaders(measures: Bool, keeps: Bool) -> Bool {
    method.compensatesOutputs && (!measures || keeps)
  }
}

extension StepInputs {
  /// Whether gradients at the outputs of a layer's Linears are looked at.
  func gathersGradients(of layer: LayerSpec) -> Bool {
    output.looksAtReaders(measures: measures, keeps: keeps) && stage != .states
      && layer.index < calibratedLayers
  }

  /// Whether a Linear is rounded one row after the other.
  func roundsRowsInTurn(_ linear: LinearSpec) -> Bool {
    output.fates[linear.weight] == .packed && quantized(linear).quantizer.roundsRowsInTurn
  }
}
