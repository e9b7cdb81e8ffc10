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
    if isPacked, inputs.type == .float, !isW4AFP8(weights, inputs) {
      return
        "packed integers beside activations in floats are loaded as W4AFP8 is: 4 bits in groups of 128 without zero points, "
        + "beside activations in FP8 with a scale for each token"
    }
    if forExperts, isPacked, inputs.type == .int {
      return
        "its experts take no packed integers beside activations in integers; take experts=W8A8, or experts=W4AFP8"
        + (weights.bits == 4 && inputs.bits == 8
          ? "; on a CPU also 4 bits with a byte each, `format: int-quantized` in a recipe" : "")
    }
    return nil
  }

  /// Source: vLLM 0.33 `_is_fp8_w4a8`, and the groups that `CompressedTensorsW4A8Fp8` and its experts take.
  private static func isW4AFP8(
    _ weights: QuantizationArguments, _ inputs: QuantizationArguments
  ) -> Bool {
    weights.bits == 4 && weights.strategy == .group && weights.groupSize == 128
      && weights.isSymmetric && inputs.bits == 8 && inputs.strategy == .token
      && inputs.dynamic == .always && inputs.isSymmetric
  }
}
