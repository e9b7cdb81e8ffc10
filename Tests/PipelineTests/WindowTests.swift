// Windows of layers, and the ranks that share them: the bytes of one process that does one layer after the other.

import Calibration
import CompressedTensors
import Glibc
import JSON
import Pipeline
import Planning
import Quantization
import Ranks
import Safetensors
import Synchronization
import SystemIO
import Tensors
import Testing
import TestSupport

/// Ranks that are threads of this process. What they say to each other goes through memory.
private final class ThreadRanks: Ranks {
  /// What all of them see.
  final class Room: Sendable {
    struct State {
      var values: [[UInt8]?]
      var results: [[[UInt8]]] = []
      var answer: (@Sendable (Int, [UInt8]) -> [UInt8])?
      var told: [Double]
    }

    let state: Mutex<State>

    init(count: Int) {
      state = Mutex(
        State(
          values: Array(repeating: nil, count: count), told: Array(repeating: 0, count: count)))
    }
  }

  let rank: Int
  let count: Int
  private let room: Room
  private let gathered = Mutex(0)

  init(_ rank: Int, of count: Int, in room: Room) {
    (self.rank, self.count, self.room) = (rank, count, room)
  }

  func gather(_ value: [UInt8]) -> [[UInt8]] {
    let round = gathered.withLock { round in
      defer { round += 1 }
      return round
    }
    while true {
      let isMine = room.state.withLock { state in
        if state.results.count != round || state.values[rank] != nil { return false }
        state.values[rank] = value
        let all = state.values.compactMap(\.self)
        if all.count == count {
          state.results.append(all)
          state.values = Array(repeating: nil, count: count)
        }
        return true
      }
      if isMine { break }
      usleep(200)
    }
    while true {
      let result = room.state.withLock { $0.results.count > round ? $0.results[round] : nil }
      if let result { return result }
      usleep(200)
    }
  }

  func answer(_ body: (@Sendable (Int, [UInt8]) -> [UInt8])?) {
    room.state.withLock { $0.answer = body }
  }

  func ask(_ question: [UInt8]) -> [UInt8] {
    // After the last task nobody answers any more: there is nothing left to do.
    room.state.withLock { $0.answer }?(rank, question) ?? []
  }

  func tell(_ number: Double) { room.state.withLock { $0.told[rank] = number } }
  var told: [Double] { room.state.withLock { $0.told } }
  func finish() {}
  func end(_ code: Int32) {}
}

/// Says one thing as rank 0 would.
private final class SayingRanks: Ranks {
  let rank = 0
  let count = 2
  private let message: [UInt8]

  init(_ message: String) { self.message = Array(message.utf8) }

  func gather(_ value: [UInt8]) -> [[UInt8]] { [message, []] }
  func answer(_ body: (@Sendable (Int, [UInt8]) -> [UInt8])?) {}
  func ask(_ question: [UInt8]) -> [UInt8] { [] }
  func tell(_ number: Double) {}
  var told: [Double] { [] }
  func finish() {}
  func end(_ code: Int32) {}
}

@Suite struct WindowTests {
  /// Runs with several ranks in this process, and gives the errors of all.
  private func run(_ options: QuantizeOptions, ranks count: Int) async throws {
    let room = ThreadRanks.Room(count: count)
    var options = options
    options.ranks = count
    let shared = options
    try await withThrowingTaskGroup(of: Void.self) { group in
      for rank in 0..<count {
        group.addTask {
          // A thread of its own: ranks wait for each other.
          try await withCheckedThrowingContinuation { continuation in
            let thread = RankThread {
              continuation.resume(
                with: Result {
                  try QuantizePlan(shared).run(ranks: ThreadRanks(rank, of: count, in: room)) { _ in
                  }
                })
            }
            thread.start()
          }
        }
      }
      try await group.waitForAll()
    }
  }

  private static let models = [
    "", "nemotron-h-latent-listed", "gemma3-published", "cohere2-moe-published",
    "kimi-k3-published",
  ]

  private func options(_ model: String, in folder: String) throws -> QuantizeOptions {
    var options = SmallRun.options("\(folder)/one")
    if !model.isEmpty {
      options.model = "\(folder)/model"
      try GrownModel(model, dtype: .bf16, in: options.model)
      options.data.path = options.model + "/ids.jsonl"
    }
    return options
  }

  @Test(arguments: models)
  func `any window of layers gives the bytes of one layer after the other`(model: String) throws {
    try withTemporaryFolder { folder in
      var options = try options(model, in: folder)
      try SmallRun.run(options)
      let expected = try SmallRun.contents(options.output)
      for window in [2, 100] {
        options.output = "\(folder)/\(window)"
        options.window = window
        try SmallRun.run(options)
        #expect(try SmallRun.contents(options.output) == expected)
        #expect(try FileSystem.list("\(options.output)/.sluice").contains("tasks") == false)
      }
    }
  }

  @Test(arguments: [2, 4])
  func `any number of ranks gives the bytes of one process`(count: Int) async throws {
    try await withTemporaryFolder { folder in
      var options = try options("", in: folder)
      try SmallRun.run(options)
      let expected = try SmallRun.contents(options.output)
      for window in [nil, 1] {
        options.output = "\(folder)/ranks\(window ?? 0)"
        options.window = window
        try await run(options, ranks: count)
        #expect(try SmallRun.contents(options.output) == expected)
      }
    }
  }

