// State spaces of both kinds, short convolutions and delta nets with a decay for each channel against the same formulas one token at a
// time in Double.

import Glibc
import LinearAlgebra
import Tensors
import Testing
import TestSupport
import Transformer

/// A mixer and its formulas.
private struct Recurrence: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let mixer: SequenceMixer
  /// What the output projection reads of one sequence.
  let naive: @Sendable (_ x: [[Double]], _ weights: RandomWeights) -> [[Double]]

  var weights: RandomWeights {
    RandomWeights(
      mixer.linears + mixer.deciding.map(\.linear), norms: mixer.norms,
      vectors: Dictionary(
        uniqueKeysWithValues: mixer.vectors.map { ($0.name, $0.shape.reduce(1, *)) }))
  }

  static let hidden = 20
  static let all = [
    stateSpace(groups: 1, normWidth: 35, bias: true, steps: 0...(.infinity)),
    stateSpace(groups: 5, normWidth: 7, bias: false, steps: 0.5...0.75),
    shortConvolution(bias: false), shortConvolution(bias: true),
    channelDeltaNet(leastDecay: nil), channelDeltaNet(leastDecay: -1.5), selective, lightning,
  ]
}

private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
private func silu(_ x: Double) -> Double { x * sigmoid(x) }
private func softplus(_ x: Double) -> Double { log(1 + exp(x)) }
private func vector(_ name: String, _ weights: RandomWeights) -> [Double] {
  weights.vector(name).map(Double.init)
}

extension Recurrence {
  fileprivate static var lightning: Recurrence {
    let (heads, width) = (3, 5)
    let spec = LightningSpec(
      projection: LinearSpec("in", inputs: hidden, outputs: 3 * heads * width),
      gate: LinearSpec("gate", inputs: hidden, outputs: heads * width),
      output: LinearSpec("out", inputs: heads * width, outputs: hidden),
      norm: NormSpec("norm", size: heads * width, epsilon: 1e-6), headDimension: width,
      decays: [0.5, 0.75, 0.875])
    return Recurrence(testDescription: "lightning", mixer: .lightning(spec)) { x, weights in
      let mixed = naiveLinear(x, spec.projection, weights).map { $0.map(silu) }
      let gates = naiveLinear(x, spec.gate, weights).map { $0.map(sigmoid) }
      return x.indices.map { token in
        var row = [Double](repeating: 0, count: heads * width)
        for head in 0..<heads {
          let query = mixed[token][3 * head * width..<(3 * head + 1) * width]
          for past in 0...token {
            let key = mixed[past][(3 * head + 1) * width..<(3 * head + 2) * width]
            let score = zip(query, key).reduce(0) { $0 + $1.0 * $1.1 }
            let share = score * pow(Double(spec.decays[head]), Double(token - past))
            for column in 0..<width {
              row[head * width + column] += share * mixed[past][(3 * head + 2) * width + column]
            }
          }
        }
        let whole = normed(row, vector(spec.norm.weight, weights)[...], spec.norm.epsilon)
        return zip(whole, gates[token]).map { $0 * $1 }
      }
    }
  }
}

/// Every row's channels with those of the rows before it.
private func convolved(
  _ x: [[Double]], _ convolution: CausalConvolution, _ weights: RandomWeights
) -> [[Double]] {
  let kernel = vector(convolution.weight, weights)
  let bias = convolution.bias.map { vector($0, weights) }
  return x.indices.map { token in
    x[token].indices.map { channel in
      (0..<min(convolution.taps, token + 1)).reduce(bias?[channel] ?? 0) { sum, back in
        let place = channel * convolution.taps + convolution.taps - 1 - back
        return sum + kernel[place] * x[token - back][channel]
      }
    }
  }
}

private func normed(_ x: [Double], _ gains: ArraySlice<Double>, _ epsilon: Float) -> [Double] {
  let mean = x.reduce(0) { $0 + $1 * $1 } / Double(x.count)
  return zip(gains, x).map { $0 * $1 / (mean + Double(epsilon)).squareRoot() }
}

