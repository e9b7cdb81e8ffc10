// A finished output under other options: made beside it, and then put in its place.

internal import CompressedTensors
internal import SystemIO

/// What a run was asked for, in the words of command lines: the one that made its output, and those that changed it since.
package struct RunRequest: Sendable, Equatable {
  /// What the paths of the first one are relative to.
  package let folder: String
  /// Without the program's name.
  package let words: [[String]]

  package init(folder: String, words: [[String]]) {
    self.folder = folder
    self.words = words
  }

  package static var currentFolder: String { FileSystem.resolved(".") }

  /// The same paths mean the same files from now on.
  ///
  /// - Throws: `SystemError` where the folder is gone.
  package func enter() throws { try FileSystem.enter(folder) }
}

/// An output that cannot be changed.
package enum RequantizeError: Error, CustomStringConvertible, Equatable {
  case noOutput(path: String, problem: String)
  case notInPlace(path: String, problem: String)
  case unfinished(path: String)
  case noRequest(path: String)
  /// The state of its run. `--restart` of this command forgets a new output, and no old one.
  case damaged(path: String, problem: String)
  /// That of another version of Sluice.
  case otherFormat(path: String, found: Int, expected: Int)
  case noSuchLayers(asked: String, last: Int)

  package var description: String {
    switch self {
    case .noOutput(let path, let problem):
      "\(path): \(problem); name the folder that sluice quantize wrote"
    case .notInPlace(let path, let problem):
      "\(path): \(problem); give the flags to sluice quantize, with another --output"
    case .unfinished(let path):
      "\(path): its run is not done; go on with the command that it was begun with, then change it"
    case .noRequest(let path):
      "\(path): the run does not say what it was asked for, as one of an earlier version; give its flags to sluice "
        + "quantize, with another --output"
    case .damaged(let path, let problem):
      "\(path): \(problem); the output itself may be whole (sluice verify tells); to change it, make it again in another "
        + "folder with sluice quantize"
    case .otherFormat(let path, let found, let expected):
      "\(path): written by another version of Sluice, in format \(found), expected \(expected); change the output with "
        + "the version that wrote it, or make it again in another folder with sluice quantize; it is whole as it is"
    case .noSuchLayers(let asked, let last):
      "--layers \(asked): the model has the layers 0 to \(last)"
    }
  }
}

/// Locked, as long as this lives, against other runs that write to the output.
package struct Requantization {
  /// Without links.
  package let output: String
  package let request: RunRequest
  /// Where states are kept for other runs; nil where they are not.
  package let keptStates: String?
  private let inputs: RunInputs
  private let lock: FileLock

  private var beside: String {
    "\(FileSystem.parent(output))/.\(FileSystem.name(output)).requantize"
  }
  /// The folder where the new output is made. Its name is the one that a model card tells.
  package var work: String { "\(beside)/\(FileSystem.name(output))" }
  private var old: String { "\(beside)/old" }

  /// Looks at a finished output; where an earlier process was stopped while it put a new one in its place, does that first.
  package init(_ output: String) throws {
    self.output = FileSystem.resolved(output)
    let name = FileSystem.name(self.output)
    let beside = "\(FileSystem.parent(self.output))/.\(name).requantize"
    if !FileSystem.exists(self.output), FileSystem.exists("\(beside)/old") {
      let isMade = FileSystem.exists("\(beside)/\(name)")
      try FileSystem.move("\(beside)/\(isMade ? name : "old")", to: self.output)
    }
    if FileSystem.exists(self.output),
      try FileSystem.device(of: self.output)
        != FileSystem.device(of: FileSystem.parent(self.output))
    {
      throw RequantizeError.notInPlace(
        path: output, problem: "a disk is mounted there, and another folder cannot take its place")
    }
    let status: RunStatus
    do {
      status = try RunStatus(output: self.output)
    } catch let error as NoRun {
      throw RequantizeError.noOutput(path: output, problem: error.problem)
    } catch RunStateError.damaged(let path, let problem) {
      throw RequantizeError.damaged(path: path, problem: problem)
    } catch RunStateError.otherFormat(let path, let found, let expected) {
      throw RequantizeError.otherFormat(path: path, found: found, expected: expected)
    }
    if status.phase != .finished { throw RequantizeError.unfinished(path: output) }
    let folder = OutputFolder(path: self.output)
    guard let lock = try FileLock(path: folder.lock) else {
      throw OutputFolderError.inUse(path: output)
    }
    self.lock = lock
    let state = try RunState(readingFrom: folder.state)
    inputs = state.inputs
    keptStates = state.kept.isEmpty ? nil : state.kept
    if let request = state.request {
      self.request = request
    } else if let record = status.record, record.command.dropFirst().first == "quantize" {
      request = RunRequest(
        folder: record.workingFolder, words: [Array(record.command.dropFirst())])
    } else {
      throw RequantizeError.noRequest(path: output)
    }
  }

  /// Whether a plan is what the output is already.
  package func isDone(_ plan: QuantizePlan) -> Bool { plan.inputs == inputs }

  /// Whether an earlier process made all or some of what a plan asks for.
  package func prepare(for plan: QuantizePlan) throws {
    let folder = OutputFolder(path: work)
    guard let state = try? RunState(readingFrom: folder.state), state.position == .done else {
      return
    }
    // What was replaced, or what somebody wanted before.
    if state.inputs != plan.inputs { try clean() }
  }

  /// Removes what lies beside the output.
  package func clean() throws { try FileSystem.remove(beside) }

  /// Puts the new output in the place of the old one. Until then the old one is whole, and from then on the new one is.
  ///
  /// - Parameter exchanges: whether the file system can give two folders each other's name at once.
  package func replace(exchanges: Bool = true) throws {
    if try !exchanges || !FileSystem.exchange(work, output) {
      try FileSystem.remove(old)
      try FileSystem.move(output, to: old)
      try FileSystem.move(work, to: output)
    }
    try clean()
    // It tells where the output is.
    _ = try? RunReport.remake(output: output)
  }
}
