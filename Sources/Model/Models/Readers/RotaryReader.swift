// Rotary position embedding as config.json spells it.

internal import Glibc
internal import JSON
internal import Transformer

/// Rotation as published checkpoints spell it (`rope_theta`, `rope_scaling`) and as transformers 5 does
/// (`rope_parameters`); where a file has both, they must agree.
struct RotaryReader {
  private let theta: Double
  private let share: Double?
  private let scaling: RotaryScaling
  /// What scores are multiplied with, once for queries and once for keys, where heads are latent.
  let mscale: Double

  /// Source: transformers 5.17, modeling_rope_utils.py and `yarn_apply_mscale`.
  ///
  /// - Parameters:
  ///   - theta: where nothing is said.
  ///   - isPartial: whether the architecture knows `partial_rotary_factor`.
  init(
    _ config: inout ConfigReader, theta fallback: Double? = nil, isPartial: Bool = false
  ) throws(ConfigError) {
    var theta = try config.positiveIfPresent("rope_theta")
    var share = isPartial ? try config.positiveIfPresent("partial_rotary_factor") : nil
    let positions = try config.intIfPresent("max_position_embeddings")
    let trained = try config.intIfPresent("original_max_position_embeddings")
    var scaling = RotaryScaling.none
    var mscale = 1.0
    if var rope = try config.object("rope_scaling", "rope_parameters") {
      (scaling, mscale) = try Self.scaling(&rope, positions: positions, trained: trained)
      let nestedTheta = try rope.positiveIfPresent("rope_theta")
      if let theta, let nestedTheta, theta != nestedTheta {
        throw config.implausible(
          "rope_theta", expected: "\(nestedTheta) as in `rope_parameters`", found: "\(theta)")
      }
      theta = nestedTheta ?? theta
      if isPartial {
        let nestedShare = try rope.positiveIfPresent("partial_rotary_factor")
        if let share, let nestedShare, share != nestedShare {
          throw config.implausible(
            "partial_rotary_factor", expected: "\(nestedShare) as in `rope_parameters`",
            found: "\(share)")
        }
        share = nestedShare ?? share
      }
      try config.finish(rope)
    }
    guard let theta = theta ?? fallback else { throw config.missing("rope_theta") }
    self.theta = theta
    self.share = share
    self.scaling = scaling
    self.mscale = mscale
  }

  /// What an object with `rope_type` says.
  private static func scaling(
    _ rope: inout ConfigReader, positions: Int?, trained: Int?
  ) throws(ConfigError) -> (RotaryScaling, mscale: Double) {
    let kind = try rope.choice("rope_type", "type", of: ScalingReader.kinds, default: "default")
    var reader = ScalingReader(rope: rope, positions: positions, trained: trained)
    let result = try kind(&reader)
    // Qwen3-Omni's word for `mrope_interleaved`.
    if reader.rope.names("mrope_section") { reader.rope.ignore("interleaved") }
    // vLLM multiplied by it once; 0.33 does not, and transformers never did.
    reader.rope.passOver(
      "attn_factor", harmless: 1, because: "transformers and vLLM do not read it")
    rope = reader.rope
    return result
  }

  /// Of layers that see all tokens and of those with a window: `rope_parameters` with an object for each, or `rope_theta`
  /// and `rope_scaling` of the former beside `rope_local_base_freq`.
  ///
  /// Source: transformers `Gemma3TextConfig`, `Olmo3Config`.
  ///
  /// - Parameters:
  ///   - theta: of layers that see all tokens, where nothing is said.
  ///   - local: of layers with a window, where nothing is said; nil for that of the others.
  ///   - localKey: what that is called beside `rope_theta`.
  ///   - isPartial: whether the architecture knows `partial_rotary_factor`.
  static func byLayerType(
    _ config: inout ConfigReader, theta: Double = 1_000_000, local localTheta: Double? = 10_000,
    localKey: String = "rope_local_base_freq", isPartial: Bool = false
  ) throws(ConfigError) -> (whole: RotaryReader, local: RotaryReader) {
    let local =
      try localTheta.map { fallback throws(ConfigError) in
        try config.positiveIfPresent(localKey) ?? fallback
      }
    guard config.hasObject("full_attention", in: "rope_parameters") else {
      let whole = try RotaryReader(&config, theta: theta, isPartial: isPartial)
      return (whole, RotaryReader(theta: local ?? whole.theta, share: whole.share))
    }
    let positions = try config.intIfPresent("max_position_embeddings")
    guard var both = try config.object("rope_parameters") else {
      throw config.missing("rope_parameters")
    }
    func reader(_ key: String, _ theta: Double) throws(ConfigError) -> RotaryReader {
      guard var rope = try both.object(key) else { return RotaryReader(theta: theta) }
      let theta = try rope.positiveIfPresent("rope_theta") ?? theta
      let share = isPartial ? try rope.positiveIfPresent("partial_rotary_factor") : nil
      let (scaling, _) = try Self.scaling(&rope, positions: positions, trained: nil)
      try both.finish(rope)
      return RotaryReader(theta: theta, share: share, scaling)
    }
    let readers = (
      try reader("full_attention", theta), try reader("sliding_attention", local ?? theta)
    )
    try config.finish(both)
    return readers
  }

