// A part of a layer as its steps find it kept, and as they keep it.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

/// Statistics and what they are kept as.
struct NamedStatistics {
  let entry: KeptEntry
  let sums: ActivationStatistics

  init(_ name: String, _ kind: StatisticsKind, _ sums: ActivationStatistics) {
    entry = kind.entry(name)
    self.sums = sums
  }
}

extension StepInputs {
  /// Whether states and statistics are kept for other runs.
  var keeps: Bool { states.kept != nil }

  func kept(_ layer: LayerSpec, _ part: LayerPart) -> KeptPart? {
    guard let kept = states.kept, layer.index < calibratedLayers else { return nil }
    return KeptPart(inputs: self, kept: kept, layer: layer, part: part)
  }
}

extension StepInputs {
  /// What the router of a part sends to each expert.
  func expertShares(_ layer: LayerSpec, _ part: LayerPart) throws -> [ExpertShare] {
    try kept(layer, part)?.expertShares() ?? states.expertShares(part)
  }

  /// What is gathered of an activation: what this run asks for, and with it the largest magnitudes where statistics are
  /// kept. They take next to nothing, and another run may ask for them.
  func gatheredKind(_ tap: Tap, of layer: LayerSpec) -> StatisticsKind {
    var kind = statisticsKind(tap, of: layer)
    kind.withLargest = kind.withLargest || keeps
    return kind
  }

  /// Empty statistics of an activation, of all that is gathered.
  func gatheredStatistics(_ tap: Tap, of layer: LayerSpec) -> ActivationStatistics {
    newStatistics(gatheredKind(tap, of: layer))
  }

  /// From here on there is what this run asked for, and it does what it would do if nothing was kept.
  func forgetWhatIsKept(of statistics: [(Tap, ActivationStatistics)], of layer: LayerSpec) {
    for (tap, each) in statistics where !statisticsKind(tap, of: layer).withLargest {
      each.forgetLargest()
    }
  }
}

extension QuantizeOptions {
  /// Which tokens the experts of a part see, and how much these count, in a word.
  func seen(in part: LayerPart, of tokens: Int) -> String {
    let experts = part.tokens?.mixer.routed ?? []
    // Nobody chooses tokens for them.
    if experts.isEmpty { return ExpertWeighting.all.rawValue }
    if expertTokens.most(of: experts, tokens: tokens) == nil { return weighting.rawValue }
    let others = if case .number(let count) = expertTokens { "\(count)" } else { "auto" }
    return "\(weighting.rawValue).\(others)"
  }
}

struct KeptPart {
  let inputs: StepInputs
  let kept: KeptStates
  let layer: LayerSpec
  let part: LayerPart

  private var backend: Backend { inputs.backend }
  private var units: KeptStates.Kind { .units(inputs.options.seen(in: part, of: inputs.tokens)) }

  private func file(_ kind: KeptStates.Kind) -> KeptFile? {
    kept.file(kind, part.layer, part.index)
  }

  // MARK: What there is

  /// Beside the statistics of a part's first half: what its router does, and the first tokens that its branch on tokens
  /// reads.
  private var others: [KeptEntry] {
    (part.tokens?.mixer.router == nil ? [] : [Self.shares])
      + (StateKind.readByTokens(of: part) == .attended && part.tokens != nil ? [Self.first] : [])
  }

  private static let shares = KeptEntry.single("shares")
  private static let first = KeptEntry.single("first")

  /// Whether everything is there that the first half gathers.
  func hasAttend(_ statistics: [KeptEntry]) -> Bool { has(statistics + others, in: .attend) }

  /// Whether everything is there that some units gather.
  func hasUnits(_ numbers: some Sequence<Int>) -> Bool {
    guard let branch = part.tokens else { return true }
    let taps = Set(inputs.output.taps[layer.index])
    let asked = numbers.filter { taps.contains(branch.tap(.hidden($0))) }
    return has(
      asked.flatMap { unit in
        UnitStatistics.kinds(inputs, layer, branch, unit: unit).map { $0.kind.entry($0.name) }
      }, in: units)
  }

  /// All of them, in the order in which they most likely lie.
  private func has(_ wanted: [KeptEntry], in kind: KeptStates.Kind) -> Bool {
    if wanted.isEmpty { return true }
    guard let file = file(kind) else { return false }
    var place = 0
    return wanted.allSatisfy { entry in
      if let found = file.entries[place...].firstIndex(where: { $0.covers(entry) }) {
        place = found
        return true
      }
      return file.find(entry) != nil
    }
  }

  /// Whether the part's tokens must go through it: for statistics of its units, or for the states behind it.
  var needsPass: Bool {
    if let next = inputs.next(after: part), !kept.has(.hidden, next.layer, next.part) {
      return true
    }
    return !hasUnits(part.units.indices)
  }

  /// Looks at every byte of what the part is about to believe.
  func check() throws {
    try kept.check([.attend, units], part.layer, part.index)
    if let next = inputs.next(after: part) {
      try kept.check([.hidden], next.layer, next.part)
    }
  }

  // MARK: Statistics

  /// - Returns: false where not all of them are kept.
  func restoreAttend(_ statistics: [NamedStatistics]) throws -> Bool {
    if !hasAttend(statistics.map(\.entry)) { return false }
    try restore(statistics, from: .attend)
    return true
  }

  func saveAttend(_ statistics: [NamedStatistics]) throws {
    try save(statistics, others, to: .attend) { entry, file in
      if entry == Self.shares {
        let shares = try inputs.states.expertShares(part)
        let numbers = shares.flatMap { [Double($0.tokens), $0.squares] }
        try file.append(numbers, backend: backend)
      } else {
        try file.append(
          inputs.states.firstTokens(.attended, part, backend: backend), backend: backend)
      }
    }
  }

