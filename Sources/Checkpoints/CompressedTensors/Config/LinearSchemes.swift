// Which scheme each Linear of a model has, and its cache: a configuration, resolved.

package import Quantization
package import Tensors
package import Transformer

/// Groups that do not say what becomes of a Linear.
package enum SchemeTargetError: Error, CustomStringConvertible, Equatable {
  case matchesNothing(origin: String, target: String)
  /// Readers of such a configuration would take one of two, and not all the same.
  case ambiguous(origin: String, module: String, targets: [String], schemes: [String])
  /// Linears that inference engines load as one have two schemes.
  case splitsFused(modules: [String], schemes: [String])

  package var description: String {
    switch self {
    case .matchesNothing(let origin, let target):
      "\(origin) '\(target)' matches no Linear that can be quantized; sluice inspect --tensors lists the names"
    case .ambiguous(let origin, let module, let targets, let schemes):
      "\(origin): `\(module)` is meant by '\(targets[0])' (\(schemes[0])) and by '\(targets[1])' (\(schemes[1])); "
        + "make one of the targets narrower"
    case .splitsFused(let modules, let schemes):
      "vLLM loads `\(modules[0])` (\(schemes[0])) and `\(modules[1])` (\(schemes[1])) as one, and takes one scheme "
        + "for both; give them the same"
    }
  }
}

/// The schemes of a model's Linears.
package struct LinearSchemes: Sendable, Equatable {
  /// The schemes that some Linear has, in the order in which config.json lists them.
  package private(set) var schemes: [QuantizationScheme]
  private var places: [String: Int]
  /// Of keys and values; nil where they are kept as they are.
  package var cache: CacheScheme?
  /// What readers of the groups would quantize, and is not: an expression is wider than it looks.
  package private(set) var strays: Set<String> = []

  /// As compressed-tensors reads groups: a name before `re:`, that before the class; of several in one rank the first by
  /// the alphabet.
  ///
  /// Source: compressed-tensors 0.19 `match_targets`, `_scheme_from_targets`.
  ///
  /// - Parameters:
  ///   - embedding: what is no Linear, and is meant by its name or an expression; nil for none.
  ///   - origin: where the groups stand, for errors.
  package init(
    reading groups: [QuantizationScheme], of linears: [LinearSpec],
    and embedding: LinearSpec? = nil, ignoring ignored: Set<String>, origin: String
  ) throws {
    let targets = try Targets(groups, origin: origin)
    schemes = groups
    places = [:]
    for linear in linears where ignored.isDisjoint(with: linear.modules) {
      if let first = try targets.matches(linear).first { places[linear.name] = first.group }
    }
    if let embedding, !ignored.contains(embedding.name),
      let first = try targets.matches(embedding).first(where: { $0.rank != .class })
    {
      places[embedding.name] = first.group
    }
    dropUnused()
  }

  /// As every reader of the groups will take them, one for each scheme. vLLM takes the first name or `re:` in the order of
  /// the file, so groups with names come first, and what would still be read in two ways is refused.
  ///
  /// Source: vLLM 0.33 `compressed_tensors/utils.py`, `find_matched_target`.
  ///
  /// - Parameter ends: what only a target means that spells its name.
  package init(
    writing asked: [QuantizationScheme], of linears: [LinearSpec], and ends: [LinearSpec] = [],
    ignoring ignored: Set<String>, origin: String
  ) throws {
    func hasNames(_ scheme: QuantizationScheme) -> Bool {
      scheme.targets.contains { Target.Rank($0) == .name }
    }
    let merged = asked.reduce(into: [QuantizationScheme]()) { groups, scheme in
      guard let same = groups.firstIndex(where: { $0.isSame(as: scheme) }) else {
        groups.append(scheme)
        return
      }
      let known = Set(groups[same].targets)
      groups[same].targets += scheme.targets.filter { !known.contains($0) }
    }
    let groups = merged.filter(hasNames) + merged.filter { !hasNames($0) }
    let targets = try Targets(groups, origin: origin)
    schemes = groups
    places = [:]
    var used: Set<Target> = []
    let known = Set(ends.map(\.name))
    for linear in linears + ends {
      var matches = try targets.matches(linear)
      if known.contains(linear.name) {
        let all = matches.filter { $0.rank != .class }
        matches = all.filter { $0.spells(linear.name) }
        if matches.isEmpty, !all.isEmpty { strays.insert(linear.name) }
      }
      used.formUnion(matches)
      guard let first = matches.first, ignored.isDisjoint(with: linear.modules) else { continue }
      // What other readers may take: any of one rank, and the first in the file that is no class.
      let inFile = matches.filter { $0.rank != .class }.min { $0.place < $1.place }
      let others = matches.filter { $0.rank == first.rank } + (inFile.map { [$0] } ?? [])
      if let other = others.first(where: { $0.group != first.group }) {
        throw SchemeTargetError.ambiguous(
          origin: origin, module: linear.name, targets: [first.text, other.text],
          schemes: [groups[first.group].words, groups[other.group].words])
      }
      places[linear.name] = first.group
    }
    if let target = targets.all.first(where: { $0.rank != .class && !used.contains($0) }) {
      throw SchemeTargetError.matchesNothing(origin: origin, target: target.text)
    }
    dropUnused()
  }

  /// Groups that no Linear is in say nothing.
  private mutating func dropUnused() {
    let used = Set(places.values)
    let kept = schemes.indices.filter(used.contains)
    let numbers = Dictionary(uniqueKeysWithValues: kept.enumerated().map { ($1, $0) })
    schemes = kept.map { schemes[$0] }
    places = places.compactMapValues { numbers[$0] }
  }

  /// Without some Linears, which stay as they are.
  package func leaving(_ names: Set<String>) -> LinearSchemes {
    var result = self
    for name in names { result.places[name] = nil }
    result.dropUnused()
    return result
  }

  /// With groups of another size, where it is free.
  func grouped(by groupSize: Int) -> LinearSchemes {
    var result = self
    result.schemes = schemes.map { $0.grouped(by: groupSize) }
    return result
  }

  // MARK: What is asked of them

  /// nil for a Linear that is not quantized.
  package subscript(linear: LinearSpec) -> QuantizationScheme? {
    places[linear.name].map { schemes[$0] }
  }

  package var isEmpty: Bool { places.isEmpty }

  /// Whether the file has a scale for what a Linear reads.
  package func storesInputScale(of linear: LinearSpec) -> Bool {
    self[linear]?.inputActivations.map { $0.dynamic != .always } ?? false
  }

  /// Whether the file has scales of activations: of what some Linear reads, or of keys and values.
  package var storeScales: Bool {
    cache != nil
      || schemes.contains { $0.inputActivations.map { $0.dynamic != .always } ?? false }
  }

  /// Columns of a Linear that share a scale; nil where it is not quantized.
  package func groupSize(of linear: LinearSpec) -> Int? {
    self[linear]?.weights?.columnsPerScale(linear.inputs)
  }

  /// Whether the groups of a Linear fill its rows, or their ends may be cut off; true where it is not quantized.
  package func divides(_ linear: LinearSpec) -> Bool {
    guard let weights = self[linear]?.weights else { return true }
    return weights.strategy == .block
      || linear.inputs % weights.columnsPerScale(linear.inputs) == 0
  }

  /// Columns that are refined together, of those of some Linears that are quantized.
  package func refinedColumns(of linears: [LinearSpec]) -> Set<Int> {
    Set(linears.compactMap { quantized($0, dtype: .bf16)?.quantizer.refinedColumns })
  }

  /// - Parameter dtype: of the weight that is quantized.
  package func quantized(_ linear: LinearSpec, dtype: DType) -> QuantizedLinear? {
    self[linear].map { QuantizedLinear(linear, $0, dtype: dtype) }
  }

  /// A Linear as a checkpoint stores it, whose scales may be of any type that weights are of.
  package func stored(_ linear: LinearSpec) -> QuantizedLinear? {
    quantized(linear, dtype: .bf16)
  }

  /// The first two Linears of a layer that are loaded as one and have two schemes; those that have none are told
  /// elsewhere.
  package func splitFused(of layer: LayerSpec) -> SchemeTargetError? {
    for group in layer.fusedGroups {
      let quantized = group.filter { places[$0.name] != nil }
      guard let first = quantized.first, let scheme = self[first] else { continue }
      for other in quantized {
        guard let different = self[other], !different.isSame(as: scheme) else { continue }
        return .splitsFused(
          modules: [first.name, other.name], schemes: [scheme.words, different.words])
      }
    }
    return nil
  }
}

