// What is durable and where to start again: one small file, replaced after each unit of work.

internal import CompressedTensors
internal import JSON
internal import Models
internal import Planning
package import ScratchStore
internal import SystemIO
internal import Transformer

/// A state that this run cannot go on from.
package enum RunStateError: Error, CustomStringConvertible, Equatable {
  case damaged(path: String, problem: String)
  /// One of another version of Sluice.
  case otherFormat(path: String, found: Int, expected: Int)
  /// An output file is not as the run left it.
  case filesChanged(path: String, problem: String)
  case otherOptions(path: String, option: String, written: String, asked: String)
  /// All flags are the same, and yet the tokens are not.
  case otherTokens(path: String, data: String, model: String)
  case scratchChanged(ScratchError)

  package var description: String {
    switch self {
    case .damaged(let path, let problem): "\(path): \(problem); \(startOverText)"
    case .otherFormat(let path, let found, let expected):
      "\(path): written by another version of Sluice, in format \(found), expected \(expected); go on with the "
        + "version that wrote it, or \(startOverText); a finished output is whole as it is"
    case .filesChanged(let path, let problem):
      // What is wrong with a shard says so itself.
      "\(path) speaks of files that are gone or changed: \(problem)"
        + (problem.hasSuffix(startOverText) ? "" : "; \(startOverText)")
    case .scratchChanged(let error): "\(error); \(startOverText)"
    case .otherOptions(let path, let option, let written, let asked):
      "\(path) was written with \(option) \(written)"
        + (option == RunInputs.expertTokensFlag && written == "all" ? " (once the default)" : "")
        + ", this run has \(asked); use the same, "
        + "another --output, or --restart to start over"
        + (SizeWish.flags.contains(option) ? "; what was measured stays" : "")
    case .otherTokens(let path, let data, let model):
      "\(path) was written with other calibration tokens, though all flags are the same: \(data), or the tokenizer "
        + "or chat template in \(model), has changed; put it back, use another --output, or --restart to start over"
    }
  }
}

/// The next unit of work. Everything before it is on the disk.
package enum RunPosition: Sendable, Equatable, CustomStringConvertible {
  case copy
  /// Blocks before `block` have gone through the part's branch along the sequence.
  case attend(layer: Int, part: Int, block: Int)
  /// Units before `unit` are written. The statistics of `unit..<end` rest on the blocks before `block`.
  case experts(layer: Int, part: Int, unit: Int, end: Int, block: Int)
  /// Blocks before `block` have become the next part's input.
  case advance(layer: Int, part: Int, block: Int)
  /// Of the window of layers `first..<end`, states are there up to those that a part of a layer reads.
  case forward(first: Int, end: Int, layer: Int, part: Int)
  /// The states of all layers `first..<end` are there, and their tasks are done by whoever is free.
  case window(first: Int, end: Int)
  case finish
  case done

  /// Step, layer, part, unit, end, block: 0 where there is none.
  fileprivate var parts: (step: String, numbers: [Int]) {
    switch self {
    case .copy: ("copy", [0, 0, 0, 0, 0])
    case .attend(let layer, let part, let block): ("attend", [layer, part, 0, 0, block])
    case .experts(let layer, let part, let unit, let end, let block):
      ("experts", [layer, part, unit, end, block])
    case .advance(let layer, let part, let block): ("advance", [layer, part, 0, 0, block])
    case .forward(let first, let end, let layer, let part):
      ("forward", [layer, part, first, end, 0])
    case .window(let first, let end): ("window", [0, 0, first, end, 0])
    case .finish: ("finish", [0, 0, 0, 0, 0])
    case .done: ("done", [0, 0, 0, 0, 0])
    }
  }

  fileprivate init?(step: String, numbers: [Int]) {
    let (layer, part, block) = (numbers[0], numbers[1], numbers[4])
    switch step {
    case "copy": self = .copy
    case "attend": self = .attend(layer: layer, part: part, block: block)
    case "experts":
      self = .experts(layer: layer, part: part, unit: numbers[2], end: numbers[3], block: block)
    case "advance": self = .advance(layer: layer, part: part, block: block)
    case "forward":
      self = .forward(first: numbers[2], end: numbers[3], layer: layer, part: part)
    case "window": self = .window(first: numbers[2], end: numbers[3])
    case "finish": self = .finish
    case "done": self = .done
    default: return nil
    }
  }

  /// For people. Layers and blocks count from 0, as in names of tensors.
  package var description: String {
    func place(_ layer: Int, _ part: Int, _ step: String) -> String {
      "layer \(layer), " + (part > 0 ? "part \(part), " : "") + step
    }
    return switch self {
    case .copy: "copying"
    case .attend(let layer, let part, let block):
      place(layer, part, "attend") + (block > 0 ? ", from token block \(block)" : "")
    case .experts(let layer, let part, let unit, _, let block):
      // A count, not a number: shared experts come before those that have numbers.
      place(layer, part, "experts") + (unit > 0 ? " after the first \(unit)" : "")
        + (block > 0 ? ", from token block \(block)" : "")
    case .advance(let layer, let part, let block):
      place(layer, part, "advance") + (block > 0 ? ", from token block \(block)" : "")
    case .forward(_, _, let layer, let part): place(layer, part, "states")
    case .window(let first, let end): layersText(Array(first..<end))
    case .finish: "the last check"
    case .done: "done"
    }
  }

  /// The layer in work, where there is one.
  package var layer: Int? {
    switch self {
    case .attend(let layer, _, _), .experts(let layer, _, _, _, _), .advance(let layer, _, _),
      .forward(_, _, let layer, _):
      layer
    case .window(let first, _): first
    case .copy, .finish, .done: nil
    }
  }

  /// The first block of tokens that is still to be done; 0 where there is none.
  var block: Int { parts.numbers[4] }

  /// A part of a file's name that no other position has.
  var fileName: String { ([parts.step] + parts.numbers.map(String.init)).joined(separator: "-") }
}