extension Recurrence {
  private static func stateSpace(
    groups: Int, normWidth: Int, bias: Bool, steps: ClosedRange<Float>
  ) -> Recurrence {
    let (heads, width, size) = (5, 7, 6)
    let (values, keys) = (heads * width, groups * size)
    let channels = values + 2 * keys
    let spec = StateSpaceSpec(
      input: LinearSpec("in", inputs: hidden, outputs: values + channels + heads, hasBias: bias),
      output: LinearSpec("out", inputs: values, outputs: hidden),
      convolution: CausalConvolution(
        weight: "conv", bias: bias ? "conv bias" : nil, channels: channels, taps: 4),
      norm: NormSpec("norm", size: values, epsilon: 1e-5), normWidth: normWidth, heads: heads,
      headDimension: width, groups: groups, stateSize: size, decayRate: "rate", stepBias: "bias",
      skip: "skip", steps: steps)
    return Recurrence(
      testDescription: "state space of \(groups) groups", mixer: .stateSpace(spec)
    ) { x, weights in
      let all = naiveLinear(x, spec.input, weights)
      let mixed = convolved(
        all.map { Array($0[values..<values + channels]) }, spec.convolution, weights
      ).map { $0.map(silu) }
      var results = x.map { _ in [Double](repeating: 0, count: values) }
      for head in 0..<heads {
        var state = [[Double]](repeating: [Double](repeating: 0, count: width), count: size)
        let key = values + head / (heads / groups) * size
        for token in x.indices {
          let raw = softplus(all[token][values + channels + head] + vector("bias", weights)[head])
          let step = min(max(raw, Double(steps.lowerBound)), Double(steps.upperBound))
          let kept = exp(-exp(vector("rate", weights)[head]) * step)
          for row in 0..<size {
            for column in 0..<width {
              let added = mixed[token][key + row] * step * mixed[token][head * width + column]
              state[row][column] = kept * state[row][column] + added
            }
          }
          for column in 0..<width {
            let passed = vector("skip", weights)[head] * mixed[token][head * width + column]
            results[token][head * width + column] = (0..<size).reduce(passed) {
              $0 + mixed[token][key + keys + $1] * state[$1][column]
            }
          }
        }
      }
      let gains = vector(spec.norm.weight, weights)
      return x.indices.map { token in
        let gated = zip(results[token], all[token]).map { $0 * silu($1) }
        return stride(from: 0, to: values, by: normWidth).flatMap { start in
          normed(
            Array(gated[start..<start + normWidth]), gains[start..<start + normWidth],
            spec.norm.epsilon)
        }
      }
    }
  }

  private static func shortConvolution(bias: Bool) -> Recurrence {
    let width = 18
    let spec = ShortConvolutionSpec(
      input: LinearSpec("in", inputs: hidden, outputs: 3 * width, hasBias: bias),
      convolution: CausalConvolution(
        weight: "conv", bias: bias ? "conv bias" : nil, channels: width, taps: 3),
      output: LinearSpec("out", inputs: width, outputs: hidden))
    return Recurrence(
      testDescription: "short convolution \(bias)", mixer: .shortConvolution(spec)
    ) { x, weights in
      let all = naiveLinear(x, spec.input, weights)
      let gated = all.map { row in (0..<width).map { row[$0] * row[2 * width + $0] } }
      let mixed = convolved(gated, spec.convolution, weights)
      return x.indices.map { token in
        (0..<width).map { all[token][width + $0] * mixed[token][$0] }
      }
    }
  }

