// ExaoneMoeForCausalLM: K-EXAONE.
//
// Source: transformers 5.17 modeling_exaone_moe.py and configuration_exaone_moe.py.

internal import JSON
internal import Transformer

func exaoneMoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, RotaryReader(&config))
  attention.norms = .ofEachHead
  let windows = try WindowReader.exaone(&config, layers: decoder.layerCount)
  attention.turnsLocallyOnly = windows.contains { $0 != nil }
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice, firstSparse: 1, isListed: true,
    spelling: SharedExpertsReader.Spelling(
      experts: ["num_experts", "n_routed_experts"], shared: ["num_shared_experts"],
      correction: "mlp.e_score_correction_bias"))
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
