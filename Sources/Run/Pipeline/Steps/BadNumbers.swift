// What is told of a number that is none: where it stands in the source, or what made it.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

extension StepInputs {
  func nonFiniteActivation(
    _ channel: Int, read reader: LinearSpec, of layer: LayerSpec
  ) -> QuantizeError {
    nonFiniteActivation(channel, in: "the input of `\(reader.name)`", of: layer)
  }

  /// What made an activation NaN or infinite.
  func nonFiniteActivation(
    _ channel: Int, in activation: String, of layer: LayerSpec
  ) -> QuantizeError {
    // Stored numbers were looked at when the run began; with its scale, one of FP8 may be none.
    if let checkpoint, checkpoint.fp8 != nil,
      let number = checkpoint.weights.firstNonFinite(
        in: layers.prefix(through: layer.index).flatMap(\.claims))
    {
      return QuantizeError(number)
    }
    let near = layers[max(0, layer.index - 1)...layer.index]
    return .nonFiniteActivation(
      layer: layer.index, tap: activation, channel: channel,
      largest: checkpoint?.weights.largest(in: near.flatMap(\.claims)).map { place, value in
        "\(value) at [\(place.row), \(place.column)] of `\(place.tensor.name)` in \(place.tensor.file.path)"
      })
  }

  func nonFinite(_ error: NonFiniteWeight, _ linear: LinearSpec) -> QuantizeError {
    nonFinite(error, linear.weight)
  }

  /// - Parameter dtype: what the number goes beyond, where it is one in the source.
  func nonFinite(
    _ error: NonFiniteWeight, _ name: String, dtype: DType = .f32
  ) -> QuantizeError {
    let weights = numbers
    let tensor = weights.parameter(name)
    return weights.origin(ofNonFinite: tensor, row: error.row, column: error.column).map {
      QuantizeError($0)
    }
      ?? .overflow(
        file: tensor.file.path, tensor: tensor.name, row: error.row, column: error.column,
        dtype: dtype)
  }

  /// A number that became of a source tensor's and cannot be written.
  func nonFinite(_ error: NonFiniteOutput, _ name: String) -> QuantizeError {
    let tensor = numbers.parameter(name)
    let columns = tensor.shape.count < 2 ? error.element + 1 : tensor.shape.last ?? 1
    return nonFinite(
      NonFiniteWeight(row: error.element / columns, column: error.element % columns), name,
      dtype: tensor.dtype.unscaled)
  }

  /// A scale that cannot be written.
  func infiniteScale(
    _ error: NonFiniteOutput, _ name: String, groupSize: Int
  ) -> QuantizeError {
    let tensor = numbers.parameter(name)
    let columns = tensor.shape.last ?? 1
    let groups = (columns + groupSize - 1) / groupSize
    let start = error.element % groups * groupSize
    return .infiniteScale(
      file: tensor.file.path, tensor: tensor.name, row: error.element / groups,
      columns: start..<min(columns, start + groupSize), dtype: tensor.dtype.unscaled)
  }

  /// The source's numbers. Only they can be bad.
  private var numbers: CheckpointWeights {
    guard let checkpoint else { preconditionFailure("shapes have no bad numbers") }
    return checkpoint.weights
  }
}
