// The second half of a layer's part: statistics, scales and codes of a group of its units (experts, shared experts, dense
// MLP).

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Planning
internal import Quantization
internal import Tensors
internal import Transformer

struct Experts {
  let inputs: StepInputs
  let layer: LayerSpec
  let part: LayerPart
  /// Of the part, on tokens.
  let branch: Branch<MLPSpec>
  /// What calibration must see of the layer. Every unit asks, and a layer may have hundreds.
  private let taps: Set<Tap>

  init(inputs: StepInputs, layer: LayerSpec, part: LayerPart, branch: Branch<MLPSpec>) {
    self.inputs = inputs
    self.layer = layer
    self.part = part
    self.branch = branch
    taps = Set(inputs.output.taps[layer.index])
  }

  private var mlp: MLPSpec { branch.mixer }

  private var weights: any SourceWeights {
    inputs.passes.holdsExperts ? inputs.weights.held : inputs.weights
  }

  private var backend: Backend { inputs.backend }

  /// Runs every calibration token, or what `--expert-tokens` leaves of them, through every unit of the group, whether the
  /// router chose it or not, and writes the units' tensors.
  ///
  /// - Parameters:
  ///   - group: units that are not written yet.
  ///   - block: the group's statistics rest on the blocks before it.
  ///   - shared: made for the first group that has such units, and kept for the others.
  func run(_ group: Range<Int>, from block: Int, shared: inout SharedRounding) throws {
    let places = Set(group.map(mlp.inputPlace))
    let read = places.map(branch.tap)
    // Before there are statistics of units: for a moment it takes the room of two Gram matrices.
    let applied = try inputs.rounds.map { round in
      try round.recordedSmoothings(of: layer).filter { each in
        read.contains(where: each.smoothing.taps.contains)
      }
    }
    shared.inputs = shared.inputs.filter { places.contains($0.key) }
    shared.readers = shared.readers.filter { places.contains($0.key) }
    for place in mlp.inputPlaces where places.contains(place) && shared.inputs[place] == nil {
      shared.inputs[place] = try inputs.inputRoundings(
        of: part, at: branch.tap(place), under: applied, of: layer)
      shared.readers[place] = try readers(of: place)
    }
    let shared = shared
    let statistics = group.filter { taps.contains(hidden($0)) }.map {
      UnitStatistics(inputs, layer, branch, unit: $0)
    }
    let shares = try statistics.isEmpty ? [] : inputs.expertShares(layer, part)
    let sums = statistics.flatMap(\.all).reduce(0) { $0 + 3 * 16 * $1.channels }
    try backend.holding("statistics of the group", bytes: sums) {
      var isGathered = false
      if !statistics.isEmpty {
        let kept = inputs.kept(layer, part)
        let named = statistics.flatMap { each in
          zip(UnitStatistics.kinds(inputs, layer, branch, unit: each.unit), each.all).map {
            NamedStatistics($0.name, $0.kind, $1)
          }
        }
        if try kept?.restoreUnits(named) != true {
          try gather(statistics, of: group, shares, from: block)
          isGathered = true
          try kept?.saveUnits(named)
        }
        inputs.forgetWhatIsKept(of: statistics.map { (hidden($0.unit), $0.sums) }, of: layer)
      }
      try write(group, statistics, shares, under: applied, shared, isGathered: isGathered)
    }
  }

  /// What errors of the outputs of units do that read at a place.
  private func readers(of place: Tap.Place) throws -> SharedReaders? {
    let readers = StreamReaders(inputs)
    let units = mlp.units.indices.filter { mlp.inputPlace(of: $0) == place }
    guard units.contains(where: mlp.writesToStream),
      !inputs.measures, readers.count(for: units.flatMap { mlp.unit($0).linears }, of: layer)
    else { return nil }
    let moments = try readers.moments(
      behind: [mlp.strand(at: place)?.behind, branch.postNorm].compactMap(\.self))
    return SharedReaders(moments: moments, factor: moments.factor())
  }

  private func position(_ unit: Int, of group: Range<Int>, block: Int) -> RunPosition {
    .experts(
      layer: layer.index, part: part.index, unit: unit, end: group.upperBound, block: block)
  }

  private func hidden(_ unit: Int) -> Tap { branch.tap(.hidden(unit)) }

  // MARK: Statistics

