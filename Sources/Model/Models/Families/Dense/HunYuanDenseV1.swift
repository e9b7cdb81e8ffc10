// HunYuanDenseV1ForCausalLM: Hunyuan 0.5B to 7B; and what HunYuanMoEV1ForCausalLM shares with it.
//
// Source: transformers 5.17 modeling_hunyuan_v1_dense.py and configuration_hunyuan_v1_dense.py; vLLM 0.33 serves both by
// way of transformers' code.

internal import JSON
internal import Transformer

func hunYuanDenseV1(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try GroupedQueryReader.hunYuan(&config, decoder)
  let size = try config.int("intermediate_size")
  return decoder.model { names in
    names.layer(attention.attention(names), MLPSpec(dense: names.mlp("mlp", size)))
  }
}

extension GroupedQueryReader {
  /// Heads that are normed once they have turned.
  static func hunYuan(
    _ config: inout ConfigReader, _ decoder: DecoderReader
  ) throws(ConfigError) -> GroupedQueryReader {
    var attention = try GroupedQueryReader(
      &config, decoder, keyValueHeads: decoder.heads, RotaryReader(&config, theta: 10_000))
    try attention.readBiases(&config)
    attention.norms = .ofEachHead
    attention.spelling.queryNorm = "query_layernorm"
    attention.spelling.keyNorm = "key_layernorm"
    attention.normsFollowRotation = true
    try config.require("use_qk_norm", toBe: true)
    try config.require("use_rotary_pos_emb", toBe: true)
    // Keys and values that layers share, and kinds of models that the same code made once.
    for key in ["use_cla", "position_embedding_xdrope", "add_classification_head"] {
      try config.require(key, toBe: false)
    }
    config.ignore(
      "attention_head_dim", "cla_share_factor", "class_num", "dense_list", "org_vocab_size",
      "pool_type")
    return attention
  }
}
