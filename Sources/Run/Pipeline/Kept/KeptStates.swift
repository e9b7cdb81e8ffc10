// The folder of `--keep-states`: the input states of every part of every layer and what calibration found there, for other
// runs with the same model, data and tokens.

internal import JSON
internal import Models
internal import Safetensors
internal import Synchronization
internal import SystemIO
internal import Transformer

/// What is kept in a folder, as far as it is known to be whole. A run that is killed at any moment leaves it true: a file is
/// durable before the folder speaks of it.
final class KeptStates: Sendable {
  /// Of a part: its input states, what its first half gathers, and what its units do. The last one is by the tokens that
  /// experts see and what these count.
  enum Kind: Hashable {
    case hidden
    case attend
    case units(String)

    fileprivate var prefix: String {
      switch self {
      case .hidden: StateKind.hidden.rawValue
      case .attend: "attend"
      case .units(let seen): "units-\(seen)"
      }
    }
  }

  private struct Contents {
    /// By the names of files.
    var files: [String: KeptFile] = [:]
    var hasBegun = false
  }

  let folder: String
  /// What all of it depends on, but the weights themselves.
  private let inputs: RunInputs
  /// The model and the data, for errors.
  private let names: (model: String, data: String)
  private let contents: Mutex<Contents>
  /// Files that were there and are not as they were kept, so that they are made again.
  let damaged: [String]

  private static let format = 1
  private static let lockName = "lock"
  private static let mainName = "kept.json"
  private static let checksumsName = "source-checksums.txt"

  private var main: String { "\(folder)/\(Self.mainName)" }
  private var sourceChecksums: String { "\(folder)/\(Self.checksumsName)" }

  /// Looks at what is there and makes nothing.
  ///
  /// - Throws: `KeptError` where it belongs to somebody else, or to other work.
  init(
    _ folder: String, inputs: RunInputs, layers: [LayerSpec], model: String, output: String,
    data: String
  ) throws {
    let folder = FileSystem.resolved(folder)
    for (other, what) in [(model, "model"), (output, "output")] where !other.isEmpty {
      if (folder + "/").hasPrefix(FileSystem.resolved(other) + "/") {
        throw KeptError.inside(path: folder, folder: other, what: what)
      }
    }
    self.folder = folder
    self.inputs = inputs
    names = (model, data)
    let main = "\(folder)/\(Self.mainName)"
    var contents = Contents()
    var damaged: [String] = []
    if FileSystem.exists(main) {
      let kept = try Main(readingFrom: main)
      try Self.check(kept.inputs, against: inputs, path: main, names)
      contents.hasBegun = true
      for part in layers.flatMap(\.parts) {
        let place = StateFiles.place(part.layer, part.index)
        let (files, problems) = Self.files(of: place, in: folder)
        contents.files.merge(files) { first, _ in first }
        damaged += problems
      }
    } else if FileSystem.exists(folder) {
      let own =
        [Self.lockName, Self.checksumsName]
        + [Self.mainName, Self.checksumsName].map(temporaryPath)
      if try FileSystem.list(folder).contains(where: { !own.contains($0) }) {
        throw KeptError.foreign(path: folder)
      }
    }
    self.contents = Mutex(contents)
    self.damaged = damaged
  }

  private static func check(
    _ kept: RunInputs, against asked: RunInputs, path: String,
    _ names: (model: String, data: String)
  ) throws {
    switch kept.difference(from: asked, model: names.model) {
    case nil: return
    case .option(let option, let written, let asked):
      throw KeptError.otherOption(path: path, option: option, kept: written, asked: asked)
    case .tokens:
      throw KeptError.otherTokens(path: path, data: names.data, model: names.model)
    }
  }

  // MARK: The folder

  /// Makes the folder; the lock is held as long as it lives.
  func open() throws -> FileLock {
    try FileSystem.createFolder(folder)
    guard let lock = try FileLock(path: "\(folder)/\(Self.lockName)") else {
      throw KeptError.inUse(path: folder)
    }
    return lock
  }

