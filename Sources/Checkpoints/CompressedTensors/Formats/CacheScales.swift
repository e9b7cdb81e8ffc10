// The scales of a quantized cache of keys and values, as a file holds them beside its attention.

package import Quantization
package import Safetensors
package import Tensors
package import Transformer

extension CacheScheme {
  private static func end(_ part: KeyValueCache.Part) -> String {
    part == .keys ? ".k_scale" : ".v_scale"
  }

  package static func tensorName(_ part: KeyValueCache.Part, of cache: KeyValueCache) -> String {
    cache.module + end(part)
  }

  /// Whether a tensor is called as such scales are.
  static func isScale(_ tensor: String) -> Bool {
    KeyValueCache.Part.allCases.contains { tensor.hasSuffix(end($0)) }
  }

  /// - Parameter dtype: of the weights that keys and values are made with.
  package func tensor(
    _ part: KeyValueCache.Part, of cache: KeyValueCache, dtype: DType
  ) -> TensorSpec {
    TensorSpec(
      name: Self.tensorName(part, of: cache), dtype: dtype, shape: scaleShape(heads: cache.heads))
  }

  /// - Parameter dtype: as above.
  package func tensors(of cache: KeyValueCache, dtype: DType) -> [TensorSpec] {
    KeyValueCache.Part.allCases.map { tensor($0, of: cache, dtype: dtype) }
  }

  /// What is wrong with stored scales of this scheme; nil where nothing is.
  package func fault(_ tensor: StoredTensor, heads: Int) -> String? {
    let shape = scaleShape(heads: heads)
    if !tensor.dtype.isWeight || tensor.shape != shape {
      return "is \(tensor.dtype.rawValue) \(tensor.shape), expected BF16, F16 or F32 \(shape)"
    }
    let numbers = tensor.numbers
    guard let bad = numbers.firstIndex(where: { !($0 > 0 && $0.isFinite) }) else { return nil }
    return numbers.count == 1 ? "is \(numbers[0])" : "element \(bad) is \(numbers[bad])"
  }

  /// What becomes of keys or values of a cache.
  ///
  /// - Parameter tensor: finds stored scales; without, the file has others.
  func quantizer(
    _ part: KeyValueCache.Part, of cache: KeyValueCache, _ tensor: (String) -> StoredTensor?
  ) -> ActivationQuantizer {
    let stored = tensor(Self.tensorName(part, of: cache))?.numbers
    return ActivationQuantizer(
      self, columns: cache.width(of: part),
      stored: stored ?? [Float](repeating: 1, count: scales(heads: cache.heads)))
  }
}

extension StoredTensor {
  /// All of a small tensor of a weight type.
  fileprivate var numbers: [Float] {
    var result: [Float] = []
    forEachPart(windowBytes: .max) { _, values in result = values }
    return result
  }
}
