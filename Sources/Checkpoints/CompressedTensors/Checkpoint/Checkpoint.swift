// A Hugging Face model folder, opened and checked: config, description, and every tensor claimed exactly once.

package import JSON
package import Models
package import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// A checkpoint that is not what its config.json says.
package enum CheckpointError: Error, CustomStringConvertible, Equatable {
  case notAFolder(path: String)
  case noConfig(path: String)
  case badConfig(file: String, problem: String)
  case missing(folder: String, count: Int, names: [String])
  case unclaimed(folder: String, count: Int, names: [String])
  /// A tensor of a prediction layer that is stored as codes.
  case codedPrediction(file: String, tensor: String)
  case wrongShape(file: String, tensor: String, expected: String, found: String)
  case wrongFP8(file: String, tensor: String, expected: String, found: String)
  /// The head is the embedding, says config.json, and is stored as something else.
  case otherHead(file: String, tensor: String, embedding: String, difference: String)
  case wrongShare(file: String, tensor: String, expected: String, found: String)
  case ambiguousShape(file: String, tensor: String, found: String, readings: [String])
  /// Packed by another tool.
  case otherFormat(folder: String, tensor: String, format: String)
  case otherPrefix(folder: String, expected: String, found: String)
  case tooLarge(file: String, tensor: String, shape: [Int])

  package var description: String {
    func list(_ count: Int, _ names: [String]) -> String {
      names.map { "`\($0)`" }.joined(separator: ", ")
        + (count > names.count ? " and \(count - names.count) more" : "")
    }
    return switch self {
    case .notAFolder(let path):
      "\(path): no such folder; give the folder of a Hugging Face checkpoint"
    case .noConfig(let path):
      "\(path): no config.json; give the folder of a Hugging Face checkpoint"
    case .badConfig(let file, let problem):
      "\(file): \(problem); compare the file with the published one"
    case .missing(let folder, let count, let names):
      "\(folder): \(counted(count, "tensor")) that config.json asks for \(count == 1 ? "is" : "are") missing: \(list(count, names)); "
        + "download the checkpoint again"
    case .unclaimed(let folder, let count, let names):
      "\(folder): \(counted(count, "tensor")) that the description of the architecture does not know: "
        + "\(list(count, names)); "
        + "this is another variant of the model: give a checkpoint without them, or one of a class that has them"
    case .codedPrediction(let file, let tensor):
      "\(file): `\(tensor)` belongs to what predicts further tokens and is stored as codes; of this class it is read in "
        + "FP8 alone, so start from the unquantized checkpoint, or leave the prediction layer's tensors out of a copy"
    case .wrongShape(let file, let tensor, let expected, let found):
      "\(file): `\(tensor)`: expected \(expected), found \(found); compare config.json with the published one, or "
        + "download the checkpoint again"
    case .wrongFP8(let file, let tensor, let expected, let found):
      "\(file): `\(tensor)`: expected \(expected), found \(found); download the checkpoint again, or "
        + "start from the unquantized one"
    case .otherHead(let file, let tensor, let embedding, let difference):
      "\(file): `tie_word_embeddings` is true in config.json, but `\(tensor)` is stored as well and is not "
        + "`\(embedding)`: \(difference); where the stored head is right, say false in a copy of config.json, else "
        + "take the tensor out"
    case .wrongShare(let file, let tensor, let expected, let found):
      "\(file): `\(tensor)` holds several Linears: expected \(expected), found \(found); compare config.json with the "
        + "published one, or use a checkpoint with a tensor for each Linear"
    case .ambiguousShape(let file, let tensor, let found, let readings):
      "\(file): `\(tensor)` is \(found), which may be \(readings.joined(separator: " or ")), and no other tensor "
        + "tells; use a checkpoint with a tensor for each Linear"
    case .otherFormat(let folder, let tensor, let format):
      "\(folder): the weights are quantized in \(format) format, as `\(tensor)` shows, which is not read yet; start "
        + "from the unquantized checkpoint"
    case .otherPrefix(let folder, let expected, let found):
      "\(folder): tensors are named otherwise than in a published checkpoint of the class: `\(found)` where "
        + "`\(expected)` is expected; such names are not read yet, so save the model anew as the class that "
        + "config.json names"
    case .tooLarge(let file, let tensor, let shape):
      "\(file): asks for `\(tensor)` of \(shape), which is larger than any model's; compare the file with the "
        + "published one"
    }
  }
}