  /// Says once and for all what the folder is of; where it says so already, compares.
  ///
  /// - Parameters:
  ///   - source: the shards as they are.
  ///   - digest: of the checksums of all their tensors.
  ///   - lines: these checksums.
  func begin(source: [SourceFile], digest: String, lines: () throws -> [UInt8]) throws {
    if FileSystem.exists(main) {
      let kept = try Main(readingFrom: main)
      try Self.check(kept.inputs, against: inputs, path: main, names)
      if kept.digest != digest {
        throw KeptError.otherSource(
          path: main, model: names.model, problem: "checksums \(digest), kept \(kept.digest)")
      }
      return
    }
    let lines = try lines()
    try replaceFile(sourceChecksums, with: lines)
    let mark = JournalMark(byteCount: lines.count, checksum: Checksum(lines).text)
    try Main(inputs: inputs, source: source, digest: digest, mark: mark).write(to: main)
    contents.withLock { $0.hasBegun = true }
  }

  /// The checksums of the source's tensors, where its shards are where and what they were; else they are to be found anew.
  func sourceLines(of source: [SourceFile]) -> [UInt8]? {
    guard FileSystem.exists(main), let kept = try? Main(readingFrom: main), kept.source == source
    else { return nil }
    return try? Journal.read(sourceChecksums, committed: kept.mark)
  }

  // MARK: Files

  static func name(_ kind: Kind, _ layer: Int, _ part: Int) -> String {
    "\(kind.prefix)-\(StateFiles.place(layer, part)).zst"
  }

  func path(_ kind: Kind, _ layer: Int, _ part: Int) -> String {
    "\(folder)/\(Self.name(kind, layer, part))"
  }

  func file(_ kind: Kind, _ layer: Int, _ part: Int) -> KeptFile? {
    contents.withLock { $0.files[Self.name(kind, layer, part)] }
  }

  func has(_ kind: Kind, _ layer: Int, _ part: Int) -> Bool { file(kind, layer, part) != nil }

  /// What tells layers apart that find other things here.
  func shape(of layer: LayerSpec, seen: (LayerPart) -> String) -> String {
    layer.parts.map { part in
      let files = [Kind.hidden, .attend, .units(seen(part))].map {
        file($0, part.layer, part.index)
      }
      return files.map { file in
        file.map { "\($0.entries.map { "\($0.name) \($0.hasLargest) \($0.blocks)" })" } ?? "-"
      }.joined(separator: " ")
    }.joined(separator: "; ") + (has(.hidden, layer.index + 1, 0) ? " then" : "")
  }

  /// From now on a file is whole up to where it ends, and durable.
  ///
  /// - Parameter entries: of the file, old ones first.
  func note(
    _ kind: Kind, _ layer: Int, _ part: Int, byteCount: Int, entries: [KeptEntry] = []
  ) throws {
    let path = path(kind, layer, part)
    let before = file(kind, layer, part)
    let start = before.map { $0.byteCount <= byteCount ? $0.byteCount : 0 } ?? 0
    guard let added = try FileSystem.checksum(path, of: start..<byteCount) else {
      throw KeptError.fileDamaged(path: path)
    }
    let checksum = start > 0 ? before?.checksum.followed(by: added) ?? added : added
    set(
      KeptFile(byteCount: byteCount, checksum: checksum, entries: entries),
      Self.name(kind, layer, part))
    try write(StateFiles.place(layer, part))
  }

  private func set(_ file: KeptFile?, _ name: String) {
    contents.withLock { $0.files[name] = file }
  }

  /// Looks at every byte of a part's files.
  ///
  /// - Throws: `KeptError.fileDamaged` where one is not as it was kept: it is forgotten, durably. `SystemError` where the
  ///   system fails to read one: it may well be whole.
  func check(_ kinds: [Kind], _ layer: Int, _ part: Int) throws {
    for kind in kinds {
      guard let file = file(kind, layer, part) else { continue }
      let path = path(kind, layer, part)
      if try Self.checksum(path, byteCount: file.byteCount) == file.checksum { continue }
      set(nil, Self.name(kind, layer, part))
      try write(StateFiles.place(layer, part))
      try FileSystem.remove(path)
      throw KeptError.fileDamaged(path: path)
    }
  }

