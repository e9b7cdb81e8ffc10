// Modifiers and their fields: each is understood, known to have no effect here, or refused with its line.

internal import CompressedTensors
internal import Quantization
internal import SystemIO

/// Gathers what the modifiers of a recipe say, in file order.
struct RecipeReader {
  private let file: String
  private var ignore: [String]?
  private var schemes: [QuantizationScheme]?
  private var duoScaling = DuoScaling.on
  private var gridPoints = 20
  private var mappings: [RecipeMapping]?
  private var smoothQuant: SmoothQuant?
  private var cache: CacheScheme?
  private var smoother: (line: Int, name: String)?
  private var quantizer: (line: Int, name: String)?
  private var damping: Double?
  private let replaced: Set<Recipe.Part>

  init(file: String, replaced: Set<Recipe.Part>) {
    self.file = file
    self.replaced = replaced
  }

  func recipe() throws(RecipeError) -> Recipe {
    if let smoother, schemes == nil {
      throw .noQuantizer(file: file, line: smoother.line, smoother: smoother.name)
    }
    guard let schemes else { throw .noModifiers(file: file) }
    var recipe = Recipe(
      schemes: schemes, ignore: ignore ?? [], smooths: smoother != nil,
      rounding: damping == nil ? .nearest : .compensated, damping: damping,
      duoScaling: duoScaling, gridPoints: gridPoints, mappings: mappings, cache: cache)
    recipe.smoothQuant = smoothQuant
    return recipe
  }

  // MARK: Stages, groups, modifiers

  /// `<name>_stage:` over `<name>_modifiers:` over modifiers; or modifiers at once, as a mapping or a list of mappings.
  mutating func read(_ node: RecipeNode) throws(RecipeError) {
    if let list = node.list {
      for element in list { try readModifiers(element) }
    } else {
      try readModifiers(node, isTop: true)
    }
  }

  private mutating func readModifiers(
    _ node: RecipeNode, isTop: Bool = false
  ) throws(RecipeError) {
    for entry in try map(node, "the recipe", "modifiers by name") {
      if entry.key.hasSuffix("_stage") || entry.key.hasSuffix("_modifiers") {
        try read(entry.value)
        continue
      }
      switch entry.key {
      case "AWQModifier": try readSmoother(entry)
      case "SmoothQuantModifier": try readSmoothQuant(entry)
      case "QuantizationModifier", "GPTQModifier": try readQuantizer(entry)
      // What the peer stores and never uses.
      case "args" where isTop && (entry.value.isNull || entry.value.map?.isEmpty == true): break
      default: throw .unknownModifier(file: file, line: entry.line, name: entry.key)
      }
    }
  }

  /// There is one, before any quantizer.
  private mutating func beginSmoother(_ modifier: RecipeNode.Entry) throws(RecipeError) {
    if let smoother {
      throw .secondSmoother(
        file: file, line: modifier.line, name: modifier.key, before: smoother.name,
        first: smoother.line)
    }
    if let quantizer {
      throw .quantizerFirst(
        file: file, line: modifier.line, smoother: modifier.key, name: quantizer.name)
    }
    smoother = (modifier.line, modifier.key)
  }

  /// Source: llm-compressor 0.14 `SmoothQuantModifier`.
  private static let smoothQuantKeys = ["smoothing_strength", "mappings", "ignore", "algorithm"]

  private mutating func readSmoothQuant(_ modifier: RecipeNode.Entry) throws(RecipeError) {
    try beginSmoother(modifier)
    var found = SmoothQuant()
    for field in try fields(modifier) {
      let value = field.value
      switch field.key {
      case "smoothing_strength":
        guard let strength = value.double, (0...1).contains(strength) else {
          throw unsupported(field.key, "0 to 1", value)
        }
        found.strength = strength
      case "mappings": mappings = try smoothQuantMappings(field)
      case "ignore":
        if value.isNull { break }
        guard let list = value.list ?? (value.string.map { _ in [value] }) else {
          throw unsupported(field.key, "a list of names", value)
        }
        for element in list { found.ignore.append(try pattern(element, field.key)) }
      case "algorithm": try require(field, oneOf: ["smoothquant"], orNull: true)
      case "num_calibration_steps", "calibration_function":
        if !value.isNull { throw unsupported(field.key, "null", value) }
      default: try readBookkeeping(field, known: Self.smoothQuantKeys)
      }
    }
    smoothQuant = found
  }