  /// - Returns: false where not all of them are kept.
  func restoreUnits(_ statistics: [NamedStatistics]) throws -> Bool {
    if !has(statistics.map(\.entry), in: units) { return false }
    try restore(statistics, from: units)
    return true
  }

  func saveUnits(_ statistics: [NamedStatistics]) throws {
    try save(statistics, [], to: units) { _, _ in }
  }

  private func reader(_ kind: KeptStates.Kind) throws -> ScratchReader {
    try backend.computes
      ? ScratchReader(path: kept.path(kind, part.layer, part.index)) : ScratchReader()
  }

  private func restore(_ statistics: [NamedStatistics], from kind: KeptStates.Kind) throws {
    guard let file = file(kind) else { return }
    let reader = try reader(kind)
    let shape = { (each: NamedStatistics) in
      each.sums.storedShape + [file.find(each.entry)?.entry.hasLargest == true ? 1 : 0]
    }
    try backend.forEach(of: statistics, alike: shape) { each in
      guard let (entry, start) = file.find(each.entry) else { return }
      let channels = each.sums.channels
      var sums = try reader.readNumbers(
        start, count: 2 + (entry.hasLargest ? 3 : 2) * channels, backend: backend)
      if !backend.computes {
        // Nobody divides by no tokens.
        for place in 0..<2 { sums[place] = Double(inputs.tokens) }
      }
      each.sums.restore(sums: Array(sums.prefix(each.sums.sumsCount)))
      let matrices = each.sums.matricesSoFar
      let grams =
        each.entry.gramBlocks == 0 ? [] : matrices.dropLast(each.entry.magnitudeBlocks == 0 ? 0 : 1)
      try read(grams, at: start + 1, from: reader)
      try read(matrices.dropFirst(grams.count), at: start + 1 + entry.gramBlocks, from: reader)
    }
  }

  private func read(
    _ matrices: some Sequence<Matrix>, at first: Int, from reader: ScratchReader
  ) throws {
    var block = first
    for matrix in matrices {
      for rows in ranges(of: matrix.rows, by: ActivationStatistics.storedRows) {
        try reader.read(block, into: matrix, rows: rows, dtype: .f32, backend: backend)
        block += 1
      }
    }
  }

  /// Adds what is not there yet, and makes it durable.
  private func save(
    _ statistics: [NamedStatistics], _ others: [KeptEntry], to kind: KeptStates.Kind,
    write: (KeptEntry, ScratchWriter) throws -> Void
  ) throws {
    let before = file(kind)
    let others = others.filter { before?.find($0) == nil }
    let statistics = statistics.filter { before?.find($0.entry) == nil }
    if others.isEmpty, statistics.isEmpty { return }
    let path = kept.path(kind, part.layer, part.index)
    let file =
      try !backend.computes
      ? ScratchWriter(ofShapes: .f32)
      : before.map {
        try ScratchWriter(
          continuing: path, dtype: .f32, blocks: $0.blocks, byteCount: $0.byteCount)
      } ?? ScratchWriter(path: path, dtype: .f32)
    for entry in others { try write(entry, file) }
    try backend.forEach(of: statistics, alike: \.sums.storedShape) { each in
      try inputs.states.append(each.sums, to: file)
    }
    if !backend.computes { return }
    try file.synchronize()
    try synchronizeFolder(kept.folder)
    try kept.note(
      kind, part.layer, part.index, byteCount: file.byteCount,
      entries: (before?.entries ?? []) + others + statistics.map(\.entry))
  }

  // MARK: What the second half reads beside them

  /// What the router sends to each expert.
  func expertShares() throws -> [ExpertShare] {
    guard
      let experts = part.tokens?.mixer.router.map({ _ in part.tokens?.mixer.routed.count ?? 0 }),
      let (_, block) = file(.attend)?.find(Self.shares) ?? shapes(Self.shares)
    else { return [] }
    let numbers = try reader(.attend).readNumbers(block, count: 2 * experts, backend: backend)
    if !backend.computes {
      let even = inputs.tokens * (part.tokens?.mixer.router?.expertsPerToken ?? 0) / max(1, experts)
      return [ExpertShare](repeating: ExpertShare(tokens: even), count: experts)
    }
    return (0..<experts).map { expert in
      ExpertShare(
        tokens: min(max(Int(exactly: numbers[2 * expert]) ?? 0, 0), inputs.tokens),
        squares: numbers[2 * expert + 1])
    }
  }

  /// The first tokens that the branch on tokens reads, where these are no input of the part; nil where they are.
  func firstTokens() throws -> Matrix? {
    guard others.contains(Self.first),
      let (_, block) = file(.attend)?.find(Self.first) ?? shapes(Self.first)
    else { return nil }
    return try reader(.attend).read(
      block, rows: inputs.states.firstCount, columns: part.statesBetween * inputs.spec.hiddenSize,
      dtype: .f32, backend: backend, into: StateFiles.firstName)
  }

  /// Where only shapes are known, it was kept by an earlier step.
  private func shapes(_ entry: KeptEntry) -> (entry: KeptEntry, block: Int)? {
    backend.computes ? nil : (entry, 0)
  }
}

extension Tap {
  /// As it is called in a file of its part.
  var name: String { "\(branch).\(place.name)" }
}

extension Tap.Place {
  /// Among those of its branch.
  var name: String {
    switch self {
    case .input: "input"
    case .routedInput: "routed"
    case .queryLatent: "query"
    case .keyValueLatent: "latent"
    case .output: "output"
    case .hidden(let unit): "\(unit)"
    case .cached(let kept): kept.rawValue
    }
  }
}
