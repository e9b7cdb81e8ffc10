// A window of layers, from rank 0: the states of all its layers first, then their tasks, dealt to whoever is free.

internal import JSON
internal import Models
internal import Planning
internal import Ranks
internal import SystemIO
internal import Transformer

struct WindowRun {
  let work: RankWork
  let commit: Commit
  let ranks: any Ranks

  private var plan: QuantizePlan { work.plan }
  private var folder: OutputFolder { work.folder }

  /// Layers of a window that begins at one.
  static func end(of first: Int, _ plan: QuantizePlan) -> Int {
    min(first + plan.run.window, plan.spec.layers.count)
  }

  /// Begins a window. Records of tasks that an earlier one left are of no use.
  func begin(at first: Int) throws {
    try FileSystem.remove(folder.tasks)
    try commit.commit(
      .forward(first: first, end: Self.end(of: first, plan), layer: first, part: 0))
  }

  private func tell(_ message: WindowMessage) throws {
    _ = try ranks.gather(message.bytes(scratch: work.scratch, pieces: commit.pieces))
  }

  /// The states that the part behind a part of a layer reads, or the window's tasks where all states are there.
  func makeStates(first: Int, end: Int, layer: Int, part: Int) throws {
    guard layer < end, plan.sourceReads.goesOn(behind: plan.spec.layers[layer].parts[part]) else {
      return try commit.commit(.window(first: first, end: end))
    }
    let spec = plan.spec.layers[layer].parts[part]
    try tell(.states(layer: layer, part: part))
    let mine = try work.makeStates(
      spec, rank: 0, of: ranks.count, pieces: commit.pieces)
    var pieces = commit.pieces
    for all in try ranks.gather(Array(WindowMessage.sizes(mine).serialized().utf8)) {
      for (name, bytes) in WindowMessage.sizes(try? JSONValue.parse(all)) { pieces[name] = bytes }
    }
    try synchronizeFolder(work.scratch)
    commit.pieces = pieces
    let isLast = spec.index + 1 == plan.spec.layers[layer].parts.count
    try commit.commit(
      .forward(
        first: first, end: end, layer: isLast ? layer + 1 : layer, part: isLast ? 0 : part + 1))
  }

  /// All tasks, and what came of them in the order in which one process would have done it.
  func round(first: Int, end: Int) throws {
    let layers = plan.spec.layers[first..<end]
    try FileSystem.createFolder(folder.tasks)
    let done = try wholeRecords()
    let pieces = WindowTask.pieces(of: layers.count, hosts: ranks.count)
    let tasks = WindowTask.all(of: layers, pieces: pieces, done: done)
    let dealer = TaskDealer(tasks.filter { !done.contains($0) })
    ranks.answer { _, finished in dealer.answer(finished) }
    try tell(.tasks)
    try work.performAll(asking: dealer.answer, pieces: commit.pieces)
    ranks.answer(nil)
    for (rank, bytes) in try ranks.gather([]).enumerated() {
      if let use = (try? JSONValue.parse(bytes)).flatMap({ RankUse($0) }) {
        commit.note(use, of: rank)
      }
    }
    for layer in layers {
      var seconds = 0.0
      for task in tasks where task.layer == layer.index {
        let path = TaskRecord.path(task, in: folder.tasks)
        _ = FileSystem.isThere(path, bytes: 1, waiting: work.patience)
        let record = try TaskRecord(task, in: folder.tasks)
        seconds += record.seconds
        try commit.add(record)
      }
      commit.finishLayer(layer, seconds: seconds)
    }
    try commit.commit(
      end == plan.spec.layers.count ? .finish : .attend(layer: end, part: 0, block: 0))
    try FileSystem.remove(folder.tasks)
  }

  /// Tasks that are done: their tensors are as they were written. What is not is done again, with all of its part of a
  /// layer, as one task rests on what another one left in scratch.
  private func wholeRecords() throws -> Set<WindowTask> {
    let all = try TaskRecord.done(in: folder.tasks)
    let broken = all.filter { task in
      guard let record = try? TaskRecord(task, in: folder.tasks) else { return true }
      let lines = record.checksums.map { $0 + "\n" }.joined()
      do {
        try commit.checkWritten(Array(lines.utf8))
        return false
      } catch {
        return true
      }
    }
    var whole = all
    for task in all
    where broken.contains(where: { $0.layer == task.layer && $0.part == task.part }) {
      try FileSystem.remove(TaskRecord.path(task, in: folder.tasks))
      whole.remove(task)
    }
    return whole
  }

  /// No other rank waits any longer.
  func end() throws { try tell(.over) }
}
