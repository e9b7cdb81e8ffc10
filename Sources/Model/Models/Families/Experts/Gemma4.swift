// Gemma4ForCausalLM, and the text model of Gemma4ForConditionalGeneration: Gemma 4 26B-A4B and 31B.
//
// Source: transformers 5.17 modeling_gemma4.py and configuration_gemma4.py; config.json of google/gemma-4-26B-A4B.

internal import JSON
internal import Transformer

func gemma4(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try config.require("hidden_activation", "hidden_act", toBe: "gelu_pytorch_tanh")
  let decoder = try DecoderReader(&config, activation: .geluTanh, normOffset: 0, isTied: true)
  let attention = try Gemma4Attention(&config, decoder)
  let mlp = try Gemma4MLP(&config, decoder)
  // Embeddings that every layer has of its own, and layers that share keys and values: the small models have them.
  let perLayer = try config.int("hidden_size_per_layer_input", atLeast: 0, default: 256)
  if perLayer > 0 {
    throw config.unsupported("hidden_size_per_layer_input", expected: "0", found: "\(perLayer)")
  }
  try config.require("num_kv_shared_layers", toBe: 0)
  config.ignore("use_double_wide_mlp", "vocab_size_per_layer_input")
  let cap = try config.positiveIfPresent("final_logit_softcapping")
  var model = decoder.model { names in
    LayerSpec(
      index: names.index,
      branches: [
        Branch(
          preNorm: names.norm("input_layernorm", decoder.hidden),
          .sequence(attention.mixer(names)),
          postNorm: names.norm("post_attention_layernorm", decoder.hidden)),
        mlp.branch(names),
      ])
  }
  model.embeddingScale = Float(decoder.hidden).squareRoot()
  model.logitCap = cap.map { Float($0) }
  return model
}

/// Layers with a window, and wider heads in those that see all tokens.
private struct Gemma4Attention {
  private var local: GroupedQueryReader
  private var whole: GroupedQueryReader
  private let windows: [Int?]

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    let rotary = try RotaryReader.byLayerType(&config)
    // What transformers assumes where nothing is said is no plain rotation.
    if !config.hasObject("full_attention", in: "rope_parameters") {
      throw config.missing("rope_parameters.full_attention")
    }
    let valuesAreKeys = try config.bool("attention_k_eq_v", default: false)
    let bias = try config.bool("attention_bias", default: false)
    // Images are seen from both sides; texts are not.
    _ = try config.choice(
      "use_bidirectional_attention", of: ["vision": true, "none": false], default: "none")
    local = try GroupedQueryReader(
      &config, decoder, keyValueHeads: 4, headDimension: 256, rotary.local)
    let shared = valuesAreKeys ? try config.intIfPresent("num_global_key_value_heads") : nil
    if !valuesAreKeys { config.ignore("num_global_key_value_heads") }
    whole = try GroupedQueryReader(
      &config, decoder, keyValueHeads: shared ?? 4, headDimension: 512,
      keys: (
        shared == nil ? "num_key_value_heads" : "num_global_key_value_heads", "global_head_dim"
      ), rotary.whole)
    windows = try WindowReader(&config, layers: decoder.layerCount) { layer in
      (layer + 1) % 6 != 0 && layer + 1 < decoder.layerCount
    }.windows
    guard windows.last == .some(nil) else {
      throw config.unsupported(
        "layer_types", expected: "full_attention in the last layer", found: "sliding_attention")
    }
    func complete(_ reader: inout GroupedQueryReader) {
      reader.bias = bias
      reader.outputBias = bias
      reader.norms = .ofEachHead
      reader.scale = 1
      reader.valueEpsilon = decoder.epsilon
    }
    complete(&local)
    complete(&whole)
    whole.valuesAreKeys = valuesAreKeys
  }

  func mixer(_ names: LayerNames) -> SequenceMixer {
    let window = windows[names.index]
    return (window == nil ? whole : local).attention(names, window: window)
  }
}

/// A dense MLP, and experts beside it in a strand of their own.
private struct Gemma4MLP {
  private let decoder: DecoderReader
  private let size: Int
  private let experts: (count: Int, perToken: Int, size: Int)?

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    self.decoder = decoder
    size = try config.int("intermediate_size")
    if try config.bool("enable_moe_block", default: false) {
      let count = try config.int("num_experts")
      let perToken = try config.int("top_k_experts")
      try config.checkChoice(of: perToken, from: count, key: "top_k_experts")
      experts = (count, perToken, try config.int("moe_intermediate_size"))
    } else {
      config.ignore(
        "num_experts", "top_k_experts", "moe_intermediate_size", "expert_intermediate_size")
      experts = nil
    }
  }

  func branch(_ names: LayerNames) -> Branch<Mixer> {
    let hidden = decoder.hidden
    func norm(_ name: String) -> NormSpec { names.norm(name, hidden) }
    let dense = names.mlp("mlp", size)
    let scale = names.name("layer_scalar")
    guard let experts else {
      return Branch(
        preNorm: norm("pre_feedforward_layernorm"), .tokens(MLPSpec(dense: dense)),
        postNorm: norm("post_feedforward_layernorm"), statesScale: scale)
    }
    let router = RouterSpec(
      linear: names.linear("router.proj", hidden, experts.count), scoring: .softmax,
      expertsPerToken: experts.perToken, normalizes: true,
      norm: RouterNorm(
        gains: names.name("router.scale"), factor: 1 / Float(hidden).squareRoot(),
        epsilon: decoder.epsilon),
      expertScales: names.name("router.per_expert_scale"))
    return Branch(
      preNorm: nil,
      .tokens(
        MLPSpec(
          router: router, alwaysOn: [dense],
          routed: (0..<experts.count).map { names.mlp("experts.\($0)", experts.size) },
          strands: MLPSpec.Strands(
            alwaysOn: Strand(
              before: norm("pre_feedforward_layernorm"),
              behind: norm("post_feedforward_layernorm_1")),
            routed: Strand(
              before: norm("pre_feedforward_layernorm_2"),
              behind: norm("post_feedforward_layernorm_2"))))),
      postNorm: norm("post_feedforward_layernorm"), statesScale: scale)
  }
}
