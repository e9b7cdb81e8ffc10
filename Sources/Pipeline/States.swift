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
  /// The input of a layer.
  case hidden
  /// Between its attention and its MLP.
  case attended
  /// The experts of each token, and their weights.
  case routing
}

/// A scratch file that a step appends a block to for each block of tokens.
struct StatesWriter {
  let name: String
  let file: ScratchWriter
}

/// What the router sends to one expert, over all calibration tokens.
struct ExpertShare {
  var tokens = 0
  /// Sum of the squared routing weights.
  var squares = 0.0
}

extension QuantizeModel {
  private var stateType: DType {
    HiddenStates.dtype(for: weights.parameter(plan.checkpoint.spec.embedding).dtype)
  }

  private func type(_ kind: StateKind) -> DType { kind == .routing ? .f32 : stateType }

  private func name(_ kind: StateKind, layer: Int) -> String { "\(kind.rawValue)-\(layer).zst" }

  private func path(_ kind: StateKind, layer: Int) -> String {
    "\(scratch)/\(name(kind, layer: layer))"
  }

  /// - Parameter block: the first one that will be appended; what was committed before stays.
  func writeStates(_ kind: StateKind, layer: Int, from block: Int = 0) throws -> StatesWriter {
    let name = name(kind, layer: layer)
    let path = path(kind, layer: layer)
    if block == 0 {
      return StatesWriter(name: name, file: try ScratchWriter(path: path, dtype: type(kind)))
    }
    guard let bytes = state.appended[name] else {
      throw RunStateError.damaged(path: folder.state, problem: "it does not speak of \(name)")
    }
    guard FileSystem.exists(path), try FileSystem.fileSize(path) >= bytes else {
      throw RunStateError.filesChanged(
        path: folder.state, problem: "\(path): less than \(bytes) bytes")
    }
    return StatesWriter(
      name: name,
      file: try ScratchWriter(
        continuing: path, dtype: type(kind), blocks: block, byteCount: bytes))
  }

  /// Makes a finished file durable, name and all: what a commit speaks of must survive a power loss.
  func finishStates(_ states: StatesWriter) throws {
    try states.file.synchronize()
    try synchronizeFolder(scratch)
    noteScratch()
  }

  func readStates(_ kind: StateKind, layer: Int) throws -> HiddenStates {
    let router = layers[layer].mlp.router
    return try HiddenStates(
      path: path(kind, layer: layer), dtype: type(kind), blocks: plan.blocks,
      columns: kind == .routing
        ? 2 * (router?.expertsPerToken ?? 0) : plan.checkpoint.spec.hiddenSize,
      workers: workers)
  }

  /// Replaces values by what will be read back.
  func round(_ x: Matrix) {
    let type = stateType
    if type != .f32 {
      workers.forEach(x.rows) { unsafe type.round(x.row($0), count: x.columns) }
    }
  }

  /// What the router of a layer sends to each expert; nothing where there is none.
  ///
  /// - Parameter end: only of the blocks before it; nil for all.
  func expertShares(_ layer: LayerSpec, before end: Int? = nil) throws -> [ExpertShare] {
    var result = [ExpertShare](repeating: ExpertShare(), count: layer.mlp.routed.count)
    if layer.mlp.router == nil { return result }
    let states = try readStates(.routing, layer: layer.index)
    for index in plan.blocks.indices.prefix(end ?? plan.blocks.count) {
      let routing = Routing(try states.read(index))
      for (expert, weight) in zip(routing.experts, routing.weights) {
        result[expert].tokens += 1
        result[expert].squares += Double(weight) * Double(weight)
      }
    }
    return result
  }

  // MARK: Statistics of a step that is cut

  private static let statisticsPrefix = "statistics-"

  /// Writes sums to a file of their own, durably, and gives its name.
  func save(_ statistics: [ActivationStatistics], for position: RunPosition) throws -> String {
    let name = "\(Self.statisticsPrefix)\(position.fileName).zst"
    try save(statistics, as: name)
    return name
  }

  private func save(_ statistics: [ActivationStatistics], as name: String) throws {
    let file = try ScratchWriter(path: "\(scratch)/\(name)", dtype: .f32)
    for each in statistics {
      try file.append(each.sums, workers: workers)
      for gram in each.gramsSoFar {
        for rows in ranges(of: gram.rows, by: ActivationStatistics.storedRows) {
          try file.append(gram, rows: rows, workers: workers)
        }
      }
    }
    try file.synchronize()
    try synchronizeFolder(scratch)
    noteScratch()
  }

  /// Fills statistics from the file that the last commit speaks of.
  ///
  /// - Parameter passedOver: channels of those that the file begins with and nobody needs any more.
  func restore(_ statistics: [ActivationStatistics], passingOver passedOver: [Int] = []) throws {
    if statistics.isEmpty { return }
    guard let name = state.statistics else {
      throw RunStateError.damaged(path: folder.state, problem: "it does not speak of statistics")
    }
    let grams = plan.options.gathersGrams
    try restore(
      statistics, from: name,
      at: passedOver.reduce(0) {
        $0 + 1 + (grams ? ActivationStatistics.storedBlocks(channels: $1) : 0)
      })
  }

  private func restore(
    _ statistics: [ActivationStatistics], from name: String, at first: Int = 0
  ) throws {
    let file = try ScratchReader(path: "\(scratch)/\(name)")
    var block = first
    for each in statistics {
      each.restore(
        sums: try file.readNumbers(block, count: each.sumsCount, workers: workers))
      block += 1
      for gram in each.gramsSoFar {
        for rows in ranges(of: gram.rows, by: ActivationStatistics.storedRows) {
          try file.read(block, into: gram, rows: rows, dtype: .f32, workers: workers)
          block += 1
        }
      }
    }
  }

  // MARK: Statistics that one step leaves to the next

  private func inputName(_ layer: Int) -> String { "mlp-input-\(layer).zst" }

  /// What the gate and up projections of a layer are rounded with, once its units' turn comes.
  func saveInput(_ statistics: ActivationStatistics, of layer: LayerSpec) throws {
    try save([statistics], as: inputName(layer.index))
  }

  func restoreInput(of layer: LayerSpec) throws -> ActivationStatistics {
    let statistics = newStatistics(.mlpInput, of: layer)
    try restore([statistics], from: inputName(layer.index))
    return statistics
  }

  /// Empty ones of an activation.
  func newStatistics(_ tap: Tap, of layer: LayerSpec) -> ActivationStatistics {
    ActivationStatistics(
      channels: layer.readers(at: tap)[0].inputs, withGram: plan.options.gathersGrams,
      from: workers.memory)
  }

  /// Removes every file in scratch that the state does not need to go on.
  func dropScratch() throws {
    var needed: Set<String> = Set(state.appended.keys)
    if let statistics = state.statistics { needed.insert(statistics) }
    switch state.position {
    case .copy, .finish, .done: break
    case .attend(let layer, _): needed.insert(name(.hidden, layer: layer))
    case .experts(let layer, _, _, _):
      needed.insert(name(.attended, layer: layer))
      needed.insert(name(.routing, layer: layer))
      needed.insert(inputName(layer))
    case .advance(let layer, _):
      needed.insert(name(.attended, layer: layer))
      needed.insert(name(.routing, layer: layer))
    }
    for file in try FileSystem.list(scratch) where !needed.contains(file) {
      try FileSystem.remove("\(scratch)/\(file)")
    }
  }

  /// Remembers the most that scratch held.
  func noteScratch() {
    largestScratch = max(largestScratch, FileSystem.folderSize(scratch))
  }
}
