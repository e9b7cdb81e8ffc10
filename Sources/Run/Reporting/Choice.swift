// A decision of a run: one line of choices.jsonl, as it is written and read back.

package import JSON

/// The keys of all lines. Scripts that read choices.jsonl know them: a new meaning gets a new key.
private enum Key {
  static let layer = "layer"

  static let data = "data"
  static let path = "path"
  static let name = "name"
  static let samples = "samples"
  static let sequenceLength = "sequence_length"
  static let shuffleSeed = "shuffle_seed"
  static let pack = "pack"
  static let textColumn = "text_column"
  static let addSpecialTokens = "add_special_tokens"
  static let chatTemplate = "chat_template"
  static let templateArguments = "template_arguments"
  static let templateDate = "template_date"
  static let sequences = "sequences"
  static let emptyRows = "empty_rows"
  static let failedRows = "failed_rows"

  static let smoothing = "smoothing"
  static let consumers = "consumers"
  static let gridPoint = "grid_point"
  static let ratio = "ratio"
  static let duoScaling = "duo_scaling"
  static let lossBefore = "loss_before"
  static let lossAfter = "loss_after"
  static let tokens = "tokens"
  static let routedTokens = "routed_tokens"

  static let linear = "linear"
  static let fate = "fate"
  static let rounding = "rounding"
  static let error = "error"
  static let nearestError = "error_nearest"
  static let rows = "rows"
  static let damping = "damping"

  static let routing = "routing"

  static let size = "size"
}

/// What became of a tensor.
private enum Fate {
  static let packed = "packed"
  static let rescaled = "rescaled"
}

package enum Choice: Sendable, Equatable {
  case data(DataChoice)
  case size(SizeRecord)
  case smoothing(SmoothingChoice)
  case linear(LinearChoice)
  /// A tensor that took up a scale and stayed in its own type.
  case rescaled(tensor: String, layer: Int)
  case routing(LayerRouting)

  /// - Returns: nil for what no run writes. Keys that are not known are passed over, and what an absent key would say is
  ///   not known.
  package init?(_ json: JSONValue) {
    guard let object = json.object else { return nil }
    if let data = object[Key.data]?.object {
      self = .data(DataChoice(data))
      return
    }
    if let size = object[Key.size]?.object {
      guard let record = SizeRecord(size) else { return nil }
      self = .size(record)
      return
    }
    guard let layer = object[Key.layer]?.size else { return nil }
    if let name = object[Key.linear]?.string, let fate = object[Key.fate]?.string {
      self =
        fate == Fate.packed
        ? .linear(LinearChoice(layer, name, object)) : .rescaled(tensor: name, layer: layer)
    } else if let smoothing = SmoothingChoice(layer, object) {
      self = .smoothing(smoothing)
    } else if let routing = LayerRouting(layer, object) {
      self = .routing(routing)
    } else {
      return nil
    }
  }

  package var json: JSONValue {
    switch self {
    case .data(let data): [Key.data: data.json]
    case .size(let size): [Key.size: size.json]
    case .smoothing(let smoothing): smoothing.json
    case .linear(let linear): linear.json
    case .rescaled(let tensor, let layer):
      [Key.layer: .int(layer), Key.linear: .string(tensor), Key.fate: .string(Fate.rescaled)]
    case .routing(let routing): routing.json
    }
  }

  /// nil where it speaks of the whole run.
  package var layer: Int? {
    switch self {
    case .data, .size: nil
    case .smoothing(let smoothing): smoothing.layer
    case .linear(let linear): linear.layer
    case .rescaled(_, let layer): layer
    case .routing(let routing): routing.layer
    }
  }
}

