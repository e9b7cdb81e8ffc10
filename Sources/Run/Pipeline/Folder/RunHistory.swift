// What a run is about and what it cost, over all its processes: the part of state.json that tells and decides nothing.

internal import CompressedTensors
internal import Glibc
internal import JSON
internal import Models
package import Planning
package import Reporting
internal import SystemIO

/// What another rank of a run took.
struct RankUse: Equatable {
  var steps: [StepSummary]
  var processorSeconds: Double

  var json: JSONValue {
    ["steps": .array(steps.map(\.json)), "processor_seconds": .double(processorSeconds)]
  }

  init(steps: [StepSummary], processorSeconds: Double) {
    self.steps = steps
    self.processorSeconds = processorSeconds
  }

  init?(_ json: JSONValue) {
    guard let steps = json.object?["steps"]?.array,
      let seconds = json.object?["processor_seconds"]?.double
    else { return nil }
    self.init(
      steps: steps.compactMap { $0.object.flatMap { StepSummary($0) } }, processorSeconds: seconds)
  }
}

/// Counts at every commit. What a process did after its last one is not counted, as it is done again.
package struct RunHistory: Sendable, Equatable {
  package private(set) var model = ""
  /// The program's version and the processor of the last process.
  package private(set) var version = ""
  package private(set) var processor = ""
  /// When all was done, in seconds since 1970.
  package private(set) var finished: Int?
  /// What the model card says of the source; nil where there is no card.
  package private(set) var card: CardSource?
  package private(set) var architecture = ""
  package private(set) var layers = LayerCount(0)
  package private(set) var sourceBytes = 0
  package private(set) var outputBytes = 0
  /// What is quantized, and what is left.
  package private(set) var coverage: Coverage?
  /// Processes that shared the work at last.
  package private(set) var ranks = 1
  /// Threads and memory of the last process; of each of them, where they are several.
  package private(set) var threads = 0
  package private(set) var budgetBytes = 0
  package private(set) var plannedBytes: [RunStep: Int] = [:]
  /// That committed anything.
  package private(set) var processes = 0
  package private(set) var processorSeconds = 0.0
  /// The most that lay in scratch.
  package private(set) var scratchBytes = 0
  /// The share of this pass's arithmetic that is done; nil where there is none.
  private(set) var passShare: Double?
  /// Of the arithmetic of all passes, where this one begins and ends.
  private(set) var span = 0.0...1.0
  package private(set) var steps: [StepSummary] = []

  package init() {}

  /// A process takes up the run.
  mutating func begin(_ plan: QuantizePlan) {
    model = plan.options.model
    version = plan.options.version
    processor = processorName()
    architecture = plan.spec.architecture
    layers = plan.layers
    sourceBytes = plan.run.sourceBytes
    outputBytes = plan.run.outputBytes
    coverage = plan.coverage
    ranks = plan.options.ranks
    threads = plan.options.threads
    budgetBytes = plan.options.memory
    plannedBytes = Dictionary(uniqueKeysWithValues: plan.run.steps.map { ($0.step, $0.bytes) })
    if processes == 0 {
      span = plan.span
      if plan.options.writesCard, !plan.measures { card = CardSource(folder: plan.options.model) }
    }
    processes += 1
  }

  /// The share of the run's arithmetic that is done; nil where there is none.
  package var share: Double? { passShare.map(share) }

  func share(ofPass share: Double) -> Double {
    span.lowerBound + share * (span.upperBound - span.lowerBound)
  }

  /// With what the process in work took so far.
  ///
  /// - Parameter others: ranks that work with it.
  func adding(
    _ steps: [StepSummary], of others: [RankUse], scratchBytes: Int, share: Double?
  ) -> RunHistory {
    var sum = self
    let all = steps + others.flatMap(\.steps)
    for new in RunStep.allCases.flatMap({ step in all.filter { $0.step == step } }) {
      if let place = sum.steps.firstIndex(where: { $0.step == new.step }) {
        sum.steps[place].add(new)
      } else {
        sum.steps.append(new)
      }
    }
    sum.processorSeconds += SystemIO.processorSeconds()
    sum.processorSeconds += others.reduce(0) { $0 + $1.processorSeconds }
    sum.scratchBytes = max(sum.scratchBytes, scratchBytes)
    sum.passShare = share
    return sum
  }

  /// All is done.
  func finishing() -> RunHistory {
    var result = self
    result.finished = time(nil)
    return result
  }
}

