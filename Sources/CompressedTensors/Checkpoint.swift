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
  case wrongShape(file: String, tensor: String, expected: String, found: String)

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
  package let model: ShardedModel
  package let weights: CheckpointWeights

  /// Opens a folder and checks every tensor's name, type and shape against the architecture's description.
  package init(folder: String) throws {
    guard FileSystem.isFolder(folder) else { throw CheckpointError.notAFolder(path: folder) }
    let file = folder + "/config.json"
    guard FileSystem.exists(file) else { throw CheckpointError.noConfig(path: folder) }
    let parsed: JSONValue
    do {
      parsed = try JSONValue.parse(FileSystem.readFile(file))
    } catch let error as JSONError {
      throw CheckpointError.badConfig(file: file, problem: "\(error)")
    }
    guard let config = parsed.object else {
      throw CheckpointError.badConfig(
        file: file, problem: "expected an object, found \(parsed.kind)")
    }
    self.folder = folder
    self.config = config
    spec = try Architectures.describe(config: config, file: file, ignoring: ["quantization_config"])
    if let block = config["quantization_config"], block != .null {
      quantization = try QuantizationConfig(block, file: file)
    } else {
      quantization = nil
    }
    model = try ShardedModel(folder: folder)
    weights = CheckpointWeights(model, scheme: quantization?.scheme)
    try checkTensors()
  }

  /// What a tensor must be; no type means any of bf16, f16 and f32.
  private struct Expectation {
    let name: String
    let dtype: DType?
    let shape: [Int]
  }

  private var expectations: [Expectation] {
    let ignored = Set(quantization?.ignore ?? [])
    return spec.claims.flatMap { claim -> [Expectation] in
      guard let scheme = quantization?.scheme, let linear = claim.linear,
        !ignored.contains(linear.name)
      else { return [Expectation(name: claim.name, dtype: nil, shape: claim.shape)] }
      let scaleType = model[linear.name + ".weight_scale"]?.dtype
      return PackedLinear(linear, scheme: scheme, scaleType: scaleType ?? .bf16).tensors.map {
        Expectation(
          name: $0.name, dtype: $0.dtype.isWeight ? nil : $0.dtype, shape: $0.shape)
      }
    }
  }

  private func checkTensors() throws(CheckpointError) {
    let expected = expectations
    let missing = expected.filter { model[$0.name] == nil }.map(\.name)
    if !missing.isEmpty {
      throw .missing(folder: folder, count: missing.count, names: Array(missing.prefix(5)))
    }
    let names = Set(expected.map(\.name))
    let unclaimed = model.tensors.map(\.name).filter {
      !names.contains($0) && !spec.passesThrough($0)
    }
    if !unclaimed.isEmpty {
      throw .unclaimed(folder: folder, count: unclaimed.count, names: Array(unclaimed.prefix(5)))
    }
    for want in expected {
      guard let tensor = model[want.name] else { continue }
      let fits = want.dtype.map { $0 == tensor.dtype } ?? tensor.dtype.isWeight
      if !fits || tensor.shape != want.shape {
        throw .wrongShape(
          file: tensor.file.path, tensor: tensor.name,
          expected: "\(want.dtype?.rawValue ?? "BF16, F16 or F32") \(want.shape)",
          found: "\(tensor.dtype.rawValue) \(tensor.shape)")
      }
    }
  }
}
