// What is durable and where to start again: one small file, replaced after each unit of work.

internal import JSON
internal import SystemIO

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
      "\(path) speaks of files that are gone or changed: \(problem); start over with --restart"
    case .otherOptions(let path, let option, let written, let asked):
      "\(path) was written with \(option) \(written), this run has \(asked); use the same, "
        + "another --output, or --restart to start over"
    }
  }
}

/// The next unit of work. Everything before it is on the disk.
package enum RunPosition: Sendable, Equatable {
  case copy
  case attend(layer: Int)
  /// Units `unit...` of the layer's MLP are still to do.
  case experts(layer: Int, unit: Int)
  case advance(layer: Int)
  case finish
  case done
}

/// The only truth about progress: `OUT/.sluice/state.json`.
package struct RunState: Sendable, Equatable {
  /// Every option and input that changes output bytes, by the name the user knows it by.
  package let fingerprint: [String: String]
  /// Where hidden states are kept; empty where that is in the output folder, which may be moved.
  package let scratch: String
  package var position: RunPosition
  /// Bytes of choices.jsonl that belong to finished units.
  package var choicesBytes: Int

  package init(fingerprint: [String: String], scratch: String) {
    self.fingerprint = fingerprint
    self.scratch = scratch
    position = .copy
    choicesBytes = 0
  }

  private static let format = 1

  /// Makes this state the truth, durably. All that it speaks of must be durable already.
  package func commit(to path: String) throws {
    let (step, layer, unit) =
      switch position {
      case .copy: ("copy", 0, 0)
      case .attend(let layer): ("attend", layer, 0)
      case .experts(let layer, let unit): ("experts", layer, unit)
      case .advance(let layer): ("advance", layer, 0)
      case .finish: ("finish", 0, 0)
      case .done: ("done", 0, 0)
      }
    let json = JSONValue.object(
      JSONObject([
        ("format", .number(JSONNumber(Self.format))), ("step", .string(step)),
        ("layer", .number(JSONNumber(layer))), ("unit", .number(JSONNumber(unit))),
        ("choices_bytes", .number(JSONNumber(choicesBytes))), ("scratch", .string(scratch)),
        (
          "fingerprint",
          .object(
            JSONObject(fingerprint.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }))
        ),
      ]))
    try replaceFile(path, with: Array((json.serialized(indent: 2) + "\n").utf8))
  }

  package init(readingFrom path: String) throws {
    func damaged(_ problem: String) -> RunStateError { .damaged(path: path, problem: problem) }
    let value: JSONValue
    do {
      value = try JSONValue.parse(FileSystem.readFile(path))
    } catch let error as JSONError {
      throw damaged("\(error)")
    }
    let object = value.object ?? JSONObject()
    guard object["format"]?.int == Self.format else {
      throw damaged("written by another version of Sluice")
    }
    guard let step = object["step"]?.string, let layer = object["layer"]?.int,
      let unit = object["unit"]?.int, let choicesBytes = object["choices_bytes"]?.int,
      let scratch = object["scratch"]?.string, let entries = object["fingerprint"]?.object,
      layer >= 0, unit >= 0, choicesBytes >= 0
    else { throw damaged("not a state of a run") }
    switch step {
    case "copy": position = .copy
    case "attend": position = .attend(layer: layer)
    case "experts": position = .experts(layer: layer, unit: unit)
    case "advance": position = .advance(layer: layer)
    case "finish": position = .finish
    case "done": position = .done
    default: throw damaged("unknown step `\(step)`")
    }
    var fingerprint: [String: String] = [:]
    for (key, value) in entries.entries { fingerprint[key] = value.string }
    self.fingerprint = fingerprint
    self.scratch = scratch
    self.choicesBytes = choicesBytes
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