/// How the calibration data was made, so that it can be made again.
package struct DataChoice: Sendable, Equatable {
  /// nil for the built-in chats.
  package var path: String?
  /// What people call the data, without where it lies.
  package var name: String?
  package var samples: Int?
  package var sequenceLength: Int?
  package var shuffleSeed: UInt64?
  package var packs: Bool?
  package var textColumn: String?
  package var addsSpecialTokens: Bool?
  package var chatTemplate: String?
  package var templateArguments = JSONObject()
  package var templateDate: String?
  package var sequences: Int?
  package var tokens: Int?
  package var emptyRows: Int?
  package var failedRows: Int?

  package init() {}

  package var json: JSONValue {
    [
      Key.path: .text(path), Key.name: .text(name), Key.samples: .int(samples),
      Key.sequenceLength: .int(sequenceLength),
      Key.shuffleSeed: shuffleSeed.map { .number(JSONNumber(literal: "\($0)")) } ?? .null,
      Key.pack: packs.map { .bool($0) } ?? .null, Key.textColumn: .text(textColumn),
      Key.addSpecialTokens: addsSpecialTokens.map { .bool($0) } ?? .null,
      Key.chatTemplate: .text(chatTemplate), Key.templateArguments: .object(templateArguments),
      Key.templateDate: .text(templateDate), Key.sequences: .int(sequences),
      Key.tokens: .int(tokens), Key.emptyRows: .int(emptyRows), Key.failedRows: .int(failedRows),
    ]
  }

  fileprivate init(_ object: JSONObject) {
    path = object[Key.path]?.string
    name = object[Key.name]?.string
    samples = object[Key.samples]?.size
    sequenceLength = object[Key.sequenceLength]?.size
    if case .number(let seed)? = object[Key.shuffleSeed] { shuffleSeed = UInt64(seed.literal) }
    packs = object[Key.pack]?.bool
    textColumn = object[Key.textColumn]?.string
    addsSpecialTokens = object[Key.addSpecialTokens]?.bool
    chatTemplate = object[Key.chatTemplate]?.string
    templateArguments = object[Key.templateArguments]?.object ?? JSONObject()
    templateDate = object[Key.templateDate]?.string
    sequences = object[Key.sequences]?.size
    tokens = object[Key.tokens]?.size
    emptyRows = object[Key.emptyRows]?.size
    failedRows = object[Key.failedRows]?.size
  }
}

/// What a smoothing search chose, and what came of it.
package struct SmoothingChoice: Sendable, Equatable {
  package var layer: Int
  package var producer: ModuleName
  package var consumers: Int?
  package var gridPoint: Int?
  /// The exponent of the activations' magnitude, 0 to 1.
  package var exponent: Double
  package var usesWeights = false
  package var lossBefore: Double?
  package var lossAfter: Double?
  /// Tokens that the statistics rest on.
  package var tokens: Int?
  /// Tokens that the router sent to this unit, where there is a router.
  package var routedTokens: Int?

  package init(layer: Int, producer: String, exponent: Double) {
    self.layer = layer
    self.producer = ModuleName(producer)
    self.exponent = exponent
  }

  /// All scales are 1.
  package var isIdentity: Bool { exponent == 0 && !usesWeights }

  /// Loss with the chosen scale over loss without one.
  package var left: Double? {
    guard let lossBefore, let lossAfter, lossBefore > 0 else { return nil }
    return lossAfter / lossBefore
  }

  fileprivate var json: JSONValue {
    [
      Key.layer: .int(layer), Key.smoothing: .string(producer.text), Key.consumers: .int(consumers),
      Key.gridPoint: .int(gridPoint), Key.ratio: .double(exponent),
      Key.duoScaling: .bool(usesWeights), Key.lossBefore: .double(lossBefore),
      Key.lossAfter: .double(lossAfter), Key.tokens: .int(tokens),
      Key.routedTokens: .int(routedTokens),
    ]
  }

  fileprivate init?(_ layer: Int, _ object: JSONObject) {
    guard let producer = object[Key.smoothing]?.string, let exponent = object[Key.ratio]?.double
    else { return nil }
    self.init(layer: layer, producer: producer, exponent: exponent)
    consumers = object[Key.consumers]?.size
    gridPoint = object[Key.gridPoint]?.size
    usesWeights = object[Key.duoScaling]?.bool ?? false
    lossBefore = object[Key.lossBefore]?.double
    lossAfter = object[Key.lossAfter]?.double
    tokens = object[Key.tokens]?.size
    routedTokens = object[Key.routedTokens]?.size
  }
}