/// The only truth about progress: `OUT/.sluice/state.json`.
package struct RunState: Sendable, Equatable {
  package let inputs: RunInputs
  /// The source's shards; none before their checksums are known.
  package var source: [SourceFile] = []
  /// Where hidden states are kept; empty where that is in the output folder, which may be moved.
  package var scratch: String
  /// Where states are kept for other runs; empty where they go with this one.
  package var kept = ""
  /// What each layer comes to, and what the run was asked for: for one that replaces its output.
  package var layerRecords: [String] = []
  package var request: RunRequest?
  package var position: RunPosition
  /// Bytes of the scratch files that the step in work has written so far, by name.
  package var appended: [String: Int] = [:]
  /// The scratch file with the statistics of the step in work.
  package var statistics: String?
  /// The first unit in that file, where the step is `experts`.
  package var statisticsUnit = 0
  /// Bytes of the scratch files that windows of layers left and that are still read, by name.
  package var pieces: [String: Int] = [:]
  /// What of choices.jsonl belongs to finished units.
  package var choices = JournalMark.start
  /// What of checksums.txt does.
  package var checksums = JournalMark.start
  /// What of source-checksums.txt does.
  package var sourceChecksums = JournalMark.start
  /// What of files.txt does.
  package var files = JournalMark.start
  /// What the run is about and what it cost so far: for its report.
  package var history = RunHistory()

  package init(inputs: RunInputs, scratch: String) {
    self.inputs = inputs
    self.scratch = scratch
    position = .copy
  }

  private static let format = 12

  /// Makes this state the truth, durably. All that it speaks of must be durable already.
  package func commit(to path: String) throws {
    let (step, numbers) = position.parts
    func sizes(_ files: [String: Int]) -> JSONValue {
      .object(JSONObject(files.sorted { $0.key < $1.key }.map { ($0.key, .int($0.value)) }))
    }
    func mark(_ mark: JournalMark) -> JSONValue {
      ["bytes": .int(mark.byteCount), "crc32": .string(mark.checksum)]
    }
    let json = JSONObject([
      ("format", .int(Self.format)), ("step", .string(step)),
      ("layer", .int(numbers[0])), ("part", .int(numbers[1])), ("unit", .int(numbers[2])),
      ("end", .int(numbers[3])), ("block", .int(numbers[4])),
      ("appended", sizes(appended)), ("pieces", sizes(pieces)),
      ("statistics", .text(statistics)), ("statistics_unit", .int(statisticsUnit)),
      ("choices", mark(choices)), ("checksums", mark(checksums)),
      ("source_checksums", mark(sourceChecksums)), ("files", mark(files)),
      ("scratch", .string(scratch)), ("kept_states", .string(kept)),
      ("history", .object(history.json)),
      ("command", .array((request?.words ?? []).map { .array($0.map { .string($0) }) })),
      ("command_folder", .text(request?.folder)),
      ("layer_records", .array(layerRecords.map { .string($0) })),
      ("source", .array(source.map(\.json))), ("inputs", inputs.json),
    ])
    try SealedFile.write(json, to: path)
  }

  package init(readingFrom path: String) throws {
    func damaged(_ problem: String) -> RunStateError { .damaged(path: path, problem: problem) }
    let object = try SealedFile.read(
      path, format: Self.format, damaged: damaged,
      otherFormat: { .otherFormat(path: path, found: $0, expected: Self.format) })
    func mark(_ key: String) -> JournalMark? {
      guard let mark = object[key]?.object, let bytes = mark["bytes"]?.size,
        let checksum = mark["crc32"]?.string
      else { return nil }
      return JournalMark(byteCount: bytes, checksum: checksum)
    }
    let numbers = ["layer", "part", "unit", "end", "block"].compactMap { object[$0]?.size }
    guard let step = object["step"]?.string, numbers.count == 5,
      let choices = mark("choices"), let checksums = mark("checksums"),
      let sourceChecksums = mark("source_checksums"), let fileMark = mark("files"),
      let shards = object["source"]?.array,
      let inputs = object["inputs"].flatMap({ RunInputs($0) }),
      let scratch = object["scratch"]?.string, let files = object["appended"]?.object,
      let history = object["history"]?.object.flatMap({ RunHistory($0) })
    else { throw damaged("not a state of a run") }
    guard let position = RunPosition(step: step, numbers: numbers) else {
      throw damaged("unknown step `\(step)`")
    }
    self.position = position
    for (name, bytes) in files.entries { appended[name] = bytes.size }
    for (name, bytes) in object["pieces"]?.object?.entries ?? [] { pieces[name] = bytes.size }
    statistics = object["statistics"]?.string
    statisticsUnit = object["statistics_unit"]?.size ?? 0
    self.inputs = inputs
    source = shards.compactMap { SourceFile($0) }
    self.scratch = scratch
    kept = object["kept_states"]?.string ?? ""
    layerRecords = (object["layer_records"]?.array ?? []).compactMap(\.string)
    if let folder = object["command_folder"]?.string, let words = object["command"]?.array {
      request = RunRequest(
        folder: folder, words: words.map { ($0.array ?? []).compactMap(\.string) })
    }
    self.choices = choices
    self.checksums = checksums
    self.sourceChecksums = sourceChecksums
    self.files = fileMark
    self.history = history
  }
}

