// What lies in scratch between two steps: hidden states and routings by layer, and the statistics of a step that is cut.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import Safetensors
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

enum StateKind: String {
  /// The input of a layer, or of a later part of one.
  case hidden
  /// Between a part's branch along the sequence and its branch on tokens.
  case attended
  /// The experts of each token, and their weights.
  case routing

  /// What the branch on tokens of a part reads.
  static func readByTokens(of part: LayerPart) -> StateKind {
    part.isParallel ? .hidden : addedToByTokens(of: part)
  }

  /// What the branch on tokens of a part adds to.
  static func addedToByTokens(of part: LayerPart) -> StateKind {
    part.sequence == nil ? .hidden : .attended
  }
}

/// A scratch file that a step appends a block to for each block of tokens.
struct StatesWriter {
  let name: String
  let file: ScratchWriter
  /// The layer and the part that it is the input of, where that is kept for other runs.
  var isKept: (layer: Int, part: Int)?
}

/// What the router sends to one expert, over all calibration tokens.
struct ExpertShare {
  var tokens = 0
  /// Sum of the squared routing weights.
  var squares = 0.0
}

/// The scratch files of a run.
struct StateFiles {
  let folder: String
  /// The type that hidden states are kept in.
  let type: DType
  let blocks: [TokenBlock]
  let hidden: Int
  let backend: Backend
  /// Where the inputs of parts lie instead, for other runs; nil where they go with this one.
  var kept: KeptStates?
  /// The first of `blocks`, where these states are a piece of those of all blocks.
  var piece: Int?
  /// Where files lie that no other process reads; nil where all lie together.
  var own: String?
  /// Bytes of the pieces that were finished, by file name.
  var pieces: () -> [String: Int] = { [:] }
  /// Seconds that a file of another rank may take to be seen.
  var patience = 0
  /// What an earlier process left.
  let resumption: () -> Resumption
  /// A file grew.
  let grew: () -> Void

  static func name(_ kind: StateKind, layer: Int, part: Int) -> String {
    "\(kind.rawValue)-\(place(layer, part)).zst"
  }

  static func name(_ kind: StateKind, _ part: LayerPart) -> String {
    name(kind, layer: part.layer, part: part.index)
  }

  static func place(_ layer: Int, _ part: Int) -> String {
    part == 0 ? "\(layer)" : "\(layer)-\(part)"
  }

  private func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// A file that this process writes.
  private func ownName(_ kind: StateKind, layer: Int, part: Int) -> String {
    let name = Self.name(kind, layer: layer, part: part)
    return piece.map { StatePiece(first: $0, of: name).fileName } ?? name
  }

  private func ownPath(_ kind: StateKind, layer: Int, part: Int) -> String {
    let name = ownName(kind, layer: layer, part: part)
    // The branch on tokens of the process that made them reads these, and nothing else does.
    if piece != nil, kind != .hidden, let own { return "\(own)/\(name)" }
    let isKept = kind == .hidden ? kept?.path(.hidden, layer, part) : nil
    return isKept ?? path(name)
  }

  private func type(_ kind: StateKind) -> DType { kind == .routing ? .f32 : type }

  /// The files of some blocks, beside those of all.
  ///
  /// - Parameter own: where those lie that no other process reads.
  func piece(from first: Int, _ blocks: [TokenBlock], own: String) -> StateFiles {
    StateFiles(
      folder: folder, type: type, blocks: blocks, hidden: hidden, backend: backend, piece: first,
      own: own, pieces: pieces, patience: patience, resumption: resumption, grew: grew)
  }

  /// - Parameter block: the first one that will be appended; what was committed before stays.
  func write(
    _ kind: StateKind, layer: Int, part: Int, from block: Int = 0
  ) throws -> StatesWriter {
    let name = ownName(kind, layer: layer, part: part)
    let path = ownPath(kind, layer: layer, part: part)
    func writer(_ file: ScratchWriter) -> StatesWriter {
      StatesWriter(
        name: name, file: file, isKept: kind == .hidden && kept != nil ? (layer, part) : nil)
    }
    if !backend.computes { return writer(ScratchWriter(ofShapes: type(kind))) }
    if block == 0 { return writer(try ScratchWriter(path: path, dtype: type(kind))) }
    guard let bytes = resumption().appended[name] else {
      throw ScratchLost.unspoken(name)
    }
    let found: Int
    do {
      found = try FileSystem.fileSize(path)
    } catch let error where error.isMissing {
      found = 0
    }
    guard found >= bytes else { throw ScratchLost.short(path: path, bytes: bytes) }
    return writer(
      try ScratchWriter(
        continuing: path, dtype: type(kind), blocks: block, byteCount: bytes))
  }

