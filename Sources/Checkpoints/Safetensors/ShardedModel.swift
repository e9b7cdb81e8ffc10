// model.safetensors.index.json and its shards as one name space.

import JSON
import SystemIO

/// All tensors of a model folder, whether it holds one file or an index and its shards.
package final class ShardedModel: Sendable {
  package let folder: String
  /// Sorted by file name.
  package let files: [SafetensorsFile]
  /// Sorted by name.
  package let tensors: [StoredTensor]

  private let positions: [String: Int]

  /// - Parameter room: bytes of memory that reading the index or a header may take.
  package convenience init(
    folder: String, room: Int = Header.standardRoom
  ) throws(SafetensorsError) {
    let index = folder + "/" + ModelSurvey.indexFile
    let single = folder + "/model.safetensors"
    let files: [SafetensorsFile]
    if FileSystem.exists(index) {
      files = try Self.openShards(folder, index, room)
    } else if FileSystem.exists(single) {
      files = [try SafetensorsFile(path: single, room: room)]
    } else {
      throw .noModel(folder: folder)
    }
    try self.init(folder: folder, files)
  }

  private init(folder: String, _ files: [SafetensorsFile]) throws(SafetensorsError) {
    let tensors = files.flatMap(\.tensors).sorted { $0.name < $1.name }
    var positions: [String: Int] = [:]
    for (position, tensor) in tensors.enumerated() {
      // Names that differ in Unicode spelling alone can still meet here, and those of slices.
      guard positions.updateValue(position, forKey: tensor.name) == nil else {
        throw .duplicateName(file: tensor.file.path, tensor: tensor.name)
      }
    }
    self.folder = folder
    self.files = files
    self.tensors = tensors
    self.positions = positions
  }

  /// Takes files that were opened one by one; where a name appears twice, the first counts.
  init(folder: String, readable files: [SafetensorsFile]) {
    var seen: Set<String> = []
    let tensors = files.flatMap(\.tensors).filter { seen.insert($0.name).inserted }
      .sorted { $0.name < $1.name }
    self.folder = folder
    self.files = files
    self.tensors = tensors
    positions = Dictionary(uniqueKeysWithValues: tensors.enumerated().map { ($1.name, $0) })
  }

  /// A view of the model in which some tensors are cut along their first dimension.
  ///
  /// - Parameter naming: makes the name of a slice from its number and the tensor's name.
  package func cut(
    _ names: Set<String>, called naming: (Int, String) -> String
  ) throws(SafetensorsError) -> ShardedModel {
    if names.isEmpty { return self }
    return try ShardedModel(folder: folder, files.map { $0.cut(names, called: naming) })
  }

  package subscript(name: String) -> StoredTensor? {
    positions[name].map { tensors[$0] }
  }

  /// The place of a tensor among `tensors`.
  package func position(of name: String) -> Int? { positions[name] }

  /// Bytes of all tensors, without headers.
  package var totalBytes: Int {
    tensors.reduce(0) { $0 + $1.byteCount }
  }

  private static func openShards(
    _ folder: String, _ index: String, _ room: Int
  ) throws(SafetensorsError) -> [SafetensorsFile] {
    let weightMap = try readWeightMap(index, room: room)
    // Names of the tensors each shard has to hold.
    var expected: [String: [String]] = [:]
    for (tensor, value) in weightMap.entries {
      guard let shard = value.string else {
        throw .shardNotAString(file: index, tensor: tensor, found: value.kind)
      }
      guard isPlainFileName(shard) else {
        throw .invalidShardName(file: index, tensor: tensor, found: shard)
      }
      expected[shard, default: []].append(tensor)
    }
    let shards = expected.keys.sorted()
    let missing = shards.filter { !FileSystem.exists("\(folder)/\($0)") }
    guard missing.isEmpty else { throw .missingShards(file: index, names: missing) }

    var files: [SafetensorsFile] = []
    for shard in shards {
      let file = try SafetensorsFile(path: "\(folder)/\(shard)", room: room)
      var unlisted: [String] = []
      for tensor in file.tensors {
        switch weightMap[tensor.name]?.string {
        case shard?: continue
        case let other?:
          throw .misplacedTensor(file: file.path, tensor: tensor.name, expected: other)
        case nil: unlisted.append(tensor.name)
        }
      }
      guard unlisted.isEmpty else { throw .unlistedTensors(file: file.path, names: unlisted) }
      let absent = expected[shard, default: []].filter { file[$0] == nil }
      guard absent.isEmpty else { throw .absentTensors(file: file.path, names: absent) }
      files.append(file)
    }
    return files
  }

  static func readWeightMap(
    _ index: String, room: Int = Header.standardRoom
  ) throws(SafetensorsError) -> JSONObject {
    try readIndex(index, room: room).weightMap
  }

  static func readIndex(
    _ index: String, room: Int = Header.standardRoom
  ) throws(SafetensorsError) -> (weightMap: JSONObject, metadata: JSONObject?) {
    let bytes = try withSystemErrors { () throws(SystemError) in
      try FileSystem.readFile(index, limit: room / 2, isLimitOfMemory: true)
    }
    let json: JSONValue
    do {
      json = try JSONValue.parse(bytes, limit: room - bytes.count)
    } catch {
      if error.isTooLarge { throw .takesTooMuch(file: index, part: "index", room: room) }
      if let key = error.duplicateKey { throw .duplicateName(file: index, tensor: key) }
      throw .invalidJSON(file: index, error)
    }
    let weightMap = json.object?["weight_map"]
    guard let weightMap = weightMap?.object else {
      throw .missingWeightMap(file: index, found: weightMap?.kind ?? "nothing")
    }
    return (weightMap, json.object?["metadata"]?.object)
  }

  /// An index must not lead out of its folder.
  static func isPlainFileName(_ name: String) -> Bool {
    name.hasSuffix(".safetensors") && !name.utf8.contains(UInt8(ascii: "/"))
      && !name.utf8.contains(0) && !name.contains("..")
  }
}
