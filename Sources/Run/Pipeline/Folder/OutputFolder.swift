// The folder a run writes to: who may write there, and the files around the shards.

internal import JSON
internal import Planning
internal import SystemIO

/// An output folder that a run must not touch, or that holds too little to go on with.
package enum OutputFolderError: Error, CustomStringConvertible, Equatable {
  case foreign(path: String)
  case stateless(path: String)
  case sameAsSource(path: String)
  case inUse(path: String)
  case noSpace(path: String, needed: Int, free: Int)
  case sideFileGone(path: String, source: String)
  case folderInPlace(path: String)
  case scratchGone(path: String)

  package var description: String {
    switch self {
    case .foreign(let path):
      "\(path): not empty and not an output of Sluice; choose a new or empty folder for --output"
    case .stateless(let path):
      "\(path): an output of Sluice whose .sluice/state.json is gone, so nothing tells what of it is whole; put "
        + "that file back, choose another --output, or start over with --restart"
    case .sameAsSource(let path):
      "\(path): the output folder lies in the model's folder; choose another --output"
    case .inUse(let path):
      "\(path): another process is writing there; wait for it or stop it first"
    case .noSpace(let path, let needed, let free):
      "\(path): \(bytesText(needed)) are needed, \(bytesText(free)) are free; "
        + "free some space, use fewer --samples, or choose another folder (--output, --scratch)"
    case .folderInPlace(let path):
      "\(path): is a folder, and a file of that name belongs to the output; move it away, and give the command again"
    case .sideFileGone(let path, let source):
      "\(path): is gone or was changed, and \(source) is not the file that it was copied from; put either of them "
        + "back, or start over with --restart"
    case .scratchGone(let path):
      "\(path): the scratch folder is gone that this run goes on from; mount its disk or put the folder back, and give "
        + "the same command; or \(startOverText)"
    }
  }
}

