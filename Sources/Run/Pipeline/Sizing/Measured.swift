// What a pass that measures writes down: what each choice does to each Linear, and how large the states are around it.

internal import CompressedTensors
internal import JSON
internal import Models
internal import Quantization
internal import Transformer

/// What rounding by one of the choices does to what a Linear puts out. Mean squares per token, summed over outputs, of the
/// Linear under the smoothing scales of that choice.
struct MeasuredLinear: Equatable {
  let layer: Int
  let linear: String
  /// Which of the choices.
  let trial: Int
  let error: Double
  let signal: Double

  /// - Parameter method: the rounding of the pass that will write.
  init(
    _ linear: LinearSpec, _ errors: RoundingErrors, trial: Int, method: RoundingMethod,
    layer: LayerSpec
  ) {
    self.layer = layer.index
    self.linear = linear.name
    self.trial = trial
    // A pass that measures rounding to nearest compares it with clipped ranges on the way.
    error = method == .nearest ? errors.nearest : errors.chosen
    signal = errors.signal
  }
}

/// How large the states are that the branches of a part add to, and what its experts weigh.
struct PartEnergy: Equatable {
  let layer: Int
  let part: Int
  /// Mean square of a token's states behind the branch along the sequence, summed over channels.
  let stream: Double
  /// What the norms behind the two branches let out, where there are such.
  let sequenceOutput: Double?
  let tokensOutput: Double?
  /// Mean over all tokens of the squared weight that the router gave each expert.
  let experts: [Double]

  /// - Parameter stream: of all tokens.
  init(
    _ stream: ActivationStatistics, _ inputs: StepInputs, _ layer: LayerSpec, _ part: LayerPart
  ) throws {
    func output(_ norm: NormSpec?, _ scale: Float) -> Double? {
      norm.map { norm in
        norm.gains(inputs.weights).reduce(0) { $0 + Double($1) * Double($1) }
          * Double(scale) * Double(scale)
      }
    }
    self.layer = part.layer
    self.part = part.index
    self.stream = stream.meanSquare.reduce(0) { $0 + Double($1) }
    sequenceOutput = output(part.sequence?.postNorm, part.sequence?.scale ?? 1)
    tokensOutput = output(part.tokens?.postNorm, part.tokens?.scale ?? 1)
    experts = try inputs.expertShares(layer, part).map { $0.squares / Double(inputs.tokens) }
  }
}

extension StepInputs {
  /// Empty statistics of a part's states.
  func newStream() -> ActivationStatistics {
    ActivationStatistics(channels: spec.hiddenSize, withGram: false, backend: backend)
  }
}

// MARK: Lines of a journal

extension MeasuredLinear {
  var json: JSONValue {
    [
      "layer": .int(layer), "measured": .string(linear), "trial": .int(trial),
      "error": .double(error), "signal": .double(signal),
    ]
  }

  init?(_ object: JSONObject) {
    guard let layer = object["layer"]?.size, let linear = object["measured"]?.string,
      let trial = object["trial"]?.size, let error = object["error"]?.double,
      let signal = object["signal"]?.double
    else { return nil }
    self.layer = layer
    self.linear = linear
    self.trial = trial
    self.error = error
    self.signal = signal
  }
}

extension PartEnergy {
  var json: JSONValue {
    [
      "layer": .int(layer), "part": .int(part), "stream": .double(stream),
      "sequence_output": .double(sequenceOutput), "tokens_output": .double(tokensOutput),
      "experts": .array(experts.map { .double($0) }),
    ]
  }

  init?(_ object: JSONObject) {
    guard let layer = object["layer"]?.size, let part = object["part"]?.size,
      let stream = object["stream"]?.double, let experts = object["experts"]?.array
    else { return nil }
    self.layer = layer
    self.part = part
    self.stream = stream
    sequenceOutput = object["sequence_output"]?.double
    tokensOutput = object["tokens_output"]?.double
    self.experts = experts.compactMap(\.double)
  }
}
