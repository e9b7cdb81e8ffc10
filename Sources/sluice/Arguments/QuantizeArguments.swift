// The flags that quantize and plan share.

import ArgumentParser
internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Pipeline
internal import Planning
internal import Quantization
internal import Recipes
internal import SystemIO

/// One word of a few, in upper or lower case.
protocol Choice: ExpressibleByArgument, CaseIterable, RawRepresentable<String> {}

extension Choice {
  init?(argument: String) {
    let lower = argument.lowercased()
    guard let choice = Self.allCases.first(where: { $0.rawValue.lowercased() == lower }) else {
      return nil
    }
    self = choice
  }
}

extension SmoothingLoss: Choice {}
extension RoundingMethod: Choice {}
extension ExpertWeighting: Choice {}
extension CacheScheme: Choice {}

enum EngineChoice: String, Choice {
  case auto, bf16, f32

  var engine: Engine? { Engine(rawValue: rawValue) }
}

/// `PRESET`, or `TARGET=PRESET`.
struct SchemeArgument {
  /// nil for every Linear that no other target means.
  let target: String?
  let scheme: QuantizationScheme

  init(_ text: String) throws {
    let parts = text.lastIndex(of: "=").map { (text[..<$0], text[text.index(after: $0)...]) }
    target = parts.map { String($0.0) }
    scheme = try SchemePreset.written(String(parts?.1 ?? text[...]))
    if target?.isEmpty == true { throw ValidationError("no target before `=`") }
  }
}

/// A number of columns, or `channel` for whole rows.
struct GroupSizeArgument: ExpressibleByArgument {
  let size: Int

  static let rows = "channel"

  static var words: String {
    CompressionFormats.alternatives(CompressionFormats.groupSizes.map { "\($0)" } + [rows])
  }

  static var defaultCompletionKind: CompletionKind {
    .list(CompressionFormats.groupSizes.map { "\($0)" } + [rows])
  }

  init?(argument: String) {
    if argument.lowercased() == Self.rows {
      size = QuantizationArguments.wholeRows
    } else if let number = Int(argument) {
      size = number
    } else {
      return nil
    }
  }
}

extension CompletionKind {
  static func presets(and others: String...) -> CompletionKind {
    .list(CompressionFormats.presets.map(\.name) + others)
  }
}

extension OtherTokens {
  static let words = ["auto", "all"]

  init(argument: String) throws {
    switch argument.lowercased() {
    case "auto": self = .auto
    case "all": self = .all
    case let text:
      guard let number = Int(text), number >= 0 else {
        throw ValidationError("expected auto, all, or a number of tokens, 0 or more")
      }
      self = .number(number)
    }
  }
}