  /// Of the first bytes of a file; nil where it is gone or has fewer.
  private static func checksum(_ path: String, byteCount: Int) throws -> Checksum? {
    do {
      return try FileSystem.checksum(path, of: 0..<byteCount)
    } catch let error where error.isMissing {
      return nil
    }
  }

  // MARK: What says which files are whole

  private static func listing(_ place: String) -> String { "part-\(place).json" }

  /// What is whole of a part, and what was once.
  private static func files(
    of place: String, in folder: String
  ) -> (files: [String: KeptFile], damaged: [String]) {
    let path = "\(folder)/\(listing(place))"
    guard FileSystem.exists(path) else { return ([:], []) }
    func damaged(_ problem: String) -> KeptError { .damaged(path: path, problem: problem) }
    guard let object = try? SealedFile.read(path, format: format, damaged: damaged),
      let listed = object["files"]?.object
    else { return ([:], [path]) }
    var files: [String: KeptFile] = [:]
    var problems: [String] = []
    for (name, value) in listed.entries {
      // What a damaged listing names must not lead out of the folder, nor to another part.
      guard let file = KeptFile(value), isOf(place, name) else {
        problems.append(path)
        continue
      }
      let (path, size) = ("\(folder)/\(name)", try? FileSystem.fileSize("\(folder)/\(name)"))
      if let size, size >= file.byteCount, FileSystem.isFile(path) {
        files[name] = file
      } else {
        problems.append(path)
      }
    }
    return (files, problems)
  }

  private func write(_ place: String) throws {
    let own = contents.withLock { $0.files.filter { Self.isOf(place, $0.key) } }
      .sorted { $0.key < $1.key }
    try SealedFile.write(
      JSONObject([
        ("format", .int(Self.format)),
        ("files", .object(JSONObject(own.map { ($0.key, $0.value.json) }))),
      ]), to: "\(folder)/\(Self.listing(place))")
  }

  /// Whether a file is one of a part. The second part of layer 1 ends as layer 1 does.
  private static func isOf(_ place: String, _ name: String) -> Bool {
    let end = "-\(place).zst"
    guard name.hasSuffix(end), !name.contains("/") else { return false }
    let kind = name.dropLast(end.count)
    let units = Kind.units("").prefix
    return kind == Kind.hidden.prefix || kind == Kind.attend.prefix
      || kind.hasPrefix(units) && !kind.dropFirst(units.count).contains("-")
  }
}

// MARK: kept.json

/// What all files of the folder belong to.
private struct Main {
  let inputs: RunInputs
  let source: [SourceFile]
  let digest: String
  /// What of the checksums of the source's tensors was written.
  let mark: JournalMark

  private static let format = 3

  init(inputs: RunInputs, source: [SourceFile], digest: String, mark: JournalMark) {
    self.inputs = inputs
    self.source = source
    self.digest = digest
    self.mark = mark
  }

  func write(to path: String) throws {
    try SealedFile.write(
      JSONObject([
        ("format", .int(Self.format)), ("inputs", inputs.json),
        ("source", .array(source.map(\.json))), ("source_checksums", .string(digest)),
        ("checksum_bytes", .int(mark.byteCount)), ("checksum_crc32", .string(mark.checksum)),
      ]), to: path)
  }

  init(readingFrom path: String) throws {
    func damaged(_ problem: String) -> KeptError { .damaged(path: path, problem: problem) }
    let object = try SealedFile.read(path, format: Self.format, damaged: damaged)
    guard let inputs = object["inputs"].flatMap({ RunInputs($0) }),
      let source = object["source"]?.array, let digest = object["source_checksums"]?.string,
      let bytes = object["checksum_bytes"]?.size, let crc = object["checksum_crc32"]?.string
    else { throw damaged("does not say what was kept") }
    self.init(
      inputs: inputs, source: source.compactMap { SourceFile($0) }, digest: digest,
      mark: JournalMark(byteCount: bytes, checksum: crc))
  }
}
