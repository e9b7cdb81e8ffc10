// choices.jsonl: one line for every decision of a run.

internal import Calibration
internal import JSON
internal import Quantization
internal import SystemIO
internal import Transformer

/// What a smoothing search chose, and what came of it.
struct SmoothingChoice: Sendable {
  let smoothing: Smoothing
  let point: Int
  let gridPoint: GridPoint
  let lossBefore: Double
  let lossAfter: Double
  /// Tokens that the statistics rest on.
  let tokens: Int
  /// Tokens that the router sent to this unit, where there is a router.
  let routedTokens: Int?

  var lossRatio: Double { lossBefore > 0 ? lossAfter / lossBefore : 1 }
}

extension Journal {
  /// What the smoothings and the Linears of a layer came to, where the committed lines end with that layer.
  func ratios(layer: Int?) -> (losses: [Double], errors: [Double]) {
    var (losses, errors): ([Double], [Double]) = ([], [])
    guard let layer else { return (losses, errors) }
    for line in committed.split(separator: UInt8(ascii: "\n")).reversed() {
      guard let entry = try? JSONValue.parse(Array(line)).object, entry["layer"]?.int == layer
      else { break }
      if entry["smoothing"] != nil {
        let (before, after) = (entry["loss_before"]?.double, entry["loss_after"]?.double)
        losses.append(
          before.flatMap { before in before > 0 ? after.map { $0 / before } : nil } ?? 1)
      } else if let error = entry["error"]?.double, let nearest = entry["error_nearest"]?.double,
        nearest > 0
      {
        errors.append(error / nearest)
      }
    }
    return (losses.reversed(), errors.reversed())
  }

  func add(_ choice: SmoothingChoice, layer: Int) throws(SystemError) {
    try add([
      ("layer", .number(JSONNumber(layer))),
      ("smoothing", .string(choice.smoothing.producerName)),
      ("consumers", .number(JSONNumber(choice.smoothing.consumers.count))),
      ("grid_point", .number(JSONNumber(choice.point))),
      ("ratio", number(choice.gridPoint.ratio)),
      ("duo_scaling", .bool(choice.gridPoint.usesWeights)),
      ("loss_before", number(choice.lossBefore)), ("loss_after", number(choice.lossAfter)),
      ("tokens", .number(JSONNumber(choice.tokens))),
      ("routed_tokens", choice.routedTokens.map { .number(JSONNumber($0)) } ?? .null),
    ])
  }

  /// How the calibration data was made, so that it can be made again.
  func add(_ data: DataSummary, of source: CalibrationSource) throws(SystemError) {
    func int(_ value: Int) -> JSONValue { .number(JSONNumber(value)) }
    let selection = source.selection
    var arguments = JSONObject()
    for (name, value) in source.templateArguments { arguments[name] = value }
    try add([
      (
        "data",
        .object(
          JSONObject([
            ("path", source.path.map { .string($0) } ?? .null),
            ("samples", int(selection.samples)), ("sequence_length", int(selection.sequenceLength)),
            (
              "shuffle_seed",
              selection.shuffleSeed.map { .number(JSONNumber(literal: "\($0)")) } ?? .null
            ),
            ("pack", .bool(selection.packs)),
            ("text_column", source.textColumn.map { .string($0) } ?? .null),
            ("add_special_tokens", source.addsSpecialTokens.map { .bool($0) } ?? .null),
            ("chat_template", source.chatTemplate.map { .string($0) } ?? .null),
            ("template_arguments", .object(arguments)),
            ("template_date", .string("\(source.templateDate)")),
            ("sequences", int(data.sequences)), ("tokens", int(data.tokens)),
            ("empty_rows", int(data.emptyRows)), ("failed_rows", int(data.failedRows)),
          ]))
      )
    ])
  }

  func add(linear: String, fate: String, layer: Int) throws(SystemError) {
    try add(entries(linear: linear, fate: fate, layer: layer))
  }

  /// A packed Linear: which way of rounding its rows won, and by how much.
  func add(
    linear: String, _ chosen: ChosenRounding, _ errors: RoundingErrors, layer: Int
  ) throws(SystemError) {
    let (method, other) =
      switch chosen.rounding {
      case .nearest: ("nearest", "")
      case .clip: ("clip", "clipped")
      case .compensated: ("compensated", "compensated")
      }
    var line = entries(linear: linear, fate: "packed", layer: layer)
    line.append(("rounding", .string(method)))
    if !other.isEmpty {
      line += [
        ("error", number(errors.chosen)), ("error_nearest", number(errors.nearest)),
        (
          "rows",
          .object(
            JSONObject([
              ("nearest", .number(JSONNumber(errors.nearestRows))),
              (other, .number(JSONNumber(errors.rows - errors.nearestRows))),
            ]))
        ),
      ]
    }
    if let dampening = chosen.dampening { line.append(("dampening", number(dampening))) }
    try add(line)
  }

  private func entries(linear: String, fate: String, layer: Int) -> [(String, JSONValue)] {
    [("layer", .number(JSONNumber(layer))), ("linear", .string(linear)), ("fate", .string(fate))]
  }

  /// Tokens that a layer's router sent to each expert.
  func add(routing tokens: [Int], layer: Int) throws(SystemError) {
    try add([
      ("layer", .number(JSONNumber(layer))),
      ("routing", .array(tokens.map { .number(JSONNumber($0)) })),
    ])
  }

  private func number(_ value: Double) -> JSONValue { .finite(value) }

  private func add(_ entries: [(String, JSONValue)]) throws(SystemError) {
    try add(line: JSONValue.object(JSONObject(entries)).serialized())
  }
}
