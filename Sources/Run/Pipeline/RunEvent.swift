// What a run reports: values, not text.

internal import Calibration
package import CompressedTensors
internal import JSON
internal import Models
package import Planning
package import Reporting
internal import Transformer
internal import Quantization

/// How far a run is. Work counts floating-point operations.
package struct RunProgress: Sendable, Equatable {
  package let step: RunStep
  /// From 0; nil where the step is of no layer, as copying and checking are.
  package let layer: Int?
  package let layers: LayerCount
  package let tokensDone: Int
  package let tokensInStep: Int
  /// Share of the whole run's arithmetic, 0 to 1.
  package let share: Double
  /// As what this process did so far lets expect; nil while it did too little.
  package let secondsLeft: Double?
  /// Of the pass over the tokens that is in work; nil while it did too little.
  package let tokensPerSecond: Double?
  /// While files are read to their end and nothing else is done: how much of them was, 0 to 1.
  package var checked: Double?
}

/// Files that are read whole for their checksums.
package enum RunCheck: Sendable, Equatable {
  case source(bytes: Int)
  /// Its files were moved or written since.
  case sourceAgain(bytes: Int)
  /// The bytes of a finished output are compared with their checksums.
  case output(String, bytes: Int)
}

/// What a finished layer came to.
package struct LayerSummary: Sendable, Equatable {
  package let layer: Int
  package let layers: LayerCount
  package let quantizedLinears: Int
  package let smoothings: Int
  /// Mean over the layer's smoothings of loss after over loss before; nil without smoothing.
  package let lossRatio: Double?
  /// Error of the layer's Linears over that of rounding to nearest; nil where that was all.
  package let roundingRatio: Double?
  package let seconds: Double
}

/// What a finished run came to.
package struct RunSummary: Sendable, Equatable {
  package internal(set) var output: String
  /// The page that tells people about it.
  package internal(set) var report: String
  package let sourceBytes: Int
  package let outputBytes: Int
  /// The most that lay in scratch.
  package let scratchBytes: Int
  /// Peaks of the steps that this process did.
  package let steps: [StepSummary]
  package let plan: RunPlan
  package let budget: Int
  package let wallSeconds: Double
  /// Of all ranks.
  package let processorSeconds: Double
}

extension RunSummary {
  /// The summary of an output that takes the place of another one.
  package func moved(to output: String) -> RunSummary {
    var result = self
    if report.hasPrefix(self.output) {
      result.report = output + report.dropFirst(self.output.count)
    }
    result.output = output
    return result
  }
}

/// Something the user should know and that stops nothing.
package enum RunWarning: Sendable, Equatable, CustomStringConvertible {
  case unroutedExperts(layer: Int, experts: [Int])
  case overBudget(peak: Int, budget: Int)
  case notFactored(layer: Int, linear: String)
  /// Rows of a weight that became 0.
  case rowsLost(linear: String, count: Int, of: Int, scheme: String)
  case splitsFused(module: String)
  case expertsStay(layers: [Int])
  case mapping(MappingNote)
  case headStays(recipe: String)
  /// An embedding or a head whose codes are not compensated.
  case endsClipped([String])
  /// Layers whose mixers along the sequence have no way back for gradients.
  case outputsAlone(layers: [Int])
  case activationScalesDropped(count: Int)
  case noReport(problem: String)
  case openNumber(OpenNumber)
  case longSequence(tokens: Int, positions: Int)
  case roundingOfRecipe(file: String)
  /// What is done otherwise than a SmoothQuantModifier says.
  case smoothQuant(file: String, strength: Double, seesActivations: Bool)
  /// What its config.json and its files let know.
  case source(note: String)
  case smallerGroups(Int, instead: Int)
  /// Linears that the group size leaves as they are.
  case undivided(first: String, count: Int, inputs: Int, groupSize: Int, smaller: Int?)
  case dataAssumed(sequences: Int, tokens: Int)
  /// A scheme that inference engines do not load.
  case notLoaded(scheme: String, reason: String)
  /// Kept files that are not as they were kept.
  case keptDamaged([String])

  package var description: String {
    switch self {
    case .unroutedExperts(let layer, let experts):
      "layer \(layer): no calibration token is routed to \(counted(experts.count, "expert")) "
        + "(\(experts.prefix(8).map(String.init).joined(separator: ", "))); their scales rest on tokens of others, all alike"
    case .notFactored(let layer, let linear):
      "layer \(layer): the Gram matrix of what `\(linear)` reads could not be factored, even with its diagonal "
        + "doubled; its readers are rounded within clipped ranges, without compensation"
    case .rowsLost(let linear, let count, let all, let scheme):
      "`\(linear)`: \(count) of \(all) rows became 0: \(scheme) scales them beside the largest weight of all that share "
        + "a scale with them, and they are too small for that; take a --scheme with a scale for each row or group, such "
        + "as W4A16, or --ignore it"
    case .splitsFused(let module):
      "`\(module)` is left out, but inference engines load it together with Linears that are "
        + "quantized; --ignore all of them, or vLLM will refuse the output"
    case .expertsStay(let layers):
      "experts stay unquantized (layer\(layers.count == 1 ? "" : "s") \(layers.prefix(8).map(String.init).joined(separator: ", "))"
        + (layers.count > 8 ? " and \(layers.count - 8) more" : "")
        + "): vLLM loads them, but transformers does not find such experts in a quantized checkpoint and gives "
        + "them random weights"
    case .mapping(let note): note.description
    case .headStays(let recipe):
      "\(recipe) does not ignore `lm_head`; it is not quantized all the same, but where a target spells it "
        + "(`lm_head` in a recipe, --scheme lm_head=W8A16)"
    case .endsClipped(let modules):
      modules.map { "`\($0)`" }.joined(separator: " and ")
        + ": rounded within clipped ranges, without compensation, since calibration does not see what "
        + (modules.count == 1 ? "it reads" : "they read")
    case .outputsAlone(let layers):
      "\(layersText(layers)): queries, keys and values are rounded output by output, as with --rounding fast, "
        + "since gradients of this kind of layer are not known"
    case .activationScalesDropped(let count):
      "the source has \(counted(count, "scale")) of activations; the output leaves them out; where its scheme has such scales, they are found anew"
    case .noReport(let problem):
      "the output is complete, but its report could not be written: \(problem); "
        + "`sluice report` makes it again"
    case .openNumber(let number): number.description
    case .longSequence(let tokens, let positions):
      "the longest sequence has \(tokens) tokens, and the model knows \(counted(positions, "position")) "
        + "(`max_position_embeddings`); --sequence-length \(positions) keeps to what it was made for"
    case .roundingOfRecipe(let file):
      "\(file) rounds to nearest; --rounding compensated, the default without a recipe, has about a quarter of its error "
        + "(KL 0.0008 instead of 0.0031 on a model of 16 million parameters)"
    case .smoothQuant(let file, let strength, let seesActivations):
      "\(file): the `smoothing_strength` \(strength) of SmoothQuantModifier is not taken; a search finds the exponent of "
        + "each smoothing, "
        + (seesActivations
          ? "by what rounding does to weights and, where they become integers, to activations"
          : "by what rounding does to weights alone, since this scheme leaves activations as they are")
        + ", and every reader is compensated"
    case .source(let note): note
    case .smallerGroups(let size, let usual):
      "groups of \(size), since most weights have inputs that are no multiple of \(usual); --group-size names another "
        + "size"
    case .undivided(let first, let count, let inputs, let groupSize, let smaller):
      (count == 1 ? "`\(first)` stays" : "\(count) Linears stay, the first `\(first)`,")
        + " as in the source: \(inputs) input features are no multiple of --group-size \(groupSize)"
        + (count == 1 ? "" : ", or they are loaded as one with such")
        + (smaller.map { "; --group-size \($0) quantizes all" } ?? "")
    case .dataAssumed(let sequences, let tokens):
      "there is no tokenizer here: planned with \(counted(sequences, "sequence")) of \(counted(tokens, "token")), which is the most that "
        + "--samples and --sequence-length allow"
    case .keptDamaged(let files):
      "kept states: \(files[0])"
        + (files.count > 1 ? " and \(counted(files.count - 1, "other file"))" : "")
        + " \(files.count > 1 ? "are" : "is") not as kept; what is missing is made again"
    case .notLoaded(let scheme, let reason): "vLLM 0.33 does not load \(scheme): \(reason)"
    case .overBudget(let peak, let budget):
      "the peak of resident memory was \(bytesText(peak)), over the budget of \(bytesText(budget))"
    }
  }
}