/// `OUT` and `OUT/.sluice`. A pass that measures keeps its own records in a folder there, beside those of the run that will
/// write.
package struct OutputFolder {
  let path: String
  /// Whether a pass that measures works there.
  var isMeasuring = false

  private var records: String { path + "/.sluice" }
  private static let measuringName = "measuring"
  var work: String { isMeasuring ? "\(records)/\(Self.measuringName)" : records }
  /// What a pass that measures found.
  var measurements: String { records + "/measurements.json" }
  /// The same folder for a pass that measures.
  var measuring: OutputFolder { OutputFolder(path: path, isMeasuring: true) }
  var state: String { work + "/state.json" }
  /// Stands from the moment when a run begins, or starts over, to its first commit: whatever lies beside it is that run's
  /// to overwrite. Of a run that starts over it is the old state.
  var beginning: String { work + "/beginning" }
  var lock: String { records + "/lock" }
  var progress: String { records + "/progress.json" }
  /// Why a run stopped.
  var ending: String { records + "/ended.txt" }
  var choices: String { work + "/choices.jsonl" }
  /// Records of the tasks of a window of layers that are done.
  var tasks: String { work + "/tasks" }
  var checksums: String { work + "/checksums.txt" }
  /// Checksums of the source's tensors.
  var sourceChecksums: String { work + "/source-checksums.txt" }
  /// Checksums of the files beside the shards.
  var files: String { work + "/files.txt" }
  package var reportPage: String { records + "/report.html" }
  var reportJSON: String { records + "/report.json" }
  /// What evaluations of the output came to.
  var evaluations: String { records + "/evaluations.json" }
  static let config = "config.json"
  static let index = "model.safetensors.index.json"
  static let recipe = "recipe.yaml"
  static let smoothingFile = "smoothing.safetensors"
  /// Names of the files that `plan` writes for a moment to time the disk begin with this.
  static let measurementPrefix = "sluice-measurement-"

  // MARK: Beginning and starting over

  /// Makes the folder, or refuses one that holds something else; the lock is held as long as it lives.
  ///
  /// - Parameter restart: whether an earlier run there is to be forgotten. At whatever moment that is cut short, the
  ///   next run begins anew. What was measured stays.
  func open(source: String, restart: Bool) throws -> FileLock {
    try Self.check(path, isOutside: source)
    try checkOwner(restart: restart)
    try FileSystem.createFolder(records)
    guard let lock = try FileLock(path: self.lock) else {
      throw OutputFolderError.inUse(path: path)
    }
    if isMeasuring {
      if restart {
        try OutputFolder(path: path).clear()
        try FileSystem.remove(measurements)
      }
      try FileSystem.createFolder(work)
    } else if !restart, isUnmeasured {
      throw SizeError.measuring(path: measuring.state)
    } else {
      try FileSystem.remove(measuring.work)
    }
    let isRun = FileSystem.exists(state)
    if restart || !isRun && FileSystem.exists(beginning) {
      try clear()
    } else if isRun {
      try FileSystem.remove(beginning)
    }
    for name in try FileSystem.list(path) where name.hasPrefix(Self.measurementPrefix) {
      try FileSystem.remove("\(path)/\(name)")
    }
    return lock
  }

  /// Refuses an output that lies in the model's folder.
  package static func check(
    _ output: String, isOutside source: String
  ) throws(OutputFolderError) {
    if (FileSystem.resolved(output) + "/").hasPrefix(FileSystem.resolved(source) + "/") {
      throw .sameAsSource(path: output)
    }
  }

  /// Whether there is nothing of a run but a pass that measures and did not come to its end.
  var isUnmeasured: Bool {
    !FileSystem.exists(records + "/state.json") && !FileSystem.exists(measurements)
      && (FileSystem.exists(measuring.state) || FileSystem.exists(measuring.beginning))
  }

  /// Refuses a folder whose content no run of Sluice vouches for.
  private func checkOwner(restart: Bool) throws {
    let main = OutputFolder(path: path)
    let isKnown = [main.state, main.beginning, measurements, measuring.state, measuring.beginning]
      .contains(where: FileSystem.exists)
    if isKnown || !FileSystem.exists(path) { return }
    // What is there before the mark of a beginning, in the order in which it is made: a run may be killed at any moment.
    let first = [lock, temporaryPath(of: main.beginning), measuring.work]
    let found =
      FileSystem.exists(records)
      ? try FileSystem.list(records).filter { !first.contains("\(records)/\($0)") } : []
    let isOwn = { (name: String) in name == ".sluice" || name.hasPrefix(Self.measurementPrefix) }
    if found.isEmpty, try FileSystem.list(path).allSatisfy(isOwn) { return }
    guard FileSystem.exists(main.checksums) else { throw OutputFolderError.foreign(path: path) }
    if !restart { throw OutputFolderError.stateless(path: path) }
  }

  /// From here to the first commit of a new run all that lies here may be overwritten.
  func begin() throws {
    if !FileSystem.exists(beginning) { try replaceFile(beginning, with: []) }
  }

  /// A first commit was made.
  func hasBegun() throws { try FileSystem.remove(beginning) }

  /// Removes what a run made. The state goes first, and what takes its place goes with the first commit of the next run.
  private func clear() throws {
    if FileSystem.exists(state) { try renameFile(state, to: beginning) } else { try begin() }
    var made = [Self.config, Self.index, Self.recipe]
    made += ((try? sideFiles(FileSystem.readFile(files))) ?? []).map(\.path)
    made += try FileSystem.list(path).filter {
      $0.hasPrefix("model-") && $0.hasSuffix(".safetensors")
    }
    for name in made { try FileSystem.remove(path + "/" + name) }
    // Of another version, too.
    if let old = SealedFile.readAnyFormat(beginning) {
      if let scratch = old["scratch"]?.string, isScratch(scratch) {
        try FileSystem.remove(scratch)
      }
      if old["history"]?.object?["card"]?.object != nil {
        try FileSystem.remove("\(path)/\(ModelCard.file)")
      }
    }
    for path in try FileSystem.list(work).map({ work + "/" + $0 })
    where path != lock && path != beginning && path != measurements {
      try FileSystem.remove(path)
    }
  }

  // MARK: Scratch

  private static let scratchPrefix = "sluice-scratch-"

  private func isScratch(_ folder: String) -> Bool {
    folder.split(separator: "/").last?.hasPrefix(Self.scratchPrefix) == true
  }

  /// The folder for hidden states below one that the user named, which two outputs may share.
  func scratchFolder(in asked: String) -> String {
    var name = Digest()
    name.add(FileSystem.resolved(path))
    return FileSystem.resolved(asked) + "/" + Self.scratchPrefix + name.text
  }

  /// The folder for hidden states by what a state says of it.
  private func folder(_ scratch: String) -> String {
    scratch.isEmpty ? work + "/scratch" : scratch
  }

  /// What a state will say of it.
  ///
  /// - Parameters:
  ///   - asked: where the user wants it; where none is named it stays where it was.
  ///   - held: what the state says now.
  private func wantedScratch(_ asked: String?, held: String) -> String {
    asked.map(scratchFolder(in:)) ?? held
  }

  /// The folder for hidden states, made; what a run left elsewhere is moved there first.
  ///
  /// - Parameter asked: where the user wants it; where none is named it stays where it was, or lies in the output.
  /// - Throws: `RunStateError.damaged` where the state names a folder that no run made: its files would be removed.
  ///   `OutputFolderError.scratchGone`, and `.noSpace` where output or scratch will not fit.
  func openScratch(
    _ asked: String?, plan: QuantizePlan, state: inout RunState, resumed: Bool
  ) throws -> String {
    if !state.scratch.isEmpty, !isScratch(state.scratch) {
      throw RunStateError.damaged(
        path: self.state,
        problem: "it names \(state.scratch) for scratch, and no run makes a folder of that name")
    }
    let wanted = wantedScratch(asked, held: state.scratch)
    if state.position == .done { return folder(state.scratch) }
    // On a disk that is not mounted, an empty folder would make a damage of it.
    if resumed, let layer = state.position.layer, layer < plan.run.calibratedLayers,
      !FileSystem.exists(folder(state.scratch))
    {
      throw OutputFolderError.scratchGone(path: folder(state.scratch))
    }
    let isMoved = resumed && folder(wanted) != folder(state.scratch)
    try checkSpace(plan, asked, held: state.scratch, resumed: resumed)
    try FileSystem.createFolder(folder(wanted))
    if isMoved {
      for file in try FileSystem.list(folder(state.scratch)) {
        try FileSystem.copyFile(
          from: "\(folder(state.scratch))/\(file)", to: "\(folder(wanted))/\(file)")
      }
      try synchronizeFolder(folder(wanted))
    }
    let old = folder(state.scratch)
    state.scratch = wanted
    if isMoved {
      try state.commit(to: self.state)
      try FileSystem.remove(old)
    }
    return folder(wanted)
  }

  /// Whether what a plan will write has room, before anything is made.
  ///
  /// - Throws: `OutputFolderError.noSpace`.
  package static func checkSpace(_ plan: QuantizePlan) throws {
    let folder = OutputFolder(path: plan.options.output)
    let state = plan.options.restarts ? nil : (try? RunState(readingFrom: folder.state))
    let held = state.flatMap { folder.isScratch($0.scratch) ? $0.scratch : nil } ?? ""
    try folder.checkSpace(plan, plan.options.scratch, held: held, resumed: state != nil)
  }

  /// Shards are reserved when a run begins; scratch grows on the way.
  ///
  /// - Parameters:
  ///   - asked: where the user wants scratch.
  ///   - held: what the state says of scratch. What lies there counts where it stays there.
  private func checkSpace(
    _ plan: QuantizePlan, _ asked: String?, held: String, resumed: Bool
  ) throws {
    let scratch = folder(wantedScratch(asked, held: held))
    let isThere = resumed && scratch == folder(held)
    let output = resumed ? 0 : plan.outputFileBytes
    let states = max(0, plan.run.scratchBytes - (isThere ? FileSystem.folderSize(scratch) : 0))
    try checkSpace(plan.keptSummary, output: output, scratch: (scratch, states))
    if try FileSystem.device(of: path) == FileSystem.device(of: scratch) {
      try Self.check(path, output + states)
    } else {
      try Self.check(path, output)
      try Self.check(scratch, states)
    }
  }

  /// Whether what is kept for other runs has room, too: beside what goes to the same disk.
  private func checkSpace(
    _ kept: KeptSummary?, output: Int, scratch: (path: String, bytes: Int)
  ) throws {
    guard let kept else { return }
    let disk = try FileSystem.device(of: kept.folder)
    let needed =
      kept.addedBytes + (try FileSystem.device(of: path) == disk ? output : 0)
      + (try FileSystem.device(of: scratch.path) == disk ? scratch.bytes : 0)
    let free = try FileSystem.freeBytes(kept.folder)
    if free < needed { throw KeptError.noSpace(path: kept.folder, needed: needed, free: free) }
  }

  private static func check(_ path: String, _ needed: Int) throws {
    let free = try FileSystem.freeBytes(path)
    if free < needed { throw OutputFolderError.noSpace(path: path, needed: needed, free: free) }
  }

  // MARK: Files beside the shards

  /// Copies what lies beside the weights: tokenizer, chat templates, generation config, licence.
  ///
  /// - Parameter without: files that the run writes itself.
  /// - Returns: the lines that tell of them.
  func copySideFiles(from source: String, without: [String]) throws -> [String] {
    let lines = try copyFiles(from: source, below: "", without: without)
    try synchronizeFolder(path)
    return lines
  }

  private func copyFiles(
    from source: String, below folder: String, without: [String] = []
  ) throws -> [String] {
    var lines: [String] = []
    for entry in try FileSystem.list(folder.isEmpty ? source : source + "/" + folder)
    where !entry.hasPrefix(".") {
      let name = folder.isEmpty ? entry : folder + "/" + entry
      let from = source + "/" + name
      // A linked folder may lead anywhere, even to the output.
      if FileSystem.isFolder(from) {
        if FileSystem.isLink(from) { continue }
        try FileSystem.createFolder(path + "/" + name)
        lines += try copyFiles(from: source, below: name)
        try synchronizeFolder(path + "/" + name)
      } else if name != Self.config, name != Self.recipe, !without.contains(name),
        !Self.holdsWeights(entry)
      {
        let checksum = try FileSystem.copyFile(from: from, to: path + "/" + name)
        lines.append(Self.line(name, checksum))
      }
    }
    return lines
  }

  /// Checksum and name, which may be any.
  static func line(_ name: String, _ checksum: Checksum) -> String {
    Checksums.line(JSONValue.string(name).serialized(), checksum)
  }

  /// What lines tell of, but for what leads out of the folder: no run wrote that.
  func sideFiles(_ lines: [UInt8]) -> [(path: String, checksum: String)] {
    Checksums(lines: lines).entries.compactMap {
      name, checksum -> (path: String, checksum: String)? in
      guard let path = (try? JSONValue.parse(Array(name.utf8)))?.string, !path.isEmpty,
        !path.split(separator: "/").contains("..")
      else { return nil }
      return (path, String(checksum))
    }
  }

  /// Names of the files that a commit speaks of and that are not there; none where their list is not as it was.
  func filesGone(_ mark: JournalMark) -> [String] {
    let lines = (try? Journal.read(files, committed: mark)) ?? []
    return sideFiles(lines).map(\.path).filter { !FileSystem.isFile("\(path)/\($0)") }
  }

  /// Looks at every file that lines tell of, and makes again what is not as it was.
  ///
  /// - Parameters:
  ///   - source: what side files were copied from.
  ///   - own: the files that a run writes itself, by name.
  /// - Returns: names of those that were made again.
  /// - Throws: `OutputFolderError.sideFileGone` where that is not possible.
  func restoreFiles(
    _ lines: [UInt8], from source: String, own: [(name: String, bytes: [UInt8])] = []
  ) throws -> [String] {
    var made: [String] = []
    for (name, checksum) in sideFiles(lines) {
      func isWhole(_ path: String) -> Bool {
        FileSystem.isFile(path) && (try? FileSystem.checksum(path).text) == checksum
      }
      let (file, original) = (path + "/" + name, source + "/" + name)
      if isWhole(file) { continue }
      try checkPlace(file)
      if let bytes = own.first(where: { $0.name == name })?.bytes {
        try replaceFile(file, with: bytes)
      } else if isWhole(original) {
        try FileSystem.createFolder(FileSystem.parent(file))
        try FileSystem.copyFile(from: original, to: file)
        try synchronizeFolder(FileSystem.parent(file))
      } else {
        throw OutputFolderError.sideFileGone(path: file, source: original)
      }
      made.append(name)
    }
    return made
  }

  /// Refuses to write a file where a folder is.
  func checkPlace(_ file: String) throws(OutputFolderError) {
    if FileSystem.isFolder(file) { throw .folderInPlace(path: file) }
  }

  /// Weights in any of the usual formats are what the run replaces, not what it copies.
  static func holdsWeights(_ name: String) -> Bool {
    [".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf"]
      .contains { name.hasSuffix($0) }
  }
}
