// Attention over more tokens than one block of queries, against one token at a time in Double.

import Glibc
import LinearAlgebra
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct AttentionTests {
  private let attention: GroupedQuerySpec
  private let weights: RandomWeights

  init() {
    let (hidden, heads, keyValueHeads, dimension) = (24, 4, 2, 12)
    let norms = ["q_norm", "k_norm"].map { NormSpec($0, size: dimension, epsilon: 1e-5) }
    attention = GroupedQuerySpec(
      query: LinearSpec("q", inputs: hidden, outputs: heads * dimension, hasBias: true),
      key: LinearSpec("k", inputs: hidden, outputs: keyValueHeads * dimension, hasBias: true),
      value: LinearSpec("v", inputs: hidden, outputs: keyValueHeads * dimension),
      output: LinearSpec("o", inputs: heads * dimension, outputs: hidden),
      queryNorm: norms[0], keyNorm: norms[1], heads: heads, keyValueHeads: keyValueHeads,
      headDimension: dimension, rotary: RotarySpec(dimensions: 8, theta: 500))
    weights = RandomWeights(
      [attention.query, attention.key, attention.value], norms: norms, vectors: ["sinks": heads])
  }

  /// Norms and rotates one head at one position.
  private func placed(_ head: [Double], _ norm: NormSpec?, position: Int) -> [Double] {
    var head = head
    if let norm {
      let weight = weights.vector(norm.weight)
      let mean = head.reduce(0) { $0 + $1 * $1 } / Double(head.count)
      head = zip(head, weight).map { $0 * Double($1) / (mean + Double(norm.epsilon)).squareRoot() }
    }
    let half = attention.rotary.dimensions / 2
    for i in 0..<half {
      let angle = Double(position) / pow(attention.rotary.theta, Double(i) / Double(half))
      let (a, b) = (head[i], head[i + half])
      head[i] = a * cos(angle) - b * sin(angle)
      head[i + half] = b * cos(angle) + a * sin(angle)
    }
    return head
  }

  private func naive(
    _ x: [[Double]], reach: Reach = .whole, hasSinks: Bool = false
  ) -> [[Double]] {
    let d = attention.headDimension
    func heads(_ linear: LinearSpec) -> [[[Double]]] {
      naiveLinear(x, linear, weights).map { row in
        stride(from: 0, to: row.count, by: d).map { Array(row[$0..<$0 + d]) }
      }
    }
    let queries = heads(attention.query).enumerated().map { position, heads in
      heads.map { placed($0, attention.queryNorm, position: position) }
    }
    let keys = heads(attention.key).enumerated().map { position, heads in
      heads.map { placed($0, attention.keyNorm, position: position) }
    }
    let values = heads(attention.value)
    return x.indices.map { token in
      (0..<attention.heads).flatMap { head -> [Double] in
        let shared = head * attention.keyValueHeads / attention.heads
        let first =
          switch reach {
          case .whole: 0
          case .window(let size): max(0, token + 1 - size)
          case .chunk(let size): token - token % size
          }
        let seen = first...token
        let weights = seen.map { earlier in
          exp(
            zip(queries[token][head], keys[earlier][shared]).reduce(0) { $0 + $1.0 * $1.1 }
              / Double(d).squareRoot())
        }
        let sink = hasSinks ? exp(Double(self.weights.vector("sinks")[head])) : 0
        let sum = weights.reduce(sink, +)
        return (0..<d).map { channel in
          zip(seen, weights).reduce(0) { $0 + $1.1 * values[$1.0][shared][channel] } / sum
        }
      }
    }
  }

  /// What the output projection reads.
  private func read(
    _ x: Matrix, _ sequences: [Range<Int>], threads: Int, reach: Reach = .whole,
    hasSinks: Bool = false
  ) -> Matrix {
    let spec = GroupedQuerySpec(
      query: attention.query, key: attention.key, value: attention.value,
      output: attention.output, queryNorm: attention.queryNorm, keyNorm: attention.keyNorm,
      heads: attention.heads, keyValueHeads: attention.keyValueHeads,
      headDimension: attention.headDimension, rotary: attention.rotary, reach: reach,
      sinks: hasSinks ? "sinks" : nil)
    return SequenceMixer.groupedQuery(spec).read(
      sequences: sequences, weights: weights, backend: Backend(threads: threads)
    ) { x }
  }

  @Test(arguments: [[1], [127], [128], [129], [300], [130, 1, 257], [3, 128]])
  func blocksOfQueriesGiveWhatOneTokenAtATimeGives(lengths: [Int]) {
    var generator = SeededGenerator(seed: 22)
    let x = generator.matrix(lengths.reduce(0, +), 24)
    var sequences: [Range<Int>] = []
    for length in lengths {
      let start = sequences.last?.upperBound ?? 0
      sequences.append(start..<start + length)
    }
    let all = rows(x)
    let expected = sequences.flatMap { naive(Array(all[$0])) }.joined().map { Float($0) }
    let outputs = [1, 2, 7].map { read(x, sequences, threads: $0).values }
    #expect(relativeError(outputs[0], expected) < 1e-5)
    #expect(outputs[0].map(\.bitPattern) == outputs[1].map(\.bitPattern))
    #expect(outputs[0].map(\.bitPattern) == outputs[2].map(\.bitPattern))
  }

  @Test(arguments: [1, 5, 127, 128, 129, 200, 1000])
  func `a window or a chunk hides what lies before it`(window: Int) {
    var generator = SeededGenerator(seed: 24)
    let x = generator.matrix(300, 24)
    let sequences = [0..<40, 40..<300]
    let all = rows(x)
    for reach in [Reach.window(window), .chunk(window)] {
      let expected = sequences.flatMap { naive(Array(all[$0]), reach: reach) }.joined()
      let outputs = [1, 7].map { read(x, sequences, threads: $0, reach: reach).values }
      #expect(relativeError(outputs[0], expected.map { Float($0) }) < 1e-5, "\(reach)")
      #expect(outputs[0].map(\.bitPattern) == outputs[1].map(\.bitPattern))
    }
  }

  @Test(arguments: [nil, 5, 129])
  func `a sink takes a share of every token's attention`(window: Int?) {
    var generator = SeededGenerator(seed: 25)
    let x = generator.matrix(300, 24)
    let sequences = [0..<40, 40..<300]
    let all = rows(x)
    let expected = sequences.flatMap {
      naive(Array(all[$0]), reach: Reach(window: window), hasSinks: true)
    }.joined().map { Float($0) }
    let outputs = [1, 7].map {
      read(x, sequences, threads: $0, reach: Reach(window: window), hasSinks: true).values
    }
    #expect(relativeError(outputs[0], expected) < 1e-5)
    #expect(outputs[0].map(\.bitPattern) == outputs[1].map(\.bitPattern))
    let plain = read(x, sequences, threads: 1, reach: Reach(window: window)).values
    #expect(relativeError(outputs[0], plain) > 0.1)
  }

  @Test func laterTokensDoNotChangeEarlierOnes() {
    var generator = SeededGenerator(seed: 23)
    let x = generator.matrix(140, 24)
    let long = read(x, [0..<140], threads: 2)
    let short = read(x.prefix(131), [0..<131], threads: 2)
    #expect(relativeError(Array(long.values.prefix(short.count)), short.values) < 1e-6)
  }

  // MARK: Queries, keys and values in one

  /// Values are the last rows of the Linear: they alone are smoothed, and what a cache keeps of keys stays as it is.
  @Test func `of a Linear that makes queries, keys and values, the values alone are smoothed`() {
    let all = LinearSpec("qkv", inputs: 8, outputs: 24, hasBias: true)
    let mixer = SequenceMixer.groupedQuery(
      GroupedQuerySpec(
        query: all, key: all, value: all, output: LinearSpec("o", inputs: 8, outputs: 8),
        queryNorm: nil, keyNorm: nil, heads: 2, keyValueHeads: 2, headDimension: 4,
        rotary: RotarySpec(dimensions: 4, theta: 500)))
    #expect(mixer.linears.map(\.name) == ["qkv", "o"])
    let layer = LayerSpec(index: 0, branches: [Branch(preNorm: nil, .sequence(mixer))])
    let smoothing = layer.smoothings[0]
    #expect(layer.smoothings.count == 1 && smoothing.channels == 8)
    let scale = (1...8).map { Float($0) }
    let applied = [AppliedSmoothing(smoothing, scale: scale)]
    let weights = RandomWeights(mixer.linears)
    let smoothed = SmoothedWeights(weights, applied)
    let (before, after) = (weights.weight(all).matrix(0..<24), smoothed.weight(all).matrix(0..<24))
    let divisors = [Float](repeating: 1, count: 16) + scale
    for row in 0..<24 {
      for column in 0..<8 {
        #expect(
          after.values[8 * row + column] == before.values[8 * row + column] * (1 / divisors[row]))
      }
    }
    #expect(smoothed.vector(all.bias) == zip(weights.vector(all.bias), divisors).map { $0 / $1 })
    let cache = mixer.cache
    #expect(cache?.scale(of: .keys, under: applied) == nil)
    #expect(cache?.scale(of: .values, under: applied) == scale)
    #expect(cache?.width(of: .keys) == 8 && cache?.width(of: .values) == 8)
  }
}