extension RunState {
  /// Refuses to look for states elsewhere than where they are kept.
  mutating func check(
    keeping kept: KeptStates?, path: String, resumed: Bool
  ) throws(RunStateError) {
    let asked = kept?.folder ?? ""
    if resumed, self.kept != asked {
      throw .otherOptions(
        path: path, option: "--keep-states", written: self.kept.isEmpty ? "(nothing)" : self.kept,
        asked: asked.isEmpty ? "(nothing)" : asked)
    }
    self.kept = asked
  }

  /// Refuses a position that the model does not have.
  func check(against plan: QuantizePlan, path: String) throws(RunStateError) {
    func part(_ layer: Int, _ index: Int) -> LayerPart? {
      let parts = layer < plan.spec.layers.count ? plan.spec.layers[layer].parts : []
      return index < parts.count ? parts[index] : nil
    }
    let isThere =
      switch position {
      case .copy, .finish, .done: true
      case .attend(let layer, let index, let block):
        part(layer, index) != nil && block <= plan.blocks.count
      case .advance(let layer, let index, let block):
        part(layer, index)?.tokens != nil && block <= plan.blocks.count
      case .experts(let layer, let index, let unit, let end, let block):
        part(layer, index).map { unit < $0.units.count && end <= $0.units.count } ?? false
          && block <= plan.blocks.count && (block == 0 || unit < end)
      case .forward(let first, let end, let layer, let index):
        first <= layer && first < end && end <= plan.spec.layers.count
          && (part(layer, index) != nil || layer == end && index == 0)
      case .window(let first, let end): first < end && end <= plan.spec.layers.count
      }
    if !isThere { throw .damaged(path: path, problem: "a place that this model does not have") }
  }
}
