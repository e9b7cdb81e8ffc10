// The first half of a layer's part: its branch along the sequence over all calibration tokens, what its branch on tokens
// reads, and the smoothings around both.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import ScratchStore
internal import Tensors
internal import Transformer

struct Attend {
  let inputs: StepInputs
  let layer: LayerSpec
  let part: LayerPart

  private var weights: any SourceWeights {
    inputs.passes.holdsAttention ? inputs.weights.held : inputs.weights
  }

  private var backend: Backend { inputs.backend }

  /// What the units of the branch on tokens read.
  private static func tokensInputs(_ part: LayerPart) -> [Tap] {
    part.tokens.map { branch in branch.mixer.inputPlaces.map(branch.tap) } ?? []
  }

  /// Whether a part's first half has the statistics of an activation.
  static func sees(_ tap: Tap, _ part: LayerPart) -> Bool {
    tap.branch == part.sequence?.number || tokensInputs(part).contains(tap)
  }

  /// Reads the part's hidden states, writes the ones behind its branch along the sequence, and writes every tensor of the
  /// part that belongs to no unit.
  ///
  /// - Parameter block: blocks before it are done.
  func run(from block: Int) throws {
    let weights = weights
    let taps =
      inputs.stage == .states ? [] : inputs.output.taps[layer.index].filter { Self.sees($0, part) }
    let statistics = taps.map { inputs.gatheredStatistics($0, of: layer) }
    let gradients = OutputGradients(inputs, layer, part)
    if layer.index < inputs.calibratedLayers {
      // How large the states are that the part's branches add to.
      let stream =
        (inputs.measures || inputs.keeps) && inputs.stage != .states ? inputs.newStream() : nil
      let kept = inputs.kept(layer, part)
      let all =
        named(taps, statistics) + gradients.statistics(of: layer, part)
        + (stream.map { [named($0)] } ?? [])
      if block == 0, backend.computes { try kept?.check() }
      if try kept?.restoreAttend(all) != true {
        let probes = try probes(of: gradients, weights: weights)
        // What was kept when the pass was cut may be gone, and no commit has it.
        let isLost = !all.isEmpty && inputs.results.resumption.statistics == nil
        try pass(
          taps, statistics, gradients, probes, stream, from: isLost ? 0 : block, weights: weights)
        try kept?.saveAttend(all)
      } else if kept?.needsPass == true {
        try pass([], [], nil, [], nil, from: block, weights: weights)
      }
      inputs.forgetWhatIsKept(of: Array(zip(taps, statistics)), of: layer)
      if inputs.stage != .states {
        try noteRouting(warns: Self.tokensInputs(part).contains(where: taps.contains))
      }
      if inputs.measures, let stream {
        try inputs.results.note(PartEnergy(stream, inputs, layer, part))
      }
    }

    if inputs.stage != .states { try round(taps, statistics, gradients) }
    if let mixer = part.sequence?.mixer {
      inputs.weights.release(mixer.linears + mixer.deciding.map(\.linear))
    }
    inputs.weights.release(part.tokens?.mixer.deciding ?? [])
  }

  /// What gradients are gathered with. The readers of the stream are gone during the pass over the tokens, which is where
  /// a small budget ends: they are made again for rounding.
  private func probes(
    of gradients: OutputGradients, weights: any SourceWeights
  ) throws -> [Matrix] {
    try gradients.isEmpty ? [] : gradients.probes(before: readers(), weights: weights)
  }

  /// What errors of the branch along the sequence do behind it; nil where that is not known.
  private func readers() throws -> StreamMoments? {
    let readers = StreamReaders(inputs)
    guard let branch = part.sequence, branch.mixer.output.outputs == inputs.spec.hiddenSize,
      readers.isKnown(in: layer)
    else { return nil }
    return try readers.moments(behind: [branch.postNorm].compactMap(\.self))
  }

