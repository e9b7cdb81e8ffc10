// From what the steps of a run come to, to the lines of choices.jsonl.

internal import Calibration
internal import JSON
internal import Quantization
internal import Reporting
internal import SystemIO
internal import Transformer

/// What a smoothing search chose, and what came of it.
struct ChosenSmoothing {
  let smoothing: Smoothing
  let point: Int
  let gridPoint: GridPoint
  let lossBefore: Double
  let lossAfter: Double
  /// Tokens that the statistics rest on.
  let tokens: Int
  /// Tokens that the router sent to this unit, where there is a router.
  let routedTokens: Int?
}

extension SmoothingChoice {
  init(_ chosen: ChosenSmoothing, layer: Int) {
    self.init(
      layer: layer, producer: chosen.smoothing.producerName, exponent: chosen.gridPoint.ratio)
    consumers = chosen.smoothing.consumers.count
    gridPoint = chosen.point
    usesWeights = chosen.gridPoint.usesWeights
    lossBefore = chosen.lossBefore
    lossAfter = chosen.lossAfter
    tokens = chosen.tokens
    routedTokens = chosen.routedTokens
  }
}

extension LinearChoice {
  /// A packed Linear: which way of rounding its rows won, and by how much.
  init(_ linear: String, _ chosen: ChosenRounding, _ errors: RoundingErrors, layer: Int) {
    self.init(layer: layer, name: linear)
    let better: String?
    switch chosen.rounding {
    case .nearest: (rounding, better) = ("nearest", nil)
    case .clip: (rounding, better) = ("clip", "clipped")
    case .compensated: (rounding, better) = ("compensated", "compensated")
    }
    if let better {
      error = errors.chosen
      nearestError = errors.nearest
      rows = [
        RowCount(rounding: "nearest", count: errors.nearestRows),
        RowCount(rounding: better, count: errors.rows - errors.nearestRows),
      ]
    }
    damping = chosen.damping
  }
}

extension DataChoice {
  init(_ data: DataSummary, of source: CalibrationSource) {
    self.init()
    path = source.path
    name = source.shortName
    samples = source.selection.samples
    sequenceLength = source.selection.sequenceLength
    shuffleSeed = source.selection.shuffleSeed
    packs = source.selection.packs
    textColumn = source.textColumn
    addsSpecialTokens = source.addsSpecialTokens
    chatTemplate = source.chatTemplate
    for (name, value) in source.templateArguments { templateArguments[name] = value }
    templateDate = "\(source.templateDate)"
    sequences = data.sequences
    tokens = data.tokens
    emptyRows = data.emptyRows
    failedRows = data.failedRows
  }
}

extension StepResults {
  func note(_ chosen: ChosenSmoothing, layer: Int) throws {
    try note(.smoothing(SmoothingChoice(chosen, layer: layer)))
  }

  /// What a trial does to a Linear.
  func note(_ measured: MeasuredLinear) throws { try note(measured: measured.json.serialized()) }

  /// What a pass that measures must know of a part.
  func note(_ energy: PartEnergy) throws { try note(measured: energy.json.serialized()) }

  func note(
    _ linear: LinearSpec, _ rounding: ChosenRounding, _ errors: RoundingErrors, layer: Int
  ) throws {
    try note(.linear(LinearChoice(linear.name, rounding, errors, layer: layer)))
  }

  /// Tokens that a layer's router sends to each expert.
  func note(routing tokens: [Int], layer: Int) throws {
    try note(.routing(LayerRouting(layer: layer, tokens: tokens)))
  }

  /// A tensor that smoothing scales are folded into.
  func note(rescaled tensor: String, layer: Int) throws {
    try note(.rescaled(tensor: tensor, layer: layer))
  }
}

extension Journal {
  func add(_ choice: Choice) throws(SystemError) { try add(line: choice.json.serialized()) }

  /// What the smoothings and the Linears of a layer came to, where the committed lines end with that layer.
  func ratios(layer: Int?) -> (losses: [Double], errors: [Double]) {
    var (losses, errors): ([Double], [Double]) = ([], [])
    guard let layer else { return (losses, errors) }
    for line in committed.split(separator: UInt8(ascii: "\n")).reversed() {
      guard let choice = (try? JSONValue.parse(Array(line))).flatMap({ Choice($0) }),
        choice.layer == layer
      else { break }
      switch choice {
      case .smoothing(let smoothing): losses.append(smoothing.left ?? 1)
      case .linear(let linear): if let left = linear.left { errors.append(left) }
      case .data, .size, .rescaled, .routing: break
      }
    }
    return (losses.reversed(), errors.reversed())
  }
}
