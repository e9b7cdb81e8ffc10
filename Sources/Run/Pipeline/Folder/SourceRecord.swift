// What a run keeps of its source: every file as it was found, and the checksum of every tensor from the time when the
// run began.

internal import JSON
internal import Planning
internal import Safetensors
package import SystemIO

/// A shard of the source.
package struct SourceFile: Sendable, Equatable {
  package let name: String
  package let identity: FileIdentity
  /// CRC-32 of its header: names, types, shapes and places.
  package let header: String

  package init(name: String, identity: FileIdentity, header: String) {
    self.name = name
    self.identity = identity
    self.header = header
  }

  /// The shards of an opened model; one without tensors holds nothing to remember.
  static func all(of model: ShardedModel) -> [SourceFile] {
    model.files.compactMap { file in
      guard let mapped = file.tensors.first?.file else { return nil }
      let header = 0..<(file.tensors.map(\.range.lowerBound).min() ?? 0)
      defer { mapped.release(header) }
      return SourceFile(
        name: String(file.path.split(separator: "/").last ?? ""), identity: mapped.identity,
        header: unsafe mapped.withBytes {
          unsafe Checksum(UnsafeRawBufferPointer(rebasing: $0[header])).text
        })
    }
  }

  var json: JSONValue {
    [
      "name": .string(name),
      "bytes": .int(identity.byteCount),
      "modified": .int(identity.modified),
      "inode": .string("\(identity.inode)"),
      "header": .string(header),
    ]
  }

  init?(_ json: JSONValue) {
    guard let object = json.object, let name = object["name"]?.string,
      let bytes = object["bytes"]?.int, let modified = object["modified"]?.int,
      let inode = object["inode"]?.string.flatMap({ UInt64($0) }),
      let header = object["header"]?.string
    else { return nil }
    self.init(
      name: name, identity: FileIdentity(byteCount: bytes, modified: modified, inode: inode),
      header: header)
  }
}

/// A source that is not the one that a run began with.
package enum SourceChanged: Error, CustomStringConvertible, Equatable {
  case missing(file: String)
  case added(file: String)
  case size(file: String, before: Int, now: Int)
  case header(file: String)
  case tensor(file: String, tensor: String, before: String, now: String)
  /// One that the work on every layer reads, so that nothing tells what came of it.
  case readThroughout(file: String, tensor: String, before: String, now: String)

  package var description: String {
    switch self {
    case .missing(let file):
      "\(file): the run began with this shard, and the index does not name it any more; \(Self.wayOut)"
    case .added(let file):
      "\(file): the run began without this shard; \(Self.wayOut)"
    case .size(let file, let before, let now):
      "\(file): has \(now) bytes, had \(before) when the run began; \(Self.wayOut)"
    case .header(let file):
      "\(file): lists other tensors than when the run began; \(Self.wayOut)"
    case .tensor(let file, let tensor, let before, let now):
      "\(file): `\(tensor)` is not what it was when the run began (checksum \(now), expected "
        + "\(before)); \(Self.wayOut)"
    case .readThroughout(let file, let tensor, let before, let now):
      "\(file): `\(tensor)` is not what it was when the run began (checksum \(now), expected "
        + "\(before)), and every layer was rounded by it; put the file back as it was, and \(startOverText)"
    }
  }

  private static let wayOut =
    "put the file back as it was and give the same command again, or start over with --restart"

  /// Refuses other files than the recorded ones. What only moved, or was written anew, is for checksums to tell.
  ///
  /// - Returns: whether a file was moved or written since.
  static func check(
    _ files: [SourceFile], against recorded: [SourceFile], in folder: String
  ) throws(SourceChanged) -> Bool {
    // A damaged state may name a shard twice.
    let before = Dictionary(recorded.map { ($0.name, $0) }) { first, _ in first }
    let now = Dictionary(files.map { ($0.name, $0) }) { first, _ in first }
    for name in Set(before.keys).union(now.keys).sorted() {
      let path = "\(folder)/\(name)"
      guard let old = before[name] else { throw .added(file: path) }
      guard let new = now[name] else { throw .missing(file: path) }
      if old.identity.byteCount != new.identity.byteCount {
        throw .size(file: path, before: old.identity.byteCount, now: new.identity.byteCount)
      }
      if old.header != new.header { throw .header(file: path) }
    }
    return files != recorded
  }
}