  /// `[[readers], producer]`, as SmoothQuant has it.
  private func smoothQuantMappings(
    _ field: RecipeNode.Entry
  ) throws(RecipeError) -> [RecipeMapping]? {
    if field.value.isNull { return nil }
    guard let list = field.value.list, !list.isEmpty else {
      throw unsupported("mappings", "null or a list that is not empty", field.value)
    }
    var result: [RecipeMapping] = []
    for element in list {
      guard let parts = element.list, parts.count == 2,
        let readers = parts[0].list ?? parts[0].string.map({ _ in [parts[0]] }), !readers.isEmpty
      else { throw unsupported("mappings", "lists of readers and a producer", element) }
      var balanceLayers: [String] = []
      for reader in readers { balanceLayers.append(try pattern(reader, "mappings")) }
      result.append(
        RecipeMapping(
          smoothLayer: try pattern(parts[1], "mappings"), balanceLayers: balanceLayers))
    }
    return result
  }

  private mutating func readSmoother(_ modifier: RecipeNode.Entry) throws(RecipeError) {
    try beginSmoother(modifier)
    var sizes: RecipeNode?
    let entries = try fields(modifier)
    for field in entries {
      switch field.key {
      case "mappings": mappings = try mappings(field)
      case "duo_scaling": duoScaling = try duoScaling(field)
      case "n_grid": sizes = field.value
      // Where the peer keeps its caches; may carry a python tag.
      case "offload_device": break
      default:
        try readQuantization(
          field, of: entries,
          known: ["mappings", "duo_scaling", "n_grid", "offload_device"] + Self.shared)
      }
    }
    if let sizes {
      guard let points = sizes.int, duoScaling.gridSizes.contains(points) else {
        throw unsupported(
          "n_grid",
          "\(duoScaling.gridSizes.lowerBound) to \(duoScaling.gridSizes.upperBound) "
            + "with `duo_scaling: \(duoScaling.rawValue)`", sizes)
      }
      gridPoints = points
    }
  }

  private mutating func readQuantizer(_ modifier: RecipeNode.Entry) throws(RecipeError) {
    if let quantizer, quantizer.name != modifier.key {
      throw .conflict(
        file: file, line: modifier.line, key: "modifier", first: quantizer.name,
        second: modifier.key)
    }
    quantizer = (modifier.line, modifier.key)
    let isGPTQ = modifier.key == "GPTQModifier"
    if isGPTQ { damping = Self.peersDamping }
    let entries = try fields(modifier)
    guard
      entries.contains(where: { ["scheme", "config_groups"].contains($0.key) && !$0.value.isNull })
    else {
      throw .missing(
        file: file, line: modifier.line, modifier: modifier.key,
        key: "scheme` or `config_groups")
    }
    for field in entries {
      if isGPTQ, try readCompensation(field) { continue }
      try readQuantization(
        field, of: entries, known: isGPTQ ? Self.compensation + Self.shared : Self.shared)
    }
  }

  /// Source: llm-compressor 0.14 `GPTQModifier.dampening_frac`.
  private static let peersDamping = 0.01
  private static let compensation = [
    "dampening_frac", "block_size", "actorder", "batched_quantization",
  ]

  /// - Returns: whether the field is one that only a GPTQModifier has.
  private mutating func readCompensation(_ field: RecipeNode.Entry) throws(RecipeError) -> Bool {
    let value = field.value
    switch field.key {
    case "dampening_frac":
      if value.isNull { return true }
      guard let share = value.double, share > 0, share < 1 else {
        throw unsupported(field.key, "more than 0 and less than 1", value)
      }
      damping = share
    // Columns are taken in the order of the activations, and groups stay where they are.
    case "actorder": try require(field, oneOf: ["static", "weight"], orNull: true)
    // How the peer cuts its work.
    case "block_size", "batched_quantization": break
    default: return false
    }
    return true
  }

  /// Fields of a quantizer, which AWQModifier had, too, before it became a transform.
  private static let shared = [
    "scheme", "config_groups", "targets", "ignore", "kv_cache_scheme", "weight_observer",
    "input_observer", "output_observer", "observer", "bypass_divisibility_checks",
  ]