  /// Makes a finished file durable, name and all: what a commit speaks of must survive a power loss.
  func finish(_ states: StatesWriter) throws {
    if !backend.computes { return }
    try states.file.synchronize()
    try synchronizeNames()
    if let (layer, part) = states.isKept {
      try kept?.note(.hidden, layer, part, byteCount: states.file.byteCount)
    }
    grew()
  }

  /// Makes the names of all files durable.
  func synchronizeNames() throws {
    try synchronizeFolder(folder)
    if let kept { try synchronizeFolder(kept.folder) }
  }

  /// - Parameter columns: of a block; nil for those of a part's states.
  func read(_ kind: StateKind, _ part: LayerPart, columns: Int? = nil) throws -> HiddenStates {
    let name = Self.name(kind, part)
    let all = pieces()
    let known = all.keys.compactMap(StatePiece.init).filter { $0.name == name }
      .sorted { $0.first < $1.first }
    func states(_ files: [(first: Int, path: String)], offset: Int) throws -> HiddenStates {
      try HiddenStates(
        files: files, offset: offset, dtype: type(kind), blocks: blocks,
        columns: columns ?? Self.states(kind, part) * hidden, backend: backend)
    }
    if known.isEmpty {
      // Of this process, or whole; then a piece begins somewhere in it.
      let own = ownPath(kind, layer: part.layer, part: part.index)
      let isWhole = piece != nil && backend.computes && !FileSystem.exists(own)
      return try isWhole
        ? states([(0, path(name))], offset: piece ?? 0) : states([(0, own)], offset: 0)
    }
    for each in known {
      let (path, bytes) = (path(each.fileName), all[each.fileName] ?? 0)
      if !FileSystem.isThere(path, bytes: bytes, waiting: patience) {
        throw ScratchLost.short(path: path, bytes: bytes)
      }
    }
    return try states(known.map { ($0.first, path($0.fileName)) }, offset: piece ?? 0)
  }

  /// How many states of a token lie in a file.
  private static func states(_ kind: StateKind, _ part: LayerPart) -> Int {
    kind == .attended ? part.statesBetween : part.statesBefore
  }

  /// The experts of each token, where a part has a router.
  func readRouting(_ part: LayerPart) throws -> HiddenStates? {
    try part.tokens?.mixer.router.map { router in
      try read(.routing, part, columns: 2 * router.expertsPerToken)
    }
  }

  /// Replaces values by what will be read back.
  func round(_ x: Matrix) {
    let type = type
    if type == .f32 { return }
    backend.ledger.note(Operation(.elements, [x.count]))
    backend.forEach(x.rows) { unsafe type.round(x.row($0), count: x.columns) }
  }

  /// What the router of a part sends to each expert; nothing where there is none.
  ///
  /// - Parameter end: only of the blocks before it; nil for all.
  func expertShares(_ part: LayerPart, before end: Int? = nil) throws -> [ExpertShare] {
    guard let mlp = part.tokens?.mixer, let router = mlp.router,
      let states = try readRouting(part)
    else { return [] }
    var result = [ExpertShare](repeating: ExpertShare(), count: mlp.routed.count)
    let read = Array(blocks.indices.prefix(end ?? blocks.count))
    try backend.forEach(of: read, alike: { blocks[$0].count }) { index in
      let routing = Routing(try states.read(index), backend: backend)
      for (expert, weight) in zip(routing.experts, routing.weights) {
        result[expert].tokens += 1
        result[expert].squares += Double(weight) * Double(weight)
      }
    }
    if !backend.computes {
      let even = read.reduce(0) { $0 + blocks[$1].count } * router.expertsPerToken / result.count
      for expert in result.indices { result[expert].tokens = even }
    }
    return result
  }

  // MARK: Statistics of a step that is cut

  /// Writes sums to a file of their own, durably, and gives its name.
  func save(_ statistics: [ActivationStatistics], for position: RunPosition) throws -> String {
    let name = "statistics-\(position.fileName).zst"
    try save(statistics, as: name)
    return name
  }

  /// Writes down that statistics may be written or restored now.
  func noteRoom(for statistics: [ActivationStatistics]) {
    for gram in statistics.flatMap(\.matricesSoFar) {
      ScratchWriter.noteRoom(
        elements: min(gram.rows, ActivationStatistics.storedRows) * gram.columns,
        width: DType.f32.byteWidth, backend: backend)
    }
  }

