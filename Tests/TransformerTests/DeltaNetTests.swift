// Gated delta nets against the same formulas one token at a time in Double.

import Glibc
import LinearAlgebra
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct DeltaNetTests {
  private static let (hidden, keyHeads, valueHeads, keyDimension, valueDimension, taps) =
    (20, 2, 6, 5, 7, 4)
  private static let (keys, values) = (keyHeads * keyDimension, valueHeads * valueDimension)

  private static func linear(_ name: String, _ outputs: Int) -> LinearSpec {
    LinearSpec(name, inputs: hidden, outputs: outputs)
  }

  private let byKind: DeltaNetSpec
  private let byKeyHead: DeltaNetSpec

  init() {
    func spec(_ input: DeltaNetSpec.Input) -> DeltaNetSpec {
      DeltaNetSpec(
        input: input, output: LinearSpec("o", inputs: Self.values, outputs: Self.hidden),
        norm: NormSpec("norm", size: Self.valueDimension, epsilon: 1e-5),
        keyHeads: Self.keyHeads, valueHeads: Self.valueHeads, keyDimension: Self.keyDimension,
        valueDimension: Self.valueDimension,
        convolution: CausalConvolution(
          weight: "conv", channels: 2 * Self.keys + Self.values, taps: Self.taps),
        decayRate: "rate", decayBias: "bias")
    }
    byKind = spec(
      .byKind(
        mixed: Self.linear("qkv", 2 * Self.keys + Self.values),
        gates: Self.linear("z", Self.values),
        strengths: Self.linear("b", Self.valueHeads), decays: Self.linear("a", Self.valueHeads)))
    byKeyHead = spec(
      .byKeyHead(
        mixed: Self.linear("qkvz", 2 * Self.keys + 2 * Self.values),
        steps: Self.linear("ba", 2 * Self.valueHeads)))
  }

  private func weights(_ spec: DeltaNetSpec) -> RandomWeights {
    let mixer = SequenceMixer.deltaNet(spec)
    return RandomWeights(
      mixer.linears + mixer.deciding.map(\.linear), norms: mixer.norms,
      vectors: Dictionary(
        uniqueKeysWithValues: mixer.vectors.map { ($0.name, $0.shape.reduce(1, *)) }))
  }

  private struct Projected {
    var mixed: [[Double]]
    let gates: [[Double]]
    let strengths: [[Double]]
    let decays: [[Double]]
  }

  private func project(
    _ x: [[Double]], _ spec: DeltaNetSpec, _ weights: RandomWeights
  ) -> Projected {
    switch spec.input {
    case .byKind(let mixed, let gates, let strengths, let decays):
      return Projected(
        mixed: naiveLinear(x, mixed, weights), gates: naiveLinear(x, gates, weights),
        strengths: naiveLinear(x, strengths, weights), decays: naiveLinear(x, decays, weights))
    case .byKeyHead(let mixed, let steps):
      let share = Self.valueHeads / Self.keyHeads
      let (key, value) = (Self.keyDimension, share * Self.valueDimension)
      /// Some of the numbers of each key head.
      func part(_ rows: [[Double]], _ range: Range<Int>) -> [[Double]] {
        rows.map { row in
          let width = row.count / Self.keyHeads
          return (0..<Self.keyHeads).flatMap {
            row[$0 * width..<($0 + 1) * width].dropFirst(range.lowerBound).prefix(range.count)
          }
        }
      }
      let (all, numbers) = (naiveLinear(x, mixed, weights), naiveLinear(x, steps, weights))
      let (queries, keys) = (part(all, 0..<key), part(all, key..<2 * key))
      let values = part(all, 2 * key..<2 * key + value)
      return Projected(
        mixed: x.indices.map { queries[$0] + keys[$0] + values[$0] },
        gates: part(all, 2 * key + value..<2 * (key + value)),
        strengths: part(numbers, 0..<share), decays: part(numbers, share..<2 * share))
    }
  }

  private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

  /// What the output projection reads of one sequence.
  private func naive(
    _ x: [[Double]], _ spec: DeltaNetSpec, _ weights: RandomWeights
  ) -> [[Double]] {
    func vector(_ name: String) -> [Double] { weights.vector(name).map(Double.init) }
    let projected = project(x, spec, weights)
    let kernel = vector(spec.convolution.weight)
    let mixed = x.indices.map { token in
      projected.mixed[token].indices.map { channel -> Double in
        var sum = 0.0
        for back in 0..<min(Self.taps, token + 1) {
          let factor = kernel[channel * Self.taps + Self.taps - 1 - back]
          sum += factor * projected.mixed[token - back][channel]
        }
        return sum * sigmoid(sum)
      }
    }
    func unit(_ x: ArraySlice<Double>) -> [Double] {
      let length = (x.reduce(0) { $0 + $1 * $1 } + 1e-6).squareRoot()
      return x.map { $0 / length }
    }
    let gains = vector(spec.norm.weight)
    var results = x.map { _ in [Double]() }
    for head in 0..<Self.valueHeads {
      let first = head * Self.keyHeads / Self.valueHeads * Self.keyDimension
      var state = [[Double]](
        repeating: [Double](repeating: 0, count: Self.valueDimension), count: Self.keyDimension)
      for token in x.indices {
        let query = unit(mixed[token][first..<first + Self.keyDimension]).map {
          $0 / Double(Self.keyDimension).squareRoot()
        }
        let key = unit(mixed[token][Self.keys + first..<Self.keys + first + Self.keyDimension])
        let own = head * Self.valueDimension
        let value = mixed[token][(2 * Self.keys + own)...].prefix(Self.valueDimension)
        let kept = exp(
          -exp(vector(spec.decayRate)[head])
            * log(1 + exp(projected.decays[token][head] + vector(spec.decayBias)[head])))
        state = state.map { $0.map { kept * $0 } }
        let strength = sigmoid(projected.strengths[token][head])
        let known = (0..<Self.valueDimension).map { column in
          zip(key, state).reduce(0) { $0 + $1.0 * $1.1[column] }
        }
        let change = zip(value, known).map { strength * ($0 - $1) }
        state = zip(key, state).map { key, row in zip(row, change).map { $0 + key * $1 } }
        let read = (0..<Self.valueDimension).map { column in
          zip(query, state).reduce(0) { $0 + $1.0 * $1.1[column] }
        }
        let mean = read.reduce(0) { $0 + $1 * $1 } / Double(read.count)
        for (column, number) in read.enumerated() {
          let gate = projected.gates[token][own + column]
          results[token].append(
            gains[column] * number / (mean + Double(spec.norm.epsilon)).squareRoot() * gate
              * sigmoid(gate))
        }
      }
    }
    return results
  }

  private func read(
    _ x: Matrix, _ sequences: [Range<Int>], _ spec: DeltaNetSpec, threads: Int
  ) -> [Float] {
    SequenceMixer.deltaNet(spec).read(
      sequences: sequences, weights: weights(spec), backend: Backend(threads: threads)
    ) { x }.values
  }

  @Test(arguments: [[1], [2], [3], [70], [130, 1, 3, 40]], [false, true])
  func `a delta net gives what one token at a time gives on any threads`(
    lengths: [Int], isByKeyHead: Bool
  ) {
    let spec = isByKeyHead ? byKeyHead : byKind
    var generator = SeededGenerator(seed: 27)
    let x = generator.matrix(lengths.reduce(0, +), Self.hidden)
    var sequences: [Range<Int>] = []
    for length in lengths {
      let start = sequences.last?.upperBound ?? 0
      sequences.append(start..<start + length)
    }
    let all = rows(x)
    let weights = weights(spec)
    let expected = sequences.flatMap { naive(Array(all[$0]), spec, weights) }.joined().map {
      Float($0)
    }
    let outputs = [1, 2, 7].map { read(x, sequences, spec, threads: $0) }
    #expect(relativeError(outputs[0], expected) < 1e-5)
    #expect(outputs[0].map(\.bitPattern) == outputs[1].map(\.bitPattern))
    #expect(outputs[0].map(\.bitPattern) == outputs[2].map(\.bitPattern))
  }

  @Test(arguments: [false, true])
  func `sequences of a block do not remember each other`(isByKeyHead: Bool) {
    let spec = isByKeyHead ? byKeyHead : byKind
    var generator = SeededGenerator(seed: 28)
    let x = generator.matrix(50, Self.hidden)
    let together = read(x, [0..<20, 20..<50], spec, threads: 2)
    let alone = Matrix(
      rows: 30, columns: Self.hidden, values: Array(x.values[(20 * Self.hidden)...]))
    let second = read(alone, [0..<30], spec, threads: 2)
    // Products of other shapes may differ in the last bit.
    #expect(relativeError(Array(together[(20 * Self.values)...]), second) < 1e-5)
    #expect(relativeError(read(x, [0..<50], spec, threads: 2), together) > 1e-3)
  }

  @Test(arguments: [false, true])
  func `what comes later does not change what a delta net gave before`(isByKeyHead: Bool) {
    let spec = isByKeyHead ? byKeyHead : byKind
    var generator = SeededGenerator(seed: 29)
    let x = generator.matrix(130, Self.hidden)
    let whole = read(x, [0..<130], spec, threads: 2)
    for count in [1, 3, 64, 129] {
      let first = Matrix(
        rows: count, columns: Self.hidden, values: Array(x.values[..<(count * Self.hidden)]))
      let alone = read(first, [0..<count], spec, threads: 2)
      #expect(relativeError(alone, Array(whole.prefix(alone.count))) < 1e-5, "\(count)")
    }
  }
}