  private mutating func readQuantization(
    _ field: RecipeNode.Entry, of modifier: [RecipeNode.Entry], known: [String]
  ) throws(RecipeError) {
    let value = field.value
    switch field.key {
    case "scheme":
      if value.isNull { return }
      var targets = [QuantizationScheme.linear]
      if let node = modifier.first(where: { $0.key == "targets" })?.value {
        targets = try self.targets(node)
      }
      let reader = self
      try add(value) { (node) throws(RecipeError) in try reader.presets(node, targets) }
    case "config_groups": if !value.isNull { try add(value, configGroups) }
    case "targets":
      let targets = try self.targets(value)
      // With a name alone; groups and `{name: targets}` have their own.
      let scheme = modifier.first { $0.key == "scheme" && !$0.value.isNull }?.value
      if targets != [QuantizationScheme.linear], scheme?.string == nil {
        throw unsupported("targets", "[Linear] beside groups that have their own", value)
      }
    case "ignore":
      if !value.isNull, !replaced.contains(.ignore) { try addIgnored(value) }
    case "weight_observer": try requireObserver(field)
    case "input_observer": try requireObserver(field, of: Self.activationObservers)
    case "observer":
      if value.isNull { return }
      for entry in try map(value, field.key, "a mapping with the keys `weights` and `input`") {
        switch entry.key {
        case "weights": try requireObserver(entry)
        case "input": try requireObserver(entry, of: Self.activationObservers)
        default:
          throw .unknownKey(
            file: file, line: entry.line, key: entry.key, known: ["weights", "input"])
        }
      }
    case "kv_cache_scheme":
      if !value.isNull, !replaced.contains(.cache) { try addCache(field) }
    case "bypass_divisibility_checks":
      if value.bool != false { throw unsupported(field.key, "false", value) }
    case "output_observer":
      if !value.isNull { throw unsupported(field.key, "null", value) }
    default: try readBookkeeping(field, known: known)
    }
  }

  /// What the peer writes about any modifier itself.
  private func readBookkeeping(
    _ field: RecipeNode.Entry, known: [String]
  ) throws(RecipeError) {
    let value = field.value
    switch field.key {
    case "requires_calibration_data":
      if value.bool == nil { throw unsupported(field.key, "true or false", value) }
    case "index", "group", "start", "end", "update":
      if !value.isNull { throw unsupported(field.key, "null", value) }
    default: throw .unknownKey(file: file, line: field.line, key: field.key, known: known)
    }
  }

  // MARK: Keys and values

  private mutating func addCache(_ field: RecipeNode.Entry) throws(RecipeError) {
    let new: CacheScheme
    do {
      new = try CacheScheme(field.value)
    } catch {
      throw refusal(error, in: field.value, of: field)
    }
    try checkObserver(in: field.value, of: Self.activationObservers)
    if let cache, cache != new {
      throw .conflict(
        file: file, line: field.line, key: field.key, first: cache.words, second: new.words)
    }
    cache = new
  }

  // MARK: Schemes

  /// - Parameter read: what stands in the node, as one or more schemes with their targets.
  private mutating func add(
    _ node: RecipeNode, _ read: (RecipeNode) throws(RecipeError) -> [QuantizationScheme]
  ) throws(RecipeError) {
    let new: [QuantizationScheme]
    do {
      new = try read(node)
    } catch {
      guard replaced.contains(.scheme) else { throw error }
      new = schemes ?? SchemePreset.named(SchemePreset.usual).map { [$0.scheme] } ?? []
    }
    if let schemes, schemes != new, !replaced.contains(.scheme) {
      func words(_ schemes: [QuantizationScheme]) -> String {
        schemes.map { $0.weights?.words ?? $0.name }.joined(separator: ", ")
      }
      throw .conflict(
        file: file, line: node.line, key: "scheme", first: words(schemes), second: words(new))
    }
    schemes = new
  }

  /// A name, for the modifier's targets, or `{name: targets}`.
  private func presets(
    _ node: RecipeNode, _ targets: [String]
  ) throws(RecipeError) -> [QuantizationScheme] {
    guard let entries = node.map else {
      return [try preset(node.string, node).targeting(targets)]
    }
    if entries.isEmpty { throw unsupported("scheme", "one scheme or more", node) }
    var result: [QuantizationScheme] = []
    for entry in entries {
      let targets = try self.targets(entry.value)
      result.append(try preset(entry.key, node).targeting(targets))
    }
    try requireOwnTargets(result, node)
    return result
  }

  private func preset(
    _ name: String?, _ node: RecipeNode
  ) throws(RecipeError) -> QuantizationScheme {
    let expected = "one of \(CompressionFormats.presets.map(\.name).joined(separator: ", "))"
    guard let name else { throw unsupported("scheme", expected, node) }
    do {
      return try SchemePreset.written(name)
    } catch {
      throw .unsupported(
        file: file, line: node.line, key: "scheme", expected: expected,
        found: error.field == nil ? node.text : "\(name) (\(error.reason))")
    }
  }

