// The folder a run writes to: who may write there, and the files around the shards.

internal import Planning
internal import SystemIO

/// An output folder that a run must not touch.
package enum OutputFolderError: Error, CustomStringConvertible, Equatable {
  case foreign(path: String)
  case sameAsSource(path: String)
  case inUse(path: String)
  case noSpace(path: String, needed: Int, free: Int)

  package var description: String {
    switch self {
    case .foreign(let path):
      "\(path): not empty and not an output of Sluice; choose a new or empty folder for --output"
    case .sameAsSource(let path):
      "\(path): the output folder lies in the model's folder; choose another --output"
    case .inUse(let path):
      "\(path): another process is writing there; wait for it or stop it first"
    case .noSpace(let path, let needed, let free):
      "\(path): \(bytesText(needed)) are needed, \(bytesText(free)) are free; "
        + "free some space, use fewer --samples, or choose another folder (--output, --scratch)"
    }
  }
}

/// `OUT` and `OUT/.sluice`.
package struct OutputFolder {
  let path: String

  var work: String { path + "/.sluice" }
  var state: String { work + "/state.json" }
  var lock: String { work + "/lock" }
  var progress: String { work + "/progress.json" }
  var choices: String { work + "/choices.jsonl" }
  var checksums: String { work + "/checksums.txt" }
  package var reportPage: String { work + "/report.html" }
  var reportJSON: String { work + "/report.json" }
  var config: String { path + "/config.json" }
  var index: String { path + "/model.safetensors.index.json" }
  var recipe: String { path + "/recipe.yaml" }
  static let smoothingFile = "smoothing.safetensors"

  /// Makes the folder, or refuses one that holds something else; the lock is held as long as it lives.
  func open(source: String, restart: Bool) throws -> FileLock {
    if (FileSystem.resolved(path) + "/").hasPrefix(FileSystem.resolved(source) + "/") {
      throw OutputFolderError.sameAsSource(path: path)
    }
    if FileSystem.exists(path), !FileSystem.exists(work), try !FileSystem.list(path).isEmpty {
      throw OutputFolderError.foreign(path: path)
    }
    try FileSystem.createFolder(work)
    guard let lock = try FileLock(path: self.lock) else {
      throw OutputFolderError.inUse(path: path)
    }
    if restart {
      for name in try FileSystem.list(path)
      where name == "config.json" || name == "recipe.yaml" || name.hasPrefix("model-")
        || name.hasPrefix("model.safetensors")
      {
        try FileSystem.remove(path + "/" + name)
      }
      for name in try FileSystem.list(work) where name != "lock" {
        try FileSystem.remove(work + "/" + name)
      }
    }
    return lock
  }

  /// The folder for hidden states, made; what a run left elsewhere is moved there first.
  ///
  /// - Parameter asked: where the user wants it; where none is named it stays where it was, or lies in the output.
  /// - Throws: `OutputFolderError.noSpace` where output or scratch will not fit.
  func openScratch(
    _ asked: String?, plan: QuantizePlan, state: inout RunState, resumed: Bool
  ) throws -> String {
    // With --scratch, two outputs may share a folder; each has its own below it.
    var name = Digest()
    name.add(FileSystem.resolved(path))
    let wanted =
      asked.map { FileSystem.resolved($0) + "/sluice-scratch-" + name.text } ?? state.scratch
    func folder(_ text: String) -> String { text.isEmpty ? work + "/scratch" : text }
    if state.position == .done { return folder(state.scratch) }
    let isMoved = resumed && folder(wanted) != folder(state.scratch)
    try checkSpace(plan, scratch: folder(wanted), resumed: resumed, isMoved: isMoved)
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
    try folder.checkSpace(
      plan, scratch: plan.options.scratch ?? folder.path,
      resumed: FileSystem.exists(folder.state) && !plan.options.restarts)
  }

  /// Shards are reserved when a run begins; scratch grows on the way.
  func checkSpace(
    _ plan: QuantizePlan, scratch: String, resumed: Bool, isMoved: Bool = false
  ) throws {
    let output = resumed ? 0 : plan.outputFileBytes
    let held = resumed && !isMoved ? FileSystem.folderSize(scratch) : 0
    let states = max(0, plan.run.scratchBytes - held)
    if try FileSystem.device(of: path) == FileSystem.device(of: scratch) {
      try Self.check(path, output + states)
    } else {
      try Self.check(path, output)
      try Self.check(scratch, states)
    }
  }

  private static func check(_ path: String, _ needed: Int) throws {
    let free = try FileSystem.freeBytes(path)
    if free < needed { throw OutputFolderError.noSpace(path: path, needed: needed, free: free) }
  }

  /// Copies what lies beside the weights: tokenizer, chat templates, generation config, licence.
  func copySideFiles(from source: String) throws {
    try copyFiles(from: source, to: path, top: true)
    try synchronizeFolder(path)
  }

  private func copyFiles(from source: String, to target: String, top: Bool) throws {
    for name in try FileSystem.list(source) where !name.hasPrefix(".") {
      let from = source + "/" + name
      // A linked folder may lead anywhere, even to the output.
      if FileSystem.isFolder(from) {
        if FileSystem.isLink(from) { continue }
        try FileSystem.createFolder(target + "/" + name)
        try copyFiles(from: from, to: target + "/" + name, top: false)
      } else if !(top && name == "config.json") && !Self.holdsWeights(name) {
        try FileSystem.copyFile(from: from, to: target + "/" + name)
      }
    }
  }

  /// Weights in any of the usual formats are what the run replaces, not what it copies.
  private static func holdsWeights(_ name: String) -> Bool {
    [".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf"]
      .contains { name.hasSuffix($0) }
  }
}
