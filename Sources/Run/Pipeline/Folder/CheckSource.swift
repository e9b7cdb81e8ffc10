// The source is read once when a run begins: every number must be one, and the checksum of every piece is kept: of a
// tensor, or of an expert's slice of one. What a unit of work used is held against them before its results are committed
// for good.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
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
  /// Names of the tensors that a prediction layer behind a part is joined by.
  func tensorsJoining(afterPart part: Int, of layer: Int) -> [String] {
    guard let entrance = spec.layers.entrance(afterPart: part, of: layer) else { return [] }
    return entrance.claims.map(\.name) + [spec.embedding]
  }

  /// Names of the tensors that the work between two positions reads.
  func tensorsRead(from position: RunPosition, until next: RunPosition) -> [String] {
    func names(_ units: some Sequence<UnitSpec>) -> [String] {
      units.flatMap(\.linears).flatMap { $0.hasBias ? [$0.weight, $0.bias] : [$0.weight] }
    }
    switch position {
    case .copy:
      if next == .copy { return [] }
      if measures { return [spec.embedding] }
      let ends = Set(output.ends.map(\.weight))
      return checkpoint.weights.names.filter {
        output.fates[$0] == .copied || output.fates[$0] == .decoded || ends.contains($0)
      }
    case .attend(let layer, 0, 0) where reused?.layers.contains(layer) == true: return []
    case .attend(let layer, let part, _):
      // A window begins: nothing was read yet.
      if case .forward = next { return [] }
      let part = spec.layers[layer].parts[part]
      let units = Set(names(part.units))
      // The search at the end reads the units, too.
      let isCut = if case .attend(layer, part.index, _) = next { true } else { false }
      let input = part.tokens?.tap(.input)
      let searches = rounded.contains { output in
        output.smoothings[layer].contains { input.map($0.taps.contains) == true }
      }
      return part.claims.map(\.name).filter { !units.contains($0) || searches && !isCut }
        + (part.tokens == nil ? tensorsJoining(afterPart: part.index, of: layer) : [])
    case .experts(let layer, let part, let unit, _, _):
      let part = spec.layers[layer].parts[part]
      let units = part.units
      let end =
        if case .experts(_, _, let unit, let end, _) = next { max(unit, end) } else { units.count }
      return names(units[unit..<max(unit, end)]) + (part.tokens?.preNorm?.parameters ?? [])
    case .advance(let layer, let part, _):
      let goesOn = part + 1 < spec.layers[layer].parts.count || layer + 1 < run.calibratedLayers
      let reads = goesOn || !output.smoothings[layer].isEmpty
      return (reads ? spec.layers[layer].parts[part].claims.map(\.name) : [])
        + (goesOn ? tensorsJoining(afterPart: part, of: layer) : [])
    // Every rank looks at what it read.
    case .forward, .window, .finish, .done: return []
    }
  }
}
