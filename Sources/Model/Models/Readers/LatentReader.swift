// Multi-head latent attention as DeepSeek's models and their kin spell it.

internal import JSON
internal import Transformer

struct LatentReader {
  private let decoder: DecoderReader
  private let queryRank: Int?
  private let rank: Int
  private let plain: Int
  private let value: Int
  private let bias: Bool
  private let rotary: RotarySpec
  private let turns: Bool
  private let scale: Float
  private var indexer: (heads: Int, width: Int, chosen: Int)?
  /// Names of modules.
  var spelling = Spelling()

  struct Spelling {
    var module = "self_attn"
    var output = "o_proj"
    /// Of what gates heads, where there is such.
    var gate: String?
    /// Whether each number of a head has a gate of its own. vLLM 0.33 loads that with the latents then
    /// (`fused_qkv_a_g_proj` in mla.py of its kimi_k3).
    var gatesNumbers = false
  }

  /// transformers norms latents with this, whatever `rms_norm_eps` says.
  private static let epsilon: Float = 1e-6

  /// Source: transformers `DeepseekV2Attention`, `DeepseekV3Attention`.
  ///
  /// - Parameters:
  ///   - interleaves: whether neighbours turn together, where nothing is said; nil where they do and no key says so.
  ///   - isSparse: whether indexers choose what is attended to.
  ///   - namesRotated: whether `head_dim` is the width that turns; where it is not, its caller reads it.
  ///   - turns: whether queries and keys turn by their positions.
  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, interleaves: Bool?,
    isSparse: Bool = false, namesRotated: Bool = true, turns: Bool = true
  ) throws(ConfigError) {
    self.decoder = decoder
    queryRank = try config.intIfPresent("q_lora_rank")
    rank = try config.int("kv_lora_rank")
    plain = try config.int("qk_nope_head_dim")
    value = try config.int("v_head_dim")
    bias = try config.bool("attention_bias", default: false)
    let rotated = try config.int("qk_rope_head_dim")
    self.turns = turns
    (rotary, scale) =
      try turns
      ? Self.rotation(&config, interleaves: interleaves, rotated: rotated, plain: plain)
      : (RotarySpec(dimensions: rotated, theta: 1), 1 / Float(plain + rotated).squareRoot())
    try config.require("num_key_value_heads", toFollow: decoder.heads)
    // What transformers 5 writes beside them; where heads are sparse, it reads over another value.
    if isSparse {
      config.ignore("head_dim", "indexer_rope_interleave")
      indexer = (
        try config.int("index_n_heads"), try config.int("index_head_dim"),
        try config.int("index_topk")
      )
      if queryRank == nil { throw config.missing("q_lora_rank") }
    } else if turns, namesRotated {
      try config.require("head_dim", toFollow: rotated)
    }
    try config.require("qk_head_dim", toFollow: plain + rotated)
  }

  private static func rotation(
    _ config: inout ConfigReader, interleaves: Bool?, rotated: Int, plain: Int
  ) throws(ConfigError) -> (RotarySpec, scale: Float) {
    let pairs = try interleaves.map { fallback throws(ConfigError) in
      try config.bool("rope_interleave", default: fallback)
    }
    let turnsPairs = pairs ?? true
    for key in ["rope_interleave", "rope_interleaved", "rotary_interleaved"] {
      try config.require(key, toBe: .bool(turnsPairs))
    }
    try config.require("use_mla", toBe: true)
    let reader = try RotaryReader(&config, isPartial: true)
    let rotary = try reader.spec(
      config, headDimension: rotated, order: turnsPairs ? .pairs : .halves)
    if rotary.dimensions != rotated {
      throw config.unsupported(
        "partial_rotary_factor", expected: "1", found: "\(rotary.dimensions) of \(rotated)")
    }
    let scale = Float(reader.mscale * reader.mscale / Double(plain + rotated).squareRoot())
    guard scale.isFinite else {
      throw config.unsupported(
        "rope_scaling.mscale_all_dim", expected: "a number that sharpens within float32",
        found: "one that multiplies scores by \(reader.mscale * reader.mscale)")
    }
    return (rotary, scale)
  }

  /// - Parameter indexes: whether the layer has an indexer, and not the choice of the layer before it.
  func attention(_ names: LayerNames, indexes: Bool = true) -> SequenceMixer {
    let hidden = decoder.hidden
    let queries = decoder.heads * (plain + rotary.dimensions)
    func linear(
      _ name: String, _ inputs: Int, _ outputs: Int, bias: Bool = false
    ) -> LinearSpec {
      names.linear("\(spelling.module).\(name)", inputs, outputs, bias: bias)
    }
    func norm(_ name: String, _ size: Int) -> NormSpec {
      names.norm("\(spelling.module).\(name)", size, epsilon: Self.epsilon)
    }
    let query: LatentSpec.Query =
      if let queryRank {
        .latent(
          down: linear("q_a_proj", hidden, queryRank, bias: bias),
          norm: norm("q_a_layernorm", queryRank), up: linear("q_b_proj", queryRank, queries))
      } else {
        .direct(linear("q_proj", hidden, queries))
      }
    return .latent(
      LatentSpec(
        query: query,
        keyValueDown: linear(
          "kv_a_proj_with_mqa", hidden, rank + rotary.dimensions, bias: bias),
        keyValueNorm: norm("kv_a_layernorm", rank),
        keyValueUp: linear("kv_b_proj", rank, decoder.heads * (plain + value)),
        output: linear(spelling.output, decoder.heads * value, hidden, bias: bias),
        heads: decoder.heads, plainDimension: plain, valueDimension: value, rotary: rotary,
        turns: turns, scale: scale,
        gate: spelling.gate.map {
          linear($0, hidden, decoder.heads * (spelling.gatesNumbers ? value : 1))
        }, loadsGateAsOne: spelling.gatesNumbers,
        indexer: indexes ? indexer(names) : nil))
  }

  private func indexer(_ names: LayerNames) -> IndexerSpec? {
    guard let indexer, let queryRank else { return nil }
    func linear(_ name: String, _ inputs: Int, _ outputs: Int) -> LinearSpec {
      names.linear("self_attn.indexer.\(name)", inputs, outputs)
    }
    // A norm with a mean and a bias.
    let norm = names.name("self_attn.indexer.k_norm")
    return IndexerSpec(
      query: linear("wq_b", queryRank, indexer.heads * indexer.width), readingAt: .queryLatent,
      key: linear("wk", decoder.hidden, indexer.width),
      weights: linear("weights_proj", decoder.hidden, indexer.heads),
      vectors: [ParameterName.weight(of: norm), ParameterName.bias(of: norm)].map {
        VectorSpec($0, size: indexer.width)
      }, chosen: indexer.chosen)
  }
}