  private func gather(
    _ statistics: [UnitStatistics], of group: Range<Int>, _ shares: [ExpertShare], from block: Int
  ) throws {
    let units = mlp.units
    let weights = weights
    let all = statistics.flatMap(\.all)
    // What was kept when the group was cut may be gone, and no commit has it.
    let block = inputs.results.resumption.statistics == nil ? 0 : block
    if block > 0 {
      let first = inputs.results.resumption.statisticsUnit
      let written = (first..<max(first, group.lowerBound)).filter { taps.contains(hidden($0)) }
      try inputs.states.restore(
        all,
        passingOver: written.flatMap {
          UnitStatistics.kinds(inputs, layer, branch, unit: $0).map(\.kind)
        })
    }
    inputs.states.noteRoom(for: all)
    var tokens = try expertTokens(shares, from: block)
    let states = try inputs.states.read(.readByTokens(of: part), part)
    try inputs.forEachBlock(from: block) { index in
      let input = try branchInput(block: index, of: states)
      let places = mlp.inputPlaces.filter { place in
        statistics.contains { mlp.inputPlace(of: $0.unit) == place }
      }
      let read = Dictionary(
        uniqueKeysWithValues: places.map {
          ($0, mlp.input(input, at: $0, weights: inputs.weights, backend: backend))
        })
      let routed = try routedTokens(block: index)
      // What the router would scale a token by for an expert, whether it chose that expert or not.
      let scores = mlp.router.flatMap { router in
        router.scalesInputs
          ? router.scores(input, weights: inputs.weights, backend: backend) : nil
      }
      // An expert's own loops are short: it sees few tokens, and its Gram matrix has few tiles.
      try backend.sideBySide(
        statistics, alike: { alike($0.unit, units[$0.unit]) }, leavesPages: true
      ) { each, backend in
        let expert = expert(each.unit)
        let seen: SeenTokens =
          if let expert, !routed.isEmpty {
            tokens.seen(by: expert, of: routed[expert], count: input.rows)
          } else {
            .all
          }
        each.add(
          seen, of: read[mlp.inputPlace(of: each.unit)] ?? input,
          scaledBy: expert.flatMap { expert in scores.map { $0.column(expert, backend) } },
          weights: weights, backend: backend)
        for linear in units[each.unit].readers { weights.letGo(linear) }
      }
      tokens.pass(routed, count: input.rows)
      inputs.results.noteBlock(index, .experts, layer: layer.index)
      // What is kept is durable as it is.
      let isDue = index + 1 == inputs.blocks.count && group.count > 1 && !inputs.keeps
      try inputs.results.commitIfDue(
        position(group.lowerBound, of: group, block: index + 1), [],
        statistics: all, keepsStatistics: false, isDue: isDue)
    }
    if !backend.computes, group.count > 1, !inputs.keeps, inputs.stage == .whole {
      // The commit that is due after the last block.
      _ = try inputs.states.save(
        all, for: position(group.lowerBound, of: group, block: inputs.blocks.count))
    }
  }

  /// Whether the statistics of a group are kept, all of them.
  func isKept(_ group: Range<Int>) -> Bool { inputs.kept(layer, part)?.hasUnits(group) ?? false }

  /// What tells units apart where only shapes are known.
  private func alike(_ unit: Int, _ spec: UnitSpec) -> [Int] {
    let groups = (inputs.trials.isEmpty ? [inputs.output] : inputs.trials).flatMap { output in
      spec.linears.map { output.schemes.groupSize(of: $0) ?? 0 }
    }
    return groups + [
      spec.up.outputs, spec.up.hasBias ? 1 : 0, unit < mlp.alwaysOn.count ? 0 : 1,
      taps.contains(hidden(unit)) ? 1 : 0,
      UnitStatistics.kinds(inputs, layer, branch, unit: unit).count,
    ]
  }

  // MARK: Scales and codes

