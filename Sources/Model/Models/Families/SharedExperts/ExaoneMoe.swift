// ExaoneMoeForCausalLM: K-EXAONE; and ExaoneMoEForCausalLM, its name where it was published first.
//
// Source: transformers 5.17 modeling_exaone_moe.py and configuration_exaone_moe.py; vLLM 0.33, registry.py, which has both
// names for one class.

internal import JSON
internal import Transformer

func exaoneMoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 32, RotaryReader(&config))
  attention.norms = .ofEachHead
  let windows = try WindowReader.exaone(&config, layers: decoder.layerCount)
  attention.turnsLocallyOnly = windows.contains { $0 != nil }
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice, firstSparse: 1,
    assuming: SharedExpertsReader.Assumed(scalingFactor: 2.5), isListed: true,
    spelling: SharedExpertsReader.Spelling(
      experts: ["num_experts", "n_routed_experts"], shared: ["num_shared_experts"],
      correction: "mlp.e_score_correction_bias"))
  try config.checkFirstSpelling(experts.isSparse)
  let predictionLayers = try config.predictionLayers()
  var model = decoder.model { names in
    names.layer(
      attention.attention(names, window: windows[names.index]),
      experts.mlp(names, hidden: decoder.hidden))
  }
  // Its prediction layers are named otherwise than layers.
  if predictionLayers > 0 { model.beside.append("mtp.") }
  return model
}

extension ConfigReader {
  /// What the first files say of layers with experts. transformers and vLLM read neither key, so both must say what they
  /// assume.
  fileprivate mutating func checkFirstSpelling(_ isSparse: [Bool]) throws(ConfigError) {
    let listed = try flags("is_moe_layer")
    if !listed.isEmpty, listed != isSparse {
      throw implausible(
        "is_moe_layer",
        expected: "\(isSparse), as `mlp_layer_types` or `first_k_dense_replace` says,",
        found: "\(listed)")
    }
    try require(
      "first_last_k_dense_replace", toFollow: isSparse.firstIndex(of: true) ?? isSparse.count)
  }
}
