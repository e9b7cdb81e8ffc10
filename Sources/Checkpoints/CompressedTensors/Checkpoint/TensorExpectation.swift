// What every tensor of a checkpoint must be, from its config.json alone.

package import Models
internal import Quantization
package import Safetensors
package import Tensors
internal import Transformer

/// A tensor that must be there.
package struct TensorExpectation: Sendable {
  package let name: String
  /// nil for any of bf16, f16 and f32.
  package let dtype: DType?
  package let shape: [Int]
  /// The quantized Linear that it is a part of.
  package let linear: String?

  package func fits(_ tensor: StoredTensor) -> Bool { fits(tensor.dtype, tensor.shape) }

  func fits(_ found: DType, _ shape: [Int]) -> Bool {
    (dtype.map { $0 == found } ?? found.isWeight) && shape == self.shape
  }

  /// Whether it is FP8 where any type that weights have would do.
  func fitsAsFP8(_ found: DType, _ shape: [Int]) -> Bool {
    dtype == nil && found == .f8E4M3 && shape == self.shape
  }

  /// Type and shape for messages.
  package var text: String { "\(dtype?.rawValue ?? "BF16, F16 or F32") \(shape)" }
}

extension ModelSpec {
  /// Every tensor but the passed-through ones.
  ///
  /// - Parameter schemes: of the checkpoint, where it is quantized.
  package func expectations(_ schemes: LinearSchemes?) -> [TensorExpectation] {
    claims.flatMap { claim -> [TensorExpectation] in
      guard let linear = claim.linear, let quantized = schemes?.stored(linear)
      else {
        return [TensorExpectation(name: claim.name, dtype: nil, shape: claim.shape, linear: nil)]
      }
      // Scales may be of any type that weights are of.
      return quantized.tensors.map {
        TensorExpectation(
          name: $0.name, dtype: $0.dtype.isWeight ? nil : $0.dtype, shape: $0.shape,
          linear: linear.name)
      }
    }
  }
}
