// Exaone4ForCausalLM: EXAONE 4.0 1.2B, 32B.
//
// Source: transformers 5.17 modeling_exaone4.py and configuration_exaone4.py.

internal import JSON
internal import Transformer

func exaone4(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 32, RotaryReader(&config))
  attention.norms = .ofEachHead
  let windows = try WindowReader.exaone(&config, layers: decoder.layerCount)
  attention.turnsLocallyOnly = windows.contains { $0 != nil }
  let size = try config.int("intermediate_size")
  return decoder.model { names in
    names.postNormLayer(
      attention.attention(names, window: windows[names.index]),
      MLPSpec(dense: names.mlp("mlp", size)))
  }
}

extension WindowReader {
  /// Windows as LG's models spell them: a pattern where layers are not listed. Layers without a window do not turn where
  /// others have one.
  static func exaone(
    _ config: inout ConfigReader, layers: Int
  ) throws(ConfigError) -> [Int?] {
    // Without windows it is null, or letters.
    config.ignore("sliding_window_pattern")
    let hasWindow = try config.intIfPresent("sliding_window") != nil
    let pattern = hasWindow ? try config.patternLength(layers: layers) : 1
    return try WindowReader(&config, layers: layers) { ($0 + 1) % pattern != 0 }.windows
  }
}

extension ConfigReader {
  /// How many layers a pattern of windows has: a number, or letters for layers with a window (L) and one without (G) at
  /// the end.
  fileprivate mutating func patternLength(layers: Int) throws(ConfigError) -> Int {
    let patterns = Dictionary(
      (1...max(1, layers)).map { (String(repeating: "L", count: $0 - 1) + "G", $0) },
      uniquingKeysWith: { first, _ in first })
    return try isText("sliding_window_pattern")
      ? choice("sliding_window_pattern", of: patterns)
      : int("sliding_window_pattern", default: 4)
  }
}