extension RunWarning {
  /// Where a sequence has more tokens than the model has positions.
  static func longSequence(_ tokens: Int, for config: JSONObject) -> [RunWarning] {
    guard let positions = Architectures.text(of: config)["max_position_embeddings"]?.int,
      positions > 0,
      tokens > positions
    else { return [] }
    return [.longSequence(tokens: tokens, positions: positions)]
  }
}

/// What a data set came to.
package struct DataSummary: Sendable, Equatable {
  /// nil for the built-in chats.
  package let path: String?
  package let sequences: Int
  package let tokens: Int
  package let asked: Int
  package let sequenceLength: Int
  package let emptyRows: Int
  package let cutRows: Int
  package let failedRows: Int
  /// Place and problem of the first row that failed.
  package let firstFailure: String?

  init(_ data: CalibrationData, of source: CalibrationSource) {
    path = source.path
    sequences = data.sequences.count
    tokens = data.tokens
    asked = source.selection.samples
    sequenceLength = source.selection.sequenceLength
    emptyRows = data.emptyRows
    cutRows = data.cutRows
    failedRows = data.failedRows.count
    firstFailure = data.failedRows.first?.description
  }
}

package enum RunEvent: Sendable {
  case dataLoaded(DataSummary)
  case started(RunPlan, resumed: Bool)
  case covers(Coverage)
  /// What is kept for other runs, and what they left.
  case keeps(KeptSummary)
  case progress(RunProgress)
  case layerFinished(LayerSummary)
  /// A layer that does not change was copied from the output that is replaced.
  case layerTakenOver(layer: Int, layers: LayerCount)
  /// A pass that measures begins, or goes on.
  case measuring(groups: Int, choices: [String])
  case layerMeasured(layer: Int, layers: LayerCount, seconds: Double)
  /// What a size came to.
  case chosen(SizeRecord)
  case warning(RunWarning)
  case finished(RunSummary)
  case checking(RunCheck)
  /// A finished run was given again.
  ///
  /// - madeAgain: names of files that were not as the run wrote them.
  case alreadyFinished(output: String, report: String, outputBytes: Int, madeAgain: [String])
}

extension RunWarning {
  /// - Returns: nil where the group size divides all inputs.
  init?(undivided output: OutputPlan) {
    func size(_ linear: LinearSpec) -> Int { output.undividedSizes[linear.name] ?? 1 }
    guard let odd = output.undivided.first(where: { $0.inputs % size($0) != 0 }) else { return nil }
    let size = size(odd)
    let smaller = CompressionFormats.groupSizes.filter { smaller in
      smaller < size && output.undivided.allSatisfy { $0.inputs % smaller == 0 }
    }.max()
    self = .undivided(
      first: odd.name, count: output.undivided.count, inputs: odd.inputs, groupSize: size,
      smaller: smaller)
  }
}
