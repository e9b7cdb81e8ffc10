// What becomes of every tensor of the source, and so every name, type and shape of the output, before any byte of it.

package import Models
package import Quantization
package import Safetensors
internal import Tensors
package import Transformer

/// A choice of options that a model cannot be quantized with.
package enum OutputPlanError: Error, CustomStringConvertible, Equatable {
  case indivisible(module: String, inputs: Int, groupSize: Int)
  case nothingToQuantize
  /// Parts of a fused Linear under names that vLLM takes for one kind of scheme alone.
  case loadedOtherwise(module: String, scheme: String)
  /// Attention that keeps no keys and values.
  case noCache(origin: String, module: String)
  /// An embedding or a head that a scheme does not fit.
  case end(origin: String, module: String, scheme: String, reason: String)

  package var description: String {
    switch self {
    case .indivisible(let module, let inputs, let groupSize):
      "no Linear has input features that are a multiple of --group-size \(groupSize): `\(module)` has \(inputs); "
        + "choose another --group-size, or --ignore the module"
    case .loadedOtherwise(let module, let scheme):
      "`\(module)` would be \(scheme), but vLLM loads experts that are stored so as integers of 2 to 8 bits alone, "
        + "symmetric, and all of them; take such a --scheme and --group-size for the experts, and leave them out of "
        + "--ignore"
    case .noCache(let origin, let module):
      "\(origin): the attention of `\(module)` keeps a latent and one rotated key for all heads, for which the scales "
        + "have no settled meaning: vLLM takes `k_scale` for both, llm-compressor measures one for each; leave it out"
    case .end(let origin, let module, let scheme, let reason):
      "\(origin): `\(module)` cannot become \(scheme): \(reason)"
    case .nothingToQuantize:
      "the --ignore patterns leave nothing to quantize; leave some Linears out of them"
    }
  }
}

