// choices.jsonl read back: what a run decided about data, scales and Linears, a line for each.

package import JSON

/// A journal that is not what a run writes.
package enum ChoicesError: Error, CustomStringConvertible, Equatable {
  case badLine(file: String, line: Int, problem: String)

  package var description: String {
    switch self {
    case .badLine(let file, let line, let problem):
      "\(file): line \(line): \(problem); the record of this run is damaged, start over with sluice quantize --restart"
    }
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

/// A Linear that was packed, and what rounding did to its output where that was measured.
package struct LinearChoice: Sendable, Equatable {
  package let layer: Int
  package let name: ModuleName
  /// Mean squared change of the output over the calibration tokens, summed over outputs: as it was written.
  package let error: Double?
  /// That change for plain rounding to nearest.
  package let nearestError: Double?
  /// The mean square of the output itself.
  package let signal: Double?
  /// How many rows of the weight each way of rounding won, by its name.
  package let rows: [RowCount]

  /// The error's share of the output, as written and by plain rounding; nil where either is not known.
  package var relative: (chosen: Double, nearest: Double)? {
    guard let error, let nearestError, let signal, signal > 0 else { return nil }
    return (error / signal, nearestError / signal)
  }

  /// The error as written over that of plain rounding.
  package var left: Double? {
    guard let error, let nearestError, nearestError > 0 else { return nil }
    return error / nearestError
  }
}

package struct RowCount: Sendable, Equatable {
  package let rounding: String
  package let count: Int
}

/// What a smoothing search chose.
package struct SmoothingChoice: Sendable, Equatable {
  package let layer: Int
  package let producer: ModuleName
  /// The exponent of the activations' magnitude, 0 to 1.
  package let exponent: Double
  package let usesWeights: Bool
  package let lossBefore: Double?
  package let lossAfter: Double?

  /// All scales are 1.
  package var isIdentity: Bool { exponent == 0 && !usesWeights }

  /// Loss with the chosen scale over loss without one.
  package var left: Double? {
    guard let lossBefore, let lossAfter, lossBefore > 0 else { return nil }
    return lossAfter / lossBefore
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
}

/// All lines of a journal, by what they speak of, in their order.
package struct Choices: Sendable, Equatable {
  /// How the calibration data was made; nil without data.
  package private(set) var data: JSONObject?
  package private(set) var linears: [LinearChoice] = []
  package private(set) var smoothings: [SmoothingChoice] = []
  package private(set) var routings: [LayerRouting] = []
  /// Tensors that took up a scale and stayed in their own type.
  package private(set) var rescaledTensors = 0

  /// - Parameters:
  ///   - lines: of choices.jsonl. Keys that are not known are passed over, keys that are absent are not known.
  ///   - file: for errors.
  package init(lines: [UInt8], file: String) throws(ChoicesError) {
    let parts = lines.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in parts.enumerated() where !line.isEmpty {
      let value: JSONValue
      do {
        value = try JSONValue.parse(Array(line))
      } catch {
        throw .badLine(file: file, line: index + 1, problem: "\(error)")
      }
      guard let object = value.object, add(object) else {
        throw .badLine(file: file, line: index + 1, problem: "no line of a run")
      }
    }
  }

  private mutating func add(_ object: JSONObject) -> Bool {
    if let data = object["data"]?.object {
      self.data = data
      return true
    }
    guard let layer = object["layer"]?.size else { return false }
    if let name = object["linear"]?.string, let fate = object["fate"]?.string {
      if fate == "packed" {
        linears.append(LinearChoice(layer, name, object))
      } else {
        rescaledTensors += 1
      }
      return true
    }
    if let producer = object["smoothing"]?.string, let exponent = object["ratio"]?.double {
      smoothings.append(SmoothingChoice(layer, producer, exponent, object))
      return true
    }
    if let tokens = object["routing"]?.array {
      routings.append(LayerRouting(layer: layer, tokens: tokens.compactMap(\.size)))
      return tokens.allSatisfy { $0.size != nil }
    }
    return false
  }
}

extension LinearChoice {
  fileprivate init(_ layer: Int, _ name: String, _ object: JSONObject) {
    self.layer = layer
    self.name = ModuleName(name)
    error = object["error"]?.double
    nearestError = object["error_nearest"]?.double
    signal = object["signal"]?.double
    rows = (object["rows"]?.object?.entries ?? []).compactMap { entry in
      entry.value.size.map { RowCount(rounding: entry.key, count: $0) }
    }
  }
}

extension SmoothingChoice {
  fileprivate init(_ layer: Int, _ producer: String, _ exponent: Double, _ object: JSONObject) {
    self.layer = layer
    self.producer = ModuleName(producer)
    self.exponent = exponent
    usesWeights = object["duo_scaling"]?.bool ?? false
    lossBefore = object["loss_before"]?.double
    lossAfter = object["loss_after"]?.double
  }
}
