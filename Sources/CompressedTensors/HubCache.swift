// Models by name: a hub id to its folder in the local Hugging Face cache. Nothing is downloaded.

internal import Glibc
internal import JSON
internal import Safetensors
internal import SystemIO

/// A model that is not in the cache, or not all of it.
package enum HubCacheError: Error, CustomStringConvertible, Equatable {
  case notCached(id: String, cache: String, command: String)
  /// The model is there, in other revisions.
  case noSuchRevision(id: String, revision: String, cached: [String], command: String)
  case incomplete(id: String, folder: String, missing: [String], command: String)

  package var description: String {
    switch self {
    case .notCached(let id, let cache, let command):
      "\(id): no such folder, and no such model in \(cache); download it with `\(command)`"
    case .noSuchRevision(let id, let revision, let cached, let command):
      "\(id): revision \(revision) is not in the cache, only \(cached.joined(separator: ", ")) "
        + "(as ORG/NAME@REVISION); download it with `\(command)`"
    case .incomplete(let id, let folder, let missing, let command):
      "\(id): \(folder) lacks \(missing.prefix(3).map { "`\($0)`" }.joined(separator: ", "))"
        + (missing.count > 3 ? " and \(missing.count - 3) more files" : "")
        + "; download the rest with `\(command)`"
    }
  }
}

/// `ORG/NAME` or `ORG/NAME@REVISION`, a branch, tag or whole commit.
package struct HubID: Sendable, Equatable {
  package let name: String
  package let revision: String?

  /// - Returns: nil for text that can only be a path.
  package init?(_ text: String) {
    let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
    let words = parts[0].split(separator: "/", omittingEmptySubsequences: false)
    guard words.count == 2, words.allSatisfy(Self.isName) else { return nil }
    if parts.count == 2 {
      // A branch may have slashes, `refs/pr/1`, but must not lead out of the folder.
      let steps = parts[1].split(separator: "/", omittingEmptySubsequences: false)
      guard steps.allSatisfy(Self.isName) else { return nil }
    }
    name = String(parts[0])
    revision = parts.count == 2 ? String(parts[1]) : nil
  }

  private static func isName(_ text: Substring) -> Bool {
    text.first.map { $0 != "." && $0 != "-" && $0 != "~" } == true
      && text.utf8.allSatisfy {
        $0 != UInt8(ascii: ":") && $0 > UInt8(ascii: " ") && $0 < 127
      }
  }

  fileprivate var text: String { name + (revision.map { "@" + $0 } ?? "") }
  fileprivate var command: String {
    "hf download \(name)" + (revision.map { " --revision \($0)" } ?? "")
  }
}

/// The folder that `hf download` fills: `models--ORG--NAME/refs/REVISION` names a commit, `snapshots/COMMIT/` holds links
/// into `blobs/`.
///
/// Source: huggingface_hub, "Understand caching".
package struct HubCache: Sendable, Equatable {
  package let path: String

  package init(path: String) { self.path = path }

  /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
  package init(environment: (String) -> String? = Self.environment) {
    func folder(_ name: String) -> String? {
      guard let value = environment(name), !value.isEmpty else { return nil }
      guard value == "~" || value.hasPrefix("~/") else { return value }
      return (environment("HOME") ?? "") + value.dropFirst()
    }
    path =
      folder("HF_HUB_CACHE") ?? folder("HF_HOME").map { $0 + "/hub" }
      ?? (folder("XDG_CACHE_HOME") ?? folder("HOME").map { $0 + "/.cache" } ?? "~/.cache")
      + "/huggingface/hub"
  }

  package static func environment(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
  }

  /// The folder that `text` names: itself where it is one or can only be a path, else a snapshot of the cache, checked
  /// to be whole.
  package func folder(of text: String) throws -> String {
    if FileSystem.exists(text) { return text }
    guard let id = HubID(text) else { return text }
    return try snapshot(id)
  }

  private func snapshot(_ id: HubID) throws -> String {
    let model = path + "/models--" + id.name.replacing("/", with: "--")
    guard FileSystem.isFolder(model) else {
      throw HubCacheError.notCached(id: id.text, cache: path, command: id.command)
    }
    let revision = id.revision ?? "main"
    let reference = model + "/refs/" + revision
    var commit = revision
    if FileSystem.exists(reference), !FileSystem.isFolder(reference) {
      commit = String(
        decoding: try FileSystem.readFile(reference, limit: FileSystem.smallFile), as: UTF8.self)
      while commit.last?.isWhitespace == true { commit.removeLast() }
    }
    let snapshots = model + "/snapshots"
    let folder = snapshots + "/" + commit
    guard !commit.isEmpty, FileSystem.isFolder(folder) else {
      let cached = FileSystem.isFolder(snapshots) ? try FileSystem.list(snapshots) : []
      if cached.isEmpty {
        throw HubCacheError.notCached(id: id.text, cache: path, command: id.command)
      }
      throw HubCacheError.noSuchRevision(
        id: id.name, revision: revision, cached: cached, command: id.command)
    }
    let missing = try missingFiles(folder)
    if !missing.isEmpty {
      throw HubCacheError.incomplete(
        id: id.text, folder: folder, missing: missing, command: id.command)
    }
    return folder
  }

  /// What a download that was stopped has not brought: config.json, or shards that the index names. Everything else
  /// that may be wrong is found when the checkpoint is opened.
  private func missingFiles(_ folder: String) throws -> [String] {
    // A link whose blob is not there counts as missing.
    func isMissing(_ name: String) -> Bool { !FileSystem.exists(folder + "/" + name) }
    let index = "model.safetensors.index.json"
    var needed = ["config.json"]
    if isMissing(index) {
      needed.append("model.safetensors")
    } else if let json = try? JSONValue.parse(
      FileSystem.readFile(folder + "/" + index, limit: Header.standardRoom / 2),
      limit: Header.standardRoom / 2),
      let weights = json.object?["weight_map"]?.object
    {
      needed += Set(weights.entries.compactMap { $0.value.string }).sorted()
    }
    return needed.filter(isMissing)
  }
}
