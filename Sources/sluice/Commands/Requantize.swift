// sluice requantize: a finished output under other options.

import ArgumentParser
internal import Calibration
internal import CompressedTensors
internal import Glibc
internal import Pipeline
internal import Planning
internal import Quantization
internal import Release
internal import SystemIO

/// Layers by their numbers: `40-59` or `0,2,40-59`.
struct LayerNumbers: ExpressibleByArgument {
  let ranges: [ClosedRange<Int>]
  let text: String

  init?(argument: String) {
    text = argument
    var ranges: [ClosedRange<Int>] = []
    for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
      let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
      guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1],
        first >= 0, first <= last
      else { return nil }
      ranges.append(first...last)
    }
    self.ranges = ranges
  }
}

struct Requantize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Change the scheme, the ignore list, the rounding or the size of a finished output.",
    discussion: """
      Every flag replaces what the output was made with; what is not given stays. The new output is \
      made beside the old one, which stays whole until the new one takes its place at once. Layers \
      that do not change are copied. With the states that the run kept (sluice quantize \
      --keep-states) nothing is calibrated again; without them all of it is. Ctrl-C and crashes cost \
      little: the same command goes on. Gives the bytes of sluice quantize with these options.

      EXAMPLES
        sluice quantize GLM-4.6 \\
            -o GLM-4.6-W4A16 \\
            --keep-states /data/states
        sluice requantize GLM-4.6-W4A16 \\
            --scheme NVFP4A16
        sluice requantize GLM-4.6-W4A16 \\
            --scheme W8A16 --layers 40-59
        sluice requantize GLM-4.6-W4A16 \\
            --target-size 200GB
      """)

  @Argument(help: "The folder that sluice quantize wrote.", completion: .directory)
  var output: String

  @Option(
    help: ArgumentHelp(
      """
      As for sluice quantize: PRESET, or TARGET=PRESET for some (repeatable). Replaces all schemes. Groups are those of \
      the recipe, if there was one, and else the usual ones, which --layers always takes; --group-size names others.
      """, valueName: "scheme"), completion: .presets(), transform: SchemeArgument.init)
  var scheme: [SchemeArgument] = []

  @Option(
    help: ArgumentHelp(
      "Only these layers get --scheme, e.g. 40-59 or 0,2,40-59; all others stay as they are.",
      valueName: "layers"))
  var layers: LayerNumbers?

  @OptionGroup var size: SizeArguments

  @Option(
    name: .customLong("group-size"),
    help: ArgumentHelp(
      "Input channels that share a scale of integers: \(GroupSizeArgument.words).", valueName: "n"))
  var groupSize: GroupSizeArgument?

  @Option(
    name: .customLong("kv-cache"),
    help: ArgumentHelp("Scales for keys and values: fp8 or fp8_head.", valueName: "scheme"))
  var cache: CacheScheme?

  @Option(
    help: ArgumentHelp(
      "Modules to leave unquantized (repeatable), in place of those that were.",
      valueName: "pattern"))
  var ignore: [String] = []

  @Option(
    help: ArgumentHelp(
      "What the weights of multi-token-prediction layers become, as for sluice quantize.",
      valueName: "scheme"), completion: .presets(), transform: SchemePreset.written)
  var mtp: QuantizationScheme?

  @Option(help: ArgumentHelp("compensated, fast, clip or nearest.", valueName: "method"))
  var rounding: RoundingMethod?

  @Option(
    help: ArgumentHelp(
      "What compensated rounding adds to the diagonal of a Gram matrix.", valueName: "share"))
  var damping: Double?

  @Option(
    help: ArgumentHelp("How the scale search measures error: diagonal or gram.", valueName: "loss"))
  var loss: SmoothingLoss?

  @Option(
    name: .customLong("expert-weighting"),
    help: ArgumentHelp(
      "How much a token counts for an expert: all, routed or blend.", valueName: "kind"))
  var expertWeighting: ExpertWeighting?

  @Option(
    name: .customLong("expert-tokens"),
    help: ArgumentHelp(
      """
      Tokens that an expert sees beside those that the router sends to it: a number, all or auto.
      """, valueName: "n"), completion: .list(OtherTokens.words),
    transform: OtherTokens.init(argument:))
  var expertTokens: OtherTokens?

  @Option(
    name: .customLong("keep-states"),
    help: ArgumentHelp(
      "The folder of kept states. Default: the one that the output was made with.",
      valueName: "folder"), completion: .directory)
  var keptStates: String?

  @OptionGroup var machine: MachineArguments

  @Option(
    help: ArgumentHelp(
      "Folder for hidden states during the run. Default: beside the new output.",
      valueName: "folder"), completion: .directory)
  var scratch: String?

  @Flag(help: "Make every layer again, also those that do not change.")
  var anew = false

  @Flag(help: "Forget a new output that was begun, and start over.")
  var restart = false

  @OptionGroup var log: RunLogArguments

  private static let changes = [
    "--scheme", "--target-size", "--target-bits", "--group-size", "--kv-cache", "--ignore", "--mtp",
    "--rounding", "--damping", "--loss", "--expert-weighting", "--expert-tokens",
  ]

  private var changesNothing: Bool {
    scheme.isEmpty && !size.isAsked && groupSize == nil && cache == nil && ignore.isEmpty
      && mtp == nil && rounding == nil && damping == nil && loss == nil && expertWeighting == nil
      && expertTokens == nil
  }

  func validate() throws {
    if changesNothing {
      throw ValidationError(
        "nothing to change; give one of \(CompressionFormats.alternatives(Self.changes))")
    }
    if layers != nil, scheme.count != 1 || scheme[0].target != nil {
      throw ValidationError(
        "--layers is for one --scheme without a target: what these layers become")
    }
    if layers != nil, groupSize != nil || !ignore.isEmpty {
      throw ValidationError(
        "--layers says where --scheme holds; give --group-size and --ignore in a command of their own"
      )
    }
    if !scheme.isEmpty { try size.check(againstScheme: true) }
    if scheme.count(where: { $0.target == nil }) > 1 {
      throw ValidationError("--scheme is given twice for all Linears; write TARGET=SCHEME for some")
    }
    if let damping, !(damping > 0 && damping < 1) {
      throw ValidationError("--damping is more than 0 and less than 1")
    }
  }

  /// The command that made an output, and schemes of some layers that came after it.
  private struct Asked {
    var quantize: Quantize
    var layers: [LayerScheme] = []
  }

  private func apply(to asked: inout Asked) {
    var arguments = asked.quantize.arguments
    if let layers, let scheme = scheme.first?.scheme {
      asked.layers.append(LayerScheme(layers: layers.ranges, text: layers.text, scheme: scheme))
    } else if !scheme.isEmpty || size.isAsked {
      arguments.scheme = scheme
      arguments.size = size
      arguments.groupSize = groupSize
      asked.layers = []
    }
    if let groupSize { arguments.groupSize = groupSize }
    if let cache { arguments.cache = cache }
    if !ignore.isEmpty { arguments.ignore = ignore }
    if let mtp { arguments.mtp = mtp }
    if let rounding { arguments.rounding = rounding }
    if let damping { arguments.damping = damping }
    if let loss { arguments.loss = loss }
    if let expertWeighting { arguments.expertWeighting = expertWeighting }
    if let expertTokens { arguments.expertTokens = expertTokens }
    asked.quantize.arguments = arguments
  }

  /// The words of this command that change something, as they are kept for the next one.
  private var words: [String] {
    var words = Array(CommandLine.arguments.dropFirst())
    words.removeAll { ["--restart", "--anew"].contains($0) }
    return words
  }

  private static let pathFlags = ["--keep-states", "--scratch"]
  private static let flagsWithoutValue = ["--anew", "--restart", "--quiet", "--verbose"]

  /// The words that go on with this run from any folder: `options` enters another one, which the record of the run names.
  ///
  /// - Parameter output: without links.
  private func wayOn(to output: String) -> [String] {
    var words = goingOn
    // A name without a slash is looked for in PATH.
    if let program = words.first, program.contains("/") { words[0] = FileSystem.resolved(program) }
    // What stands before it is the name of this command.
    var before = ""
    for (place, word) in words.enumerated().dropFirst(2) {
      if Self.pathFlags.contains(before) {
        words[place] = FileSystem.resolved(word)
      } else if let flag = Self.pathFlags.first(where: { word.hasPrefix("\($0)=") }) {
        words[place] = "\(flag)=\(FileSystem.resolved(String(word.dropFirst(flag.count + 1))))"
      } else if word == self.output,
        !before.hasPrefix("--") || before == "--" || before.contains("=")
          || Self.flagsWithoutValue.contains(before)
      {
        words[place] = output
      }
      before = word
    }
    return words
  }

  /// What was asked for so far, and now.
  private func options(_ output: Requantization) throws -> QuantizeOptions {
    guard let first = output.request.words.first, first.first == "quantize" else {
      throw RequantizeError.noRequest(path: output.output)
    }
    var asked: Asked
    do {
      asked = Asked(quantize: try Quantize.parse(Array(first.dropFirst())))
      for words in output.request.words.dropFirst() {
        try Requantize.parse(Array(words.dropFirst())).apply(to: &asked)
      }
    } catch {
      throw RequantizeError.noRequest(path: output.output)
    }
    apply(to: &asked)
    if !asked.layers.isEmpty, asked.quantize.arguments.size.isAsked {
      throw RequantizeError.notInPlace(
        path: output.output,
        problem: "its schemes were chosen for a size, and --layers has no say in that")
    }
    if asked.quantize.arguments.size.isAsked, asked.quantize.arguments.mtp != nil {
      throw RequantizeError.notInPlace(
        path: output.output,
        problem: "a size is for the layers of the model alone, and --mtp for those behind them")
    }
    asked.quantize.arguments.machine = machine
    asked.quantize.arguments.window = nil
    asked.quantize.arguments.data.savedTokens = nil
    asked.quantize.arguments.scratch = scratch.map(FileSystem.resolved)
    asked.quantize.arguments.keptStates = keptStates.map(FileSystem.resolved) ?? output.keptStates
    // What is relative in the words of another day is so to the folder of that day.
    try output.request.enter()
    var options = try asked.quantize.arguments.options(output: output.work)
    if options.data.sets.contains(where: { $0.path == "-" }) {
      throw RequantizeError.notInPlace(
        path: output.output, problem: "its calibration data came from stdin, which is gone")
    }
    options.layerSchemes = asked.layers
    options.writesCard = !asked.quantize.noCard
    options.version = Version.number
    options.restarts = restart
    options.replaces = anew ? nil : output.output
    options.request = RunRequest(
      folder: output.request.folder, words: output.request.words + [words])
    return options
  }

  func run() throws {
    log.begin()
    let here = RunRequest(folder: RunRequest.currentFolder, words: [])
    let output = try Requantization(self.output)
    let command = wayOn(to: output.output)
    let options = try options(output)
    if damping != nil { warnOfDamping(options.rounding) }
    if let kept = options.keptStates, !FileSystem.exists(kept) {
      if let keptStates {
        Console.news("\(keptStates) is new: all is calibrated, and the states are kept there")
      } else {
        Console.warning("\(kept) is gone, where states were kept; all is calibrated again")
      }
    } else if options.keptStates == nil {
      Console.news("no states were kept, so all is calibrated again; --keep-states keeps them")
    }
    signal(SIGPIPE, SIG_IGN)
    let interruption = Interruption()
    let signals = StopSignals(requesting: interruption)
    defer { signals.stop() }
    let progress = ProgressLine(
      memory: options.memory, threads: options.threads, isAgain: true)
    let sized =
      try options.size == nil ? nil : SizedRun(options) { ResidentMemory.current().peakBytes }
    let plan = try sized?.writing ?? QuantizePlan(options) { ResidentMemory.current().peakBytes }
    try checkLimits(threads: options.threads, bytes: sized?.peakBytes ?? plan.run.peakBytes)
    if sized == nil, output.isDone(plan) {
      try output.clean()
      Console.news("\(self.output) is what was asked for; nothing to do")
      return
    }
    try output.prepare(for: plan)
    // Where it is made is nobody's concern: it is told of where it will be.
    let show: (RunEvent) -> Void = { event in
      if case .finished(let summary) = event {
        progress.show(.finished(summary.moved(to: output.output)))
      } else {
        progress.show(event)
      }
    }
    if let sized {
      try sized.run(command: command, interruption: interruption, report: show)
    } else {
      try QuantizeModel(plan, command: command, interruption: interruption, report: show).run()
    }
    // No signal ends the program while folders change places.
    signals.hold()
    try output.replace()
    signals.stop()
    try here.enter()
    NextSteps(
      output: self.output, model: options.model, isMeasured: false, isServed: progress.isServed
    ).tell()
  }
}
