// Formats of other tools that are not read: by what their config.json and their tensors say.

internal import JSON

enum ForeignFormats {
  /// By the `quant_method` of config.json.
  private static let methods = [
    "modelopt": "ModelOpt's", "modelopt_fp4": "ModelOpt's", "awq": "AutoAWQ's", "gptq": "GPTQ's",
    "bitsandbytes": "bitsandbytes'", "quark": "Quark's", "hqq": "HQQ's",
    "torchao": "torchao's", "auto-round": "AutoRound's", "fbgemm_fp8": "FBGEMM's FP8",
    "exl2": "EXL2", "exl3": "EXL3",
  ]

  /// By the end of a tensor's name.
  private static let tensors = [
    (".weight_scale_2", "ModelOpt's"), (".qweight", "AutoAWQ's or GPTQ's"), ("_blocks", "MXFP4"),
    (".weight.quant_state.bitsandbytes__nf4", "bitsandbytes'"),
  ]

  /// The format of a `quantization_config`, for people; nil where the tool is unknown.
  static func name(of block: JSONValue) -> String? {
    let object = block.object
    // ModelOpt alone has an algorithm, and names itself elsewhere.
    let method =
      object?["quant_method"]?.string ?? (object?["quant_algo"] == nil ? "" : "modelopt")
    guard let tool = methods[method] else { return nil }
    return [tool, object?["quant_algo"]?.string].compactMap(\.self).joined(separator: " ")
  }

  /// A tensor that tells of another tool, and whose format it is.
  static func mark(in names: [String]) -> (tensor: String, format: String)? {
    for (end, format) in tensors {
      if let tensor = names.first(where: { $0.hasSuffix(end) }) { return (tensor, format) }
    }
    return nil
  }
}