  private func round(
    _ taps: [Tap], _ statistics: [ActivationStatistics], _ gradients: OutputGradients
  ) throws {
    // Search and rounding use Gram matrices up.
    let tokensInputs = Self.tokensInputs(part)
    for (tap, statistics) in zip(taps, statistics)
    where tokensInputs.contains(tap) && inputs.needsStatistics(at: tap, of: layer) {
      try inputs.states.saveInput(statistics, of: part, at: tap.place)
    }
    let rounds = inputs.rounds
    for (number, round) in rounds.enumerated() {
      try Attend(inputs: round, layer: layer, part: part)
        .round(taps, statistics, gradients, keeping: number + 1 < rounds.count)
    }
  }

  /// Smooths, rounds and writes.
  ///
  /// - Parameter keeping: whether the statistics stay for another round.
  private func round(
    _ taps: [Tap], _ statistics: [ActivationStatistics], _ gradients: OutputGradients,
    keeping: Bool
  ) throws {
    let weights = weights
    var applied: [AppliedSmoothing] = []
    let tokensInputs = Self.tokensInputs(part)
    for (tap, statistics) in zip(taps, statistics) {
      if let smoothing = inputs.output.smoothings[layer.index].first(where: { $0.tap == tap }) {
        // What reads the input of units is read once more for itself, unit by unit, and too much to stay mapped.
        let isOfUnits = tokensInputs.contains(where: smoothing.taps.contains)
        let weights = isOfUnits ? inputs.weights : weights
        let found = try inputs.smooth(
          smoothing, statistics, of: layer, weights: weights, under: applied, routedTokens: nil)
        if let chosen = found.chosen { try inputs.results.note(chosen, layer: layer.index) }
        applied.append(found.applied)
      }
      inputs.results.noteMemory()
    }
    if inputs.trial == nil {
      for (tap, statistics) in zip(taps, statistics) {
        guard case .cached(let kept) = tap.place, let cache = part.sequence?.mixer.cache else {
          continue
        }
        try inputs.writeScales(of: kept, in: cache, statistics, under: applied, of: layer)
      }
    }
    try writeTensors(
      SmoothedWeights(weights, applied), applied, taps, statistics,
      inputs.measures ? [:] : factors(gradients, under: applied), keeping: keeping)
    inputs.results.noteMemory()
    if let branch = part.sequence, !applied.isEmpty, !inputs.measures {
      try Proof(inputs, layer, part).prove(branch)
    }
  }

  /// By name, what errors of the outputs of Linears do.
  private func factors(
    _ gradients: OutputGradients, under applied: [AppliedSmoothing]
  ) throws -> [String: OutputFactor] {
    var result = gradients.factors(under: applied)
    if let output = part.sequence?.mixer.output, inputs.roundsRowsInTurn(output),
      let readers = try readers()
    {
      result[output.name] = readers.factor()
    }
    return result
  }

  /// Statistics as they are kept.
  private func named(
    _ taps: [Tap], _ statistics: [ActivationStatistics]
  ) -> [NamedStatistics] {
    zip(taps, statistics).map { tap, each in
      NamedStatistics(tap.name, inputs.gatheredKind(tap, of: layer), each)
    }
  }

  private func named(_ stream: ActivationStatistics) -> NamedStatistics {
    NamedStatistics("stream", StatisticsKind(channels: stream.channels), stream)
  }

