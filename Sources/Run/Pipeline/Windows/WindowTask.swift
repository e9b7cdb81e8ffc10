// The second half of a window of layers, in tasks: statistics, scales and codes of layers whose states are there.

internal import JSON
internal import SystemIO
package import Transformer

/// What one process does at a time, and what is done again where it is killed.
package struct WindowTask: Hashable, Sendable {
  package enum Work: Hashable, Sendable {
    /// The first half of the part: all that belongs to no unit.
    case attend
    case units(Range<Int>)
    /// That the branch on tokens computes under all smoothings what it did.
    case proof
  }

  package let layer: Int
  package let part: Int
  package let work: Work

  /// A task of a layer begins when all those with a lower number are done.
  package var turn: Int {
    switch work {
    case .attend: 3 * part
    case .units: 3 * part + 1
    case .proof: 3 * part + 2
    }
  }

  package var name: String {
    let place = "\(layer)-\(part)"
    return switch work {
    case .attend: "\(place)-attend"
    case .units(let units): "\(place)-units-\(units.lowerBound)-\(units.upperBound)"
    case .proof: "\(place)-proof"
    }
  }

  package init(layer: Int, part: Int, _ work: Work) {
    self.layer = layer
    self.part = part
    self.work = work
  }

  package init?(name: String) {
    let words = name.split(separator: "-")
    let numbers = words.compactMap { Int($0) }
    guard words.count >= 3, numbers.count == words.count - 1 else { return nil }
    switch (words[2], numbers.count) {
    case ("attend", 2): work = .attend
    case ("proof", 2): work = .proof
    case ("units", 4) where numbers[2] < numbers[3]: work = .units(numbers[2]..<numbers[3])
    default: return nil
    }
    (layer, part) = (numbers[0], numbers[1])
  }

  /// How many tasks the units of a part become, so that every rank has some and none waits long for the last.
  static func pieces(of layers: Int, hosts: Int) -> Int {
    hosts == 1 ? 1 : max(1, (4 * hosts + layers - 1) / max(1, layers))
  }

  /// The tasks of layers, in the order in which a run of one process does their work.
  ///
  /// - Parameters:
  ///   - pieces: how many tasks the units of a part become.
  ///   - done: tasks that are done, however units were dealt then.
  package static func all(
    of layers: some Sequence<LayerSpec>, pieces: Int, done: Set<WindowTask>
  ) -> [WindowTask] {
    layers.flatMap(\.parts).flatMap { part in
      let (layer, index) = (part.layer, part.index)
      let units = part.units.count
      if part.tokens == nil { return [WindowTask(layer: layer, part: index, .attend)] }
      var ranges = done.compactMap { task in
        if case .units(let range) = task.work, task.layer == layer, task.part == index {
          range
        } else {
          nil
        }
      }
      ranges.sort { $0.lowerBound < $1.lowerBound }
      let size = max(1, (units + pieces - 1) / max(1, pieces))
      var dealt: [Range<Int>] = []
      var next = 0
      for range in ranges + [units..<units] {
        while next < range.lowerBound {
          let end = min(next + size, range.lowerBound)
          dealt.append(next..<end)
          next = end
        }
        if !range.isEmpty { dealt.append(range) }
        next = max(next, range.upperBound)
      }
      return [WindowTask(layer: layer, part: index, .attend)]
        + dealt.map { WindowTask(layer: layer, part: index, .units($0)) }
        + [WindowTask(layer: layer, part: index, .proof)]
    }
  }
}

/// What a finished task leaves: its tensors are durable when this is.
struct TaskRecord {
  /// Lines of choices.jsonl.
  var choices: [String] = []
  /// Lines of checksums.txt.
  var checksums: [String] = []
  var seconds = 0.0

  private static let format = 1

  init() {}

  static func path(_ task: WindowTask, in folder: String) -> String {
    "\(folder)/\(task.name).json"
  }

  /// Tasks whose records are in a folder.
  static func done(in folder: String) throws -> Set<WindowTask> {
    if !FileSystem.exists(folder) { return [] }
    return Set(
      try FileSystem.list(folder).compactMap { name in
        name.hasSuffix(".json") ? WindowTask(name: String(name.dropLast(5))) : nil
      })
  }

  func write(_ task: WindowTask, in folder: String) throws {
    func lines(_ lines: [String]) -> JSONValue { .array(lines.map { .string($0) }) }
    try SealedFile.write(
      JSONObject([
        ("format", .int(Self.format)), ("choices", lines(choices)),
        ("checksums", lines(checksums)), ("seconds", .double(seconds)),
      ]), to: Self.path(task, in: folder))
  }

  /// - Throws: `RunStateError.damaged`.
  init(_ task: WindowTask, in folder: String) throws {
    let path = Self.path(task, in: folder)
    let object = try SealedFile.read(path, format: Self.format) {
      RunStateError.damaged(path: path, problem: $0)
    }
    func lines(_ key: String) -> [String] { (object[key]?.array ?? []).compactMap(\.string) }
    choices = lines("choices")
    checksums = lines("checksums")
    seconds = object["seconds"]?.double ?? 0
  }
}