/// An opened model folder.
package struct Checkpoint: Sendable {
  package let folder: String
  package let config: JSONObject
  package var spec: ModelSpec
  /// Set for a checkpoint whose quantized Linears are told by the schemes of config.json.
  package let quantization: QuantizationConfig?
  /// What `quantization` says of each Linear.
  let schemes: LinearSchemes?
  /// Set for a checkpoint with FP8 weights.
  package let fp8: FP8Format?
  package let model: ShardedModel
  package let weights: CheckpointWeights
  /// A head that is stored although the embedding stands for it, byte for byte the same. No output has it.
  package private(set) var redundantHead: String?

  /// Opens a folder and checks every tensor's name, type and shape against the architecture's description.
  ///
  /// - Parameters:
  ///   - accepted: unknown keys of config.json that the user takes to change nothing.
  ///   - room: bytes of memory that reading the index or a header may take.
  ///   - forms: in which Linears may share a tensor.
  package init(
    folder: String, accepting accepted: Set<String> = [], room: Int = Header.standardRoom,
    forms: [StorageForm] = StorageForm.all
  ) throws {
    let opened = try CheckpointConfig(folder: folder, accepting: accepted, room: room)
    self.folder = folder
    config = opened.config
    spec = opened.spec
    let storage = try opened.storage()
    quantization = if case .compressed(let config) = storage { config } else { nil }
    let model = try ShardedModel(folder: folder, room: room)
    self.model = model
    schemes = try quantization?.schemes(of: opened.spec, file: opened.file) {
      model[$0]?.dtype.isWeight == true
    }
    fp8 = if case .fp8(let format) = storage { format } else { nil }
    let known = forms.filter { $0.scales == nil || storage == .blocks }
    let stored = try CheckpointWeights(
      model, schemes: schemes, fp8: fp8,
      places: quantization == nil ? Self.places(of: spec, in: model, known) : [:]
    ).decodingBlocks(spec.layers.flatMap(\.linears), dtype: opened.dtype)
    weights = stored.decoding(spec.quantizable, dtype: opened.dtype)
    try checkFP8IsDescribed()
    redundantHead = try sameHead()
    try checkTensors(stored)
    try checkFP8Tensors()
  }

  /// Whether no output has a tensor: one that belongs to the way in which this checkpoint stores a weight, the scales of
  /// FP8 weights and of their activations, or a head that is the embedding once more.
  package func isLeftOut(_ tensor: String) -> Bool {
    fp8?.isAbout(tensor) == true || tensor == redundantHead
  }

  /// What its owner should know.
  package var notes: [String] {
    spec.notes.map(\.description)
      + (redundantHead.map {
        [
          "`\($0)` is `\(spec.embedding)` once more, which config.json ties it to; the output leaves it out"
        ]
      } ?? [])
  }

  /// Where the Linears lie that share a tensor with others.
  private static func places(
    of spec: ModelSpec, in model: ShardedModel, _ forms: [StorageForm]
  ) throws(CheckpointError) -> [String: StoredPlace] {
    let places: [String: StoredPlace]
    do {
      places = try spec.places(forms: forms) { model[$0].map { .shape($0.shape) } }
    } catch {
      let tensor = model[error.tensor]
      let (file, found) = (tensor?.file.path ?? model.folder, tensor?.text ?? "nothing")
      switch error {
      case .wrongShape(let tensor, let expected):
        throw .wrongShare(
          file: file, tensor: tensor,
          expected: "BF16, F16 or F32 " + expected.map { "\($0)" }.joined(separator: " or "),
          found: found)
      case .ambiguous(let tensor, let readings):
        throw .ambiguousShape(file: file, tensor: tensor, found: found, readings: readings)
      }
    }
    let blocks = places.values.filter { $0.scales != nil }.flatMap(\.tensors)
    for tensor in Set(blocks).sorted().compactMap({ model[$0] }) where tensor.dtype != .u8 {
      throw .wrongShare(
        file: tensor.file.path, tensor: tensor.name, expected: "U8, as MXFP4 is stored",
        found: tensor.text)
    }
    let plain = places.values.filter { $0.scales == nil }.map(\.tensor)
    for tensor in Set(plain).sorted().compactMap({ model[$0] }) where !tensor.dtype.isWeight {
      let reason =
        tensor.dtype == .f8E4M3
        ? ", since nothing says where the scales of FP8 weights lie that share a tensor" : ""
      throw .wrongShare(
        file: tensor.file.path, tensor: tensor.name, expected: "BF16, F16 or F32" + reason,
        found: tensor.text)
    }
    return places
  }

  /// Tensors of Linears that are quantized as the schemes of config.json say.
  var quantizedTensors: Set<String> {
    Set(spec.expectations(schemes).filter { $0.module != nil }.map(\.name))
  }

  /// - Parameter weights: by the names of what is stored.
  private func checkTensors(_ weights: CheckpointWeights) throws(CheckpointError) {
    let expected = spec.expectations(schemes)
    let found = weights.names
    let missing = expected.map(\.name).filter { weights.find($0) == nil }
    try Self.checkNames(folder: folder, spec, found: found, missing: missing)
    let names = Set(expected.map(\.name))
    if let name = found.first(where: { name in
      !names.contains(name) && spec.passesThrough(name) && isPartOfCoded(name)
        && !self.weights.isActivationScale(name)
    }) {
      throw .codedPrediction(file: weights.find(name)?.file.path ?? folder, tensor: name)
    }
    let unclaimed = found.filter {
      !names.contains($0) && !isLeftOut($0) && !self.weights.isActivationScale($0)
        && !spec.passesThrough($0)
    }
    if !unclaimed.isEmpty {
      throw .unclaimed(folder: folder, count: unclaimed.count, names: Array(unclaimed.prefix(5)))
    }
    for want in expected {
      guard let tensor = weights.find(want.name) else { continue }
      if !want.fits(tensor.dtype, tensor.shape),
        fp8 == nil || !want.fitsAsFP8(tensor.dtype, tensor.shape)
      {
        throw .wrongShape(
          file: tensor.file.path, tensor: tensor.name, expected: want.text,
          found: tensor.piece.text)
      }
    }
  }

  /// Whether a tensor belongs to a weight that is stored as codes: nothing says how in parts that no scheme is for.
  private func isPartOfCoded(_ tensor: String) -> Bool {
    quantization != nil
      && CompressionFormats.weightParts.contains {
        tensor.hasSuffix($0.suffix) && !tensor.hasSuffix(ParameterName.weight(of: ""))
      }
  }

  /// Refuses layouts that are not read, by what they are; then missing tensors.
  ///
  /// - Parameters:
  ///   - found: the names of all tensors.
  ///   - missing: names that config.json asks for.
  static func checkNames(
    folder: String, _ spec: ModelSpec, found: [String], missing: [String]
  ) throws(CheckpointError) {
    if let (tensor, format) = ForeignFormats.mark(in: found) {
      throw .otherFormat(folder: folder, tensor: tensor, format: format)
    }
    guard let first = missing.first else { return }
    // Another beginning, or none: `layers.0.…`, `language_model.model.layers.0.…`.
    let prefix = spec.names.model
    if first.hasPrefix(prefix) {
      let end = first.dropFirst(prefix.count)
      if let tensor = found.first(where: { $0 == end || $0.hasSuffix("." + end) }) {
        throw .otherPrefix(folder: folder, expected: first, found: tensor)
      }
    }
    throw .missing(folder: folder, count: missing.count, names: Array(missing.prefix(5)))
  }

  /// A stored head that the embedding stands for.
  ///
  /// - Throws: `CheckpointError.otherHead` where the two differ: transformers would untie them, vLLM would not.
  private func sameHead() throws -> String? {
    guard let name = spec.redundantHead, let head = model[name],
      let embedding = model[spec.embedding]
    else { return nil }
    func other(_ difference: String) -> CheckpointError {
      .otherHead(
        file: head.file.path, tensor: name, embedding: spec.embedding, difference: difference)
    }
    guard head.dtype == embedding.dtype, head.shape == embedding.shape else {
      throw other("\(head.text), not \(embedding.text)")
    }
    if let byte = try head.firstDifference(from: embedding) {
      throw other(
        "they differ from row \(byte / max(1, head.byteCount / max(1, head.shape.first ?? 1))) on")
    }
    return name
  }
}
