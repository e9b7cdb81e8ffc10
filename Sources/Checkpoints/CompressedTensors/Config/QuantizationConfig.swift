// The `quantization_config` block of config.json, written and read.

package import JSON
package import Models
package import Quantization
package import Transformer

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

/// Schemes by their targets, for all Linears but the ignored ones.
///
/// Source: compressed-tensors 0.19 `QuantizationConfig`, as llm-compressor 0.14 writes it.
package struct QuantizationConfig: Sendable, Equatable {
  /// In the order of the file.
  package let groups: [QuantizationScheme]
  /// Exact module names, in model order; in others' files also `re:EXPRESSION`.
  package let ignore: [String]
  /// Of keys and values; nil where they are kept as they are.
  package let cache: CacheScheme?

  package init(groups: [QuantizationScheme], ignore: [String], cache: CacheScheme? = nil) {
    self.groups = groups
    self.ignore = ignore
    self.cache = cache
  }

  /// The version of compressed-tensors that stores this so.
  private var version: String { groups.map(CompressionFormats.version).max() ?? "" }

  // MARK: Writing

  package var json: JSONValue {
    let formats = groups.map(CompressionFormats.name)
    let format = Set(formats).count > 1 ? CompressionFormats.mixed : formats.first ?? "dense"
    let entries = zip(groups, formats).enumerated().map { index, group in
      ("group_\(index)", group.0.json(format: group.1))
    }
    return [
      "config_groups": .object(JSONObject(entries)),
      "format": .string(format),
      "global_compression_ratio": nil,
      "ignore": .array(ignore.map { .string($0) }),
      "kv_cache_scheme": cache?.arguments.json(ofActivations: true) ?? nil,
      "quant_method": "compressed-tensors",
      "quantization_status": "compressed",
      "sparsity_config": .object(JSONObject()),
      "transform_config": .object(JSONObject()),
      "version": .string(version),
    ]
  }

  // MARK: Reading

  /// Reads a block of compressed-tensors; what Sluice does not understand is refused.
  ///
  /// - Parameter formats: that the caller reads.
  package init(
    _ block: JSONValue, file: String,
    formats: [any CompressionFormat] = CompressionFormats.written
  ) throws(QuantizationConfigError) {
    var keys = QuantizationKeys(block, file: file)
    try keys.require("quant_method", oneOf: ["compressed-tensors"])
    let names = formats.flatMap(\.names)
    let format = keys["format"].string ?? ""
    // A caller that reads one format reads no mixture.
    if !names.contains(format), formats.count < 2 || format != CompressionFormats.mixed {
      throw keys.refusal("format", CompressionFormats.oneOf(names))
    }
    try keys.require("quantization_status", oneOf: ["compressed"])
    // What would change the numbers or bring tensors of its own must be absent, null or empty.
    let empty = JSONValue.object(JSONObject())
    try keys.require("transform_config", oneOf: [nil, empty])
    if keys["sparsity_config"].object?["format"] != "dense" {
      try keys.require("sparsity_config", oneOf: [nil, empty])
    }
    keys.pass("version", "global_compression_ratio", "moe_sparsity_config")
    ignore = try keys.names("ignore")
    cache = try Self.cache(keys["kv_cache_scheme"], file: file)

    guard let entries = keys["config_groups"].object?.entries, !entries.isEmpty,
      entries.allSatisfy({ $0.value.object != nil })
    else { throw keys.refusal("config_groups", "one group or more") }
    var groups: [QuantizationScheme] = []
    for entry in entries {
      do {
        groups.append(try Self.group(entry.value, format: format, formats))
      } catch {
        throw QuantizationConfigError(problem: error, in: entry.value, file: file)
      }
    }
    self.groups = groups
    try keys.finish()
  }

  private static func cache(
    _ node: JSONValue, file: String
  ) throws(QuantizationConfigError) -> CacheScheme? {
    if node == .null { return nil }
    do {
      return try CacheScheme(node)
    } catch {
      throw QuantizationConfigError(problem: error.within("kv_cache_scheme"), of: node, file: file)
    }
  }

  private static func group(
    _ node: JSONValue, format: String, _ formats: [any CompressionFormat]
  ) throws(ArgumentProblem) -> QuantizationScheme {
    // What a recipe may leave out, whoever saves a model does not.
    for path in [["targets"], ["weights"]] where [nil, .null].contains(node.node(at: path)) {
      throw ArgumentProblem(path, expected: "a value")
    }
    if let field = QuantizationArguments.storedAlways.first(where: {
      [nil, .null].contains(node.node(at: ["weights", $0]))
    }) {
      throw ArgumentProblem(["weights", field], expected: "a value")
    }
    var scheme = try QuantizationScheme(node)
    let name = scheme.format ?? (format == CompressionFormats.mixed ? nil : format)
    scheme.format = nil
    let inferred = CompressionFormats.inferredName(for: scheme)
    guard let found = formats.first(where: { $0.names.contains(name ?? inferred) }) else {
      throw ArgumentProblem(
        ["format"], expected: CompressionFormats.oneOf(formats.flatMap(\.names)))
    }
    scheme.format = name
    scheme = CompressionFormats.withoutInferredFormat(scheme)
    // How scales were found is no part of what is stored.
    scheme.weights = scheme.weights?.stored
    if let problem = found.problem(reading: scheme) { throw problem }
    return scheme
  }
}

