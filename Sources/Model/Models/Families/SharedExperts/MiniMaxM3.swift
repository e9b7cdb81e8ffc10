// The text model of MiniMaxM3SparseForConditionalGeneration: MiniMax-M3.
//
// Source: transformers 5.17 modeling_minimax_m3_vl.py and configuration_minimax_m3_vl.py, which know the published keys; what
// vLLM 0.33 (minimax_m3/nvidia/model.py) loads as one.

internal import JSON
internal import Transformer

func miniMaxM3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  // The name of the activation as published; transformers writes another, and computes the same.
  try config.require(
    "hidden_act", toBe: .string(config.says("hidden_act", "silu") ? "silu" : "swigluoai"))
  let activation = Activation.clampedGates(
    alpha: Float(try config.positive("swiglu_alpha", default: 1.702)),
    limit: Float(try config.positive("swiglu_limit", default: 7)))
  let decoder = try DecoderReader(&config, activation: activation, normOffset: 1, isTied: false)
  let attention = try MiniMaxM3Attention(&config, decoder)
  let sparse = try config.eachLayer(
    decoder.layerCount, "mlp_layer_types", of: ["dense": false, "sparse": true],
    or: "moe_layer_freq"
  ) { _ in true }
  try config.require("first_k_dense_replace", toFollow: sparse.firstIndex(of: true) ?? 0)
  let denseSize = try config.int("dense_intermediate_size", default: 12288)
  let size = try config.int("intermediate_size")
  try config.require("moe_intermediate_size", toBe: .number(JSONNumber(size)))
  let sharedSize = try config.int("shared_intermediate_size", default: 3072)
  try config.require("n_shared_experts", toBe: 1)
  let experts = try config.int("num_local_experts", "num_experts")
  let perToken = try config.int("num_experts_per_tok", default: 4)
  try config.checkChoice(of: perToken, from: experts)
  let scalingFactor = Float(try config.positive("routed_scaling_factor", default: 2))
  try config.require("scoring_func", toBe: "sigmoid")
  try config.require("use_routing_bias", toBe: true)
  // Prediction layers, which are named otherwise than layers.
  config.ignore("num_mtp_modules", "num_nextn_predict_layers", "use_mtp", "mtp_transformer_layers")
  var model = decoder.model { names in
    names.layer(
      attention.mixer(names),
      sparse[names.index]
        ? MLPSpec(
          router: RouterSpec(
            linear: names.linear("block_sparse_moe.gate", decoder.hidden, experts),
            scoring: .sigmoid,
            correctionBias: names.name("block_sparse_moe.e_score_correction_bias"),
            expertsPerToken: perToken, normalizes: true, scalingFactor: scalingFactor),
          alwaysOn: [names.mlp("block_sparse_moe.shared_experts", sharedSize)],
          routed: (0..<experts).map {
            names.mlp("block_sparse_moe.experts.\($0)", size, projections: ("w1", "w3", "w2"))
          })
        : MLPSpec(dense: names.mlp("mlp", denseSize)))
  }
  model.beside += ["mtp.", "language_model.mtp.", "language_model.model.mtp."]
  return model
}

/// Layers that attend to some blocks of tokens, which an indexer chooses, among those that see all.
private struct MiniMaxM3Attention {
  private var attention: GroupedQueryReader
  private let indexes: [Bool]

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    let rotary = try RotaryReader(&config, theta: 5_000_000, isPartial: true)
    let head = try config.int("head_dim", default: 128)
    let rotated = try config.intIfPresent("rotary_dim")
    // Where neither key is there, transformers turns whole heads, and vLLM half of each.
    if rotated == nil, !rotary.namesShare { throw config.missing("rotary_dim") }
    attention = try GroupedQueryReader(
      config, decoder, keyValueHeads: try config.int("num_key_value_heads", default: 4),
      headDimension: head, rotary, rotated: rotated)
    attention.norms = .ofEachHead
    try config.require("use_qk_norm", toBe: true)
    try config.require("qk_norm_type", toBe: "per_head")
    try config.require("use_gemma_norm", toBe: true)
    let layers = decoder.layerCount
    let listed = try config.choices(
      "layer_types", count: layers, of: ["full_attention": false, "minimax_m3_sparse": true])
    var (heads, width) = (
      try config.int("index_n_heads", default: 4), try config.int("index_head_dim", default: 128)
    )
    var (block, blocks) = (
      try config.int("index_block_size", default: 128),
      try config.int("index_topk_blocks", default: 16)
    )
    config.ignore("index_local_blocks")
    var counted: [Bool]?
    if var sparse = try config.object("sparse_attention_config") {
      heads = try sparse.int("sparse_num_index_heads", default: heads)
      width = try sparse.int("sparse_index_dim", default: width)
      block = try sparse.int("sparse_block_size", default: block)
      blocks = try sparse.int("sparse_topk_blocks", default: blocks)
      try sparse.require("use_sparse_attention", toBe: true)
      let numbers = try sparse.ints("sparse_attention_freq")
      if numbers.count != layers || !Set(numbers).isSubset(of: [0, 1]) {
        throw sparse.implausible(
          "sparse_attention_freq", expected: "\(layers) times 0 or 1, one a layer",
          found: "\(numbers)")
      }
      counted = numbers.map { $0 == 1 }
      // Values of an indexer would be added to what is attended to.
      let without = try sparse.ints("sparse_disable_index_value")
      if !without.isEmpty, without != numbers {
        throw sparse.unsupported(
          "sparse_disable_index_value", expected: "1 where there is an indexer",
          found: "\(without)")
      }
      // How blocks are scored, and which are always chosen.
      sparse.ignore("sparse_init_block", "sparse_local_block", "sparse_score_type")
      try config.finish(sparse)
    }
    if let listed, let counted, listed != counted {
      throw config.implausible(
        "layer_types", expected: "what `sparse_attention_freq` says", found: "other layers")
    }
    indexes = listed ?? counted ?? Array(repeating: false, count: layers)
    attention.indexer = (heads, width, block * blocks)
  }

  func mixer(_ names: LayerNames) -> SequenceMixer {
    attention.attention(names, indexes: indexes[names.index])
  }
}