  /// Every block of calibration tokens through the branch along the sequence.
  ///
  /// - Parameter taps: what is looked at; none where all that this would gather is kept.
  private func pass(
    _ taps: [Tap], _ statistics: [ActivationStatistics], _ gradients: OutputGradients?,
    _ probes: [Matrix], _ stream: ActivationStatistics?, from block: Int,
    weights: any SourceWeights
  ) throws {
    let all =
      statistics + (gradients?.all ?? []) + (stream.map { [$0] } ?? [])
    inputs.states.noteRoom(for: all)
    if block > 0 { try inputs.states.restore(all) }
    let states = try inputs.states.read(.hidden, part)
    let results = try writeStates(from: block)
    let routings =
      part.tokens?.mixer.router == nil
      ? nil
      : try inputs.states.write(.routing, layer: layer.index, part: part.index, from: block)
    let writers = [results, routings].compactMap(\.self)
    func gather(_ tap: Tap, _ activation: Matrix) {
      if let place = taps.firstIndex(of: tap) {
        statistics[place].add(activation, backend: backend)
      }
    }
    try inputs.forEachBlock(from: block) { index in
      let probe = gradients?.probe(of: index, with: probes)
      let mixed = try mix(block: index, of: states, weights: weights, probe, tap: gather)
      if let results {
        let states =
          try part.tokens == nil ? inputs.entered(mixed, block: index, after: part) : mixed
        try results.file.append(states, backend: backend)
      }
      stream?.add(
        part.tokens?.residual?.sum(of: mixed, backend: backend) ?? mixed, backend: backend)
      if let branch = part.tokens {
        if !part.isParallel { inputs.states.round(mixed) }
        let read = try part.isParallel ? states.read(index) : mixed
        let input = branch.input(read, weights: weights, backend: backend)
        for (place, read) in branch.mixer.inputs(input, weights: weights, backend: backend) {
          gather(branch.tap(place), read)
        }
        for routing in branch.mixer.route([input], weights: weights, backend: backend) {
          try routings?.file.append(routing.matrix(backend: backend), backend: backend)
        }
      }
      inputs.results.noteBlock(index, .attend, layer: layer.index)
      if index + 1 < inputs.blocks.count {
        try inputs.results.commitIfDue(
          .attend(layer: layer.index, part: part.index, block: index + 1), writers,
          statistics: all, keepsStatistics: false, isDue: false)
      }
    }
    for writer in writers { try inputs.states.finish(writer) }
  }

  /// The states behind the branch along the sequence; nil where there is none, or where nothing reads them.
  private func writeStates(from block: Int) throws -> StatesWriter? {
    if part.tokens == nil { return try inputs.writeNext(after: part, from: block) }
    return part.sequence == nil
      ? nil
      : try inputs.states.write(.attended, layer: layer.index, part: part.index, from: block)
  }

  /// Every tensor of the part that belongs to no unit.
  private func writeTensors(
    _ weights: SmoothedWeights, _ applied: [AppliedSmoothing], _ taps: [Tap],
    _ statistics: [ActivationStatistics], _ outputs: [String: OutputFactor], keeping: Bool
  ) throws {
    let linears = part.sequence?.mixer.linears ?? []
    let own = Set(linears.map(\.name))
    let fused = layer.fusedGroups.filter { $0.allSatisfy { own.contains($0.name) } }
    let alone = own.subtracting(fused.joined().map(\.name))
    let largest = try inputs.largestWeights(
      of: fused + linears.filter { alone.contains($0.name) }.map { [$0] }, from: weights)
    var written = Set(part.units.flatMap(\.linears).flatMap { [$0.weight, $0.bias] })
    for tap in layer.taps where tap.branch == part.sequence?.number {
      let rounding = try inputs.rounding(
        taps.firstIndex(of: tap).map { statistics[$0] }, at: tap, under: applied, of: layer,
        keeping: keeping)
      let readers = layer.readers(at: tap)
      try inputs.write(
        [LinearsReadAlike(readers, weights, by: rounding, largest: largest, outputs: outputs)],
        layer: layer)
      written.formUnion(readers.flatMap { [$0.weight, $0.bias] })
      inputs.results.noteMemory()
    }
    for claim in part.claims where !written.contains(claim.name) {
      try inputs.write(claim.name, linear: claim.linear, from: weights, layer: layer)
    }
  }

  /// A function of its own, so that a block's input is gone before its result is written.
  private func mix(
    block: Int, of states: HiddenStates, weights: any SourceWeights, _ probe: OutputProbe?,
    tap: (Tap, Matrix) -> Void
  ) throws -> Matrix {
    let x = try states.read(block)
    return part.sequence?.apply(
      to: x, sequences: inputs.blocks[block].sequences, weights: weights, backend: backend,
      tap: tap, probe: probe) ?? x
  }

  /// No commit lies between the last block of a part and the end of this step: the line is written once.
  private func noteRouting(warns: Bool) throws {
    if part.tokens?.mixer.router == nil { return }
    let routed = try inputs.expertShares(layer, part).map(\.tokens)
    try inputs.results.note(routing: routed, layer: layer.index)
    let experts = routed.indices.filter { routed[$0] == 0 }
    if warns, !experts.isEmpty {
      inputs.results.warn(.unroutedExperts(layer: layer.index, experts: experts))
    }
  }
}
