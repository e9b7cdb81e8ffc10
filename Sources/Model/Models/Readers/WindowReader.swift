// How many tokens each layer sees, as config.json spells it.

/// How many tokens each layer sees.
struct WindowReader {
  /// By layer; nil for all.
  let windows: [Int?]

  /// A window of the layers that `layer_types` names, or that a rule names where it is not there.
  ///
  /// Source: transformers `GptOssConfig`.
  init(
    _ config: inout ConfigReader, layers: Int, assuming slides: (_ layer: Int) -> Bool
  ) throws(ConfigError) {
    let window = try config.intIfPresent("sliding_window")
    let listed = try config.choices(
      "layer_types", count: layers, of: ["full_attention": false, "sliding_attention": true])
    let slide = listed ?? (0..<layers).map(slides)
    if window == nil, slide.contains(true) { throw config.missing("sliding_window") }
    windows = slide.map { $0 ? window : nil }
  }

  /// As Qwen's models spell it: with a key that says whether windows are used at all.
  ///
  /// Source: transformers `Qwen2Config`, `Qwen2MoeConfig`.
  ///
  /// - Parameter slides: whether a layer slides where `layer_types` is not there; with `max_window_layers`.
  init(
    _ config: inout ConfigReader, layers: Int, slides: (_ layer: Int, _ limit: Int) -> Bool
  ) throws(ConfigError) {
    let isUsed = try config.bool("use_sliding_window", default: false)
    // Where no window is used, its size may be anything; transformers 5 writes 0.
    config.ignore("sliding_window")
    let window = isUsed ? try config.intIfPresent("sliding_window") : nil
    let limit = try config.int("max_window_layers", atLeast: 0, default: 28)
    let listed = try config.choices(
      "layer_types", count: layers, of: ["full_attention": false, "sliding_attention": true])
    let slide = listed ?? (0..<layers).map { isUsed && slides($0, limit) }
    guard slide.contains(true) else {
      windows = Array(repeating: nil, count: layers)
      return
    }
    guard isUsed, let window else {
      throw config.implausible(
        isUsed ? "sliding_window" : "use_sliding_window",
        expected: isUsed ? "a number of tokens" : "true where `layer_types` has sliding_attention",
        found: isUsed ? "null" : "false")
    }
    windows = slide.map { $0 ? window : nil }
  }
}
