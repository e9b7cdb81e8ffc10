// What is durable and where to start again: one small file, replaced after each unit of work.

internal import CompressedTensors
internal import JSON
internal import Models
internal import SystemIO
internal import Transformer

/// A state that this run cannot go on from.
package enum RunStateError: Error, CustomStringConvertible, Equatable {
  case damaged(path: String, problem: String)
  /// An output file is not as the run left it.
  case filesChanged(path: String, problem: String)
  case otherOptions(path: String, option: String, written: String, asked: String)

  package var description: String {
    switch self {
    case .damaged(let path, let problem):
      "\(path): \(problem); start over with --restart"
    case .filesChanged(let path, let problem):
      // What is wrong with a shard says so itself.
      "\(path) speaks of files that are gone or changed: \(problem)"
        + (problem.hasSuffix("--restart") ? "" : "; start over with --restart")
    case .otherOptions(let path, let option, let written, let asked):
      "\(path) was written with \(option) \(written), this run has \(asked); use the same, "
        + "another --output, or --restart to start over"
    }
  }
}

/// The next unit of work. Everything before it is on the disk.
package enum RunPosition: Sendable, Equatable, CustomStringConvertible {
  case copy
  /// Blocks before `block` have gone through the layer's attention.
  case attend(layer: Int, block: Int)
  /// Units before `unit` are written. The statistics of `unit..<end` rest on the blocks before `block`.
  case experts(layer: Int, unit: Int, end: Int, block: Int)
  /// Blocks before `block` have become the next layer's input.
  case advance(layer: Int, block: Int)
  case finish
  case done

  /// Step, layer, unit, end, block: 0 where there is none.
  fileprivate var parts: (step: String, numbers: [Int]) {
    switch self {
    case .copy: ("copy", [0, 0, 0, 0])
    case .attend(let layer, let block): ("attend", [layer, 0, 0, block])
    case .experts(let layer, let unit, let end, let block): ("experts", [layer, unit, end, block])
    case .advance(let layer, let block): ("advance", [layer, 0, 0, block])
    case .finish: ("finish", [0, 0, 0, 0])
    case .done: ("done", [0, 0, 0, 0])
    }
  }

  fileprivate init?(step: String, numbers: [Int]) {
    switch step {
    case "copy": self = .copy
    case "attend": self = .attend(layer: numbers[0], block: numbers[3])
    case "experts":
      self = .experts(layer: numbers[0], unit: numbers[1], end: numbers[2], block: numbers[3])
    case "advance": self = .advance(layer: numbers[0], block: numbers[3])
    case "finish": self = .finish
    case "done": self = .done
    default: return nil
    }
  }

  /// For people. Layers and blocks count from 0, as in names of tensors.
  package var description: String {
    switch self {
    case .copy: "copying"
    case .attend(let layer, let block):
      "layer \(layer), attend" + (block > 0 ? ", from token block \(block)" : "")
    case .experts(let layer, let unit, _, let block):
      // A count, not a number: shared experts come before those that have numbers.
      "layer \(layer), experts" + (unit > 0 ? " after the first \(unit)" : "")
        + (block > 0 ? ", from token block \(block)" : "")
    case .advance(let layer, let block):
      "layer \(layer), advance" + (block > 0 ? ", from token block \(block)" : "")
    case .finish: "the last check"
    case .done: "done"
    }
  }

  /// A part of a file's name that no other position has.
  var fileName: String { ([parts.step] + parts.numbers.map(String.init)).joined(separator: "-") }
}

