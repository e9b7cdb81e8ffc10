// A Hugging Face model folder, opened and checked: config, description, and every tensor claimed exactly once.

package import JSON
package import Models
package import Safetensors
internal import SystemIO
internal import Tensors

/// A checkpoint that is not what its config.json says.
package enum CheckpointError: Error, CustomStringConvertible, Equatable {
  case notAFolder(path: String)
  case noConfig(path: String)
  case badConfig(file: String, problem: String)
  case missing(folder: String, count: Int, names: [String])
  case unclaimed(folder: String, count: Int, names: [String])
  case wrongShape(file: String, tensor: String, expected: String, found: String)
  case wrongFP8(file: String, tensor: String, expected: String, found: String)

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
    case .badConfig(let file, let problem): "\(file): \(problem)"
    case .missing(let folder, let count, let names):
      "\(folder): \(count) tensors that config.json asks for are missing: \(list(count, names)); "
        + "download the checkpoint again"
    case .unclaimed(let folder, let count, let names):
      "\(folder): \(count) tensors that the description of the architecture does not know: "
        + "\(list(count, names)); this is another variant of the model"
    case .wrongShape(let file, let tensor, let expected, let found):
      "\(file): `\(tensor)`: expected \(expected), found \(found)"
    case .wrongFP8(let file, let tensor, let expected, let found):
      "\(file): `\(tensor)`: expected \(expected), found \(found); download the checkpoint again, or "
        + "start from the unquantized one"
    }
  }
}

/// An opened model folder.
package struct Checkpoint: Sendable {
  package let folder: String
  package let config: JSONObject
  package var spec: ModelSpec
  /// Set for a checkpoint in the `pack-quantized` format.
  package let quantization: QuantizationConfig?
  /// Set for a checkpoint with FP8 weights.
  package let fp8: FP8Format?
  package let model: ShardedModel
  package let weights: CheckpointWeights

  /// Opens a folder and checks every tensor's name, type and shape against the architecture's description.
  ///
  /// - Parameter room: bytes of memory that reading the index or a header may take.
  package init(folder: String, room: Int = Header.standardRoom) throws {
    let opened = try CheckpointConfig(folder: folder, room: room)
    self.folder = folder
    config = opened.config
    spec = opened.spec
    let storage = try opened.storage()
    quantization = if case .packed(let packed) = storage { packed } else { nil }
    fp8 = if case .fp8(let format) = storage { format } else { nil }
    model = try ShardedModel(folder: folder, room: room)
    weights = CheckpointWeights(model, scheme: quantization?.scheme, fp8: fp8)
    try checkFP8IsDescribed()
    try checkTensors()
    try checkFP8Tensors()
  }

  /// Whether a tensor belongs to the way in which this checkpoint stores a weight, and no output has it: the scales of
  /// FP8 weights and of their activations.
  package func isScale(_ tensor: String) -> Bool { fp8?.module(scaledBy: tensor) != nil }

  /// Scales of static activations, of which an output with quantized weights alone has none.
  package var activationScales: Int {
    guard let fp8 else { return 0 }
    return model.tensors.count { fp8.isActivationScale($0.name) }
  }

  private func checkTensors() throws(CheckpointError) {
    let expected = spec.expectations(quantization)
    let missing = expected.filter { model[$0.name] == nil }.map(\.name)
    if !missing.isEmpty {
      throw .missing(folder: folder, count: missing.count, names: Array(missing.prefix(5)))
    }
    let names = Set(expected.map(\.name))
    let unclaimed = model.tensors.map(\.name).filter {
      !names.contains($0) && !spec.passesThrough($0) && !isScale($0)
    }
    if !unclaimed.isEmpty {
      throw .unclaimed(folder: folder, count: unclaimed.count, names: Array(unclaimed.prefix(5)))
    }
    for want in expected {
      guard let tensor = model[want.name] else { continue }
      if !want.fits(tensor), fp8 == nil || !want.fitsAsFP8(tensor) {
        throw .wrongShape(
          file: tensor.file.path, tensor: tensor.name, expected: want.text, found: tensor.text)
      }
    }
  }
}
