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

extension QuantizeModel {
  private var stateType: DType {
    HiddenStates.dtype(for: weights.tensor(plan.checkpoint.spec.embedding).dtype)
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

  /// Tokens of the calibration data that the router of a layer sends to each expert.
  func routedTokens(_ layer: LayerSpec) throws -> [Int] {
    var result = [Int](repeating: 0, count: layer.mlp.routed.count)
    if layer.mlp.router == nil { return result }
    let states = try readStates(.routing, layer: layer.index)
    for index in plan.blocks.indices {
      for expert in Routing(try states.read(index)).experts { result[expert] += 1 }
    }
    return result
  }

  // MARK: Statistics of a step that is cut

  private static let statisticsPrefix = "statistics-"

  /// Writes sums to a file of their own, durably, and gives its name.
  func save(_ statistics: [ActivationStatistics], for position: RunPosition) throws -> String {
    let name = "\(Self.statisticsPrefix)\(position.fileName).zst"
    let file = try ScratchWriter(path: "\(scratch)/\(name)", dtype: .f32)
    for each in statistics {
      try file.append(each.sums, workers: workers)
      if let gram = each.gramSoFar { try file.append(gram, workers: workers) }
    }
    try file.synchronize()
    try synchronizeFolder(scratch)
    return name
  }

  /// Fills statistics from the file that the last commit speaks of; it may hold more of them.
  func restore(_ statistics: [ActivationStatistics]) throws {
    if statistics.isEmpty { return }
    guard let name = state.statistics else {
      throw RunStateError.damaged(path: folder.state, problem: "it does not speak of statistics")
    }
    let file = try ScratchReader(path: "\(scratch)/\(name)")
    var block = 0
    for each in statistics {
      let sums = try file.readNumbers(block, count: 2 * each.channels + 1, workers: workers)
      block += 1
      var gram: Matrix?
      if each.gramSoFar != nil {
        gram = try file.read(
          block, rows: each.channels, columns: each.channels, dtype: .f32, workers: workers,
          into: "a Gram matrix from scratch")
        block += 1
      }
      each.restore(sums: sums, gram: gram)
    }
  }

  /// Removes every file in scratch that the state does not need to go on.
  func dropScratch() throws {
    var needed: Set<String> = Set(state.appended.keys)
    if let statistics = state.statistics { needed.insert(statistics) }
    switch state.position {
    case .copy, .finish, .done: break
    case .attend(let layer, _): needed.insert(name(.hidden, layer: layer))
    case .experts(let layer, _, _, _), .advance(let layer, _):
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
