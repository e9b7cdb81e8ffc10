// What is known of the run in an output folder, whether a process works on it or not.

internal import Planning
package import Reporting
internal import SystemIO

package struct RunStatus: Sendable {
  package enum Phase: String, Sendable {
    case running
    case stopped
    case finished
  }

  package let phase: Phase
  /// Whether it is a pass that measures, before one that writes.
  package let isMeasuring: Bool
  package let position: RunPosition
  /// The share of the run's arithmetic that is done: now, or at the last commit where no process works on it; nil where there is none.
  package let share: Double?
  package let layers: LayerCount
  /// Over all processes of the run.
  package let peakBytes: Int
  /// Why the last process stopped; nil where it left no word, as one that was killed.
  package let reason: String?
  /// When the last commit was, in seconds since 1970.
  package let lastCommit: Int
  /// Files beside the shards that a finished run left, and that are not there any more.
  package let filesGone: [String]
  package let record: ProgressRecord?

  /// Looks and touches nothing.
  ///
  /// - Throws: `NoRun` where there is no run of Sluice; `RunStateError` where its state is damaged.
  package init(output: String) throws {
    let main = OutputFolder(path: output)
    guard FileSystem.isFolder(output) else { throw NoRun(path: output, problem: "no such folder") }
    let isAlive = FileLock.isHeld(path: main.lock)
    isMeasuring = !FileSystem.exists(main.state) && FileSystem.exists(main.measuring.state)
    let folder = isMeasuring ? main.measuring : main
    guard FileSystem.exists(folder.state) else {
      let problem =
        isAlive
        ? "a run is beginning there; ask again"
        : [folder.beginning, folder.measurements, folder.measuring.beginning]
          .contains(where: FileSystem.exists)
          ? "a run stopped there before its first commit; give the same command again"
          : "not an output of Sluice"
      throw NoRun(path: output, problem: problem, isBeginning: isAlive)
    }
    let state = try RunState(readingFrom: folder.state)
    phase = state.position == .done && !isMeasuring ? .finished : isAlive ? .running : .stopped
    position = state.position
    record = ProgressRecord(readingFrom: folder.progress)
    let now = phase == .running ? record?.progress?.share : nil
    share = phase == .finished ? 1 : now ?? state.history.share
    layers = state.history.layers
    peakBytes = (state.history.steps.map(\.bytes) + [record?.peakBytes ?? 0]).max() ?? 0
    reason = phase == .stopped ? ReservedNote.read(folder.ending) : nil
    lastCommit = try FileSystem.modified(folder.state)
    filesGone = phase == .finished ? folder.filesGone(state.files) : []
  }

  /// Files that a finished output lacks; none where the folder is something else.
  ///
  /// - Throws: `UnfinishedOutput` where config.json is among them, without which nothing can be told.
  package static func filesGone(of output: String) throws -> [String] {
    guard let status = try? RunStatus(output: output) else { return [] }
    if status.filesGone.contains(OutputFolder.config) {
      throw UnfinishedOutput(path: output, status: status, gone: OutputFolder.config)
    }
    return status.filesGone
  }
}

/// A folder that `sluice status` has nothing to say of.
package struct NoRun: Error, CustomStringConvertible, Equatable {
  package let path: String
  package let problem: String
  /// Whether there will be one soon.
  package var isBeginning = false
  package var description: String { "\(path): \(problem)" }
}

/// An output that is read before it is whole.
package struct UnfinishedOutput: Error, CustomStringConvertible {
  fileprivate let path: String
  fileprivate let status: RunStatus?
  /// A file that a finished run left, and that is not there any more.
  fileprivate var gone: String?

  private var command: String? {
    status?.record.map { "cd \(shellText([$0.workingFolder])) && \(shellText($0.command))" }
  }

  package var description: String {
    if let gone {
      return "\(path): \(gone) is gone; the command that made the output makes it again"
        + (command.map { ": `\($0)`" } ?? "")
    }
    let share = status?.share.map { " (\(percentText($0)) done)" } ?? ""
    switch status?.phase {
    case .running:
      return "\(path): unfinished\(share): a run is writing there; wait for its end, and ask "
        + "`sluice status` how far it is"
    case .stopped, .finished, nil:
      return "\(path): unfinished\(share): its run was stopped; go on with "
        + (command.map { "`\($0)`" } ?? "the command that it was begun with")
    }
  }

  /// Passes over what is no output of Sluice.
  package static func refuse(_ path: String) throws(UnfinishedOutput) {
    let folder = OutputFolder(path: path)
    let status = try? RunStatus(output: path)
    let isBegun =
      !FileSystem.exists(folder.state)
      && [folder.beginning, folder.measurements].contains(where: FileSystem.exists)
    if isBegun || status.map({ $0.phase != .finished }) == true {
      throw UnfinishedOutput(path: path, status: status)
    }
    if status != nil, !FileSystem.exists("\(path)/\(OutputFolder.config)") {
      throw UnfinishedOutput(path: path, status: status, gone: OutputFolder.config)
    }
  }
}
