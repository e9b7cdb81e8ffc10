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
        + "free some space or choose another folder (--output, --scratch)"
    }
  }
}

/// `OUT` and `OUT/.sluice`.
struct OutputFolder {
  let path: String

  var work: String { path + "/.sluice" }
  var state: String { work + "/state.json" }
  var choices: String { work + "/choices.jsonl" }
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
    guard let lock = try FileLock(path: work + "/lock") else {
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
