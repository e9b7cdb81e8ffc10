// MiMoForCausalLM: MiMo-7B, which is Qwen2 with prediction layers beside its layers.
//
// Source: config.json of XiaomiMiMo/MiMo-7B-Base; transformers 5.17 modeling_qwen2.py; names of prediction layers as vLLM
// 0.33, mimo.py, passes over them.

internal import Transformer

func miMo(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  var model = try qwen2(&config)
  if try config.predictionLayers() > 0 { model.beside = ["model.mtp_layers."] }
  return model
}