/// The fate of every tensor under a scheme and an ignore list.
package struct OutputPlan: Sendable {
  package enum Fate: Sendable, Equatable {
    /// Byte for byte.
    case copied
    /// In its own type, with a smoothing scale folded in; FP8 becomes bf16.
    case rescaled
    /// FP8 that is not quantized, as bf16: nothing in the output would say how it is scaled.
    case decoded
    /// Rounded and packed.
    case packed
    /// A scale of the source's FP8, or a head that is the embedding once more.
    case dropped
  }

  /// The scheme of each Linear that is quantized.
  package let schemes: LinearSchemes
  /// By source tensor name.
  package let fates: [String: Fate]
  /// The smoothings to search for, by layer: those with a quantized consumer.
  package let smoothings: [[Smoothing]]
  package private(set) var method: RoundingMethod
  /// The activations that calibration must see, by layer: for a smoothing, for the rounding of what reads them, or for a
  /// scale in the file.
  package private(set) var taps: [[Tap]]
  /// Every output tensor, in the order of the forward pass.
  package let tensors: [TensorSpec]
  /// Linears that stay as they are because the group size does not divide their inputs, or those of others that
  /// inference engines load as one with them.
  package let undivided: [LinearSpec]
  /// By their names, the group sizes that they were meant to have.
  package let undividedSizes: [String: Int]
  /// The expanded ignore list of config.json: every Linear, router and head that stays as it is.
  package let ignore: [String]
  /// The embedding and the head, where they are quantized: by their own weights alone, since no calibration looks at what
  /// they read.
  package let ends: [LinearSpec]
  /// What names of smoothing scales begin with, where several plans share a file.
  private var scalePrefix = ""

  /// - Parameters:
  ///   - groups: schemes by their targets.
  ///   - origin: where those stand, for errors.
  ///   - patterns: the modules to leave as they are.
  ///   - smooths: whether scales are searched for; without, every quantized weight is rounded as it is.
  ///   - method: how quantized weights are rounded.
  ///   - producers: whose outputs are smoothed, by name; nil for all that the model's description knows.
  ///   - cache: of keys and values, and where that stands, for errors; nil where they are kept as they are.
  package init(
    _ source: CheckpointShapes, schemes groups: [QuantizationScheme],
    from origin: String = "--scheme",
    ignoring patterns: [IgnorePattern], smooths: Bool, method: RoundingMethod = .nearest,
    producers: Set<String>? = nil, cache: (scheme: CacheScheme, origin: String)? = nil
  ) throws {
    let spec = source.spec
    let ignored = try IgnorePattern.matching(patterns, of: Self.modules(of: source))
    let linears = spec.layers.flatMap(\.linears)
    let wanted = try LinearSchemes(
      writing: groups, of: linears, and: spec.ends, ignoring: ignored, origin: origin)
    ends = spec.ends.filter { wanted[$0] != nil }
    for end in ends { try Self.check(end, of: spec, wanted, origin) }
    guard let first = (linears + ends).first(where: { wanted[$0] != nil }) else {
      throw OutputPlanError.nothingToQuantize
    }
    for layer in spec.layers {
      if let split = wanted.splitFused(of: layer) { throw split }
    }
    undivided = Self.undivided(spec, wanted)
    undividedSizes = Dictionary(
      undivided.compactMap { linear in wanted.groupSize(of: linear).map { (linear.name, $0) } },
      uniquingKeysWith: { first, _ in first })
    var schemes = wanted.leaving(Set(undivided.map(\.name)))
    if let cache, let module = spec.moduleWithoutCache {
      throw OutputPlanError.noCache(origin: cache.origin, module: module)
    }
    schemes.cache = cache?.scheme
    if schemes.isEmpty {
      throw OutputPlanError.indivisible(
        module: first.name, inputs: first.inputs, groupSize: wanted.groupSize(of: first) ?? 0)
    }
    for linear in linears where linear.isFused {
      let scheme = schemes[linear]
      if scheme.map(CompressionFormats.loadsFused) != true {
        throw OutputPlanError.loadedOtherwise(
          module: linear.name, scheme: scheme?.words ?? "left as it is")
      }
    }
    let smoothings = spec.layers.map { layer in
      layer.smoothings.filter { smoothing in
        smooths && producers?.contains(smoothing.producerName) != false
          && smoothing.consumers.contains { schemes[$0] != nil }
      }
    }
    var rescaled: Set<String> = []
    for smoothing in smoothings.joined() {
      switch smoothing.producer {
      case .norm(let norm): rescaled.formUnion(norm.parameters)
      case .linear(let linear): rescaled.formUnion([linear.weight, linear.bias])
      }
      rescaled.formUnion(smoothing.consumers.map(\.weight))
    }

    var fates: [String: Fate] = [:]
    var tensors: [TensorSpec] = []
    var ignore: [String] = []
    // By what comes last of them.
    let caches = Dictionary(
      spec.layers.flatMap(\.caches).map { ($0.cache.value.weight, $0.cache) },
      uniquingKeysWith: { first, _ in first })
    for claim in spec.claims {
      let stored = source.tensor(claim.name)
      if let quantized = claim.linear.flatMap({
        schemes.quantized($0, dtype: stored.dtype.unscaled)
      }) {
        fates[claim.name] = .packed
        tensors += quantized.tensors
      } else {
        fates[claim.name] =
          rescaled.contains(claim.name) ? .rescaled : Self.untouched(stored, source)
        tensors.append(Self.unscaled(stored))
        if let linear = claim.linear,
          !spec.ends.contains(linear)
            || linear == spec.embeddingTable && schemes.strays.contains(linear.name)
        {
          ignore += linear.modules
        }
      }
      if let cache = caches[claim.name], let scheme = schemes.cache {
        tensors += scheme.tensors(of: cache, dtype: stored.dtype.unscaled)
      }
    }
    ignore += spec.deciding.flatMap(\.modules)
    for tensor in source.tensors where source.isLeftOut(tensor.name) {
      fates[tensor.name] = .dropped
    }
    for tensor in source.tensors
    where spec.passesThrough(tensor.name) && !source.isLeftOut(tensor.name) {
      fates[tensor.name] = Self.untouched(tensor, source)
      tensors.append(Self.unscaled(tensor))
      if let module = spec.passedModule(tensor.name, shape: tensor.shape) { ignore.append(module) }
    }
    if !ends.contains(spec.head) { ignore.append(spec.headName) }

    self.schemes = schemes
    self.fates = fates
    self.smoothings = smoothings
    self.method = method
    taps = Self.taps(of: spec, schemes, smoothings, method)
    self.tensors = tensors
    self.ignore = ignore
  }

  /// `<producer>.smoothing_scale` F32 `[channels]`: what each smoothing chose, kept beside the output.
  package var smoothingTensors: [TensorSpec] {
    smoothings.joined().map {
      TensorSpec(name: scaleTensor($0), dtype: .f32, shape: [$0.channels])
    }
  }

  /// Refuses what nobody loads, or what calibration does not find.
  ///
  /// Source: vLLM 0.33 `compressed_tensors.py`, `get_quant_method`.
  private static func check(
    _ end: LinearSpec, of spec: ModelSpec, _ schemes: LinearSchemes, _ origin: String
  ) throws {
    guard let scheme = schemes[end] else { return }
    func refusal(_ reason: String) -> OutputPlanError {
      .end(origin: origin, module: end.name, scheme: scheme.words, reason: reason)
    }
    if spec.tiesEmbeddings {
      throw refusal(
        "config.json ties the head to the embedding, and a quantized tensor would have to serve as both; leave it out"
      )
    }
    if !schemes.divides(end) {
      throw refusal(
        "its \(end.inputs) input features are no multiple of \(schemes.groupSize(of: end) ?? 0); choose another "
          + "--group-size")
    }
    if end != spec.head {
      if scheme.weights?.type == .int, scheme.inputActivations == nil { return }
      throw refusal(
        "vLLM loads an embedding as integers beside unquantized activations alone, such as W4A16 or W8A16"
      )
    }
    if schemes.storesInputScale(of: end) {
      throw refusal(
        "its activations have a scale in the file, and calibration ends before the head; take W8A16 or FP8_DYNAMIC"
      )
    }
  }

  // MARK: Groups that divide

  private static func undivided(_ spec: ModelSpec, _ schemes: LinearSchemes) -> [LinearSpec] {
    spec.layers.flatMap { layer in
      let odd = Set(
        layer.linears.filter { !schemes.divides($0) }.map(\.name))
      if odd.isEmpty { return [LinearSpec]() }
      let together = layer.fusedGroups.map { Set($0.map(\.name)) }.filter {
        !$0.isDisjoint(with: odd)
      }
      let all = together.reduce(odd) { $0.union($1) }
      return layer.linears.filter { all.contains($0.name) && schemes[$0] != nil }
    }
  }

  /// The group size of a run that names none: the largest under which at most half of what can be quantized stays as it
  /// is.
  package static func groupSize(
    for source: CheckpointShapes, schemes groups: [QuantizationScheme],
    from origin: String = "--scheme",
    ignoring patterns: [IgnorePattern]
  ) throws -> Int {
    let ignored = try IgnorePattern.matching(patterns, of: modules(of: source))
    let linears = source.spec.layers.flatMap(\.linears)
    func weights(_ linears: [LinearSpec]) -> Double {
      linears.reduce(0) { $0 + Double($1.inputs) * Double($1.outputs) }
    }
    let schemes = try LinearSchemes(
      writing: groups, of: linears, and: source.spec.ends, ignoring: ignored, origin: origin)
    let all = weights(linears.filter { schemes[$0] != nil })
    let sizes = CompressionFormats.usualGroupSizes.sorted(by: >)
    return sizes.first { size in
      weights(undivided(source.spec, schemes.grouped(by: size))) <= all / 2
    } ?? sizes[0]
  }

  /// This plan with another way of rounding.
  package func rounded(by method: RoundingMethod, of spec: ModelSpec) -> OutputPlan {
    var plan = self
    plan.method = method
    plan.taps = Self.taps(of: spec, schemes, smoothings, method)
    return plan
  }

  /// Plans that are measured beside each other: each has names of its own for its smoothing scales.
  package static func numbered(_ plans: [OutputPlan]) -> [OutputPlan] {
    plans.enumerated().map { number, plan in
      var plan = plan
      plan.scalePrefix = "\(number)/"
      return plan
    }
  }

  /// The first of some plans, with the activations that any of them must see.
  package static func seeing(_ plans: [OutputPlan], of spec: ModelSpec) -> OutputPlan {
    var plan = plans[0]
    plan.taps = spec.layers.map { layer in
      layer.taps.filter { tap in plans.contains { $0.taps[layer.index].contains(tap) } }
    }
    return plan
  }

  private static func taps(
    of spec: ModelSpec, _ schemes: LinearSchemes, _ smoothings: [[Smoothing]],
    _ method: RoundingMethod
  ) -> [[Tap]] {
    zip(spec.layers, smoothings).map { layer, smoothings in
      let smoothed = Set(smoothings.map(\.tap))
      let cached = schemes.cache == nil ? [] : layer.cacheTaps
      return cached
        + layer.taps.filter { tap in
          smoothed.contains(tap)
            || layer.readers(at: tap).contains { linear in
              schemes[linear] != nil
                && (method.needsStatistics || schemes.storesInputScale(of: linear))
            }
        }
    }
  }

  /// Whether the largest magnitudes of an activation are needed: what reads it has a scale for it in the file, or its
  /// cache has.
  package func storesScales(at tap: Tap, of layer: LayerSpec) -> Bool {
    if case .cached = tap.place { return true }
    return layer.readers(at: tap).contains(where: schemes.storesInputScale)
  }

  private static func untouched(_ tensor: TensorSpec, _ source: CheckpointShapes) -> Fate {
    tensor.dtype == .f8E4M3 || source.isCoded(tensor.name) ? .decoded : .copied
  }

  private static func unscaled(_ tensor: TensorSpec) -> TensorSpec {
    TensorSpec(name: tensor.name, dtype: tensor.dtype.unscaled, shape: tensor.shape)
  }

  package static func scaleTensor(_ smoothing: Smoothing) -> String {
    smoothing.producerName + ".smoothing_scale"
  }

  package func scaleTensor(_ smoothing: Smoothing) -> String {
    scalePrefix + Self.scaleTensor(smoothing)
  }

  /// Every module that has a tensor, in the model's order, and the head, also where it shares the embedding's tensor:
  /// what ignore patterns are matched against.
  package static func modules(of source: CheckpointShapes) -> [String] {
    var seen: Set<String> = []
    func module(_ tensor: String) -> String {
      String(tensor.prefix(upTo: tensor.lastIndex(of: ".") ?? tensor.endIndex))
    }
    let own = source.spec.claims.flatMap { $0.linear?.modules ?? [module($0.name)] }
    let passed = source.tensors.map(\.name).filter(source.spec.passesThrough).map(module)
    return (own + passed + [source.spec.names.head]).filter { seen.insert($0).inserted }
  }
}
