// The `quantization_config` of checkpoints whose experts are MXFP4 in blocks, as gpt-oss was published.

internal import JSON

enum MXFP4Blocks {
  /// Which weights are blocks is told by their tensors.
  ///
  /// Source: transformers 5.17 `Mxfp4Config`.
  ///
  /// - Throws: at the first key that says what Sluice does not understand.
  static func check(_ block: JSONValue, file: String) throws(QuantizationConfigError) {
    var keys = QuantizationKeys(block, file: file)
    keys.pass("quant_method", "modules_to_not_convert", "dequantize")
    try keys.finish()
  }
}
