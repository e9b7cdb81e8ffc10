// Llama4ForCausalLM, and the text model of Llama4ForConditionalGeneration: Llama 4 Scout and Maverick.
//
// Source: transformers 5.17 modeling_llama4.py and configuration_llama4.py; config.json of
// meta-llama/Llama-4-Scout-17B-16E-Instruct.

internal import JSON
internal import Transformer

func llama4(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 8, headDimension: 128,
    RotaryReader(&config, theta: 500_000), order: .pairs)
  try attention.readBiases(&config)
  if try config.bool("use_qk_norm", default: true) {
    attention.queryKeyEpsilon = decoder.epsilon
  }
  // Some files have a number for it.
  if try config.flag("attn_temperature_tuning", default: true) {
    attention.sharpening = GroupedQuerySpec.Sharpening(
      strength: Float(try config.positive("attn_scale", default: 0.1)),
      period: Float(try config.positive("floor_scale", default: 8192)))
  } else {
    config.ignore("attn_scale", "floor_scale")
  }
  let positions = try Llama4Positions(&config, layers: decoder.layerCount)
  let experts = try Llama4Experts(&config, decoder)
  return decoder.model { names in
    names.layer(
      attention.attention(
        names, positions.reach[names.index], turns: positions.turns[names.index]),
      experts.mlp(names))
  }
}

/// Which layers turn by position, and how far back each sees.
private struct Llama4Positions {
  let turns: [Bool]
  let reach: [Reach]

  init(_ config: inout ConfigReader, layers: Int) throws(ConfigError) {
    let interval = try config.int("no_rope_layer_interval", default: 4)
    let listed = try config.ints("no_rope_layers")
    guard listed.isEmpty || listed.count >= layers && listed.allSatisfy({ [0, 1].contains($0) })
    else {
      throw config.unsupported(
        "no_rope_layers", expected: "0 or 1 for each of \(layers) layers", found: "\(listed)")
    }
    let turns = (0..<layers).map {
      listed.isEmpty ? ($0 + 1) % interval != 0 : listed[$0] == 1
    }
    let chunk = try config.intIfPresent("attention_chunk_size")
    let chunked =
      try config.choices(
        "layer_types", count: layers, of: ["full_attention": false, "chunked_attention": true])
      ?? turns
    if chunk == nil, chunked.contains(true) { throw config.missing("attention_chunk_size") }
    self.turns = turns
    reach = chunked.map { isChunked in
      chunk.flatMap { isChunked ? .chunk($0) : nil } ?? .whole
    }
  }
}

/// Experts whose router scales what they read, beside a shared one; dense layers between them.
private struct Llama4Experts {
  private let decoder: DecoderReader
  private let denseSize: Int
  private let size: Int
  private let count: Int
  private let perToken: Int
  private let isSparse: [Bool]

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    self.decoder = decoder
    size = try config.int("intermediate_size")
    denseSize = try config.int("intermediate_size_mlp", default: 16384)
    count = try config.int("num_local_experts", "num_experts")
    perToken = try config.int("num_experts_per_tok", default: 1)
    try config.checkChoice(of: perToken, from: count)
    let step = try config.int("interleave_moe_layer_step", default: 1)
    let layers = decoder.layerCount
    let listed: [Int]? = config.hasList("moe_layers") ? try config.ints("moe_layers") : nil
    config.ignore("moe_layers")
    isSparse = (0..<layers).map { layer in
      listed?.contains(layer) ?? ((layer + 1) % step == 0)
    }
  }

  func mlp(_ names: LayerNames) -> MLPSpec {
    if !isSparse[names.index] { return MLPSpec(dense: names.mlp("feed_forward", denseSize)) }
    return MLPSpec(
      router: RouterSpec(
        linear: names.linear("feed_forward.router", decoder.hidden, count), scoring: .sigmoid,
        expertsPerToken: perToken, normalizes: false, scalesInputs: true),
      alwaysOn: [names.mlp("feed_forward.shared_expert", size)],
      routed: (0..<count).map { names.mlp("feed_forward.experts.\($0)", size) })
  }
}
