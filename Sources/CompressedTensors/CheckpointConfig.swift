// config.json of a model folder: read, understood, and not yet held against any tensor.

package import JSON
package import Models
internal import Safetensors
internal import SystemIO

/// How a checkpoint stores its weights.
package enum WeightStorage: Sendable, Equatable {
  case plain
  case packed(QuantizationConfig)
  case fp8(FP8Format)
}

package struct CheckpointConfig: Sendable {
  package let folder: String
  package let config: JSONObject
  package let spec: ModelSpec

  package var file: String { folder + "/config.json" }

  /// - Throws: `CheckpointError` where there is no such file or no JSON in it, `ConfigError` where it describes no known
  ///   model.
  ///
  /// - Parameter room: bytes of memory that reading the names of tensors may take, should they be needed.
  package init(folder: String, room: Int = Header.standardRoom) throws {
    guard FileSystem.isFolder(folder) else { throw CheckpointError.notAFolder(path: folder) }
    let file = folder + "/config.json"
    guard FileSystem.exists(file) else { throw CheckpointError.noConfig(path: folder) }
    let parsed: JSONValue
    do {
      parsed = try JSONValue.parse(
        FileSystem.readFile(file, limit: FileSystem.smallFile), limit: 4 * FileSystem.smallFile)
    } catch let error as JSONError {
      throw CheckpointError.badConfig(file: file, problem: "\(error)")
    }
    guard let config = parsed.object else {
      throw CheckpointError.badConfig(
        file: file, problem: "expected an object, found \(parsed.kind)")
    }
    self.folder = folder
    self.config = config
    spec = try Architectures.describe(
      config: config, file: file, ignoring: ["quantization_config"]
    ) { (try? ShardedModel(folder: folder, room: room))?.tensors.map(\.name) ?? [] }
  }

  /// Whether the checkpoint calls itself quantized.
  package var isQuantized: Bool { ![nil, .null].contains(config["quantization_config"]) }

  /// How the weights of a source are stored.
  package func storage() throws(QuantizationConfigError) -> WeightStorage {
    guard let block = config["quantization_config"], block != .null else { return .plain }
    if let fp8 = try FP8Format(block, file: file) { return .fp8(fp8) }
    return .packed(try QuantizationConfig(block, file: file))
  }

  /// What the `quantization_config` of an output says; nil where there is none.
  package func quantization() throws(QuantizationConfigError) -> QuantizationConfig? {
    guard let block = config["quantization_config"], block != .null else { return nil }
    return try QuantizationConfig(block, file: file)
  }
}
