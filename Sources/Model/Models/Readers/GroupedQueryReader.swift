// Grouped-query attention as config.json spells it.

internal import Transformer

/// Grouped-query attention.
struct GroupedQueryReader {
  /// Names of modules.
  struct Spelling {
    var module = "self_attn"
    /// Of the Linear that makes queries, keys and values, where one does.
    var joined = "qkv_proj"
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

  /// A projection of the mixer's input that makes gates.
  struct Gate {
    let name: String
    /// Whether it makes one for each head, and not for each number.
    var isByHead = false
    var activation = GroupedQuerySpec.GateActivation.sigmoid
  }

  /// Whether query, key and value have one.
  var bias = false
  var outputBias = false
  var norms = Norms.none
  /// Whether these norms stand behind the rotation.
  var normsFollowRotation = false
  /// Whether one Linear makes queries, keys and values.
  var isJoined = false
  /// The name of the tensor with the heads' sinks.
  var sinks: String?
  /// Whether heads of a layer without a window do not turn.
  var turnsLocallyOnly = false
  /// What the output projection reads is gated by.
  var gate: Gate?
  /// Whether the projection of queries makes such gates, too.
  var queryMakesGates = false
  /// What scores are multiplied with; nil for one over the root of the width of a head.
  var scale: Float?
  /// What values are multiplied with.
  var valueScale: Float = 1
  /// The width of a head's values; nil for that of its keys.
  var valueDimension: Int?
  /// What chooses the tokens that layers attend to: its heads, their width, and how many tokens.
  var indexer: (heads: Int, width: Int, chosen: Int)?
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
  ///   - keyValueHeads: where nothing is said; null means as many as queries have then.
  ///   - headDimension: where nothing is said; hidden size over heads where that is nil.
  ///   - keys: of the file that the two are.
  ///   - rotary: of the whole head, or the share that the file names; nil where heads do not turn.
  ///   - share: of a head that is rotated where nothing is said.
  ///   - rotated: what `rotary_dim` says.
  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, keyValueHeads assumed: Int? = nil,
    headDimension fallback: Int? = nil,
    keys: (heads: String, width: String) = ("num_key_value_heads", "head_dim"),
    _ rotary: RotaryReader?, share: Double = 1, rotated: Int? = nil,
    order: RotarySpec.Order = .halves
  ) throws(ConfigError) {
    let isNamed = config.names(keys.heads)
    let shared = try config.int(
      keys.heads, default: assumed.map { isNamed ? decoder.heads : $0 })
    let width = try config.int(keys.width, default: fallback ?? decoder.hidden / decoder.heads)
    try self.init(
      config, decoder, keyValueHeads: shared, headDimension: width, key: keys.heads, rotary,
      share: share, rotated: rotated, order: order)
  }

  /// With sizes that its caller has read.
  ///
  /// - Parameter key: of the file that says how many key-value heads there are.
  init(
    _ config: ConfigReader, _ decoder: DecoderReader, keyValueHeads: Int, headDimension: Int,
    key: String = "num_key_value_heads", _ rotary: RotaryReader?, share: Double = 1,
    rotated: Int? = nil, order: RotarySpec.Order = .halves
  ) throws(ConfigError) {
    self.decoder = decoder
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    if decoder.heads % keyValueHeads != 0 {
      throw config.implausible(
        key, expected: "a divisor of \(decoder.heads) attention heads", found: "\(keyValueHeads)")
    }
    self.rotary =
      try rotary?.spec(
        config, headDimension: headDimension, share: share, rotated: rotated, order: order)
      ?? Self.still
  }

  private static let still = RotarySpec(dimensions: 0, theta: 1)

  /// Whether all four projections have biases, by the one key that says so.
  mutating func readBiases(
    _ config: inout ConfigReader, default fallback: Bool = false
  ) throws(ConfigError) {
    bias = try config.bool("attention_bias", default: fallback)
    outputBias = bias
  }

