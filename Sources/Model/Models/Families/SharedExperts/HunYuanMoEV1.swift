// HunYuanMoEV1ForCausalLM: Hunyuan-A13B.
//
// Source: transformers 5.17 modeling_hunyuan_v1_moe.py and configuration_hunyuan_v1_moe.py.

internal import JSON
internal import Transformer

func hunYuanMoEV1(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try GroupedQueryReader.hunYuan(&config, decoder)
  let size = try config.int("intermediate_size")
  let layers = decoder.layerCount
  let experts = try config.intForAll("num_experts", "num_local_experts", layers: layers)
  let perToken = try config.intForAll("moe_topk", "num_experts_per_tok", layers: layers)
  try config.checkChoice(of: perToken, from: experts, key: "moe_topk")
  // What transformers takes for granted.
  func require(_ key: String, _ value: Int) throws(ConfigError) {
    if try config.intForAll(key, layers: layers, default: value) != value {
      throw config.unsupported(key, expected: "\(value) for every layer", found: "another number")
    }
  }
  try require("moe_intermediate_size", size)
  try require("num_shared_expert", 1)
  try config.require("use_mixed_mlp_moe", toBe: true)
  try config.require("norm_topk_prob", toBe: true)
  try config.require("group_limited_greedy", toBe: false)
  try config.require("moe_layer_num_skipped", toBe: 0)
  // How training drops tokens.
  config.ignore("capacity_factor", "moe_drop_tokens", "moe_random_routing_dropped_token")
  return decoder.model { names in
    names.layer(
      attention.attention(names),
      MLPSpec(
        router: RouterSpec(
          linear: names.linear("mlp.gate.wg", decoder.hidden, experts), scoring: .softmax,
          expertsPerToken: perToken, normalizes: true),
        alwaysOn: [names.mlp("mlp.shared_mlp", size)],
        routed: (0..<experts).map { names.mlp("mlp.experts.\($0)", size) }))
  }
}

extension ConfigReader {
  /// A whole number, or a list with the same one for every layer. Further names are spellings of the same key.
  fileprivate mutating func intForAll(
    _ names: String..., layers: Int, default fallback: Int? = nil
  ) throws(ConfigError) -> Int {
    guard let name = names.first(where: hasList) else {
      return try int(names, default: fallback)
    }
    let numbers = try ints(name)
    guard let first = numbers.first, first > 0, numbers.count == layers,
      numbers.allSatisfy({ $0 == first })
    else {
      throw unsupported(
        name, expected: "one number above 0 for all of \(layers) layers", found: "\(numbers)")
    }
    for other in names where other != name { try require(other, toBe: .number(JSONNumber(first))) }
    return first
  }
}