  private func save(_ statistics: [ActivationStatistics], as name: String) throws {
    let file =
      try backend.computes
      ? ScratchWriter(path: path(name), dtype: .f32) : ScratchWriter(ofShapes: .f32)
    try backend.forEach(of: statistics, alike: \.storedShape) { try append($0, to: file) }
    if !backend.computes { return }
    try file.synchronize()
    try synchronizeFolder(folder)
    grew()
  }

  /// Sums as they stand: a row of numbers, then the rows of matrices.
  func append(_ statistics: ActivationStatistics, to file: ScratchWriter) throws {
    try file.append(statistics.sums, backend: backend)
    for gram in statistics.matricesSoFar {
      for rows in ranges(of: gram.rows, by: ActivationStatistics.storedRows) {
        try file.append(gram, rows: rows, backend: backend)
      }
    }
  }

  // MARK: The first tokens

  /// Tokens that a proof looks at, at the beginning of the first sequence.
  private static let mostFirst = 8
  static let firstName = "tokens of the proof"

  var firstCount: Int { min(Self.mostFirst, blocks[0].sequences[0].count) }

  /// The first tokens of the first sequence, `[tokens, H]` or fewer.
  func firstTokens(_ kind: StateKind, _ part: LayerPart, backend: Backend) throws -> Matrix {
    first(of: try read(kind, part).read(0), backend: backend)
  }

  func first(of x: Matrix, backend: Backend) -> Matrix {
    let result = backend.matrix(Self.firstName, rows: firstCount, columns: x.columns)
    backend.compute { unsafe result.base.update(from: x.base, count: result.count) }
    return result
  }

  /// Fills statistics from the file that the last commit speaks of.
  ///
  /// - Parameter passedOver: those that the file begins with and nobody needs any more.
  func restore(
    _ statistics: [ActivationStatistics], passingOver passedOver: [StatisticsKind] = []
  ) throws {
    if statistics.isEmpty { return }
    guard let name = resumption().statistics else { throw ScratchLost.unspoken("statistics") }
    try restore(statistics, from: name, at: passedOver.reduce(0) { $0 + $1.storedBlocks })
  }

  private func restore(
    _ statistics: [ActivationStatistics], from name: String, at first: Int = 0
  ) throws {
    let file = try backend.computes ? ScratchReader(path: path(name)) : ScratchReader()
    var block = first
    for each in statistics {
      each.restore(
        sums: try file.readNumbers(block, count: each.sumsCount, backend: backend))
      block += 1
      for gram in each.matricesSoFar {
        for rows in ranges(of: gram.rows, by: ActivationStatistics.storedRows) {
          try file.read(block, into: gram, rows: rows, dtype: .f32, backend: backend)
          block += 1
        }
      }
    }
  }

  // MARK: Statistics that one step leaves to the next

  static func inputName(_ part: LayerPart, at tap: Tap.Place) -> String {
    "\(tap == .routedInput ? "routed" : "mlp")-input-\(place(part.layer, part.index)).zst"
  }

  /// What the Linears that read the input of a branch's units are rounded with, once these units' turn comes.
  func saveInput(
    _ statistics: ActivationStatistics, of part: LayerPart, at tap: Tap.Place
  ) throws {
    try save([statistics], as: Self.inputName(part, at: tap))
  }

  func restoreInput(
    _ statistics: ActivationStatistics, of part: LayerPart, at tap: Tap.Place
  ) throws {
    try restore([statistics], from: Self.inputName(part, at: tap))
  }
}

/// The name of a file with the states of some blocks of tokens.
struct StatePiece {
  private static let prefix = "from-"
  /// Its first block.
  let first: Int
  /// What the file would be called if it had all of them.
  let name: String

  init(first: Int, of name: String) {
    self.first = first
    self.name = name
  }

  init?(fileName: String) {
    let words = fileName.split(separator: "-", maxSplits: 2)
    guard fileName.hasPrefix(Self.prefix), words.count == 3, let first = Int(words[1]) else {
      return nil
    }
    self.init(first: first, of: String(words[2]))
  }

  var fileName: String { "\(Self.prefix)\(first)-\(name)" }
}

/// Scratch that does not hold what a commit says. The run tells of it as a state that it cannot go on from.
enum ScratchLost: Error, Equatable {
  /// The state has no word of it.
  case unspoken(String)
  case short(path: String, bytes: Int)
}
