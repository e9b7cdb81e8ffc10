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

  package var description: String {
    switch self {
    case .indivisible(let module, let inputs, let groupSize):
      "no Linear has input features that are a multiple of --group-size \(groupSize): `\(module)` has \(inputs); "
        + "choose another --group-size, or --ignore the module"
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
  /// The activations that calibration must see, by layer: for a smoothing, or for the rounding of what reads them.
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
  /// What names of smoothing scales begin with, where several plans share a file.
  private var scalePrefix = ""

  /// - Parameters:
  ///   - groups: schemes by their targets.
  ///   - origin: where those stand, for errors.
  ///   - patterns: the modules to leave as they are.
  ///   - smooths: whether scales are searched for; without, every quantized weight is rounded as it is.
  ///   - method: how quantized weights are rounded.
  ///   - producers: whose outputs are smoothed, by name; nil for all that the model's description knows.
  package init(
    _ source: CheckpointShapes, schemes groups: [QuantizationScheme],
    from origin: String = "--scheme",
    ignoring patterns: [IgnorePattern], smooths: Bool, method: RoundingMethod = .nearest,
    producers: Set<String>? = nil
  ) throws {
    let spec = source.spec
    let ignored = try IgnorePattern.matching(patterns, of: Self.modules(of: source))
    let linears = spec.layers.flatMap(\.linears)
    let wanted = try LinearSchemes(
      writing: groups, of: linears, ignoring: ignored, origin: origin)
    guard let first = linears.first(where: { wanted[$0] != nil }) else {
      throw OutputPlanError.nothingToQuantize
    }
    for layer in spec.layers {
      if let split = wanted.splitFused(of: layer) { throw split }
    }
    undivided = Self.undivided(spec, wanted)
    undividedSizes = Dictionary(
      undivided.compactMap { linear in wanted.groupSize(of: linear).map { (linear.name, $0) } },
      uniquingKeysWith: { first, _ in first })
    let schemes = wanted.leaving(Set(undivided.map(\.name)))
    if schemes.isEmpty {
      throw OutputPlanError.indivisible(
        module: first.name, inputs: first.inputs, groupSize: wanted.groupSize(of: first) ?? 0)
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
      case .norm(let norm): rescaled.insert(norm.weight)
      case .linear(let linear): rescaled.formUnion([linear.weight, linear.bias])
      }
      rescaled.formUnion(smoothing.consumers.map(\.weight))
    }

    var fates: [String: Fate] = [:]
    var tensors: [TensorSpec] = []
    var ignore: [String] = []
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
        if let module = claim.linear?.name { ignore.append(module) }
      }
    }
    ignore += spec.layers.flatMap(\.deciding).map(\.name)
    for tensor in source.tensors where source.isLeftOut(tensor.name) {
      fates[tensor.name] = .dropped
    }
    for tensor in source.tensors
    where spec.passesThrough(tensor.name) && !source.isLeftOut(tensor.name) {
      fates[tensor.name] = Self.untouched(tensor, source)
      tensors.append(Self.unscaled(tensor))
      if let module = spec.passedModule(tensor.name, shape: tensor.shape) { ignore.append(module) }
    }
    ignore.append("lm_head")

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
      writing: groups, of: linears, ignoring: ignored, origin: origin)
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
      return layer.taps.filter { tap in
        smoothed.contains(tap)
          || layer.readers(at: tap).contains { linear in
            schemes[linear] != nil
              && (method.needsStatistics || schemes.storesInputScale(of: linear))
          }
      }
    }
  }

  /// Whether what reads an activation has a scale for it in the file.
  package func storesInputScales(at tap: Tap, of layer: LayerSpec) -> Bool {
    layer.readers(at: tap).contains(where: schemes.storesInputScale)
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
    let names =
      source.spec.claims.map(\.name)
      + source.tensors.map(\.name).filter(source.spec.passesThrough)
    let modules = names.map { String($0.prefix(upTo: $0.lastIndex(of: ".") ?? $0.endIndex)) }
    return (modules + ["lm_head"]).filter { seen.insert($0).inserted }
  }
}
