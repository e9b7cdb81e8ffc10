// The `quantization_config` block of config.json, written and read.

package import JSON
package import Quantization

/// A source or output whose `quantization_config` Sluice cannot read.
package struct QuantizationConfigError: Error, CustomStringConvertible, Equatable {
  package let file: String
  package let key: String
  package let expected: String
  package let found: String
  /// What another tool's weights are called, where that is known.
  package var format: String?

  package var description: String {
    if let format {
      return "\(file): the weights are quantized in \(format) format, which is not read yet; "
        + "start from the unquantized checkpoint"
    }
    return "\(file): `quantization_config.\(key)` is \(found), but only \(expected) is supported; "
      + "start from the unquantized checkpoint"
  }
}

/// One scheme for all Linears but the ignored ones, in the `pack-quantized` format.
///
/// Source: compressed-tensors 0.19 `QuantizationConfig`, as llm-compressor 0.14 writes it.
package struct QuantizationConfig: Sendable, Equatable {
  package let scheme: QuantScheme
  /// Exact module names, in model order.
  package let ignore: [String]

  package init(scheme: QuantScheme, ignore: [String]) {
    self.scheme = scheme
    self.ignore = ignore
  }

  /// The version of compressed-tensors whose format this is.
  package static let formatVersion = "0.19.0"

  package var json: JSONValue {
    let weights = JSONObject([
      ("actorder", nil), ("block_structure", nil), ("dynamic", false),
      ("group_size", .number(JSONNumber(scheme.groupSize))),
      ("num_bits", .number(JSONNumber(scheme.bits))), ("observer", "memoryless_minmax"),
      ("observer_kwargs", .object(JSONObject())), ("scale_dtype", nil), ("strategy", "group"),
      ("symmetric", .bool(scheme.isSymmetric)), ("type", "int"),
      ("zp_dtype", scheme.isSymmetric ? nil : "torch.int8"),
    ])
    let group = JSONObject([
      ("format", "pack-quantized"), ("input_activations", nil), ("output_activations", nil),
      ("targets", ["Linear"]), ("weights", .object(weights)),
    ])
    return .object(
      JSONObject([
        ("config_groups", .object(JSONObject([("group_0", .object(group))]))),
        ("format", "pack-quantized"), ("global_compression_ratio", nil),
        ("ignore", .array(ignore.map { .string($0) })), ("kv_cache_scheme", nil),
        ("quant_method", "compressed-tensors"), ("quantization_status", "compressed"),
        ("sparsity_config", .object(JSONObject())), ("transform_config", .object(JSONObject())),
        ("version", .string(Self.formatVersion)),
      ]))
  }

  /// Reads a block of the kind that `json` makes; anything else is refused.
  package init(_ block: JSONValue, file: String) throws(QuantizationConfigError) {
    func refuse(_ key: String, _ expected: String, _ found: JSONValue?) -> QuantizationConfigError {
      QuantizationConfigError(
        file: file, key: key, expected: expected, found: found?.serialized() ?? "missing")
    }
    let object = block.object ?? JSONObject()
    for (key, value) in [
      ("quant_method", "compressed-tensors"), ("format", "pack-quantized"),
      ("quantization_status", "compressed"),
    ] where object[key]?.string != value {
      throw refuse(key, "\"\(value)\"", object[key])
    }
    let groups = object["config_groups"]?.object ?? JSONObject()
    guard groups.count == 1, let group = groups.entries[0].value.object else {
      throw refuse("config_groups", "one group", object["config_groups"])
    }
    guard group["targets"] == ["Linear"] else {
      throw refuse("config_groups.targets", "[\"Linear\"]", group["targets"])
    }
    let weights = group["weights"]?.object ?? JSONObject()
    for (key, value) in [("type", "int"), ("strategy", "group")] as [(String, JSONValue)]
    where weights[key] != value {
      throw refuse("weights.\(key)", value.serialized(), weights[key])
    }
    // What would change the numbers or bring tensors of its own must be absent, null or empty.
    for (key, value) in [
      ("config_groups.input_activations", group["input_activations"]),
      ("config_groups.output_activations", group["output_activations"]),
      ("weights.actorder", weights["actorder"]), ("kv_cache_scheme", object["kv_cache_scheme"]),
      ("sparsity_config", object["sparsity_config"]),
      ("transform_config", object["transform_config"]),
    ] where ![nil, JSONValue.null, .object(JSONObject())].contains(value) {
      throw refuse(key, "null", value)
    }
    guard let bits = weights["num_bits"]?.int, bits == 4 || bits == 8 else {
      throw refuse("weights.num_bits", "4 or 8", weights["num_bits"])
    }
    guard let groupSize = weights["group_size"]?.int, QuantScheme.groupSizes.contains(groupSize)
    else {
      throw refuse("weights.group_size", "32, 64 or 128", weights["group_size"])
    }
    guard let isSymmetric = weights["symmetric"]?.bool else {
      throw refuse("weights.symmetric", "true or false", weights["symmetric"])
    }
    guard let names = object["ignore"]?.array, names.allSatisfy({ $0.string != nil }) else {
      throw refuse("ignore", "a list of module names", object["ignore"])
    }
    scheme = QuantScheme(bits: bits, groupSize: groupSize, isSymmetric: isSymmetric)
    ignore = names.compactMap(\.string)
  }
}
