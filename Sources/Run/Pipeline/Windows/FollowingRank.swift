// A run from the ranks behind the first: they do what rank 0 says, and write no state.

internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Planning
package import Ranks
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

package final class FollowingRank {
  private let plan: QuantizePlan
  private let ranks: any Ranks
  private let folder: OutputFolder
  private let backend: Backend
  private let meter: RankMeter
  private let interruption: Interruption
  private let report: (RunEvent) -> Void

  /// Seconds that a file of another rank may take to be seen: what clients of a network file system keep of a folder is
  /// so old at most. Source: nfs(5), acdirmax.
  static let patience = 60

  package init(
    _ plan: QuantizePlan, ranks: any Ranks, interruption: Interruption,
    report: @escaping (RunEvent) -> Void
  ) throws {
    try Gemm.check(plan.run.engine)
    self.plan = plan
    self.ranks = ranks
    self.interruption = interruption
    self.report = report
    folder = OutputFolder(path: plan.options.output, isMeasuring: plan.measures)
    backend = Backend(
      threads: plan.options.threads, memory: MemoryBudget(limit: 0), engine: plan.run.engine)
    meter = RankMeter(plan, backend, ranks)
  }

  /// Works until rank 0 says that all is done.
  package func run() throws {
    do {
      try work()
    } catch {
      if error is Interrupted { throw error }
      let problem = RankStopped(
        rank: ranks.rank, host: FileSystem.hostName(),
        error: StoppedRun.telling(error, state: folder.state, share: nil))
      try? ReservedNote(path: folder.ending).write("\(problem)")
      throw problem
    }
  }

  private func work() throws {
    var work: RankWork?
    while true {
      guard let message = WindowMessage.read(try ranks.gather([])[0]) else { continue }
      if case .over = message.message { return }
      let mine = try work ?? begin(scratch: message.scratch)
      work = mine
      switch message.message {
      case .over: break
      case .states(let layer, let part):
        guard layer < plan.spec.layers.count, part < plan.spec.layers[layer].parts.count else {
          continue
        }
        let made = try mine.makeStates(
          plan.spec.layers[layer].parts[part], rank: ranks.rank, of: ranks.count,
          pieces: message.pieces)
        try synchronizeFolder(message.scratch)
        _ = try ranks.gather(Array(WindowMessage.sizes(made).serialized().utf8))
      case .tasks:
        try mine.performAll(asking: ranks.ask, pieces: message.pieces)
        _ = try ranks.gather(Array(meter.use.json.serialized().utf8))
      }
    }
  }

  /// Opens what rank 0 has made.
  private func begin(scratch: String) throws -> RankWork {
    let checksums = try SourceChecksums(
      FileSystem.readFile(folder.sourceChecksums), of: plan, path: folder.sourceChecksums)
    return RankWork(
      plan, folder: folder, scratch: scratch, backend: backend,
      weights: plan.checkpoint.weights.noted(in: backend.ledger),
      writer: try ShardWriter(layout: plan.layout, folder: folder.path, resume: true),
      scales: try ShardWriter(layout: plan.scalesLayout, folder: folder.work, resume: true),
      source: { checksums },
      meter: meter, patience: Self.patience, interruption: interruption, report: report)
  }
}

/// An error of one rank, which ends the run.
package struct RankStopped: Error, CustomStringConvertible {
  let rank: Int
  let host: String
  let error: any Error

  package var description: String { "rank \(rank) on \(host): \(error)" }
}

/// Memory of a rank, and how much arithmetic it did.
private final class RankMeter: StepMeter {
  private let plan: QuantizePlan
  private let backend: Backend
  private let ranks: any Ranks
  private var memory: StepWatch

  init(_ plan: QuantizePlan, _ backend: Backend, _ ranks: any Ranks) {
    self.plan = plan
    self.backend = backend
    self.ranks = ranks
    memory = StepWatch(backend, isFirst: plan.span.lowerBound == 0)
  }

  func begin(_ step: RunStep) { memory.begin(plan.run.step(step)) }

  func noteMemory() { memory.note() }

  func noteBlock(_ block: Int, _ step: RunStep, layer: Int) {
    memory.note()
    ranks.tell(backend.ledger.arithmetic)
  }

  /// Until now.
  var use: RankUse {
    RankUse(steps: memory.soFar(), processorSeconds: SystemIO.processorSeconds())
  }
}

/// That all ranks do the same work in the same way.
package enum RankAgreement {
  /// - Throws: `RankError.other`, on rank 0; the others wait to be ended.
  package static func check(_ plan: QuantizePlan, _ ranks: any Ranks) throws {
    if ranks.count == 1 { return }
    var inputs = Digest()
    inputs.add(plan.inputs.json.serialized())
    let mine: [(what: String, value: String)] = [
      ("the version of sluice", plan.options.version), ("the engine", plan.run.engine.name),
      ("the output folder", FileSystem.resolved(plan.options.output)),
      ("a digest of model, data and options", inputs.text),
    ]
    let host = FileSystem.hostName()
    let all = try ranks.gather(
      Array(JSONValue.array(([host] + mine.map(\.value)).map { .string($0) }).serialized().utf8)
    ).map { ((try? JSONValue.parse($0))?.array ?? []).compactMap(\.string) }
    for (rank, words) in all.enumerated() {
      guard
        let place = mine.indices.first(where: {
          words.count != all[0].count || words[$0 + 1] != all[0][$0 + 1]
        })
      else { continue }
      if ranks.rank > 0 { _ = try ranks.gather([]) }
      throw RankError.other(
        rank: rank, host: words.first ?? "?", what: mine[place].what,
        found: words.count > place + 1 ? words[place + 1] : "?", expected: all[0][place + 1])
    }
  }
}