  private func configGroups(_ node: RecipeNode) throws(RecipeError) -> [QuantizationScheme] {
    let entries = try map(node, "config_groups", "one group or more by name")
    if entries.isEmpty { throw unsupported("config_groups", "one group or more", node) }
    var result: [QuantizationScheme] = []
    for entry in entries {
      // As compressed-tensors has it, too: the name of a preset over its targets.
      if entry.value.strings != nil {
        let targets = try self.targets(entry.value)
        result.append(try preset(entry.key, entry.value).targeting(targets))
      } else {
        result.append(try group(entry))
      }
    }
    try requireOwnTargets(result, node)
    return result
  }

  private func group(_ entry: RecipeNode.Entry) throws(RecipeError) -> QuantizationScheme {
    let node = entry.value.isNull ? RecipeNode(emptyMapAt: entry.line) : entry.value
    let scheme: QuantizationScheme
    do {
      let asked = try QuantizationScheme(node)
      scheme =
        asked.format == nil
        ? CompressionFormats.asEnginesLoad(asked) : CompressionFormats.withoutInferredFormat(asked)
    } catch {
      throw refusal(error, in: node, of: entry)
    }
    // What rounding does here is said by the modifiers, and ranges are those of all weights.
    if let weights = node.node(at: ["weights"]) {
      try checkObserver(in: weights, of: Self.weightObservers)
      for field in weights.map ?? [] where field.key == "actorder" {
        if field.value.bool != false, !field.value.isNull {
          throw unsupported(field.key, "false", field.value)
        }
      }
    }
    if let inputs = node.node(at: ["input_activations"]) {
      // Those that an engine scales as it goes are not observed.
      let isObserved = scheme.inputActivations?.dynamic != .always
      try checkObserver(
        in: inputs, of: isObserved ? Self.activationObservers : Self.weightObservers)
    }
    if let problem = CompressionFormats.problem(writing: scheme) {
      throw refusal(problem, in: node, of: entry)
    }
    return scheme
  }

  private func refusal(
    _ problem: ArgumentProblem, in node: RecipeNode, of entry: RecipeNode.Entry
  ) -> RecipeError {
    let problem = problem.spelled(in: node)
    guard let key = problem.path.last else {
      return unsupported(entry.key, problem.expected ?? "a mapping", node)
    }
    let holder = node.node(at: problem.path.dropLast()) ?? node
    let found = holder.node(at: [key])
    guard let expected = problem.expected else {
      return .unknownKey(
        file: file, line: (found ?? node).line, key: key, known: problem.known)
    }
    guard let found else {
      return .missing(
        file: file, line: holder.line, modifier: "`\(problem.path.dropLast().last ?? entry.key)`",
        key: key)
    }
    return unsupported(key, expected, found)
  }

  private func targets(_ node: RecipeNode) throws(RecipeError) -> [String] {
    do {
      return try QuantizationScheme.targets(node)
    } catch {
      throw unsupported("targets", error.expected ?? "", node)
    }
  }

  /// What is spelled alike in two groups is one of them for one reader, and the other for another.
  private func requireOwnTargets(
    _ schemes: [QuantizationScheme], _ node: RecipeNode
  ) throws(RecipeError) {
    var seen: Set<String> = []
    for target in schemes.flatMap(\.targets) where !seen.insert(target).inserted {
      throw unsupported("targets", "each target in one group (two have \(target))", node)
    }
  }

  /// Observers that are the same without data: the smallest and largest weight of a group.
  private static let weightObservers = ["minmax", "memoryless_minmax", "static_minmax"]
  /// Those that look at all tokens; the largest magnitude stands for both.
  private static let activationObservers = ["static_minmax", "minmax"]

  private func requireObserver(
    _ field: RecipeNode.Entry, of known: [String] = weightObservers
  ) throws(RecipeError) {
    try require(field, oneOf: known, orNull: true)
  }

  private func checkObserver(in node: RecipeNode, of known: [String]) throws(RecipeError) {
    // Static integers alone have two.
    let isLeastSquares =
      known == Self.activationObservers
      && (try? QuantizationArguments(node, ofActivations: true).leastSquares) == true
    let known = isLeastSquares ? known + [QuantizationArguments.leastSquaresObserver] : known
    for field in node.map ?? [] {
      switch field.key {
      case "observer": try requireObserver(field, of: known)
      case "observer_kwargs":
        if field.value.map?.isEmpty != true, !field.value.isNull {
          throw unsupported(field.key, "{}", field.value)
        }
      default: break
      }
    }
  }

  // MARK: Names