extension QuantizationConfig {
  /// The scheme of each Linear of a model, and of its embedding.
  ///
  /// - Parameters:
  ///   - file: config.json, for errors.
  ///   - isPlain: whether a tensor is there as it is where nothing is quantized: a head that many files forget to ignore.
  package func schemes(
    of spec: ModelSpec, file: String, isPlain: (_ tensor: String) -> Bool
  ) throws -> LinearSchemes {
    let linears = spec.layers.flatMap(\.linears)
    let ends = spec.tiesEmbeddings ? [] : spec.ends.filter { !isPlain($0.weight) }
    return try schemes(
      of: linears + ends.filter { $0 == spec.head },
      and: ends.first { $0 == spec.embeddingTable }, file: file)
  }

  /// - Parameter embedding: what is no Linear, and is meant by its name or an expression; nil for none.
  package func schemes(
    of linears: [LinearSpec], and embedding: LinearSpec? = nil, file: String
  ) throws -> LinearSchemes {
    let ignored = try IgnoredModules(ignore, file: file)
    var names: Set<String> = []
    for linear in linears + (embedding.map { [$0] } ?? []) {
      for module in linear.modules where try ignored.pattern(matching: module) != nil {
        names.insert(module)
      }
    }
    var schemes = try LinearSchemes(
      reading: groups, of: linears, and: embedding, ignoring: names,
      origin: file + ": `quantization_config.config_groups`")
    schemes.cache = cache
    return schemes
  }
}

extension QuantizationScheme {
  fileprivate func json(format: String) -> JSONValue {
    [
      "format": .string(format),
      "input_activations": inputActivations?.json(ofActivations: true) ?? nil,
      "output_activations": outputActivations?.json(ofActivations: true) ?? nil,
      "targets": .array(targets.map { .string($0) }),
      "weights": weights?.json(ofActivations: false) ?? nil,
    ]
  }
}

extension QuantizationArguments {
  fileprivate func json(ofActivations: Bool) -> JSONValue {
    .object(
      JSONObject(
        fields(ofActivations: ofActivations).sorted { $0.key < $1.key }
          .map { ($0.key, JSONValue($0.value)) }))
  }
}

extension QuantizationConfigError {
  /// - Parameter node: what stands under the first key of the problem's path.
  fileprivate init(problem: ArgumentProblem, of node: JSONValue, file: String) {
    self.init(
      file: file, key: problem.path.joined(separator: "."), expected: problem.expected ?? "null",
      found: node.node(at: problem.path.dropFirst())?.shortText ?? "missing")
  }

  fileprivate init(problem: ArgumentProblem, in node: JSONValue, file: String) {
    let problem = problem.spelled(in: node)
    // A field of weights is told by itself; what else a group holds, by the group.
    let key = (problem.path.count > 1 ? [] : ["config_groups"]) + problem.path
    self.init(
      file: file, key: key.joined(separator: "."), expected: problem.expected ?? "null",
      found: node.node(at: problem.path)?.shortText ?? "missing")
  }
}

extension JSONValue: ArgumentNode {
  fileprivate init(_ value: ArgumentValue) {
    switch value {
    case .null: self = .null
    case .bool(let flag): self = .bool(flag)
    case .int(let number): self = .int(number)
    case .text(let text): self = .string(text)
    case .list(let values): self = .array(values.map { JSONValue($0) })
    case .empty: self = .object(JSONObject())
    case .other: preconditionFailure("a value without a spelling")
    }
  }

  package var argument: ArgumentValue {
    if self == .null { return .null }
    if let bool { return .bool(bool) }
    if let int { return .int(int) }
    if let string { return .text(string) }
    if let array { return .list(array.map(\.argument)) }
    if let object { return object.entries.isEmpty ? .empty : .other }
    return .other
  }

  package var fields: [(key: String, node: JSONValue)]? {
    object?.entries.map { ($0.key, $0.value) }
  }
}
