// The layers of an output that a new one takes over as they are.

internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// An output that cannot be taken over.
package enum ReuseError: Error, CustomStringConvertible, Equatable {
  case changed(path: String, problem: String)

  package var description: String {
    switch self {
    case .changed(let path, let problem):
      "\(path): \(problem); give the same command again with --anew, which makes every layer again"
    }
  }
}

struct ReusedLayers: Sendable, Equatable {
  /// The output that they are in.
  let output: String
  private(set) var layers: Set<Int> = []
  /// What they take in the new one, and their largest tensor.
  private(set) var byteCount = 0
  private(set) var largestTensor = 0

  /// - Parameters:
  ///   - output: a finished output.
  ///   - records: of the layers of the run that is planned.
  ///   - source: its shards; empty where they are not here.
  /// - Returns: nil where no layer of that output becomes what it is already, or where that cannot be known.
  init?(
    _ output: String, _ spec: ModelSpec, records: [String], inputs: RunInputs,
    source: [SourceFile], calibratedLayers: Int, kept: KeptStates?,
    tensors: (LayerSpec) -> [TensorSpec]
  ) {
    guard let state = try? RunState(readingFrom: OutputFolder(path: output).state),
      state.position == .done, state.inputs.config == inputs.config,
      state.inputs.tokens == inputs.tokens || inputs.tokens.isEmpty, !source.isEmpty,
      state.source == source, state.layerRecords.count == records.count
    else { return nil }
    self.output = output
    for layer in spec.layers where state.layerRecords[layer.index] == records[layer.index] {
      // Where the tokens have to go through it all the same, its work is done again.
      let next = layer.index + 1
      if next < calibratedLayers, kept?.has(.hidden, next, 0) != true { continue }
      layers.insert(layer.index)
      for tensor in tensors(layer) {
        byteCount += tensor.byteCount
        largestTensor = max(largestTensor, tensor.byteCount)
      }
    }
    if layers.isEmpty { return nil }
  }

  /// What taking them over uses.
  func note(in ledger: Ledger) {
    ledger.note(.output, bytes: byteCount)
    Self.note(largestTensor, in: ledger)
  }

  static func note(_ bytes: Int, in ledger: Ledger) {
    let window = min(Windows.checkedBytes, bytes)
    ledger.take("a window of the old output", window, from: .mapped)
    ledger.giveBack("a window of the old output", window, to: .mapped)
  }
}

/// An output whose layers are taken over, opened.
final class OldOutput {
  private let folder: OutputFolder
  private let model: ShardedModel
  private let scales: SafetensorsFile?
  /// Checksums by tensor, in the order in which they were written.
  private let checksums: Checksums
  private let places: [Substring: Int]
  /// Lines of choices.jsonl by layer.
  private var choices: [Int: [String]] = [:]

  init(_ output: String) throws {
    folder = OutputFolder(path: output)
    func changed(_ problem: String) -> ReuseError { .changed(path: output, problem: problem) }
    do {
      let state = try RunState(readingFrom: folder.state)
      model = try ShardedModel(folder: output)
      let scalesFile = folder.work + "/" + OutputFolder.smoothingFile
      scales = FileSystem.exists(scalesFile) ? try SafetensorsFile(path: scalesFile) : nil
      checksums = Checksums(
        lines: try Journal.read(folder.checksums, committed: state.checksums))
      places = Dictionary(
        checksums.entries.enumerated().map { ($1.tensor, $0) }, uniquingKeysWith: { $1 })
      let lines = try Journal.read(folder.choices, committed: state.choices)
      for line in lines.split(separator: UInt8(ascii: "\n")) {
        guard let layer = try JSONValue.parse(Array(line)).object?["layer"]?.size else { continue }
        choices[layer, default: []].append(String(decoding: line, as: UTF8.self))
      }
    } catch let error as ReuseError {
      throw error
    } catch {
      throw changed("\(error)")
    }
  }

  func choices(of layer: Int) -> [String] { choices[layer] ?? [] }

  /// Some of its tensors with their checksums, in the order in which they were written.
  func tensors(
    _ names: [String]
  ) throws -> [(tensor: StoredTensor, checksum: String, isScale: Bool)] {
    let found = try names.map { name in
      guard let place = places[name[...]] else {
        throw ReuseError.changed(path: folder.checksums, problem: "no word of `\(name)`")
      }
      return place
    }
    return try found.sorted().map { place in
      let (name, checksum) = checksums.entries[place]
      if let tensor = model[String(name)] { return (tensor, String(checksum), false) }
      guard let scale = scales?[String(name)] else {
        throw ReuseError.changed(path: folder.path, problem: "`\(name)` is gone")
      }
      return (scale, String(checksum), true)
    }
  }
}

extension Commit {
  /// Takes a layer over from the output that this one replaces: its tensors, what was found for it, and their checksums,
  /// in the order in which it would make them.
  func takeOver(_ layer: LayerSpec) throws {
    guard let reused = plan.reused else { preconditionFailure("nothing to take over") }
    begin(.copy)
    // The layer behind it begins with these, and no step makes them here.
    let next = layer.index + 1
    if next < plan.run.calibratedLayers { try plan.kept?.check([.hidden], next, 0) }
    let old = try oldOutput ?? OldOutput(reused.output)
    oldOutput = old
    let names =
      plan.writtenTensors(of: layer)
      + plan.output.smoothings[layer.index].map { smoothing in
        TensorSpec(
          name: plan.output.scaleTensor(smoothing), dtype: .f32, shape: [smoothing.channels])
      }
    let specs = Dictionary(names.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    for (tensor, written, isScale) in try old.tensors(specs.keys.sorted()) {
      let name = tensor.name
      func changed(_ problem: String) -> ReuseError {
        .changed(path: tensor.file.path, problem: "`\(name)` \(problem)")
      }
      guard let spec = specs[name], spec.dtype == tensor.dtype, spec.shape == tensor.shape else {
        throw changed("is not what it was written as")
      }
      ReusedLayers.note(tensor.byteCount, in: backend.ledger)
      var problem: (any Error)?
      let found = unsafe tensor.checksum { start, bytes in
        do {
          try unsafe (isScale ? scales : writer).write(bytes, to: name, at: start)
        } catch {
          problem = problem ?? error
        }
      }
      if let problem { throw problem }
      if found.text != written { throw changed("is not as it was written") }
      try note(taken: name, found)
    }
    for line in old.choices(of: layer.index) { try note(taken: line) }
    noteMemory()
    try commit(
      next == plan.spec.layers.count ? .finish : .attend(layer: next, part: 0, block: 0))
    tell(.layerTakenOver(layer: layer.index, layers: plan.layers))
  }
}
