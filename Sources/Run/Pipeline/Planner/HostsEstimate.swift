// What several hosts make of a run: its time, and what goes over the file system that they share.

internal import CompressedTensors
internal import Models
internal import Planning
internal import Tensors
internal import Transformer

/// Hosts like this one, with as much memory and as many threads each.
package struct HostsEstimate: Sendable {
  package struct Point: Sendable, Equatable {
    package let hosts: Int
    package let seconds: Double
    /// Read and written by all of them.
    package let fileBytes: Double
    /// Layers whose states are made together.
    package let window: Int
  }

  /// By their hosts: 1, 2, 4 and so on, the number that was asked for last.
  package let points: [Point]

  /// Twice as many hosts must save this share of the time to be of help.
  private static let worth = 0.2

  /// The most hosts whose number's half takes markedly longer.
  package var enough: Int {
    var best = points[0]
    for point in points.dropFirst() {
      if point.seconds > best.seconds * (1 - Self.worth) { break }
      best = point
    }
    return best.hosts
  }

  /// - Parameters:
  ///   - plans: of the passes of a run.
  ///   - runs: with what this machine was measured to do.
  package init(_ plans: [QuantizePlan], hosts: Int, _ runs: ShorterRuns, loading: Double) throws {
    let counts = (0..<62).map { 1 << $0 }.prefix { $0 < hosts } + [hosts]
    points = try counts.map { hosts in
      var (seconds, bytes, window) = (0.0, 0.0, 1)
      for (number, plan) in plans.enumerated() {
        var options = plan.options
        options.ranks = hosts
        options.ranksOfHost = 1
        let shared = try QuantizePlan(plan, with: options)
        let loading = number == 0 ? loading : 0
        let times = try [plan, shared].map {
          try TimeEstimate($0, runs.rates, reading: runs.reading, loading: loading)
        }
        seconds += hosts == 1 ? times[0].total : Self.seconds(shared, times[1], alone: times[0])
        bytes += Self.bytes(shared, hosts: hosts)
        window = shared.run.window
      }
      return Point(hosts: hosts, seconds: seconds, fileBytes: bytes, window: window)
    }
  }

  /// - Parameters:
  ///   - time: of the plan, as one host would do it.
  ///   - alone: of one host that makes no states beforehand.
  private static func seconds(
    _ plan: QuantizePlan, _ time: TimeEstimate, alone: TimeEstimate
  ) -> Double {
    let hosts = Double(plan.options.ranks)
    func step(_ time: TimeEstimate, _ step: RunStep) -> Double { time.seconds[step] ?? 0 }
    let layers = Double(max(1, plan.spec.layers.count))
    let attend = step(alone, .attend)
    let states = max(0, step(time, .attend) - attend) + step(time, .advance)
    // The rank with most blocks of tokens is waited for.
    let blocks = Double(max(1, plan.blocks.count))
    let share = (blocks / hosts).rounded(.up) / blocks
    let experts = step(time, .experts)
    let chain =
      attend / layers + experts / layers
      / Double(WindowTask.pieces(of: plan.run.window, hosts: plan.options.ranks))
    var tasks = 0.0
    var first = 0
    while first < plan.spec.layers.count {
      let count = min(plan.run.window, plan.spec.layers.count - first)
      tasks += max(Double(count) * (attend + experts) / layers / hosts, chain)
      first += count
    }
    // Rank 0 alone opens, copies and compares.
    return step(time, .load) + step(time, .copy) + step(time, .check) + states * share + tasks
  }

  private static func bytes(_ plan: QuantizePlan, hosts: Int) -> Double {
    let run = plan.run
    func traffic(_ step: RunStep, _ kind: Traffic) -> Double { run.uses[step]?.traffic[kind] ?? 0 }
    var sum = Double(run.checkedSourceBytes) + 2 * Double(run.outputBytes)
    for step in RunStep.allCases {
      sum += traffic(step, .scratchRead) + traffic(step, .scratchWritten)
      // States are made with all weights on every host, for fewer tokens each.
      let passes = (Double(run.weightPasses) / Double(hosts)).rounded(.up) * Double(hosts)
      let more =
        step == .advance && run.weightPasses > 0 ? passes / Double(run.weightPasses) : 1
      sum += traffic(step, .source) * more
    }
    return sum
  }
}