/// A Linear that was packed, and what rounding did to its output where that was measured.
package struct LinearChoice: Sendable, Equatable {
  package var layer: Int
  package var name: ModuleName
  /// The way of rounding that was asked for.
  package var rounding: String?
  /// Mean squared change of the output over the calibration tokens, summed over outputs: as it was written.
  package var error: Double?
  /// That change for plain rounding to nearest.
  package var nearestError: Double?
  /// How many rows of the weight each way of rounding won, by its name.
  package var rows: [RowCount] = []
  /// λ over the mean of the Gram matrix's diagonal, where there is one.
  package var damping: Double?

  package init(layer: Int, name: String) {
    self.layer = layer
    self.name = ModuleName(name)
  }

  /// The error as written over that of plain rounding.
  package var left: Double? {
    guard let error, let nearestError, nearestError > 0 else { return nil }
    return error / nearestError
  }

  fileprivate var json: JSONValue {
    var object = JSONObject([
      (Key.layer, .int(layer)), (Key.linear, .string(name.text)), (Key.fate, .string(Fate.packed)),
    ])
    object[Key.rounding] = rounding.map { .string($0) }
    object[Key.error] = error.map { .double($0) }
    object[Key.nearestError] = nearestError.map { .double($0) }
    if !rows.isEmpty {
      object[Key.rows] = .object(JSONObject(rows.map { ($0.rounding, .int($0.count)) }))
    }
    object[Key.damping] = damping.map { .double($0) }
    return .object(object)
  }

  fileprivate init(_ layer: Int, _ name: String, _ object: JSONObject) {
    self.init(layer: layer, name: name)
    rounding = object[Key.rounding]?.string
    error = object[Key.error]?.double
    nearestError = object[Key.nearestError]?.double
    rows = (object[Key.rows]?.object?.entries ?? []).compactMap { entry in
      entry.value.size.map { RowCount(rounding: entry.key, count: $0) }
    }
    damping = object[Key.damping]?.double
  }
}

package struct RowCount: Sendable, Equatable {
  package let rounding: String
  package let count: Int

  package init(rounding: String, count: Int) {
    self.rounding = rounding
    self.count = count
  }
}

/// Tokens that a layer's router sent to each expert, `[E]`.
package struct LayerRouting: Sendable, Equatable {
  package let layer: Int
  package let tokens: [Int]

  package init(layer: Int, tokens: [Int]) {
    self.layer = layer
    self.tokens = tokens
  }

  fileprivate var json: JSONValue {
    [Key.layer: .int(layer), Key.routing: .array(tokens.map { .int($0) })]
  }

  fileprivate init?(_ layer: Int, _ object: JSONObject) {
    guard let counts = object[Key.routing]?.array else { return nil }
    let tokens = counts.compactMap(\.size)
    if tokens.count < counts.count { return nil }
    self.init(layer: layer, tokens: tokens)
  }
}

/// A module by its name: `model.layers.3.mlp.experts.7.down_proj` is the `mlp.experts.down_proj` of expert 7.
package struct ModuleName: Sendable, Equatable {
  package let text: String
  /// What stands behind the layer's number, without further numbers.
  package let kind: String
  package let expert: Int?

  package init(_ text: String) {
    self.text = text
    let parts = text.split(separator: ".")
    let layer = parts.firstIndex { Int($0) != nil }
    let inside = parts[(layer.map { $0 + 1 } ?? 0)...]
    kind = inside.filter { Int($0) == nil }.joined(separator: ".")
    expert = inside.lazy.compactMap { Int($0) }.first
  }
}