extension RunHistory {
  var json: JSONObject {
    JSONObject(
      [
        ("model", .string(model)), ("version", .string(version)), ("processor", .string(processor)),
        ("finished", .int(finished)), ("card", card?.json ?? .null),
        ("architecture", .string(architecture)),
      ] + layers.fields + [
        ("source_bytes", .int(sourceBytes)), ("output_bytes", .int(outputBytes)),
        ("coverage", coverage.map { .object($0.json) } ?? .null),
        ("ranks", .int(ranks)), ("threads", .int(threads)), ("budget_bytes", .int(budgetBytes)),
        ("processes", .int(processes)), ("processor_seconds", .double(processorSeconds)),
        ("scratch_bytes", .int(scratchBytes)), ("share", .double(passShare)),
        ("span", .array([.double(span.lowerBound), .double(span.upperBound)])),
        (
          "planned_bytes",
          .object(
            JSONObject(
              RunStep.allCases.compactMap { step in
                plannedBytes[step].map { (step.rawValue, .int($0)) }
              }))
        ),
        ("steps", .array(steps.map(\.json))),
      ])
  }

  init?(_ object: JSONObject) {
    guard let model = object["model"]?.string, let architecture = object["architecture"]?.string,
      let layers = LayerCount(object), let sourceBytes = object["source_bytes"]?.size,
      let outputBytes = object["output_bytes"]?.size, let threads = object["threads"]?.size,
      let budgetBytes = object["budget_bytes"]?.size, let processes = object["processes"]?.size,
      let processorSeconds = object["processor_seconds"]?.double,
      let scratchBytes = object["scratch_bytes"]?.size,
      let planned = object["planned_bytes"]?.object, let steps = object["steps"]?.array
    else { return nil }
    self.model = model
    version = object["version"]?.string ?? ""
    processor = object["processor"]?.string ?? ""
    finished = object["finished"]?.size
    card = object["card"].flatMap { CardSource($0) }
    self.architecture = architecture
    self.layers = layers
    self.sourceBytes = sourceBytes
    self.outputBytes = outputBytes
    coverage = object["coverage"]?.object.flatMap { Coverage($0) }
    ranks = object["ranks"]?.size ?? 1
    self.threads = threads
    self.budgetBytes = budgetBytes
    self.processes = processes
    self.processorSeconds = processorSeconds
    self.scratchBytes = scratchBytes
    passShare = object["share"]?.double
    let ends = (object["span"]?.array ?? []).compactMap(\.double)
    if ends.count == 2, ends[0] >= 0, ends[0] <= ends[1], ends[1] <= 1 { span = ends[0]...ends[1] }
    for (name, bytes) in planned.entries {
      if let step = RunStep(rawValue: name) { plannedBytes[step] = bytes.size }
    }
    self.steps = steps.compactMap { $0.object.flatMap { StepSummary($0) } }
  }
}

extension Coverage {
  fileprivate var json: JSONObject {
    JSONObject([
      ("quantized", .string(quantized)), ("linears", .int(linears)),
      (
        "left",
        .array(
          left.map {
            ["what": .string($0.what), "why": .text($0.why)]
          })
      ),
    ])
  }

  fileprivate init?(_ object: JSONObject) {
    guard let quantized = object["quantized"]?.string, let linears = object["linears"]?.int,
      let left = object["left"]?.array
    else { return nil }
    self.init(
      quantized: quantized, linears: linears,
      left: left.compactMap(\.object).compactMap { item in
        item["what"]?.string.map { Left($0, why: item["why"]?.string) }
      })
  }
}

extension StepSummary {
  var json: JSONValue {
    [
      "step": .string(step.rawValue),
      "seconds": .double(seconds),
      "peak_bytes": .int(bytes),
      "heap_bytes": .int(heapBytes),
      "mapped_bytes": .int(mappedBytes),
      "buffer_bytes": .int(bufferBytes),
    ]
  }

  init?(_ object: JSONObject) {
    guard let step = object["step"]?.string.flatMap({ RunStep(rawValue: $0) }),
      let seconds = object["seconds"]?.double, let bytes = object["peak_bytes"]?.size,
      let heapBytes = object["heap_bytes"]?.size, let mappedBytes = object["mapped_bytes"]?.size,
      let bufferBytes = object["buffer_bytes"]?.size
    else { return nil }
    self.init(step)
    self.seconds = seconds
    self.bytes = bytes
    self.heapBytes = heapBytes
    self.mappedBytes = mappedBytes
    self.bufferBytes = bufferBytes
  }
}