  /// Turns heads in layers with a window in a way of their own.
  mutating func turnLocally(
    _ config: ConfigReader, _ rotary: RotaryReader
  ) throws(ConfigError) {
    localRotary = try rotary.spec(config, headDimension: headDimension)
  }

  /// Refuses heads of a layer that do not share keys and values evenly.
  func check(_ heads: [Int], key: String, _ config: ConfigReader) throws(ConfigError) {
    if let uneven = heads.first(where: { $0 < 1 || $0 % keyValueHeads != 0 }) {
      throw config.implausible(
        key, expected: "multiples of \(keyValueHeads) key-value heads", found: "\(uneven)")
    }
  }

  func attention(
    _ names: LayerNames, window: Int? = nil, turns: Bool = true, heads: Int? = nil,
    indexes: Bool = false
  ) -> SequenceMixer {
    attention(
      names, Reach(window: window), turns: turns && (window != nil || !turnsLocallyOnly),
      heads: heads, indexes: indexes)
  }

  /// - Parameters:
  ///   - turns: whether queries and keys turn by their positions.
  ///   - heads: nil for as many as most layers have.
  ///   - indexes: whether the layer has an indexer.
  func attention(
    _ names: LayerNames, _ reach: Reach, turns: Bool = true, heads: Int? = nil,
    indexes: Bool = false
  ) -> SequenceMixer {
    let heads = heads ?? decoder.heads
    let (own, shared) = (heads * headDimension, keyValueHeads * headDimension)
    let width = valueDimension ?? headDimension
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
    let all = isJoined ? projection(spelling.joined, own + 2 * shared) : nil
    var key = projection("k_proj", shared)
    if valuesAreKeys {
      // vLLM loads it twice, and asks config.json for both.
      key = LinearSpec(
        key.name, inputs: key.inputs, outputs: key.outputs, hasBias: key.hasBias,
        standsFor: [names.name("self_attn.v_proj")])
    }
    return .groupedQuery(
      GroupedQuerySpec(
        query: all ?? projection("q_proj", queryMakesGates ? 2 * own : own), key: all ?? key,
        value: all ?? (valuesAreKeys ? key : projection("v_proj", keyValueHeads * width)),
        output: names.linear(
          "\(spelling.module).\(spelling.output)", heads * width, decoder.hidden,
          bias: outputBias),
        queryNorm: norm(spelling.queryNorm, own), keyNorm: norm(spelling.keyNorm, shared),
        normsFollowRotation: normsFollowRotation, heads: heads, keyValueHeads: keyValueHeads,
        headDimension: headDimension, valueDimension: width,
        rotary: turns
          ? (reach == .whole ? rotary : localRotary ?? rotary)
          : Self.still,
        reach: reach,
        sinks: sinks.map { names.name("self_attn.\($0)") }, scale: scale, valueScale: valueScale,
        valueEpsilon: valueEpsilon, queryKeyEpsilon: turns ? queryKeyEpsilon : nil,
        sharpening: turns ? nil : sharpening,
        gate: gate.map {
          names.linear("self_attn.\($0.name)", decoder.hidden, $0.isByHead ? heads : own)
        }, gateActivation: gate?.activation ?? .sigmoid, queryMakesGates: queryMakesGates,
        indexer: indexes ? indexer(names) : nil))
  }

  private func indexer(_ names: LayerNames) -> IndexerSpec? {
    guard let indexer else { return nil }
    func linear(_ name: String, _ outputs: Int) -> LinearSpec {
      names.linear("self_attn.index_\(name)", decoder.hidden, outputs)
    }
    return IndexerSpec(
      query: linear("q_proj", indexer.heads * indexer.width), readingAt: .input,
      key: linear("k_proj", indexer.width), weights: nil,
      vectors: ["q", "k"].map {
        VectorSpec(
          names.name(ParameterName.weight(of: "self_attn.index_\($0)_norm")),
          size: indexer.width)
      }, chosen: indexer.chosen, isLoadedWithKeys: true)
  }
}