/// The only truth about progress: `OUT/.sluice/state.json`.
package struct RunState: Sendable, Equatable {
  /// Every option and input that changes output bytes, by the name the user knows it by.
  package let fingerprint: [String: String]
  /// Where hidden states are kept; empty where that is in the output folder, which may be moved.
  package var scratch: String
  package var position: RunPosition
  /// Bytes of the scratch files that the step in work has written so far, by name.
  package var appended: [String: Int] = [:]
  /// The scratch file with the statistics of the step in work.
  package var statistics: String?
  /// The first unit in that file, where the step is `experts`.
  package var statisticsUnit = 0
  /// What of choices.jsonl belongs to finished units.
  package var choices = JournalMark.start
  /// What of checksums.txt does.
  package var checksums = JournalMark.start
  /// What the run is about and what it cost so far: for its report.
  package var history = RunHistory()

  package init(fingerprint: [String: String], scratch: String) {
    self.fingerprint = fingerprint
    self.scratch = scratch
    position = .copy
  }

  private static let format = 5

  /// Makes this state the truth, durably. All that it speaks of must be durable already.
  package func commit(to path: String) throws {
    func number(_ value: Int) -> JSONValue { .number(JSONNumber(value)) }
    let (step, numbers) = position.parts
    let files = appended.sorted { $0.key < $1.key }.map { ($0.key, number($0.value)) }
    func mark(_ mark: JournalMark) -> JSONValue {
      .object(
        JSONObject([("bytes", number(mark.byteCount)), ("crc32", .string(mark.checksum))]))
    }
    var json = JSONObject([
      ("format", number(Self.format)), ("step", .string(step)),
      ("layer", number(numbers[0])), ("unit", number(numbers[1])), ("end", number(numbers[2])),
      ("block", number(numbers[3])), ("appended", .object(JSONObject(files))),
      ("statistics", statistics.map { .string($0) } ?? .null),
      ("statistics_unit", number(statisticsUnit)),
      ("choices", mark(choices)), ("checksums", mark(checksums)),
      ("scratch", .string(scratch)), ("history", .object(history.json)),
      (
        "fingerprint",
        .object(
          JSONObject(fingerprint.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }))
      ),
    ])
    json["crc32"] = .string(Self.checksum(of: json))
    try replaceFile(path, with: Array((JSONValue.object(json).serialized(indent: 2) + "\n").utf8))
  }

  /// Of everything that stands before it.
  private static func checksum(of object: JSONObject) -> String {
    let bytes = Array(JSONValue.object(object).serialized().utf8)
    return unsafe bytes.withUnsafeBytes { unsafe Checksum($0).text }
  }

  package init(readingFrom path: String) throws {
    func damaged(_ problem: String) -> RunStateError { .damaged(path: path, problem: problem) }
    let value: JSONValue
    do {
      value = try JSONValue.parse(FileSystem.readFile(path))
    } catch let error as JSONError {
      throw damaged("\(error)")
    }
    var object = value.object ?? JSONObject()
    guard object["format"]?.int == Self.format else {
      throw damaged("written by another version of Sluice")
    }
    let checksum = object["crc32"]?.string
    object["crc32"] = nil
    guard checksum == Self.checksum(of: object) else {
      throw damaged("not as it was written: its checksum differs")
    }
    func mark(_ key: String) -> JournalMark? {
      guard let mark = object[key]?.object, let bytes = mark["bytes"]?.int, bytes >= 0,
        let checksum = mark["crc32"]?.string
      else { return nil }
      return JournalMark(byteCount: bytes, checksum: checksum)
    }
    let numbers = ["layer", "unit", "end", "block"].compactMap { object[$0]?.int }
    guard let step = object["step"]?.string, numbers.count == 4, numbers.allSatisfy({ $0 >= 0 }),
      let choices = mark("choices"), let checksums = mark("checksums"),
      let scratch = object["scratch"]?.string, let files = object["appended"]?.object,
      let history = object["history"]?.object.flatMap({ RunHistory($0) }),
      let entries = object["fingerprint"]?.object
    else { throw damaged("not a state of a run") }
    guard let position = RunPosition(step: step, numbers: numbers) else {
      throw damaged("unknown step `\(step)`")
    }
    self.position = position
    for (name, bytes) in files.entries { appended[name] = bytes.int }
    statistics = object["statistics"]?.string
    statisticsUnit = object["statistics_unit"]?.int ?? 0
    var fingerprint: [String: String] = [:]
    for (key, value) in entries.entries { fingerprint[key] = value.string }
    self.fingerprint = fingerprint
    self.scratch = scratch
    self.choices = choices
    self.checksums = checksums
    self.history = history
  }

  /// Refuses to go on with other options or inputs than the ones this state was made with.
  package func check(against asked: [String: String], path: String) throws(RunStateError) {
    for key in Set(fingerprint.keys).union(asked.keys).sorted() where fingerprint[key] != asked[key]
    {
      throw .otherOptions(
        path: path, option: key, written: fingerprint[key] ?? "(nothing)",
        asked: asked[key] ?? "(nothing)")
    }
  }
}

extension RunState {
  /// Refuses a position that the model does not have.
  func check(against plan: QuantizePlan, path: String) throws(RunStateError) {
    let layers = plan.checkpoint.spec.layers
    let isThere =
      switch position {
      case .copy, .finish, .done: true
      case .attend(let layer, let block), .advance(let layer, let block):
        layer < layers.count && block <= plan.blocks.count
      case .experts(let layer, let unit, let end, let block):
        layer < layers.count && unit < layers[layer].mlp.units.count
          && end <= layers[layer].mlp.units.count && block <= plan.blocks.count
      }
    if !isThere { throw .damaged(path: path, problem: "a place that this model does not have") }
  }
}

/// FNV-1a over 64 bits: tells inputs apart that changed by accident.
struct Digest {
  private var value: UInt64 = 0xcbf2_9ce4_8422_2325

  mutating func add(_ bytes: some Sequence<UInt8>) {
    for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
  }

  mutating func add(_ text: String) {
    add(text.utf8)
    add(CollectionOfOne(0))
  }

  var text: String { String(value, radix: 16) }
}
