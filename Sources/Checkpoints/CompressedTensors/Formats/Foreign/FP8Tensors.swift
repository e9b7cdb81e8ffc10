// The FP8 weights of a checkpoint and their scales, held against each other before anything is decoded.

internal import Models
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

extension StoredTensor {
  /// The module whose weight this is, where it is FP8.
  var fp8Module: String? {
    dtype == .f8E4M3 ? ParameterName.module(ofWeight: name) : nil
  }
}

extension Checkpoint {
  /// FP8 means nothing without scales.
  func checkFP8IsDescribed() throws(CheckpointError) {
    if fp8 != nil { return }
    let eights = model.tensors.filter { $0.dtype == .f8E4M3 }
    let described = eights.isEmpty ? [] : quantizedTensors
    guard let tensor = eights.first(where: { !described.contains($0.name) }) else { return }
    throw .wrongFP8(
      file: tensor.file.path, tensor: tensor.name,
      expected: "a `quantization_config` in config.json that says how FP8 is scaled",
      found: quantization.map { "`\($0.groups.map(CompressionFormats.name).first ?? "")`" }
        ?? "none")
  }

  /// Every FP8 weight has its scales, every scale its FP8 weight, and nothing is FP8 that cannot be.
  func checkFP8Tensors() throws {
    guard let fp8 else { return }
    let ignored = try IgnoredModules(fp8.ignore, file: folder + "/config.json")
    for tensor in model.tensors {
      if tensor.dtype == .f8E4M3 {
        try check(tensor, fp8, ignored)
      } else if let module = fp8.module(scaledBy: tensor.name) {
        try check(tensor, scales: module)
      }
    }
  }

  private func check(
    _ tensor: StoredTensor, _ fp8: FP8Format, _ ignored: IgnoredModules
  ) throws {
    func wrong(_ tensor: StoredTensor, expected: String) -> CheckpointError {
      .wrongFP8(
        file: tensor.file.path, tensor: tensor.name, expected: expected, found: tensor.text)
    }
    guard let module = tensor.fp8Module, tensor.shape.count == 2, tensor.name != spec.embedding
    else { throw wrong(tensor, expected: "BF16, F16 or F32, as it is no weight of a Linear") }
    if let pattern = try ignored.pattern(matching: module) {
      throw wrong(
        tensor, expected: "BF16, F16 or F32, as `quantization_config.ignore` has '\(pattern)'")
    }
    let shapes = fp8.scaleShapes(of: tensor.shape)
    let expected = "BF16, F16, F32 or F8_E8M0 " + shapes.map { "\($0)" }.joined(separator: " or ")
    let name = fp8.scales(of: module)
    guard let scales = model[name] else {
      throw CheckpointError.wrongFP8(
        file: tensor.file.path, tensor: name,
        expected: "\(expected) for the FP8 weight `\(tensor.name)`", found: "no such tensor")
    }
    if !scales.dtype.isScale || !shapes.contains(scales.shape) {
      throw wrong(scales, expected: expected)
    }
  }

  private func check(_ tensor: StoredTensor, scales module: String) throws(CheckpointError) {
    let name = ParameterName.weight(of: module)
    let weight = model[name]
    if weight?.dtype == .f8E4M3 { return }
    throw .wrongFP8(
      file: tensor.file.path, tensor: tensor.name,
      expected: "`\(name)` in F8_E4M3 that it scales",
      found: weight?.text ?? "no such tensor")
  }
}

extension StoredTensor {
  /// Type and shape for messages.
  var text: String { "\(dtype.rawValue) \(shape)" }
}
