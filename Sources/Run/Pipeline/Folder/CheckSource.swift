// The source is read once when a run begins: every number must be one, and the checksum of every piece is kept: of a
// tensor, or of an expert's slice of one. What a unit of work used is held against them before its results are committed
// for good.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

extension Commit {
  /// Bytes between two looks at whether someone wants to stop.
  private static let bytesBetweenLooks = 1 << 30

  /// Takes the checksum of every piece.
  ///
  /// - Throws: `QuantizeError` at the first NaN or infinity, and at a shape that a packed weight cannot have;
  ///   `Interrupted`.
  func readSource() throws {
    tell(.checking(.source(bytes: plan.run.sourceBytes)))
    try forEachPart { tensors in
      let results = backend.map(tensors.count) { index in
        let tensor = tensors[index]
        var bad: Int?
        let checksum = unsafe tensor.checksum { start, bytes in
          let found = unsafe tensor.dtype.firstNonFinite(bytes)
          bad = bad ?? found.map { start / tensor.dtype.byteWidth + $0 }
        }
        return (checksum: checksum, bad: bad)
      }
      for (tensor, result) in zip(tensors, results) {
        if let bad = result.bad, isUsed(tensor) {
          let columns = tensor.shape.count < 2 ? max(1, bad + 1) : tensor.shape.last ?? 1
          throw QuantizeError.nonFiniteWeight(
            file: tensor.file.path, tensor: tensor.name, row: bad / columns, column: bad % columns)
        }
        if let fault = plan.checkpoint.weights.shapeFault(tensor) {
          throw QuantizeError.wrongStoredShape(
            file: tensor.file.path, tensor: fault.tensor, problem: fault.problem)
        }
        try keep(result.checksum, of: tensor)
      }
    }
  }

  /// Scales of activations go nowhere.
  private func isUsed(_ tensor: StoredTensor) -> Bool {
    plan.checkpoint.fp8?.isActivationScale(tensor.name) != true
      && !plan.checkpoint.weights.isActivationScale(tensor.name)
  }

  /// Holds the whole source against its checksums.
  func checkSource() throws {
    tell(.checking(.sourceAgain(bytes: plan.run.sourceBytes)))
    try forEachPart { try sourceChecksums.check($0, backend: backend) }
  }

  /// Holds what the work since the last commit read against the checksums: what came of other bytes is never committed,
  /// and with the bytes back the work is done again.
  func checkUsed(until next: RunPosition) throws {
    try sourceChecksums.check(
      plan.tensorsRead(from: state.position, until: next), of: plan, backend: backend)
    if next != .finish { return }
    do {
      try sourceChecksums.check(plan.sourceReads.throughout, of: plan, backend: backend)
    } catch SourceChanged.tensor(let file, let tensor, let before, let now) {
      throw SourceChanged.readThroughout(file: file, tensor: tensor, before: before, now: now)
    }
  }

  /// All tensors in the order in which they lie, some at a time.
  private func forEachPart(_ body: ([StoredTensor]) throws -> Void) throws {
    let tensors = plan.checkpoint.weights.pieces.files.flatMap(\.tensors)
    var (part, bytes, done) = ([StoredTensor](), 0, 0)
    for (index, tensor) in tensors.enumerated() {
      part.append(tensor)
      bytes += tensor.byteCount
      let isLast = index + 1 == tensors.count
      if bytes < Self.bytesBetweenLooks, !isLast { continue }
      try body(part)
      done += bytes
      (part, bytes) = ([], 0)
      noteMemory()
      reportProgress(
        .check, layer: nil, tokensDone: 0,
        checked: Double(done) / Double(max(1, plan.run.sourceBytes)))
      if !isLast, isInterrupted { throw Interrupted(output: folder.path) }
    }
  }
}

/// The checksum of every piece of the source, from when the run began.
struct SourceChecksums {
  /// By the positions of the pieces; empty where there are none yet.
  private(set) var values: [String]
  private let pieces: ShardedModel

  /// - Parameters:
  ///   - lines: of source-checksums.txt.
  ///   - path: of that file.
  init(_ lines: [UInt8], of plan: QuantizePlan, path: String) throws {
    pieces = plan.checkpoint.weights.pieces
    values = [String](repeating: "", count: pieces.tensors.count)
    for (name, checksum) in Checksums(lines: lines).entries {
      guard let position = pieces.position(of: String(name)) else {
        throw JournalChanged(path: path)
      }
      values[position] = String(checksum)
    }
  }

  subscript(tensor: StoredTensor) -> String {
    get { pieces.position(of: tensor.name).map { values[$0] } ?? "" }
    set {
      if let position = pieces.position(of: tensor.name) { values[position] = newValue }
    }
  }

  /// Read, not mapped: a step that is cut holds what its memory has room for.
  func check(_ names: [String], of plan: QuantizePlan, backend: Backend) throws {
    let tensors = plan.checkpoint.weights.pieces(of: names)
    let results = backend.map(tensors.count) { index in
      Result { try tensors[index].checksumOfFile() }
    }
    for (tensor, result) in zip(tensors, results) { try compare(tensor, result.get().text) }
  }

  func check(_ tensors: [StoredTensor], backend: Backend) throws {
    let checksums = backend.map(tensors.count) { tensors[$0].checksum().text }
    for (tensor, checksum) in zip(tensors, checksums) { try compare(tensor, checksum) }
  }