  private static var selective: Recurrence {
    // More channels than one task has.
    let (channels, size, rank) = (270, 6, 5)
    let spec = SelectiveSpec(
      input: LinearSpec("in", inputs: hidden, outputs: 2 * channels),
      convolution: CausalConvolution(weight: "conv", channels: channels, taps: 4),
      selection: LinearSpec("x", inputs: channels, outputs: rank + 2 * size),
      step: LinearSpec("dt", inputs: rank, outputs: channels, hasBias: true),
      output: LinearSpec("out", inputs: channels, outputs: hidden),
      stepNorm: NormSpec("dt norm", size: rank, epsilon: 1e-5),
      keyNorm: NormSpec("b norm", size: size, epsilon: 1e-5),
      queryNorm: NormSpec("c norm", size: size, epsilon: 1e-5), stateSize: size, decayRate: "rate",
      skip: "skip")
    return Recurrence(testDescription: "selective", mixer: .selective(spec)) { x, weights in
      let both = naiveLinear(x, spec.input, weights)
      let values = convolved(both.map { Array($0[..<channels]) }, spec.convolution, weights)
        .map { $0.map(silu) }
      let selected = naiveLinear(values, spec.selection, weights)
      func part(_ token: Int, _ start: Int, _ norm: NormSpec) -> [Double] {
        normed(
          Array(selected[token][start..<start + norm.size]), vector(norm.weight, weights)[...],
          norm.epsilon)
      }
      let steps = naiveLinear(x.indices.map { part($0, 0, spec.stepNorm) }, spec.step, weights)
      let (rates, skips) = (vector("rate", weights), vector("skip", weights))
      var state = [[Double]](repeating: [Double](repeating: 0, count: size), count: channels)
      return x.indices.map { token in
        let keys = part(token, rank, spec.keyNorm)
        let queries = part(token, rank + size, spec.queryNorm)
        return (0..<channels).map { channel in
          let step = softplus(steps[token][channel])
          let value = values[token][channel]
          for number in 0..<size {
            let kept = exp(-exp(rates[channel * size + number]) * step)
            state[channel][number] = kept * state[channel][number] + keys[number] * step * value
          }
          let read = (0..<size).reduce(skips[channel] * value) {
            $0 + queries[$1] * state[channel][$1]
          }
          return read * silu(both[token][channels + channel])
        }
      }
    }
  }

  /// - Parameter leastDecay: where it is set, decays and gates are made at once, too.
  private static func channelDeltaNet(leastDecay: Float?) -> Recurrence {
    let (heads, width) = (3, 6)
    func projection(_ name: String) -> ChannelDeltaNetSpec.Projection {
      ChannelDeltaNetSpec.Projection(
        linear: LinearSpec(name, inputs: hidden, outputs: heads * width),
        convolution: CausalConvolution(weight: name + " conv", channels: heads * width, taps: 4))
    }
    func way(_ name: String) -> ChannelDeltaNetSpec.Way {
      leastDecay == nil
        ? .narrow(
          down: LinearSpec(name + " down", inputs: hidden, outputs: 4),
          up: LinearSpec(name + " up", inputs: 4, outputs: heads * width))
        : .direct(LinearSpec(name, inputs: hidden, outputs: heads * width))
    }
    let spec = ChannelDeltaNetSpec(
      query: projection("q"), key: projection("k"), value: projection("v"),
      strength: LinearSpec("b", inputs: hidden, outputs: heads), decay: way("f"),
      gate: way("g"), output: LinearSpec("o", inputs: heads * width, outputs: hidden),
      norm: NormSpec("norm", size: width, epsilon: 1e-5), heads: heads, headDimension: width,
      decayRate: VectorSpec("rate", size: heads), decayBias: "bias", leastDecay: leastDecay)
    return Recurrence(
      testDescription: "delta net by channel" + (leastDecay == nil ? "" : " that forgets little"),
      mixer: .channelDeltaNet(spec)
    ) { x, weights in
      func mixed(_ projection: ChannelDeltaNetSpec.Projection) -> [[Double]] {
        convolved(naiveLinear(x, projection.linear, weights), projection.convolution, weights)
          .map { $0.map(silu) }
      }
      func wide(_ way: ChannelDeltaNetSpec.Way) -> [[Double]] {
        switch way {
        case .narrow(let down, let up): naiveLinear(naiveLinear(x, down, weights), up, weights)
        case .direct(let linear): naiveLinear(x, linear, weights)
        }
      }
      func unit(_ x: ArraySlice<Double>) -> [Double] {
        let length = (x.reduce(0) { $0 + $1 * $1 } + 1e-6).squareRoot()
        return x.map { $0 / length }
      }
      let (queries, keys, values) = (mixed(spec.query), mixed(spec.key), mixed(spec.value))
      let (decays, gates) = (wide(spec.decay), wide(spec.gate))
      let strengths = naiveLinear(x, spec.strength, weights)
      let (rates, biases) = (vector("rate", weights), vector("bias", weights))
      let gains = vector(spec.norm.weight, weights)
      var results = x.map { _ in [Double]() }
      for head in 0..<heads {
        let own = head * width..<(head + 1) * width
        var state = [[Double]](repeating: [Double](repeating: 0, count: width), count: width)
        for token in x.indices {
          let (query, key) = (unit(queries[token][own]), unit(keys[token][own]))
          for row in 0..<width {
            let channel = own.lowerBound + row
            let step = decays[token][channel] + biases[channel]
            let kept = exp(
              leastDecay.map { Double($0) * sigmoid(exp(rates[head]) * step) }
                ?? -exp(rates[head]) * softplus(step))
            state[row] = state[row].map { kept * $0 }
          }
          for column in 0..<width {
            let known = (0..<width).reduce(0) { $0 + key[$1] * state[$1][column] }
            let value = values[token][own.lowerBound + column]
            let change = sigmoid(strengths[token][head]) * (value - known)
            for row in 0..<width { state[row][column] += key[row] * change }
          }
          let read = (0..<width).map { column in
            (0..<width).reduce(0) {
              $0 + query[$1] / Double(width).squareRoot() * state[$1][column]
            }
          }
          results[token] += zip(normed(read, gains[...], spec.norm.epsilon), gates[token][own])
            .map { $0 * sigmoid($1) }
        }
      }
      return results
    }
  }
}