  private mutating func addIgnored(_ node: RecipeNode) throws(RecipeError) {
    guard let elements = node.list ?? (node.string.map { _ in [node] }) else {
      throw unsupported("ignore", "a list of names", node)
    }
    var names: [String] = []
    for element in elements { names.append(try pattern(element, "ignore")) }
    if let ignore, ignore != names {
      throw .conflict(
        file: file, line: node.line, key: "ignore",
        first: "[\(ignore.joined(separator: ", "))]", second: node.text)
    }
    ignore = names
  }

  /// An exact name or `re:EXPRESSION`, as compressed-tensors matches them. It also knows names of classes, which a
  /// checkpoint does not tell.
  private func pattern(_ node: RecipeNode, _ key: String) throws(RecipeError) -> String {
    guard let text = node.string, !text.isEmpty else {
      throw unsupported(key, "a name or re:EXPRESSION", node)
    }
    if text.hasPrefix("re:") { return text }
    if FileSystem.isPattern(text) {
      // A `[` without `]` stands for itself.
      let glob = Glob(text) ?? Glob(text.replacing("[", with: "[[]"))
      throw .glob(
        file: file, line: node.line, key: key, found: node.text,
        expression: glob.map { "re:\($0.expression)$" } ?? "re:EXPRESSION")
    }
    if !text.contains("."), text.first?.isUppercase == true {
      throw unsupported(
        key, "the name of a module or re:EXPRESSION (this looks like the name of a class)", node)
    }
    return text
  }

  private func mappings(_ field: RecipeNode.Entry) throws(RecipeError) -> [RecipeMapping]? {
    if field.value.isNull { return nil }
    guard let list = field.value.list, !list.isEmpty else {
      throw unsupported("mappings", "null or a list that is not empty", field.value)
    }
    var result: [RecipeMapping] = []
    for element in list { result.append(try mapping(element)) }
    return result
  }

  private func mapping(_ node: RecipeNode) throws(RecipeError) -> RecipeMapping {
    var smoothLayer: String?
    var balanceLayers: [String] = []
    var target: String?
    for field in try map(node, "mappings", "`smooth_layer` and `balance_layers`") {
      switch field.key {
      case "smooth_layer": smoothLayer = try pattern(field.value, field.key)
      case "balance_layers":
        guard let list = field.value.list, !list.isEmpty else {
          throw unsupported(field.key, "a list that is not empty", field.value)
        }
        for element in list { balanceLayers.append(try pattern(element, field.key)) }
      case "activation_hook_target":
        if !field.value.isNull { target = try pattern(field.value, field.key) }
      default:
        throw .unknownKey(
          file: file, line: field.line, key: field.key,
          known: ["smooth_layer", "balance_layers", "activation_hook_target"])
      }
    }
    func missing(_ key: String) -> RecipeError {
      .missing(file: file, line: node.line, modifier: "a mapping", key: key)
    }
    guard let smoothLayer else { throw missing("smooth_layer") }
    if balanceLayers.isEmpty { throw missing("balance_layers") }
    return RecipeMapping(
      smoothLayer: smoothLayer, balanceLayers: balanceLayers, activationHookTarget: target)
  }

  private func duoScaling(_ field: RecipeNode.Entry) throws(RecipeError) -> DuoScaling {
    let spelled = field.value.bool.map { $0 ? "true" : "false" } ?? field.value.string
    guard let duo = spelled.flatMap(DuoScaling.init(rawValue:)) else {
      throw unsupported(field.key, "true, false or \"both\"", field.value)
    }
    return duo
  }

  // MARK: Checks

  /// The fields of a modifier or group; none where it is empty.
  private func fields(_ entry: RecipeNode.Entry) throws(RecipeError) -> [RecipeNode.Entry] {
    if entry.value.isNull { return [] }
    return try map(entry.value, entry.key, "a mapping")
  }

  private func map(
    _ node: RecipeNode, _ key: String, _ expected: String
  ) throws(RecipeError) -> [RecipeNode.Entry] {
    guard let entries = node.map else { throw unsupported(key, expected, node) }
    return entries
  }

  private func require(
    _ field: RecipeNode.Entry, oneOf values: [String], orNull: Bool = false
  ) throws(RecipeError) {
    if orNull, field.value.isNull { return }
    guard let text = field.value.string, values.contains(text) else {
      throw unsupported(field.key, values.joined(separator: ", "), field.value)
    }
  }

  private func unsupported(_ key: String, _ expected: String, _ found: RecipeNode) -> RecipeError {
    .unsupported(
      file: file, line: found.line, key: key, expected: expected, found: found.text)
  }
}
