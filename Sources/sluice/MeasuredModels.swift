// An evaluation as a command runs it: its progress told, its hidden states taken away, its results kept beside outputs.

internal import CompressedTensors
internal import Glibc
internal import JSON
internal import Pipeline
internal import Planning
internal import SystemIO

struct MeasuredModels {
  private let options: EvaluateOptions
  /// Of each model, in their order.
  let results: [Evaluation]
  private let bytes: [Int]

  /// - Parameters:
  ///   - run: the signals of the run that comes before this; nil where the process did nothing else.
  ///   - whereStopped: tells what is left where a signal ends it.
  init(
    _ options: EvaluateOptions, after run: StopSignals? = nil,
    whereStopped: @escaping @Sendable () -> Void = { Console.news("stopped") }
  ) throws {
    // A terminal or a pager that goes away must not leave hidden states behind.
    signal(SIGPIPE, SIG_IGN)
    let cleanup = ScratchCleanup(options.scratch, run, whereStopped)
    defer { cleanup.stop() }
    let line = EvaluationLine(memory: options.memory, threads: options.threads)
    do {
      let model = try EvaluateModel(
        options, residentPeak: { run == nil ? ResidentMemory.current().peakBytes : 0 },
        report: line.show)
      results = try model.runAll()
      bytes = model.modelBytes
    } catch {
      cleanup.waitWhereStopped()
      throw error
    }
    self.options = options
    Console.endLive()
    keep()
  }

  /// Where a model is an output of Sluice, its report tells what was found.
  private func keep() {
    for (model, result) in zip(options.models, results) {
      do {
        if let page = try EvaluationFile.add(result, of: model, options) {
          Console.news("report: \(page)")
        }
      } catch {
        Console.warning("the report of \(model) does not tell of it: \(error)")
      }
    }
  }

  /// Models by the last parts of their paths, where these differ.
  private var names: [String] {
    let short = options.models.map(HubCache.name)
    return Set(short).count == short.count ? short : options.models
  }

  var text: String {
    if results.count == 1 { return results[0].text }
    let first = results[0]
    let hasReference = first.all.divergence != nil
    var head = "\(counted(first.tokens, "token")) in \(counted(first.sequences, "sequence"))"
    if let reference = options.reference {
      head +=
        "; reference \(HubCache.name(of: reference)): NLL \(number(first.all.referenceNLL)), perplexity "
        + number(first.all.referencePerplexity)
    }
    let width = 2 + max(5, names.map(\.columns).max() ?? 0)
    let cells =
      [
        ["size", "perplexity"]
          + (hasReference ? ["KL mean", "KL p99", "same choice"] : ["NLL"])
      ]
      + zip(results, bytes).map { result, bytes in
        let all = result.all
        let measures =
          all.divergence.map {
            [rounded($0.mean), rounded($0.percentile99), percent($0.agreement)]
          } ?? [number(all.nll)]
        return [bytesText(bytes), number(all.perplexity)] + measures
      }
    let rows = zip(["model"] + names, cells).map { padded($0, to: width) + row($1) }
    return ([head, ""] + rows).joined(separator: "\n")
  }

  var json: JSONValue {
    if results.count == 1 { return results[0].json }
    return [
      "reference": .text(options.reference),
      "models": .array(
        zip(zip(options.models, bytes), results).map { each, result in
          let own = JSONObject([("model", .string(each.0)), ("bytes", .int(each.1))])
          return .object(JSONObject(own.entries + (result.json.object?.entries ?? [])))
        }),
    ]
  }
}

/// Takes the hidden states away when the process is told to end.
private final class ScratchCleanup {
  private let signals: StopSignals
  private let isStopping: Interruption

  init(
    _ folder: String, _ signals: StopSignals?, _ whereStopped: @escaping @Sendable () -> Void
  ) {
    let isStopping = Interruption()
    self.isStopping = isStopping
    let handler: StopSignals.Handler = { _ in
      isStopping.request()
      // A file, or the folder itself, may be made in between.
      while (try? FileSystem.remove(folder)) == nil {}
      usleep(50_000)
      while (try? FileSystem.remove(folder)) == nil {}
      whereStopped()
      Glibc.exit(130)
    }
    signals?.handle(handler)
    self.signals = signals ?? StopSignals(handler)
  }

  func stop() { signals.stop() }

  /// Waits for the end of a process that was told to end: the evaluation then fails only because its files went away.
  func waitWhereStopped() {
    while isStopping.isRequested { sleep(1) }
  }
}