  /// Stopped after more and more news, by one process or as many as there are, and begun again with other windows.
  @Test func `a window that is stopped anywhere goes on to the same bytes`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options("\(folder)/one")
      try SmallRun.run(options)
      let expected = try SmallRun.contents(options.output)
      options.output = "\(folder)/stopped"
      var (news, stops) = (1, 0)
      while true {
        options.window = [2, 1, 100][stops % 3]
        let interruption = Interruption()
        var left = news
        do {
          try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
            if case .progress = event { left -= 1 }
            if left == 0 { interruption.request() }
          }.run()
          break
        } catch is Interrupted {
          stops += 1
          news += 1
        }
      }
      #expect(stops > 2)
      #expect(try SmallRun.contents(options.output) == expected)
    }
  }

  @Test func `a task whose tensors are not as they were written is done again`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options("\(folder)/one")
      try SmallRun.run(options)
      let expected = try SmallRun.contents(options.output)
      options.output = "\(folder)/damaged"
      options.window = 100
      let interruption = Interruption()
      let tasks = options.output + "/.sluice/tasks"
      #expect(throws: Interrupted.self) {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          let done = (try? FileSystem.list(tasks).count { $0.hasSuffix(".json") }) ?? 0
          if case .progress = event, done > 1 { interruption.request() }
        }.run()
      }
      // A tensor of the first task that is done.
      let record = try #require(FileSystem.list(tasks).first { $0.hasSuffix(".json") })
      let lines = try JSONValue.parse(FileSystem.readFile("\(tasks)/\(record)"))
        .object?["checksums"]?.array?.compactMap(\.string)
      let words = try #require(lines?.first).split(separator: " ", maxSplits: 1)
      let shard = "\(options.output)/model-00001-of-00001.safetensors"
      let stored = try #require(
        SafetensorsFile(path: shard).tensors.first { $0.name == String(words[1]) })
      var bytes = try FileSystem.readFile(shard)
      bytes[stored.range.lowerBound] ^= 1
      try replaceFile(shard, with: bytes)
      try SmallRun.run(options)
      #expect(try SmallRun.contents(options.output) == expected)
    }
  }

  @Test func `ranks with other work are refused by their host`() throws {
    try withTemporaryFolder { folder in
      let room = ThreadRanks.Room(count: 2)
      var first = SmallRun.options("\(folder)/out")
      first.ranks = 2
      var second = first
      second.rounding = .nearest
      let plans = try [QuantizePlan(first), QuantizePlan(second)]
      // It waits for the first one to end all.
      RankThread { try? RankAgreement.check(plans[1], ThreadRanks(1, of: 2, in: room)) }.start()
      let ranks = ThreadRanks(0, of: 2, in: room)
      #expect {
        try RankAgreement.check(plans[0], ranks)
      } throws: { error in
        "\(error)".contains("rank 1 on ") && "\(error)".contains("all ranks need the same")
      }
      _ = ranks.gather([])
    }
  }

  @Test func `a following rank has the words of rank 0 for what it meets`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options("\(folder)/out")
      try SmallRun.run(options)
      options.ranks = 2
      let plan = try QuantizePlan(options)
      let scratch = "\(folder)/scratch"
      try FileSystem.createFolder(scratch)
      let states = "{\"scratch\":\"\(scratch)\",\"pieces\":{},\"layer\":0,\"part\":0}"
      func problem() throws -> String {
        let error = #expect(throws: RankStopped.self) {
          try FollowingRank(
            plan, ranks: SayingRanks(states), interruption: Interruption(), report: { _ in }
          ).run()
        }
        return try #require(error).description
      }
      let goesOn = "the same command goes on"
      // The states that the part reads.
      let gone = try problem()
      #expect(gone.contains("the file is gone") && gone.hasSuffix(startOverText), "\(gone)")
      #expect(!gone.contains(goesOn))
      let checksums = options.output + "/.sluice/source-checksums.txt"
      try replaceFile(checksums, with: Array("00000000 nothing\n".utf8))
      let changed = try problem()
      #expect(changed.contains("does not hold") && changed.hasSuffix(startOverText), "\(changed)")
      #expect(!changed.contains(goesOn))
      try FileSystem.remove(checksums)
      let failed = try problem()
      #expect(failed.contains("open failed") && failed.contains(goesOn), "\(failed)")
    }
  }

  @Test func `a task begins when what it rests on is done`() throws {
    let attend = WindowTask(layer: 3, part: 0, .attend)
    let units = [0..<2, 2..<4].map { WindowTask(layer: 3, part: 0, .units($0)) }
    let proof = WindowTask(layer: 3, part: 0, .proof)
    let other = WindowTask(layer: 4, part: 0, .attend)
    for task in [attend, units[1], proof] { #expect(WindowTask(name: task.name) == task) }
    let dealer = TaskDealer([attend] + units + [proof, other])
    func ask(_ done: WindowTask? = nil) -> WindowTask? {
      TaskDealer.task(dealer.answer(Array((done?.name ?? "").utf8)))
    }
    #expect(ask() == attend)
    #expect(ask() == other)
    #expect(ask() == nil)
    #expect(ask(attend) == units[0])
    #expect(ask() == units[1])
    #expect(ask(units[1]) == nil)
    #expect(ask(units[0]) == proof)
    #expect(ask(other) == nil)
    #expect(dealer.answer(Array(proof.name.utf8)) == [])
    for name in ["", "3-0", "3-0-units-4-4", "x-0-attend", "3-0-proof-1", "wait"] {
      #expect(WindowTask(name: name) == nil)
    }
  }
}

/// A thread that does one thing.
private final class RankThread: Sendable {
  private let body: @Sendable () -> Void

  init(_ body: @escaping @Sendable () -> Void) { self.body = body }

  func start() {
    var thread = pthread_t()
    let body = unsafe Unmanaged.passRetained(self)
    unsafe pthread_create(
      &thread, nil,
      { context in
        unsafe Unmanaged<RankThread>.fromOpaque(context!).takeRetainedValue().body()
        return nil
      }, body.toOpaque())
    pthread_detach(thread)
  }
}
