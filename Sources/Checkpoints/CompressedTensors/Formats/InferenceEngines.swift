// What inference engines load of what can be written.

package import Quantization

extension CompressionFormats {
  /// Whether vLLM loads Linears of experts under a scheme where gate and up are one, and stand for themselves in the file.
  ///
  /// Source: vLLM 0.33 `gpt_oss.py`, whose `GptOssRoutedExperts` takes packed integers as they are and turns all else
  /// round; what it takes has no zero points.
  static func loadsFused(_ scheme: QuantizationScheme) -> Bool {
    guard let weights = scheme.weights else { return false }
    return name(of: scheme) == PackQuantized.formatName && weights.isSymmetric
      && scheme.inputActivations == nil
  }

  /// Why vLLM does not load Linears of a scheme; nil where it does.
  ///
  /// Source: vLLM 0.33 `compressed_tensors.py` and its schemes; `compressed_tensors_moe.py` for experts.
  ///
  /// - Parameter forExperts: whether routed experts have the scheme.
  package static func loadingProblem(
    _ scheme: QuantizationScheme, forExperts: Bool
  ) -> String? {
    guard let weights = scheme.weights else { return nil }
    if weights.type == .float, weights.bits == 6 {
      return "it knows no floats of 6 bits in compressed-tensors' formats"
    }
    guard weights.type == .int, let inputs = scheme.inputActivations else { return nil }
    let isPacked = name(of: scheme) == PackQuantized.formatName
    let isRow = weights.bits == 8 && weights.strategy == .channel
    if !isPacked, inputs.type != .int || inputs.bits != 8 || !(isRow || weights.bits == 4) {
      return
        "integers beside quantized activations are loaded in format \(PackQuantized.formatName), or a byte each: of 8 "
        + "bits with a scale for each row, or of 4, beside activations in 8"
    }
    if forExperts, isPacked, inputs.type == .int {
      return
        "its experts take no packed integers beside activations in integers; take experts=W8A8, or experts=W4AFP8"
        + (weights.bits == 4 && inputs.bits == 8
          ? "; on a CPU also 4 bits with a byte each, `format: int-quantized` in a recipe" : "")
    }
    if forExperts, isPacked, weights.bits != 4 {
      return "its experts take integers of 4 bits beside activations in floats; take experts=W4AFP8"
    }
    return nil
  }
}