  /// Of layers that see all tokens and of those with a window, where each layer has a theta, or all have one, and
  /// `partial_rotary_factors` a share for each layer; `rope_scaling` is that of layers that see all tokens.
  ///
  /// Source: transformers `Step3p7TextConfig`.
  ///
  /// - Parameters:
  ///   - slides: of each layer.
  ///   - further: prediction layers, which lists may have more numbers for.
  static func byLayer(
    _ config: inout ConfigReader, theta fallback: Double, slides: [Bool], further: Int
  ) throws(ConfigError) -> (whole: RotaryReader, local: RotaryReader) {
    let thetas =
      config.hasList("rope_theta")
      ? try config.positives("rope_theta") : [try config.positive("rope_theta", default: fallback)]
    let shares = try config.limits("partial_rotary_factors")
    let positions = try config.intIfPresent("max_position_embeddings")
    var scaling = RotaryScaling.none
    if var rope = try config.object("rope_scaling") {
      (scaling, _) = try Self.scaling(&rope, positions: positions, trained: nil)
      try config.finish(rope)
    }
    func number(_ key: String, _ numbers: [Double], _ kind: Bool) throws(ConfigError) -> Double? {
      let known = [slides.count, slides.count + further]
      let own =
        known.contains(numbers.count)
        ? zip(slides, numbers).filter { $0.0 == kind }.map(\.1) : numbers
      guard Set(own).count <= 1, known.contains(numbers.count) || numbers.count <= 1 else {
        throw config.unsupported(
          key, expected: "one number for all layers of a kind, in a list of \(slides.count),",
          found: "\(numbers)")
      }
      return own.first
    }
    func reader(_ kind: Bool, _ scaling: RotaryScaling) throws(ConfigError) -> RotaryReader {
      RotaryReader(
        theta: try number("rope_theta", thetas, kind) ?? fallback,
        share: try number("partial_rotary_factors", shares, kind), scaling)
    }
    return (try reader(false, scaling), try reader(true, .none))
  }

  /// Whether the file says which share of a head turns.
  var namesShare: Bool { share != nil }

  private init(theta: Double, share: Double? = nil, _ scaling: RotaryScaling = .none) {
    self.theta = theta
    self.share = share
    self.scaling = scaling
    mscale = 1
  }

  /// - Parameters:
  ///   - headDimension: of which all, or the share that the file names, are rotated.
  ///   - share: where nothing is said.
  ///   - rotated: how many are, as `rotary_dim` says; the share that the file names must agree.
  func spec(
    _ config: ConfigReader, headDimension: Int, share fallback: Double = 1, rotated: Int? = nil,
    order: RotarySpec.Order = .halves
  ) throws(ConfigError) -> RotarySpec {
    let byShare = Int(saturating: Double(headDimension) * (share ?? fallback))
    // As it is: a share that is made of it may come to one dimension less.
    let dimensions = share == nil ? rotated ?? byShare : byShare
    if let rotated, rotated != dimensions {
      throw config.implausible(
        "rotary_dim", expected: "\(dimensions) as `partial_rotary_factor` says",
        found: "\(rotated)")
    }
    guard dimensions % 2 == 0, dimensions <= headDimension, dimensions > 0 else {
      throw config.implausible(
        rotated == nil ? "partial_rotary_factor" : "rotary_dim",
        expected: "an even number of rotated dimensions of \(headDimension)",
        found: rotated.map { "\($0)" } ?? "\(share ?? fallback)")
    }
    if case .longrope(let longrope) = scaling {
      for (name, factors) in [("short_factor", longrope.short), ("long_factor", longrope.long)]
      where factors.count != dimensions / 2 {
        throw config.implausible(
          "rope_scaling.\(name)",
          expected: "a list of \(dimensions / 2), one for each pair of dimensions,",
          found: "a list of \(factors.count)")
      }
    }
    switch scaling {
    case .dynamic, .raised:
      if dimensions <= 2 {
        throw config.unsupported(
          "rope_scaling.rope_type", expected: "another than dynamic for heads of 2 dimensions",
          found: "dynamic")
      }
    case .none, .linear, .yarn, .llama3, .longrope, .proportional: break
    }
    return RotarySpec(dimensions: dimensions, theta: theta, scaling: scaling, order: order)
  }
}

/// The keys of one kind of scaling.
private struct ScalingReader {
  var rope: ConfigReader
  /// `max_position_embeddings`.
  let positions: Int?
  /// `original_max_position_embeddings` beside the object; it wins over the one inside.
  let trained: Int?

  /// Makes the scaling, and what it sharpens latent heads by.
  typealias Kind = @Sendable (inout ScalingReader) throws(ConfigError) -> (RotaryScaling, Double)