struct QuantizeArguments: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      """
      A Hugging Face model folder (config.json and *.safetensors), or ORG/NAME[@REVISION] as in \
      the local Hugging Face cache.
      """),
    completion: .directory)
  var model: String

  @Option(
    help: ArgumentHelp(
      """
      Calibration data: chats (messages, conversations), text or token ids (input_ids) as JSON \
      lines, JSON, CSV, parquet or plain text, also .gz and .zst; a file, a folder, a glob, - for stdin, or \
      ORG/NAME[@REVISION] in the Hugging Face cache. Behind it may stand [SPLIT], [FIRST:END] for rows, \
      and :SHARE where there are several, with commas between them. Default: built-in chats.
      """, valueName: "data"), completion: .file())
  var calibration: String?

  @OptionGroup var machine: MachineArguments

  @Option(
    help: ArgumentHelp(
      """
      An llm-compressor recipe, YAML or JSON: scheme, ignore, kv_cache_scheme, the mappings of AWQ and SmoothQuant, \
      duo_scaling, n_grid, and GPTQ's dampening_frac. --scheme, --target-size, --target-bits, --group-size, --ignore, \
      --kv-cache, --no-smoothing, --rounding and --damping replace what it says.
      """, valueName: "file"), completion: .file(extensions: ["yaml", "yml", "json"]))
  var recipe: String?

  @Option(
    help: ArgumentHelp(
      """
      What weights become: \(CompressionFormats.presets.map(\.name).joined(separator: ", ")), or TARGET=SCHEME for \
      some (repeatable), where TARGET is attention, dense, shared, experts, lm_head, embed_tokens, or \
      a pattern as for --ignore. Default: \(SchemePreset.usual).
      """, valueName: "scheme"), completion: .presets(), transform: SchemeArgument.init)
  var scheme: [SchemeArgument] = []

  @OptionGroup var size: SizeArguments

  @Option(
    name: .customLong("group-size"),
    help: ArgumentHelp(
      """
      Input channels that share a scale of integers: \(GroupSizeArgument.words). Default: 128, or less \
      where 128 divides the inputs of few Linears. Those that it does not divide stay as they are.
      """, valueName: "n"))
  var groupSize: GroupSizeArgument?

  @Option(
    name: .customLong("kv-cache"),
    help: ArgumentHelp(
      """
      Find scales for keys and values, so that an engine keeps them in 8-bit floats: fp8 (a scale for \
      each layer) or fp8_head (for each head). Needs calibration data. Default: they stay as they \
      are, or as the recipe says.
      """, valueName: "scheme"))
  var cache: CacheScheme?

  @Option(
    help: ArgumentHelp(
      """
      Modules to leave unquantized (repeatable): an exact name, a glob ('model.layers.0.*' is \
      layer 0 only), or re:EXPRESSION matched at the start of the name. Routers always stay; embeddings \
      and lm_head do where no --scheme names them.
      """, valueName: "pattern"))
  var ignore: [String] = []

  @Option(
    help: ArgumentHelp(
      """
      What the weights of multi-token-prediction layers become, as for --scheme, in the classes that vLLM loads so. \
      Default: they stay as they are.
      """, valueName: "scheme"), completion: .presets(), transform: SchemePreset.written)
  var mtp: QuantizationScheme?

  @OptionGroup var keys: ConfigKeyArguments

  @OptionGroup var data: DataArguments

  @Flag(
    name: .customLong("no-smoothing"),
    help: """
      No AWQ scales. Rounds to nearest where --rounding does not say otherwise, and then needs no \
      calibration data.
      """)
  var noSmoothing = false

  @Option(
    help: ArgumentHelp(
      """
      compensated (clipped ranges, error-compensated codes, fitted scales, outputs weighed by \
      what their errors do), fast (likewise, every output by itself), clip (ranges alone) or nearest \
      (plain AWQ). Default: compensated, or as the recipe says.
      """, valueName: "method"))
  var rounding: RoundingMethod?

  @Option(
    name: .customLong("expert-weighting"),
    help: ArgumentHelp(
      """
      How much a token counts for an expert: all (every token alike), routed (by the router's \
      weight) or blend (by it, and a little of all). Default: blend; all with nearest and clip.
      """, valueName: "kind"))
  var expertWeighting: ExpertWeighting?

  @Option(
    name: .customLong("expert-tokens"),
    help: ArgumentHelp(
      """
      Tokens that an expert sees beside those that the router sends to it, spread over the data: a \
      number (and at least 128 in all), all, or auto, which measured like all and saves time: four for \
      each channel of its down projection, 4096 at least. Default: auto.
      """, valueName: "n"), completion: .list(OtherTokens.words),
    transform: OtherTokens.init(argument:))
  var expertTokens = OtherTokens.auto

  @Option(
    help: ArgumentHelp(
      """
      What compensated rounding adds to the diagonal of a Gram matrix, as a share of its mean. \
      Default: 0.005.
      """, valueName: "share"))
  var damping: Double?

  @Option(
    help: ArgumentHelp(
      "How the scale search measures error: diagonal (second moments) or gram (exact, slower).",
      valueName: "loss"))
  var loss: SmoothingLoss = .diagonal

  @Option(
    help: ArgumentHelp(
      """
      What multiplies activations with weights: auto, bf16 (weights in bfloat16 and FP8 are multiplied in bfloat16, all \
      others in float32; needs a CPU with AVX512_BF16) or f32 (float32 throughout, OpenBLAS). Default: auto, which is \
      bf16 where the CPU and the weights allow it.
      """, valueName: "engine"))
  var engine: EngineChoice = .auto

  @Option(
    help: ArgumentHelp(
      "Folder for hidden states during the run. Default: OUT/.sluice/scratch.",
      valueName: "folder"), completion: .directory)
  var scratch: String?

  @Option(
    name: .customLong("local-scratch"),
    help: ArgumentHelp(
      """
      With several processes (mpirun): a folder on this host's own disk for what only one process reads. Default: in \
      --scratch.
      """, valueName: "folder"), completion: .directory)
  var localScratch: String?

  @Option(
    name: .customLong("keep-states"),
    help: ArgumentHelp(
      """
      Keep input states and statistics of every layer in this folder. A run that finds them there for the same model, \
      data and tokens does not calibrate again, whatever its scheme. Also what sluice requantize goes by.
      """, valueName: "folder"), completion: .directory)
  var keptStates: String?

  @Option(
    help: ArgumentHelp(
      """
      How many layers get their input states (kept in scratch) before any of them is quantized. Changes no byte. \
      Default: 1; with several processes (mpirun) two for each; with --keep-states all are there anyway.
      """, valueName: "layers"))
  var window: Int?

  @Option(
    name: .customLong("max-shard-size"),
    help: ArgumentHelp("Largest output file, e.g. 5GB.", valueName: "size"),
    transform: ByteSize.init)
  var maximumShardSize = ByteSize(bytes: 5_000_000_000)

  func validate() throws {
    if let groupSize, groupSize.size != QuantizationArguments.wholeRows,
      !CompressionFormats.groupSizes.contains(groupSize.size)
    {
      throw ValidationError("--group-size is \(GroupSizeArgument.words)")
    }
    if scheme.count(where: { $0.target == nil }) > 1 {
      throw ValidationError("--scheme is given twice for all Linears; write TARGET=SCHEME for some")
    }
    try size.check(againstScheme: !scheme.isEmpty)
    if size.isAsked, mtp != nil {
      throw ValidationError(
        "--mtp does not go with a size yet, which is for the layers of the model alone; leave one of them out"
      )
    }
    if let damping, !(damping > 0 && damping < 1) {
      throw ValidationError("--damping is more than 0 and less than 1")
    }
    if let window, window < 1 { throw ValidationError("--window is 1 or more") }
  }

  /// - Parameter isWhole: whether the weights must be there.
  func options(output: String, isWhole: Bool = true) throws -> QuantizeOptions {
    var options = QuantizeOptions(
      model: try modelFolder(model, isWhole: isWhole), output: trimmed(output),
      memory: machine.memoryBytes,
      threads: machine.threadCount)
    options.data = try data.source(calibration)
    if let recipe {
      var replaced: Set<Recipe.Part> = ignore.isEmpty ? [] : [.ignore]
      if !scheme.isEmpty || size.isAsked { replaced.insert(.scheme) }
      if cache != nil { replaced.insert(.cache) }
      options.follow(try Recipe(path: recipe, replaced: replaced), file: recipe)
    }
    // Of the recipe, or the usual ones.
    let groups = Self.groupSize(of: options.schemes)
    // A recipe of formats whose groups are their own names no size for other schemes.
    let namesSize = recipe != nil && options.schemes.contains(where: \.hasFreeGroups)
    options.isGroupSizeNamed = groupSize != nil || namesSize
    options.size = try size.wish()
    if namesSize { options.size = options.size?.grouped(by: groups) }
    if !scheme.isEmpty { options.schemes = schemes(inGroupsOf: groups) }
    if !scheme.isEmpty || size.isAsked { options.schemesAreFromRecipe = false }
    options.predictions = mtp?.grouped(by: groups)
    if let groupSize {
      if options.size == nil {
        try checkGroups(of: options.schemes + (options.predictions.map { [$0] } ?? []))
      }
      options.schemes = options.schemes.map { $0.grouped(by: groupSize.size) }
      options.predictions = options.predictions?.grouped(by: groupSize.size)
      options.size = options.size?.grouped(by: groupSize.size)
    }
    options.acceptedKeys = keys.accepted
    if let cache {
      options.cache = cache
      options.cacheIsFromRecipe = false
    }
    if !ignore.isEmpty {
      options.ignore = ignore
      options.ignoreIsFromRecipe = false
    }
    if noSmoothing {
      options.smooths = false
      options.rounding = .nearest
      options.roundingIsFromRecipe = false
    }
    if let rounding {
      options.rounding = rounding
      options.roundingIsFromRecipe = false
    }
    options.expertWeighting = expertWeighting
    options.expertTokens = expertTokens
    if let damping { options.damping = damping }
    options.loss = loss
    options.engine = engine.engine
    options.scratch = scratch
    options.localScratch = localScratch
    options.keptStates = keptStates
    options.window = window
    options.maximumShardBytes = maximumShardSize.bytes
    return options
  }
}

