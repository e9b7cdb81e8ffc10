// How prediction layers are joined to their model, where they stand behind its layers in DeepSeek-V3's layout.

internal import Transformer

/// What becomes of the states of a prediction layer on their way to the next one.
///
/// Source: vLLM 0.33 `deepseek_mtp.py`, `glm4_moe_mtp.py`, `glm4_moe_lite_mtp.py`. The first prediction layer reads states
/// behind the final norm, as vLLM's models give them.
enum PredictionChain {
  /// They go through the norm of its head, as in DeepSeek-V3.
  case behindItsHead
  /// They go as they are, as in GLM-4.5.
  case asTheyAre

  /// - Parameters:
  ///   - number: among the prediction layers.
  ///   - last: the model's final norm.
  func entrance(
    _ decoder: DecoderReader, number: Int, behind last: NormSpec
  ) -> Entrance {
    let names = LayerNames(decoder, index: decoder.layerCount + number)
    let previous = LayerNames(decoder, index: names.index - 1)
    let before: NormSpec? =
      if number == 0 {
        last
      } else if self == .behindItsHead {
        previous.norm("shared_head.norm", decoder.hidden)
      } else {
        nil
      }
    return Entrance(
      prefix: names.name(""), ahead: number + 1, before: before,
      statesNorm: names.norm("hnorm", decoder.hidden),
      embeddingNorm: names.norm("enorm", decoder.hidden),
      projection: names.linear("eh_proj", 2 * decoder.hidden, decoder.hidden),
      // The others are not asked before the second token.
      masksFirst: number == 0,
      aside: ["eh_proj.", "enorm.", "hnorm.", "shared_head.", "embed_tokens."].map(names.name))
  }
}
