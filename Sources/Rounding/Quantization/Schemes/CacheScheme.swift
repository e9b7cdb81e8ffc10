// How keys and values are kept for later tokens.

/// The `kv_cache_scheme` of compressed-tensors, as far as inference engines load it: 8-bit floats with scales in the file.
///
/// Source: compressed-tensors 0.20 `lifecycle/initialize.py` (`initialize_qparams`); vLLM 0.33
/// `CompressedTensorsKVCacheMethod`.
package enum CacheScheme: String, Sendable, CaseIterable {
  /// One scale for all keys of a layer, and one for its values.
  case fp8
  /// A scale for each head of keys and of values.
  case fp8OfHeads = "fp8_head"

  /// In compressed-tensors' words.
  package var arguments: QuantizationArguments {
    QuantizationArguments(
      bits: 8, type: .float, strategy: self == .fp8 ? .tensor : .attentionHead)
  }

  /// - Parameter heads: of keys or of values.
  package func scaleShape(heads: Int) -> [Int] { self == .fp8 ? [1] : [heads, 1, 1] }

  /// Scales of keys or values, where there are `heads`.
  package func scales(heads: Int) -> Int { self == .fp8 ? 1 : heads }

  /// Reads the fields of a `kv_cache_scheme`; how scales are found is not looked at.
  package init(_ node: some ArgumentNode) throws(ArgumentProblem) {
    let asked = try QuantizationArguments(node).stored
    func problem(_ key: String, _ expected: String) -> ArgumentProblem {
      ArgumentProblem([key], expected: expected)
    }
    if asked.type != .float { throw problem("type", "float") }
    if asked.bits != 8 { throw problem("num_bits", "8") }
    if !asked.isSymmetric { throw problem("symmetric", "true") }
    if asked.dynamic != .never { throw problem("dynamic", "false") }
    if asked.scaleType != nil { throw problem("scale_dtype", "null") }
    let known = Self.allCases.filter { $0.arguments.strategy == asked.strategy }
    guard let scheme = known.first else {
      throw problem(
        "strategy", Self.allCases.map(\.arguments.strategy.rawValue).joined(separator: " or "))
    }
    self = scheme
  }

  /// For people.
  package var words: String {
    self == .fp8 ? "8 bits float, a scale for each layer" : "8 bits float, a scale for each head"
  }
}