  private func compare(_ tensor: StoredTensor, _ checksum: String) throws {
    let before = self[tensor]
    if checksum != before {
      throw SourceChanged.tensor(
        file: tensor.file.path, tensor: tensor.name, before: before, now: checksum)
    }
  }
}

extension QuantizePlan {
  var sourceReads: SourceReads {
    SourceReads(
      spec: spec, output: output, trials: trials, keeps: kept != nil,
      calibratedLayers: run.calibratedLayers)
  }

  /// Names of the tensors that the work between two positions reads.
  func tensorsRead(from position: RunPosition, until next: RunPosition) -> [String] {
    switch position {
    case .copy:
      if next == .copy { return [] }
      if measures { return [spec.embedding] }
      let ends = Set(output.ends.map(\.weight))
      return checkpoint.weights.names.filter {
        output.fates[$0] == .copied || output.fates[$0] == .decoded || ends.contains($0)
      }
    case .attend(let layer, 0, 0) where reused?.layers.contains(layer) == true: return []
    case .attend, .experts, .advance: return sourceReads.names(from: position, until: next)
    // Every rank looks at what it read.
    case .forward, .window, .finish, .done: return []
    }
  }
}

/// What the work on layers reads of the source. A run holds it against checksums, and a plan counts what that takes.
struct SourceReads {
  let spec: ModelSpec
  let output: OutputPlan
  /// What a pass that measures takes in the output's place.
  let trials: [OutputPlan]
  /// Whether states and statistics are kept for other runs.
  let keeps: Bool
  let calibratedLayers: Int

  /// Names of the tensors that the work on a part between two positions reads.
  func names(from position: RunPosition, until next: RunPosition) -> [String] {
    switch position {
    case .attend(let layer, let index, _):
      // A window begins: nothing was read yet.
      if case .forward = next { return [] }
      let part = spec.layers[layer].parts[index]
      // The search at the end reads the units, too.
      let isCut = if case .attend(layer, index, _) = next { true } else { false }
      let input = part.tokens?.tap(.input)
      let searches = (trials.isEmpty ? [output] : trials).contains { output in
        output.smoothings[layer].contains { input.map($0.taps.contains) == true }
      }
      let units: Set<String> = searches && !isCut ? [] : Set(Self.names(of: part.units))
      return part.claims.map(\.name).filter { !units.contains($0) }
        + (part.tokens == nil ? joining(behind: part) : [])
        + (part.sequence == nil ? [] : readers(in: layer))
    case .experts(let layer, let index, let unit, _, _):
      let part = spec.layers[layer].parts[index]
      let units = part.units
      let end =
        if case .experts(_, _, let unit, let end, _) = next { max(unit, end) } else { units.count }
      return Self.names(of: units[unit..<max(unit, end)]) + besideUnits(of: part)
    case .advance(let layer, let index, _):
      let part = spec.layers[layer].parts[index]
      let reads = goesOn(behind: part) || !output.smoothings[layer].isEmpty
      return (reads ? part.claims.map(\.name) : []) + joining(behind: part)
    case .copy, .forward, .window, .finish, .done: return []
    }
  }

  /// Names of what makes the states behind a part.
  func namesOfStates(behind part: LayerPart) -> [String] {
    part.claims.map(\.name) + joining(behind: part)
  }

  /// Names of what a group of units reads beside its own tensors: what stands before and behind them.
  func besideUnits(of part: LayerPart) -> [String] {
    guard let branch = part.tokens else { return [] }
    let mlp = branch.mixer
    let norms =
      [branch.residual?.norm, branch.preNorm, branch.postNorm].compactMap(\.self) + mlp.norms
    let deciding = (branch.residual.map { [$0.score] } ?? []) + mlp.deciding
    return norms.flatMap(\.parameters) + Self.names(of: deciding) + mlp.vectors.map(\.name)
      + readers(in: part.layer)
  }

  /// Names of what the rounding of every layer reads and that is too large to be looked at after each: it is held against
  /// its checksum once, at the end.
  var throughout: [String] { looksAtReaders(in: 0) ? [spec.head.weight] : [] }

  /// Whether calibration tokens go on behind a part.
  func goesOn(behind part: LayerPart) -> Bool {
    spec.layers.next(after: part, calibrated: calibratedLayers) != nil
  }

  /// What a prediction layer behind a part is joined by, where tokens go on to it.
  private func joining(behind part: LayerPart) -> [String] {
    guard goesOn(behind: part),
      let entrance = spec.layers.entrance(afterPart: part.index, of: part.layer)
    else { return [] }
    return entrance.claims.map(\.name) + [spec.embedding]
  }

  private func looksAtReaders(in layer: Int) -> Bool {
    layer < calibratedLayers && output.looksAtReaders(measures: !trials.isEmpty, keeps: keeps)
      && StreamMoments.blockSize(spec.hiddenSize) != nil
  }

  /// What reads the stream, of any layer, but the head.
  private func readers(in layer: Int) -> [String] {
    looksAtReaders(in: layer) ? StreamReaders.names(in: spec) : []
  }

  private static func names(of units: some Sequence<UnitSpec>) -> [String] {
    names(of: units.flatMap(\.linears))
  }

  private static func names(of linears: [LinearSpec]) -> [String] {
    linears.flatMap { $0.hasBias ? [$0.weight, $0.bias] : [$0.weight] }
  }
}
