// evaluations.json: what evaluations of an output came to, for its report and its card.

internal import Calibration
internal import CompressedTensors
internal import Glibc
internal import JSON
internal import Reporting
internal import SystemIO

/// An output that another process writes to when an evaluation of it ends.
package struct EvaluationNotKept: Error, CustomStringConvertible, Equatable {
  package let path: String

  package init(path: String) { self.path = path }

  package var description: String {
    "\(path): another process is writing there; wait for its end, and give the same command again"
  }
}

/// The file is news: one that cannot be read is as good as none.
package enum EvaluationFile {
  private static let format = 1
  /// Older ones are forgotten.
  private static let most = 20
  /// Another evaluation that ends at the same moment is done with the file in less.
  private static let patience = 1.0

  static func read(_ folder: OutputFolder) -> [EvaluationRecord] {
    guard let bytes = try? FileSystem.readFile(folder.evaluations, limit: FileSystem.smallFile),
      let object = (try? JSONValue.parse(bytes))?.object, object["format"]?.int == format
    else { return [] }
    return (object["evaluations"]?.array ?? []).compactMap { EvaluationRecord($0) }
  }

  /// Adds what an evaluation came to, and makes the report anew, where the model is a finished output.
  ///
  /// - Returns: the page, where there is one.
  package static func add(
    _ evaluation: Evaluation, of model: String, _ options: EvaluateOptions
  ) throws -> String? {
    guard let status = try? RunStatus(output: model), status.phase == .finished else { return nil }
    let folder = OutputFolder(path: model)
    let lock = try lock(folder)
    return try withExtendedLifetime(lock) { try add(EvaluationRecord(evaluation, options), folder) }
  }

  private static func lock(_ folder: OutputFolder) throws -> FileLock {
    let clock = Clock()
    while true {
      if let lock = try FileLock(path: folder.lock) { return lock }
      if clock.seconds > patience { throw EvaluationNotKept(path: folder.path) }
      usleep(20_000)
    }
  }

  private static func add(_ record: EvaluationRecord, _ folder: OutputFolder) throws -> String {
    // One that somebody wrote by hand is left alone.
    let hasOwnCard = try ModelCard(folder)?.isIn(folder) ?? false
    let others = read(folder).filter { !record.replaces($0) }
    let all = (others + [record]).suffix(most)
    let json: JSONValue = ["format": .int(format), "evaluations": .array(all.map(\.json))]
    try replaceFile(
      folder.evaluations, with: Array((json.serialized(indent: 2) + "\n").utf8))
    let report = try RunReport(output: folder.path)
    try report.write()
    if hasOwnCard { try ModelCard(folder)?.write(to: folder) }
    return report.page
  }

  /// Whether an output was measured like this.
  package static func holds(_ options: EvaluateOptions, of model: String) -> Bool {
    let wanted = EvaluationRecord(options)
    return read(OutputFolder(path: model)).contains { $0.replaces(wanted) }
  }
}

extension CalibrationSource {
  /// What people call the data, without where it lies.
  var shortName: String {
    if sets.isEmpty { return "the built-in chats" }
    return sets.map { set in
      let hub = HubCache.name(of: set.path)
      let isTyped = hub.contains("/") && !set.name.contains("snapshots")
      return set.text(isTyped ? set.name : hub)
    }.joined(separator: ", ")
  }
}

extension EvaluationRecord {
  /// What is to be measured.
  fileprivate init(_ options: EvaluateOptions) {
    let selection = options.data.selection
    self.init(
      reference: options.reference.map(HubCache.name), data: options.data.shortName,
      samples: selection.samples, sequenceLength: selection.sequenceLength,
      packs: selection.packs, sequences: 0, tokens: 0, nll: nil, referenceNLL: nil,
      divergence: nil)
  }

  fileprivate init(_ evaluation: Evaluation, _ options: EvaluateOptions) {
    self.init(options)
    sequences = evaluation.sequences
    tokens = evaluation.tokens
    nll = evaluation.all.nll
    referenceNLL = evaluation.all.referenceNLL
    divergence = evaluation.divergence.map {
      Distance(
        mean: $0.mean, median: $0.median, percentile99: $0.percentile99, agreement: $0.agreement)
    }
  }
}
