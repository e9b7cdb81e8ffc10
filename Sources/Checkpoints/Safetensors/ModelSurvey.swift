// A model folder as it is, however broken: what can be read of it, and everything that is amiss with its files.

package import JSON
import SystemIO

/// Unlike `ShardedModel(folder:)`, which stops at the first flaw.
package struct ModelSurvey: Sendable {
  /// What is wrong with a file or a tensor.
  package struct Problem: Sendable, Equatable {
    package let subject: String
    package let problem: String
  }

  /// Every tensor that can be read.
  package let model: ShardedModel
  package let problems: [Problem]
  /// Tensors that cannot be read, as some problem says already.
  package let lost: Set<String>
  /// `metadata` of the index, where there is an index that can be read.
  package let metadata: JSONObject?

  package static let indexFile = "model.safetensors.index.json"

  /// - Throws: `SafetensorsError.noModel` where there is no safetensors file, or no folder that can be listed.
  package init(folder: String) throws(SafetensorsError) {
    let names = try withSystemErrors { () throws(SystemError) in try FileSystem.list(folder) }
    let present = names.filter { $0.hasSuffix(".safetensors") }
    if present.isEmpty { throw .noModel(folder: folder) }
    var notes = Notes()
    let hasIndex = names.contains(Self.indexFile)
    let index = hasIndex ? notes.index(folder) : nil
    let weightMap = index?.weightMap
    if !hasIndex, present != ["model.safetensors"] {
      notes.add(Self.indexFile, "is missing, and without it only `model.safetensors` is read")
    }
    let places = (weightMap?.entries ?? []).compactMap { entry in
      entry.value.string.map { (tensor: entry.key, shard: $0) }
    }
    let listed = Dictionary(grouping: places, by: \.shard).mapValues { $0.map(\.tensor) }
    notes.compare(present, listed, hasMap: weightMap != nil)

    let wanted = weightMap == nil ? present : present.filter { listed[$0] != nil }
    var files: [SafetensorsFile] = []
    for name in wanted {
      do {
        files.append(try SafetensorsFile(path: "\(folder)/\(name)"))
      } catch {
        notes.add(name, Self.text(error, path: "\(folder)/\(name)"), losing: listed[name] ?? [])
      }
    }
    let found = notes.places(of: files)
    if weightMap != nil { notes.compare(found, places) }
    model = ShardedModel(folder: folder, readable: files)
    problems = notes.problems
    lost = notes.lost
    metadata = index?.metadata
  }

  /// Without the path that the problem's subject tells.
  fileprivate static func text(_ error: SafetensorsError, path: String) -> String {
    let text = "\(error)"
    return text.hasPrefix(path + ": ") ? String(text.dropFirst(path.count + 2)) : text
  }
}

/// Problems as they are met.
private struct Notes {
  private(set) var problems: [ModelSurvey.Problem] = []
  private(set) var lost: Set<String> = []

  mutating func add(_ subject: String, _ problem: String, losing tensors: [String] = []) {
    let suffix = tensors.isEmpty ? "" : " (\(tensors.count) tensors)"
    problems.append(ModelSurvey.Problem(subject: subject, problem: problem + suffix))
    lost.formUnion(tensors)
  }

  mutating func index(_ folder: String) -> (weightMap: JSONObject, metadata: JSONObject?)? {
    let path = "\(folder)/\(ModelSurvey.indexFile)"
    do {
      let index = try ShardedModel.readIndex(path)
      for (tensor, shard) in index.weightMap.entries
      where !(shard.string.map(ShardedModel.isPlainFileName) ?? false) {
        add(ModelSurvey.indexFile, "lists `\(tensor)` in \(shard.shortText), which is no shard")
      }
      return index
    } catch {
      add(ModelSurvey.indexFile, ModelSurvey.text(error, path: path))
      return nil
    }
  }

  /// Files against the index.
  mutating func compare(_ present: [String], _ listed: [String: [String]], hasMap: Bool) {
    guard hasMap else { return }
    for shard in listed.keys.sorted()
    where !present.contains(shard) && ShardedModel.isPlainFileName(shard) {
      add(shard, "is missing; the index lists tensors there", losing: listed[shard] ?? [])
    }
    for file in present where listed[file] == nil {
      add(file, "holds tensors, and the index does not name it")
    }
  }

  /// The file of every tensor.
  mutating func places(of files: [SafetensorsFile]) -> [String: String] {
    var places: [String: String] = [:]
    for file in files {
      let name = String(file.path.split(separator: "/").last ?? "")
      for tensor in file.tensors {
        if let other = places[tensor.name] {
          add(tensor.name, "is in \(other) and in \(name)")
        } else {
          places[tensor.name] = name
        }
      }
    }
    return places
  }

  /// Tensors against the index.
  mutating func compare(_ found: [String: String], _ places: [(tensor: String, shard: String)]) {
    let listed = Dictionary(places, uniquingKeysWith: { first, _ in first })
    for (tensor, file) in found.sorted(by: { $0.key < $1.key }) {
      switch listed[tensor] {
      case file?: continue
      case let other?: add(tensor, "is in \(file), but the index lists it in \(other)")
      case nil: add(tensor, "is in \(file), and the index does not list it")
      }
    }
    for (tensor, shard) in places where found[tensor] == nil && !lost.contains(tensor) {
      add(tensor, "is missing; the index lists it in \(shard)")
      lost.insert(tensor)
    }
  }
}
