// config.json of a model folder: read, understood, and not yet held against any tensor.

package import JSON
package import Models
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// How a checkpoint stores its weights.
package enum WeightStorage: Sendable, Equatable {
  case plain
  /// By the schemes of config.json.
  case compressed(QuantizationConfig)
  case fp8(FP8Format)
  /// Experts as MXFP4, in blocks with scales beside them.
  case blocks
}

package struct CheckpointConfig: Sendable {
  package let folder: String
  package let config: JSONObject
  package let spec: ModelSpec

  package var file: String { folder + "/config.json" }

  /// - Parameters:
  ///   - accepted: unknown keys that the user takes to change nothing.
  ///   - room: bytes of memory that reading the names of tensors may take, should they be needed.
  /// - Throws: `CheckpointError` where there is no such file or no JSON in it, `ConfigError` where it describes no known
  ///   model.
  package init(
    folder: String, accepting accepted: Set<String> = [], room: Int = Header.standardRoom
  ) throws {
    guard FileSystem.isFolder(folder) else { throw CheckpointError.notAFolder(path: folder) }
    let file = folder + "/config.json"
    guard FileSystem.exists(file) else { throw CheckpointError.noConfig(path: folder) }
    let parsed: JSONValue
    do {
      parsed = try JSONValue.parse(
        FileSystem.readFile(file, limit: FileSystem.smallFile), limit: 4 * FileSystem.smallFile,
        allowsNonFinite: true)
    } catch let error as JSONError {
      throw CheckpointError.badConfig(file: file, problem: "\(error)")
    }
    guard let config = parsed.object else {
      throw CheckpointError.badConfig(
        file: file, problem: "expected an object, found \(parsed.kind)")
    }
    self.folder = folder
    self.config = config
    let described = try Architectures.describe(
      config: config, file: file, ignoring: [Self.quantizationKey], accepting: accepted
    ) { Self.tensorNames(folder, room: room) }
    try Self.checkSizes(of: described.predicting, file: file)
    let codesPredictions = Self.codesPredictions(of: described, config, file: file) {
      Self.tensorNames(folder, room: room)
    }
    spec = codesPredictions ? described.predicting : described
  }

  /// Whether prediction layers are stored as codes, as config.json says and tensors show. What cannot be read of it is
  /// told elsewhere.
  ///
  /// - Parameter names: of all tensors.
  private static func codesPredictions(
    of spec: ModelSpec, _ config: JSONObject, file: String, names: () -> [String]
  ) -> Bool {
    let linears = spec.predictions.flatMap(\.linears)
    guard !linears.isEmpty, let block = quantizationBlock(of: config),
      let quantization = try? QuantizationConfig(block, file: file),
      let schemes = try? quantization.schemes(of: linears, file: file), !schemes.isEmpty
    else { return false }
    let stored = Set(names())
    return linears.contains { linear in
      schemes.stored(linear)?.codec.tensors.contains {
        $0.name != linear.weight && stored.contains($0.name)
      } == true
    }
  }

  /// Larger dimensions, and more bytes, are no model's; what is computed from smaller ones fits.
  private static let (largestDimension, largestBytes) = (1 << 24, 1 << 50)

  private static func checkSizes(of spec: ModelSpec, file: String) throws(CheckpointError) {
    var bytes = 0
    for claim in spec.claims {
      if claim.shape.allSatisfy({ $0 <= largestDimension }) {
        bytes += Tensors.byteCount(.f32, claim.shape) ?? largestBytes
        if bytes < largestBytes { continue }
      }
      throw .tooLarge(file: file, tensor: claim.name, shape: claim.shape)
    }
  }

  private static func tensorNames(_ folder: String, room: Int) -> [String] {
    if let model = try? ShardedModel(folder: folder, room: room) {
      return model.tensors.map(\.name)
    }
    return (try? ShardListing(folder: folder, room: room))?.tensors ?? []
  }

  /// How many tokens the model of a folder knows, whatever its class; nil where nothing is said.
  package static func vocabularySize(folder: String) -> Int? {
    guard
      let bytes = try? FileSystem.readFile(folder + "/config.json", limit: FileSystem.smallFile),
      let config =
        (try? JSONValue.parse(bytes, limit: 4 * FileSystem.smallFile, allowsNonFinite: true))?
        .object
    else { return nil }
    let count = (config["vocab_size"] ?? config["text_config"]?.object?["vocab_size"])?.int
    return count.flatMap { $0 > 0 ? $0 : nil }
  }

  /// The type that weights are said to have; bfloat16 where nothing is said.
  var dtype: DType {
    let text = Architectures.text(of: config)
    let names = ["dtype", "torch_dtype"].flatMap { [config[$0], text[$0]] }
    let name = names.compactMap { $0?.string }.first
    return switch name {
    case "float32": .f32
    case "float16": .f16
    default: .bf16
    }
  }

  /// Whether the checkpoint calls itself quantized.
  package var isQuantized: Bool { quantizationBlock != nil }

  private static let quantizationKey = "quantization_config"

  /// What says how weights are stored: vLLM looks for it in the whole file, then in what describes the text model.
  private var quantizationBlock: JSONValue? { Self.quantizationBlock(of: config) }

  private static func quantizationBlock(of config: JSONObject) -> JSONValue? {
    let blocks = [config, Architectures.text(of: config)].map { $0[quantizationKey] }
    return blocks.compactMap(\.self).first { $0 != .null }
  }

  /// A config.json with another `quantization_config`, which is the only one in it; nil for none.
  package static func config(_ config: JSONObject, quantized block: JSONValue?) -> JSONObject {
    var result = config
    let inner = Architectures.textPath(of: config) + [quantizationKey]
    if inner.count > 1 { result[inner] = nil }
    result[quantizationKey] = block
    return result
  }

  /// What it says beside that.
  package var withoutQuantization: JSONObject { Self.config(config, quantized: nil) }

  /// How the weights of a source are stored.
  package func storage() throws(QuantizationConfigError) -> WeightStorage {
    try checkNoOtherTool()
    guard let block = quantizationBlock else { return .plain }
    if block.object?["quant_method"] == "mxfp4" {
      try MXFP4Blocks.check(block, file: file)
      return .blocks
    }
    if let fp8 = try FP8Format(block, file: file) { return .fp8(fp8) }
    return .compressed(try QuantizationConfig(block, file: file))
  }

  /// ModelOpt tells in a file of its own that weights are quantized, and not always in config.json.
  private func checkNoOtherTool() throws(QuantizationConfigError) {
    let path = folder + "/hf_quant_config.json"
    guard !isQuantized, let bytes = try? FileSystem.readFile(path, limit: FileSystem.smallFile),
      let parsed = try? JSONValue.parse(bytes, limit: 4 * FileSystem.smallFile),
      let found = parsed.object?["quantization"]?.object?["quant_algo"],
      found != .null
    else { return }
    throw QuantizationConfigError(
      file: path, key: "quant_algo", expected: "null", found: found.shortText,
      format: "ModelOpt's \(found.string ?? found.shortText)")
  }

  /// What the `quantization_config` of an output says; nil where there is none.
  package func quantization() throws(QuantizationConfigError) -> QuantizationConfig? {
    guard let block = quantizationBlock else { return nil }
    return try QuantizationConfig(block, file: file)
  }
}