/// One target of a group.
private struct Target: Hashable {
  /// From the narrowest to the widest.
  enum Rank: Int, Comparable {
    case name
    case expression
    case `class`

    init(_ target: String) {
      self =
        target == QuantizationScheme.linear
        ? .class : target.hasPrefix("re:") ? .expression : .name
    }

    static func < (a: Rank, b: Rank) -> Bool { a.rawValue < b.rawValue }
  }

  let text: String
  let group: Int
  /// Among all targets of a configuration.
  let place: Int
  let rank: Rank

  /// Whether it has the last part of a module's name in it.
  func spells(_ module: String) -> Bool {
    rank == .name || text.contains(module.split(separator: ".").last ?? "")
  }

  /// What is alike counts once.
  static func == (a: Target, b: Target) -> Bool { a.place == b.place }
  func hash(into hasher: inout Hasher) { hasher.combine(place) }
}

private struct Targets {
  private(set) var all: [Target] = []
  /// By name; there may be thousands.
  private var names: [String: [Target]] = [:]
  /// By the alphabet.
  private var expressions: [(target: Target, pattern: IgnorePattern)] = []
  private var classes: [Target] = []

  init(_ groups: [QuantizationScheme], origin: String) throws {
    for (group, scheme) in groups.enumerated() {
      for text in scheme.targets {
        all.append(
          Target(text: text, group: group, place: all.count, rank: Target.Rank(text)))
      }
    }
    for target in all {
      switch target.rank {
      case .name: names[target.text, default: []].append(target)
      case .expression:
        expressions.append((target, try IgnorePattern(target.text, origin: origin)))
      case .class: classes.append(target)
      }
    }
    expressions.sort { $0.target.text < $1.target.text }
  }

  /// The targets that mean a Linear, in the order of compressed-tensors.
  func matches(_ linear: LinearSpec) throws -> [Target] {
    let modules = linear.modules
    var result = modules.flatMap { names[$0] ?? [] }
    for (target, pattern) in expressions where try modules.contains(where: pattern.matches) {
      result.append(target)
    }
    return result + classes
  }
}