@Suite struct RecurrenceTests {
  private func read(
    _ recurrence: Recurrence, _ x: Matrix, _ sequences: [Range<Int>], threads: Int
  ) -> [Float] {
    recurrence.mixer.read(
      sequences: sequences, weights: recurrence.weights, backend: Backend(threads: threads)
    ) { x }.values
  }

  @Test(arguments: [[1], [2], [3], [70], [130, 1, 3, 40]], Recurrence.all.indices)
  func `a mixer that remembers gives what one token at a time gives on any threads`(
    lengths: [Int], index: Int
  ) {
    let recurrence = Recurrence.all[index]
    var generator = SeededGenerator(seed: 47)
    let x = generator.matrix(lengths.reduce(0, +), Recurrence.hidden)
    var sequences: [Range<Int>] = []
    for length in lengths {
      let start = sequences.last?.upperBound ?? 0
      sequences.append(start..<start + length)
    }
    let all = rows(x)
    let expected = sequences.flatMap {
      recurrence.naive(Array(all[$0]), recurrence.weights)
    }.joined().map { Float($0) }
    let outputs = [1, 2, 7].map { read(recurrence, x, sequences, threads: $0) }
    #expect(relativeError(outputs[0], expected) < 1e-5, "\(recurrence.testDescription)")
    #expect(outputs[0].map(\.bitPattern) == outputs[1].map(\.bitPattern))
    #expect(outputs[0].map(\.bitPattern) == outputs[2].map(\.bitPattern))
  }

  @Test(arguments: Recurrence.all.indices)
  func `sequences of a block do not remember each other in any mixer`(index: Int) {
    let recurrence = Recurrence.all[index]
    var generator = SeededGenerator(seed: 48)
    let x = generator.matrix(50, Recurrence.hidden)
    let together = read(recurrence, x, [0..<20, 20..<50], threads: 2)
    let alone = Matrix(
      rows: 30, columns: Recurrence.hidden,
      values: Array(x.values[(20 * Recurrence.hidden)...]))
    let second = read(recurrence, alone, [0..<30], threads: 2)
    // Products of other shapes may differ in the last bit.
    #expect(relativeError(Array(together.suffix(second.count)), second) < 1e-5)
    #expect(relativeError(read(recurrence, x, [0..<50], threads: 2), together) > 1e-3)
  }

  @Test(arguments: Recurrence.all.indices)
  func `what comes later does not change what a mixer that remembers gave before`(index: Int) {
    let recurrence = Recurrence.all[index]
    var generator = SeededGenerator(seed: 49)
    let x = generator.matrix(130, Recurrence.hidden)
    let whole = read(recurrence, x, [0..<130], threads: 2)
    for count in [1, 3, 64, 129] {
      let first = Matrix(
        rows: count, columns: Recurrence.hidden,
        values: Array(x.values[..<(count * Recurrence.hidden)]))
      let alone = read(recurrence, first, [0..<count], threads: 2)
      #expect(relativeError(alone, Array(whole.prefix(alone.count))) < 1e-5, "\(count)")
    }
  }
}