  static let kinds: [String: Kind] = [
    "default": { reader throws(ConfigError) in
      reader.ignorePositions()
      return (.none, 1)
    },
    "linear": { reader throws(ConfigError) in
      reader.ignorePositions()
      return (.linear(factor: try reader.rope.positive("factor")), 1)
    },
    "dynamic": { reader throws(ConfigError) in try reader.dynamic() },
    "yarn": { reader throws(ConfigError) in try reader.yarn() },
    "deepseek_yarn": { reader throws(ConfigError) in try reader.yarn() },
    "llama3": { reader throws(ConfigError) in try reader.llama3() },
    "longrope": { reader throws(ConfigError) in try reader.longrope() },
    "proportional": { reader throws(ConfigError) in try reader.proportional() },
  ]

  /// Written by some, read by nobody.
  private mutating func ignorePositions() { rope.ignore("original_max_position_embeddings") }

  private func known(_ positions: Int?) throws(ConfigError) -> Int {
    guard let positions else { throw rope.missing("original_max_position_embeddings") }
    return positions
  }

  /// Positions that the model was trained with.
  private mutating func originalPositions() throws(ConfigError) -> Int {
    let inner = try rope.intIfPresent("original_max_position_embeddings")
    return try known(trained ?? inner ?? positions)
  }

  private mutating func factor(over original: Int) throws(ConfigError) -> Double {
    if let factor = try rope.positiveIfPresent("factor") { return factor }
    return Double(try known(positions)) / Double(original)
  }

  private mutating func dynamic() throws(ConfigError) -> (RotaryScaling, Double) {
    ignorePositions()
    // Hunyuan's word. The others stand beside it, read by nobody.
    if let alpha = try rope.positiveIfPresent("alpha") {
      rope.ignore("factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
      return (.raised(alpha: alpha), 1)
    }
    return (.dynamic(factor: try rope.positive("factor"), positions: try known(positions)), 1)
  }

  private mutating func yarn() throws(ConfigError) -> (RotaryScaling, Double) {
    let original = try originalPositions()
    let factor = try factor(over: original)
    // 0 means that there is none.
    let weight = try rope.nonNegativeIfPresent("mscale") ?? 0
    let allWeight = try rope.nonNegativeIfPresent("mscale_all_dim") ?? 0
    let own =
      weight != 0 && allWeight != 0
      ? YarnScaling.mscale(factor, weight) / YarnScaling.mscale(factor, allWeight)
      : YarnScaling.mscale(factor)
    let yarn = YarnScaling(
      factor: factor, positions: original, fast: try rope.positiveIfPresent("beta_fast") ?? 32,
      slow: try rope.positiveIfPresent("beta_slow") ?? 1,
      truncates: try rope.bool("truncate", default: true),
      attentionFactor: try rope.positiveIfPresent("attention_factor") ?? own)
    return (.yarn(yarn), allWeight == 0 ? 1 : YarnScaling.mscale(factor, allWeight))
  }

  private mutating func llama3() throws(ConfigError) -> (RotaryScaling, Double) {
    let (low, high) = (
      try rope.positive("low_freq_factor"), try rope.positive("high_freq_factor")
    )
    if high < low {
      throw rope.implausible(
        "high_freq_factor", expected: "at least `low_freq_factor`, \(low),", found: "\(high)")
    }
    let scaling = Llama3Scaling(
      factor: try rope.positive("factor"), low: low, high: high, positions: try originalPositions())
    return (.llama3(scaling), 1)
  }

  /// Phi-3.5-MoE's words for what cosines and sines are multiplied with, in short texts and in long ones.
  private mutating func longropeFactor() throws(ConfigError) -> Double? {
    let short = try rope.positiveIfPresent("short_mscale")
    let long = try rope.positiveIfPresent("long_mscale")
    if short != long {
      throw rope.unsupported(
        "long_mscale", expected: "\(short.map { "\($0)" } ?? "nothing") as `short_mscale`",
        found: long.map { "\($0)" } ?? "nothing")
    }
    return long
  }

  private mutating func proportional() throws(ConfigError) -> (RotaryScaling, Double) {
    let share = try rope.positiveIfPresent("partial_rotary_factor") ?? 1
    if share > 1 {
      throw rope.implausible("partial_rotary_factor", expected: "at most 1", found: "\(share)")
    }
    let factor = try rope.positiveIfPresent("factor") ?? 1
    return (.proportional(share: share, factor: factor), 1)
  }

  private mutating func longrope() throws(ConfigError) -> (RotaryScaling, Double) {
    let original = try originalPositions()
    let factor = try factor(over: original)
    if factor > 1, original == 1 {
      throw rope.implausible(
        "original_max_position_embeddings", expected: "more than 1", found: "\(original)")
    }
    let own =
      try longropeFactor()
      ?? (factor <= 1 ? 1 : (1 + log(factor) / log(Double(original))).squareRoot())
    let scaling = LongropeScaling(
      short: try rope.positives("short_factor"), long: try rope.positives("long_factor"),
      positions: original,
      attentionFactor: try rope.positiveIfPresent("attention_factor") ?? own)
    return (.longrope(scaling), 1)
  }
}