extension QuantizationScheme {
  /// Whether the size of its groups can be chosen, and is not a part of its format.
  fileprivate var hasFreeGroups: Bool { grouped(by: 1) != self }
}

extension QuantizeArguments {
  /// The size that other schemes take over from these.
  private static func groupSize(of schemes: [QuantizationScheme]) -> Int {
    schemes.first(where: \.hasFreeGroups)?.weights?.groupSize ?? SchemePreset.groupSize
  }

  /// Refuses a size where no scheme leaves it free.
  private func checkGroups(of schemes: [QuantizationScheme]) throws {
    if schemes.contains(where: \.hasFreeGroups) { return }
    let names = schemes.map(\.name).joined(separator: ", ")
    throw ValidationError(
      "--group-size changes nothing of \(names): how many weights share a scale belongs to the scheme; leave it out"
    )
  }

  /// What `--scheme` says, in groups of the size that a recipe has.
  private func schemes(inGroupsOf size: Int) -> [QuantizationScheme] {
    let usual = SchemePreset.named(SchemePreset.usual)?.scheme
    let all = scheme.first { $0.target == nil }?.scheme ?? usual
    let targeted = scheme.compactMap { each in each.target.map { each.scheme.targeting([$0]) } }
    return ((all.map { [$0] } ?? []) + targeted).map { $0.grouped(by: size) }
  }
}

extension QuantizeArguments {
  /// Tells of flags that the others take all effect from.
  func warnOfUnused(_ plan: QuantizePlan) {
    if damping != nil { warnOfDamping(plan.options.rounding) }
    if calibration != nil, plan.run.tokens == 0 {
      Console.warning(
        "--calibration is not read: rounding to nearest without smoothing needs none")
    }
  }
}

/// Where `--damping` is given, and may have no effect.
func warnOfDamping(_ rounding: RoundingMethod) {
  if rounding.needsGram { return }
  Console.warning("--damping is for --rounding compensated and fast; it changes nothing here")
}

/// The folder of a model as the user typed it, or of its hub id, with its weights.
func modelFolder(_ text: String) throws -> String { try modelFolder(text, isWhole: true) }

/// - Parameter isWhole: whether the weights must be there.
func modelFolder(_ text: String, isWhole: Bool) throws -> String {
  try HubCache().folder(of: trimmed(text), isWhole: isWhole)
}

/// A folder as the user typed it, without the slashes that shells complete.
func trimmed(_ folder: String) -> String {
  var result = folder[...]
  while result.count > 1, result.hasSuffix("/") { result.removeLast() }
  return String(result)
}