  private func write(
    _ group: Range<Int>, _ statistics: [UnitStatistics], _ shares: [ExpertShare],
    under inputSmoothings: [[AppliedSmoothing]], _ shared: SharedRounding, isGathered: Bool
  ) throws {
    let isProven = !inputs.measures && !inputs.output.smoothings[layer.index].isEmpty
    let proof = isProven ? try Proof(inputs, layer, part).tokensRead() : nil
    let rounds = inputs.rounds
    var left = statistics
    let batches = ranges(of: group.count, by: roundedTogether(group)).map {
      $0.lowerBound + group.lowerBound..<$0.upperBound + group.lowerBound
    }
    let shape = { (batch: Range<Int>) in batch.map { alike($0, mlp.unit($0)) } }
    let pages = !backend.computes && isGathered ? pagesLeft(of: group) : Array(group)
    try backend.forEach(of: batches, alike: shape) { batch in
      let units = batch.map { unit in
        UnitInWork(
          pages[unit - group.lowerBound],
          left.firstIndex { $0.unit == unit }.map { left.remove(at: $0) })
      }
      // Those that are known by another one bring their own down projections.
      for (unit, known) in zip(batch, units) where unit != known.number {
        let down = weights.weight(mlp.unit(unit).down)
        down.noteReading(down.rows, tileRows: WeightTile.rows, backend: backend)
      }
      for (number, inputs) in rounds.enumerated() {
        let alike = try backend.sideBySide(units) { unit, backend in
          var inputs = inputs
          inputs.backend = backend
          return try prepare(
            unit, shares, under: inputSmoothings[number], shared, proof: proof, in: inputs,
            round: number)
        }
        try inputs.write(alike.flatMap(\.self), layer: layer)
      }
      for (unit, known) in zip(batch, units) {
        let linears = mlp.unit(unit).linears
        inputs.weights.release(linears)
        if unit != known.number { inputs.weights.release(mlp.unit(known.number).linears) }
        inputs.results.noteUnit(layer: layer.index)
        try inputs.results.recordChecksums(of: unit + 1 < batch.upperBound ? linears : nil)
      }
      if batch.upperBound < group.upperBound {
        try inputs.results.commitIfDue(
          position(batch.upperBound, of: group, block: left.isEmpty ? 0 : inputs.blocks.count), [],
          statistics: [], keepsStatistics: !left.isEmpty && !inputs.keeps, isDue: false)
      }
    }
  }

  /// How the Linears of a unit are rounded, once its smoothing is found and proven. Others may be at work beside it.
  ///
  /// - Parameters:
  ///   - unit: its statistics are used up in the last of the rounds.
  ///   - inputSmoothings: of what the unit reads.
  ///   - proof: tokens to prove smoothings on; nil for none.
  ///   - inputs: of the round.
  private func prepare(
    _ unit: UnitInWork, _ shares: [ExpertShare], under inputSmoothings: [AppliedSmoothing],
    _ shared: SharedRounding, proof: Matrix?, in inputs: StepInputs, round: Int
  ) throws -> [LinearsReadAlike] {
    let (number, backend) = (unit.number, inputs.backend)
    let spec = mlp.unit(number)
    let sums = unit.statistics?.sums
    let found = try smooth(number, sums, shares, under: inputSmoothings, in: inputs)
    let applied = inputSmoothings + (found.map { [$0.applied] } ?? [])
    let smoothed = SmoothedWeights(weights, applied)
    if let proof {
      try Proof(inputs, layer, part).prove(
        number, of: branch, smoothed, against: weights, on: proof)
    }
    let isLast = inputs.trial == nil || round + 1 == self.inputs.trials.count
    let downRounding = try inputs.rounding(
      sums, at: hidden(number), under: applied, of: layer, keeping: !isLast)
    let largest = try inputs.largestWeights(of: [spec.readers, [spec.down]], from: smoothed)
    let read = mlp.inputPlace(of: number)
    let readers = mlp.writesToStream(number) ? shared.readers[read] : nil
    let outputs =
      unit.statistics?.outputs(
        of: spec, under: readers?.moments, weights: weights, smoothedBy: found?.applied.scale,
        backend: backend) ?? [:]
    if isLast { unit.statistics = nil }
    return [
      LinearsReadAlike(
        spec.readers, smoothed, by: shared.inputs[read]?[round] ?? .nearest, largest: largest,
        outputs: outputs, after: found?.chosen.map { [$0] } ?? []),
      LinearsReadAlike(
        [spec.down], smoothed, by: downRounding, largest: largest,
        outputs: readers.map { [spec.down.name: $0.factor] } ?? [:]),
    ]
  }

  /// For each unit of a group, the one by which pages are known where only shapes are: gathering leaves those of the readers
  /// of units that follow each other and are alike by the name of the first. Down projections are read later.
  private func pagesLeft(of group: Range<Int>) -> [Int] {
    var result = Array(group)
    if !inputs.passes.holdsExperts { return result }
    let shapes = group.map { alike($0, mlp.unit($0)) }
    for place in result.indices.dropFirst()
    where shapes[place] == shapes[place - 1] && taps.contains(hidden(group.lowerBound + place)) {
      result[place] = result[place - 1]
    }
    return result
  }

