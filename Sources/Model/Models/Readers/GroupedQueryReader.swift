// Grouped-query attention as config.json spells it.

internal import Transformer

/// Grouped-query attention.
struct GroupedQueryReader {
  /// Names of modules.
  struct Spelling {
    var module = "self_attn"
    var output = "o_proj"
    var queryNorm = "q_norm"
    var keyNorm = "k_norm"
  }

  /// What a norm of queries or keys takes together.
  enum Norms {
    case none
    case ofEachHead
    case ofAllHeads
  }

  /// Whether query, key and value have one.
  var bias = false
  var outputBias = false
  var norms = Norms.none
  /// Whether every head has a sink.
  var hasSinks = false
  /// Whether heads of a layer without a window do not turn.
  var turnsLocallyOnly = false
  /// Whether what the output projection reads is gated, by `gate_proj`.
  var isGated = false
  /// Whether the projection of queries makes such gates, too.
  var queryMakesGates = false
  /// What scores are multiplied with; nil for one over the root of the width of a head.
  var scale: Float?
  /// Whether the projection of keys makes values, too.
  var valuesAreKeys = false
  /// Set where values are normed without a weight: the epsilon.
  var valueEpsilon: Float?
  /// Set where queries and keys that turn are normed without a weight: the epsilon.
  var queryKeyEpsilon: Float?
  var spelling = Spelling()
  /// Of queries that do not turn.
  var sharpening: GroupedQuerySpec.Sharpening?
  private let decoder: DecoderReader
  private let keyValueHeads: Int
  private let headDimension: Int
  private let rotary: RotarySpec
  /// Of a layer with a window, where it has one of its own.
  private var localRotary: RotarySpec?

  /// - Parameters:
  ///   - keyValueHeads: where nothing is said.
  ///   - headDimension: where nothing is said; hidden size over heads where that is nil.
  ///   - keys: of the file that the two are.
  ///   - rotary: of the whole head, or the share that the file names; nil where heads do not turn.
  ///   - share: of a head that is rotated where nothing is said.
  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, keyValueHeads assumed: Int? = nil,
    headDimension fallback: Int? = nil,
    keys: (heads: String, width: String) = ("num_key_value_heads", "head_dim"),
    _ rotary: RotaryReader?, share: Double = 1, order: RotarySpec.Order = .halves
  ) throws(ConfigError) {
    self.decoder = decoder
    keyValueHeads = try config.int(keys.heads, default: assumed)
    if decoder.heads % keyValueHeads != 0 {
      throw config.unsupported(
        keys.heads, expected: "a divisor of \(decoder.heads) attention heads",
        found: "\(keyValueHeads)")
    }
    headDimension = try config.int(keys.width, default: fallback ?? decoder.hidden / decoder.heads)
    self.rotary =
      try rotary?.spec(config, headDimension: headDimension, share: share, order: order)
      ?? Self.still
  }

  private static let still = RotarySpec(dimensions: 0, theta: 1)

  var rotatedDimensions: Int { rotary.dimensions }

  /// Turns heads in layers with a window in a way of their own.
  mutating func turnLocally(
    _ config: ConfigReader, _ rotary: RotaryReader
  ) throws(ConfigError) {
    localRotary = try rotary.spec(config, headDimension: headDimension)
  }

  func attention(
    _ names: LayerNames, window: Int? = nil, turns: Bool = true
  ) -> SequenceMixer {
    attention(
      names, Reach(window: window), turns: turns && (window != nil || !turnsLocallyOnly))
  }

  /// - Parameter turns: whether queries and keys turn by their positions.
  func attention(_ names: LayerNames, _ reach: Reach, turns: Bool = true) -> SequenceMixer {
    let (own, shared) = (decoder.heads * headDimension, keyValueHeads * headDimension)
    func projection(_ name: String, _ outputs: Int) -> LinearSpec {
      names.linear("\(spelling.module).\(name)", decoder.hidden, outputs, bias: bias)
    }
    func norm(_ name: String, _ outputs: Int) -> NormSpec? {
      switch norms {
      case .none: nil
      case .ofEachHead: names.norm("\(spelling.module).\(name)", headDimension)
      case .ofAllHeads: names.norm("\(spelling.module).\(name)", outputs)
      }
    }
    var key = projection("k_proj", shared)
    if valuesAreKeys {
      // vLLM loads it twice, and asks config.json for both.
      key = LinearSpec(
        key.name, inputs: key.inputs, outputs: key.outputs, hasBias: key.hasBias,
        standsFor: [names.name("self_attn.v_proj")])
    }
    return .groupedQuery(
      GroupedQuerySpec(
        query: projection("q_proj", queryMakesGates ? 2 * own : own), key: key,
        value: valuesAreKeys ? key : projection("v_proj", shared),
        output: names.linear(
          "\(spelling.module).\(spelling.output)", own, decoder.hidden, bias: outputBias),
        queryNorm: norm(spelling.queryNorm, own), keyNorm: norm(spelling.keyNorm, shared),
        heads: decoder.heads, keyValueHeads: keyValueHeads, headDimension: headDimension,
        rotary: turns
          ? (reach == .whole ? rotary : localRotary ?? rotary)
          : Self.still,
        reach: reach,
        sinks: hasSinks ? names.name("self_attn.sinks") : nil, scale: scale,
        valueEpsilon: valueEpsilon, queryKeyEpsilon: turns ? queryKeyEpsilon : nil,
        sharpening: turns ? nil : sharpening,
        gate: isGated ? names.linear("self_attn.gate_proj", decoder.hidden, own) : nil,
        queryMakesGates: queryMakesGates))
  }
}
