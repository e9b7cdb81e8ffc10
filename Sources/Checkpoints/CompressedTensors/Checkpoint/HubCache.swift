// Models and data sets by name: a hub id to its folder in the local Hugging Face cache. Nothing is downloaded.

internal import Glibc
internal import Safetensors
internal import SystemIO

/// What the hub keeps under an id.
package enum HubKind: String, Sendable {
  case model
  case dataset

  fileprivate var words: String { self == .model ? "model" : "data set" }
}

/// Something that is not in the cache, or not all of it.
package enum HubCacheError: Error, CustomStringConvertible, Equatable {
  case notCached(id: String, kind: HubKind = .model, cache: String, command: String)
  /// It is there, in other revisions.
  case noSuchRevision(id: String, revision: String, cached: [String], command: String)
  case incomplete(id: String, folder: String, missing: [String], command: String)

  package var description: String {
    switch self {
    case .notCached(let id, let kind, let cache, let command):
      "\(id): no such \(kind == .model ? "folder" : "file or folder"), and no such \(kind.words) in \(cache); "
        + "download it with `\(command)`"
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
  fileprivate func command(_ kind: HubKind) -> String {
    "hf download " + (kind == .model ? "" : "--repo-type \(kind.rawValue) ") + name
      + (revision.map { " --revision \($0)" } ?? "")
  }
}

/// The folder that `hf download` fills: `models--ORG--NAME/refs/REVISION` names a commit, `snapshots/COMMIT/` holds links
/// into `blobs/`; data sets lie in `datasets--ORG--NAME`.
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

  /// The folder that `text` names: itself where it is one or can only be a path, else a snapshot of the cache.
  ///
  /// - Parameter isWhole: whether config.json and weights must all be there.
  package func folder(of text: String, isWhole: Bool = true) throws -> String {
    if FileSystem.exists(text) { return text }
    guard let id = HubID(text) else { return text }
    return try snapshot(id, .model, isWhole: isWhole)
  }

  /// What people call a file or folder: ORG/NAME for one in a cache of the hub, else the last part of its path.
  package static func name(of path: String) -> String {
    let parts = path.split(separator: "/")
    if let snapshots = parts.firstIndex(of: "snapshots"), snapshots > 0 {
      for kind in [HubKind.model, .dataset] {
        let prefix = kind.rawValue + "s--"
        let name = parts[snapshots - 1]
        guard name.hasPrefix(prefix) else { continue }
        return String(
          name.dropFirst(prefix.count).replacing("--", with: "/", maxReplacements: 1))
      }
    }
    return FileSystem.name(path)
  }

  /// The snapshot of the data set that `text` names, where it can only be a hub id and is in the cache.
  ///
  /// - Returns: nil for text that is, or can only be, a path.
  package func dataset(of text: String) throws -> String? {
    guard !FileSystem.exists(text), !FileSystem.isPattern(text), let id = HubID(text) else {
      return nil
    }
    return try snapshot(id, .dataset, isWhole: false)
  }

  private func snapshot(_ id: HubID, _ kind: HubKind, isWhole: Bool) throws -> String {
    let command = id.command(kind)
    let place = path + "/\(kind.rawValue)s--" + id.name.replacing("/", with: "--")
    let absent = HubCacheError.notCached(id: id.text, kind: kind, cache: path, command: command)
    guard FileSystem.isFolder(place) else { throw absent }
    let revision = id.revision ?? "main"
    let reference = place + "/refs/" + revision
    var commit = revision
    if FileSystem.exists(reference), !FileSystem.isFolder(reference) {
      commit = String(
        decoding: try FileSystem.readFile(reference, limit: FileSystem.smallFile), as: UTF8.self)
      while commit.last?.isWhitespace == true { commit.removeLast() }
    }
    let snapshots = place + "/snapshots"
    let folder = snapshots + "/" + commit
    guard !commit.isEmpty, FileSystem.isFolder(folder) else {
      let cached = FileSystem.isFolder(snapshots) ? try FileSystem.list(snapshots) : []
      if cached.isEmpty { throw absent }
      throw HubCacheError.noSuchRevision(
        id: id.name, revision: revision, cached: cached, command: command)
    }
    let missing = isWhole ? missingFiles(folder) : []
    if !missing.isEmpty {
      throw HubCacheError.incomplete(
        id: id.text, folder: folder, missing: missing, command: command)
    }
    return folder
  }

  /// What a download that was stopped has not brought: config.json, or shards that the index names. Everything else
  /// that may be wrong is found when the checkpoint is opened.
  private func missingFiles(_ folder: String) -> [String] {
    // A link whose blob is not there counts as missing.
    ["config.json"].filter { !FileSystem.exists(folder + "/" + $0) }
      + ((try? ShardListing(folder: folder))?.missing ?? [])
  }
}