  /// Units of a group that are prepared side by side, and whose Linears are rounded in one loop: one for each thread, or
  /// more, so that each has eight tiles at least. Threads that find no tile left wait for the last ones, and with eight
  /// for each that is not long.
  private func roundedTogether(_ group: Range<Int>) -> Int {
    let unit = mlp.unit(group.upperBound - 1)
    let tiles = unit.linears.reduce(0) { sum, linear in
      let rows = tileRows(of: linear, in: unit)
      return sum + (linear.outputs + rows - 1) / rows
    }
    return backend.threads * ((7 + max(1, tiles)) / max(1, tiles))
  }

  private func tileRows(of linear: LinearSpec, in unit: UnitSpec) -> Int {
    if !inputs.output.method.needsGram { return Rounding.nearest.tileRows }
    let block =
      linear == unit.down
      ? StreamMoments.blockSize(linear.outputs) : StreamMoments.unitBlockSize(unit.down.inputs)
    if let block, StreamReaders(inputs).count(for: [linear], of: layer) {
      return OutputFactor.taskRows(size: block)
    }
    return Rounding.compensatedRows(backend.engine)
  }

  /// The smoothing of what a unit's down projection reads, where there is one.
  private func smooth(
    _ unit: Int, _ sums: ActivationStatistics?, _ shares: [ExpertShare],
    under applied: [AppliedSmoothing], in inputs: StepInputs
  ) throws -> FoundSmoothing? {
    let smoothing = inputs.output.smoothings[layer.index].first { $0.tap == hidden(unit) }
    guard let sums, let smoothing else { return nil }
    return try inputs.smooth(
      smoothing, sums, of: layer, weights: weights, under: applied,
      routedTokens: expert(unit).map { shares[$0].tokens })
  }

  // MARK: What counts for an expert

  /// The number of a routed expert among the units of the layer.
  private func expert(_ unit: Int) -> Int? {
    unit >= mlp.alwaysOn.count ? unit - mlp.alwaysOn.count : nil
  }

  /// Tokens of a block by expert, where they are asked for.
  private func routedTokens(block: Int) throws -> [[(token: Int, weight: Float)]] {
    let isAsked =
      inputs.options.weighting != .all
      || inputs.options.expertTokens.most(of: mlp.routed, tokens: inputs.tokens) != nil
    guard isAsked, let routings = try inputs.states.readRouting(part) else { return [] }
    return Routing(try routings.read(block), backend: backend).byExpert(mlp.routed.count)
  }

  private func expertTokens(_ shares: [ExpertShare], from block: Int) throws -> ExpertTokens {
    ExpertTokens(
      inputs.options, layer: layer.index, tokens: inputs.tokens, experts: mlp.routed,
      shares: shares,
      passed: inputs.blocks[..<block].reduce(0) { $0 + $1.count },
      routed: try inputs.states.expertShares(part, before: block).map(\.tokens),
      computes: backend.computes)
  }

  /// A function of its own, so that the states are gone before the units run.
  private func branchInput(block: Int, of states: HiddenStates) throws -> Matrix {
    branch.input(try states.read(block), weights: inputs.weights, backend: backend)
  }
}

extension Matrix {
  /// Empty where only shapes are known.
  fileprivate func column(_ column: Int, _ backend: Backend) -> [Float] {
    backend.computes ? (0..<rows).map { unsafe row($0)[column] } : []
  }
}

/// A unit on its way from statistics to codes.
private final class UnitInWork {
  /// Of the unit, or of one like it where only shapes are known.
  let number: Int
  var statistics: UnitStatistics?

  init(_ number: Int, _ statistics: UnitStatistics?) {
    self.number = number
    self.statistics = statistics
  }
}

/// What units of a part that read at one place have in common.
struct SharedRounding {
  /// How what reads an input of units is rounded, in each round.
  var inputs: [Tap.Place: [ChosenRounding]] = [:]
  /// What errors of their outputs do, where these are compensated.
  var readers: [Tap.Place: SharedReaders] = [:]
}

struct SharedReaders {
  let moments: StreamMoments
  let factor: OutputFactor
}
