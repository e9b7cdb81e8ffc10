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
  /// The quantized Linear, or the attention with a quantized cache, that it is a part of.
  package let module: String?

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
  /// Every tensor that an output has, but the passed-through ones.
  package func expectationsOfOutput(_ schemes: LinearSchemes) -> [TensorExpectation] {
    let caches = schemes.cache.map { scheme in
      layers.flatMap(\.caches).flatMap { each in
        KeyValueCache.Part.allCases.map { part in
          let tensor = scheme.tensor(part, of: each.cache, dtype: .bf16)
          // Of any type that weights are of.
          return TensorExpectation(
            name: tensor.name, dtype: nil, shape: tensor.shape, module: each.cache.module)
        }
      }
    }
    return expectations(schemes) + (caches ?? [])
  }

  /// Every tensor but the passed-through ones, and but the scales of activations that a source may have.
  ///
  /// - Parameter schemes: of the checkpoint, where it is quantized.
  package func expectations(_ schemes: LinearSchemes?) -> [TensorExpectation] {
    claims.flatMap { claim -> [TensorExpectation] in
      guard let linear = claim.linear, let quantized = schemes?.stored(linear)
      else {
        return [TensorExpectation(name: claim.name, dtype: nil, shape: claim.shape, module: nil)]
      }
      // Scales may be of any type that weights are of.
      return quantized.tensors.map {
        TensorExpectation(
          name: $0.name, dtype: $0.dtype.isWeight ? nil : $0.dtype, shape: $0.shape,
          module: linear.name)
      }
    }
  }
}
