// Residual branches of every form against their definition, and what follows from a layer's list of them.

import Glibc
import LinearAlgebra
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct BranchTests {
  private static let hidden = 24
  private let mlp: MLPSpec
  private let attention: SequenceMixer
  private let weights: RandomWeights
  private let before = NormSpec("before", size: hidden, epsilon: 1e-5)
  private let other = NormSpec("other", size: hidden, epsilon: 1e-5)
  private let behind = NormSpec("behind", size: hidden, epsilon: 1e-5)
  private let backend = Backend(threads: 2)

  private static func unit(_ name: String, _ size: Int) -> UnitSpec {
    UnitSpec(
      gate: LinearSpec(name + ".gate", inputs: hidden, outputs: size),
      up: LinearSpec(name + ".up", inputs: hidden, outputs: size),
      down: LinearSpec(name + ".down", inputs: size, outputs: hidden))
  }

  init() {
    let router = LinearSpec("router", inputs: Self.hidden, outputs: 4)
    mlp = MLPSpec(
      router: RouterSpec(linear: router, scoring: .softmax, expertsPerToken: 2, normalizes: true),
      alwaysOn: [Self.unit("shared", 16)], routed: (0..<4).map { Self.unit("\($0)", 12) })
    let query = GroupedQuerySpec(
      query: LinearSpec("q", inputs: Self.hidden, outputs: 24),
      key: LinearSpec("k", inputs: Self.hidden, outputs: 24),
      value: LinearSpec("v", inputs: Self.hidden, outputs: 24),
      output: LinearSpec("o", inputs: 24, outputs: Self.hidden), queryNorm: nil, keyNorm: nil,
      heads: 2, keyValueHeads: 2, headDimension: 12, rotary: RotarySpec(dimensions: 12, theta: 500))
    attention = .groupedQuery(query)
    weights = RandomWeights(
      mlp.deciding + mlp.units.flatMap(\.linears) + attention.linears, norms: [before, behind])
  }

  private static let forms: [(norms: [Bool], scale: Float)] = [
    ([true, false], 1), ([true, true], 1), ([false, true], 1), ([false, false], 1),
    ([true, false], 0.25), ([false, true], 3),
  ]

  private func branch<Kind>(_ mixer: Kind, _ form: (norms: [Bool], scale: Float)) -> Branch<Kind> {
    Branch(
      preNorm: form.norms[0] ? before : nil, mixer, postNorm: form.norms[1] ? behind : nil,
      scale: form.scale)
  }

  /// x + scale * postNorm(mixed).
  private func sum(_ x: Matrix, _ mixed: Matrix, _ form: (norms: [Bool], scale: Float)) -> [Float] {
    let mixed =
      form.norms[1] ? behind.apply(to: mixed, weights: weights, backend: backend) : mixed
    return zip(x.values, mixed.values).map { $0 + form.scale * $1 }
  }

  private func read(_ x: Matrix, _ form: (norms: [Bool], scale: Float)) -> Matrix {
    form.norms[0] ? before.apply(to: x, weights: weights, backend: backend) : x
  }

  @Test func `a branch on tokens is its definition, with norms before, behind, both or none`() {
    var generator = SeededGenerator(seed: 61)
    let x = generator.matrix(19, Self.hidden)
    for form in Self.forms {
      let input = read(x, form)
      let mixed = Matrix(zeros: x.rows, x.columns)
      mlp.add(
        to: [mixed], reading: [input],
        routings: mlp.route([input], weights: weights, backend: backend), weights: weights,
        backend: backend)
      let expected = sum(x, mixed, form)
      // In two blocks, whose states are added to in place.
      let blocks = [x.prefix(7), x.gathered(Array(7..<19), into: "rest", backend: backend)]
      branch(mlp, form).add(to: blocks, weights: weights, backend: backend)
      #expect(relativeError(blocks.flatMap(\.values), expected) < 1e-6, "\(form)")
    }
  }

  @Test
  func `a branch along the sequence is its definition, with norms before, behind, both or none`() {
    var generator = SeededGenerator(seed: 62)
    let x = generator.matrix(19, Self.hidden)
    let before = x.values
    for form in Self.forms {
      let mixed = Gemm.multiply(
        attention.read(sequences: [0..<11, 11..<19], weights: weights, backend: backend) {
          read(x, form)
        }, by: weights.weight(attention.output), backend: backend)
      let result = branch(attention, form).apply(
        to: x, sequences: [0..<11, 11..<19], weights: weights, backend: backend)
      #expect(relativeError(result.values, sum(x, mixed, form)) < 1e-6, "\(form)")
      #expect(x.values == before)
    }
  }

  /// Softmax over the scores of normed states, and what it makes of them, in Double.
  private func mixed(_ states: [[Double]], _ residual: AttentionResidual, _ weights: RandomWeights)
    -> [Double]
  {
    let gains = zip(residual.norm.gains(weights), weights.vector(residual.score.weight)).map {
      Double($0) * Double($1)
    }
    let scores = states.map { state in
      let square = state.reduce(0) { $0 + $1 * $1 } / Double(state.count)
      return zip(state, gains).reduce(0) { $0 + $1.0 * $1.1 }
        / (square + Double(residual.norm.epsilon)).squareRoot()
    }
    let shares = scores.map { exp($0 - scores.max()!) }
    return (0..<Self.hidden).map { channel in
      zip(states, shares).reduce(0) { $0 + $1.0[channel] * $1.1 } / shares.reduce(0, +)
    }
  }

  /// Rows of states, to whose last something was added.
  private func summed(_ x: Matrix, _ made: Matrix) -> [[Double]] {
    zip(rows(x), rows(made)).map { x, made in
      Array(x.dropLast(Self.hidden)) + zip(x.suffix(Self.hidden), made).map { $0 + $1 }
    }
  }

  @Test func `branches that read a mix of states are added to the last, or begin another`() {
    let score = LinearSpec("score", inputs: Self.hidden, outputs: 1)
    let weights = RandomWeights(
      mlp.deciding + mlp.units.flatMap(\.linears) + attention.linears, norms: [before, other],
      vectors: [score.weight: Self.hidden])
    var generator = SeededGenerator(seed: 66)
    for (blocks, closes) in [(0, true), (1, false), (2, true), (3, false)] {
      let residual = AttentionResidual(norm: other, score: score, blocks: blocks, closes: closes)
      let x = generator.matrix(19, residual.states * Self.hidden)
      let states = rows(x).map { row in
        (0..<residual.states).map { state in
          Array(row[state * Self.hidden..<(state + 1) * Self.hidden])
        }
      }
      let read = Matrix(
        rows: 19, columns: Self.hidden,
        values: states.flatMap { mixed($0, residual, weights) }.map { Float($0) })
      let normed = before.apply(to: read, weights: weights, backend: backend)
      let branch = Branch(residual: residual, preNorm: before, attention)
      let found = branch.apply(
        to: x, sequences: [0..<11, 11..<19], weights: weights, backend: backend)
      let made = Gemm.multiply(
        attention.read(sequences: [0..<11, 11..<19], weights: weights, backend: backend) {
          normed
        }, by: weights.weight(attention.output), backend: backend)
      let expected = closes ? zip(rows(x), rows(made)).map { $0 + $1 } : summed(x, made)
      #expect(found.columns == x.columns + (closes ? Self.hidden : 0))
      #expect(relativeError(found.values, expected.joined().map { Float($0) }) < 1e-5)
      if closes { continue }
      // In two blocks, whose states are added to in place.
      let tokens = Branch(residual: residual, preNorm: before, mlp)
      let parts = [x.prefix(7), x.gathered(Array(7..<19), into: "rest", backend: backend)]
      tokens.add(to: parts, weights: weights, backend: backend)
      let sums = Matrix(zeros: 19, Self.hidden)
      mlp.add(
        to: [sums], reading: [normed],
        routings: mlp.route([normed], weights: weights, backend: backend), weights: weights,
        backend: backend)
      let added = summed(x, sums).joined().map { Float($0) }
      #expect(relativeError(parts.flatMap(\.values), added) < 1e-5)
    }
  }

  @Test func `a norm before a mixer is smoothed with all its readers, one behind it never`() {
    for form in Self.forms {
      let layer = LayerSpec(
        index: 0,
        branches: [
          branch(.sequence(attention), form),
          Branch(
            preNorm: form.norms[0] ? other : nil, .tokens(mlp),
            postNorm: form.norms[1] ? behind : nil),
        ])
      let norms = layer.smoothings.filter { if case .norm = $0.producer { true } else { false } }
      #expect(norms.map(\.tap) == (form.norms[0] ? [Tap(0, .input), Tap(1, .input)] : []))
      if form.norms[0] {
        #expect(norms.map(\.producer) == [.norm(before), .norm(other)])
        #expect(norms[1].consumers == mlp.deciding + mlp.units.flatMap(\.readers))
      }
      #expect(layer.smoothings.count == norms.count + 1 + mlp.units.count)
    }
  }

  @Test func `a norm that two branches have is not smoothed for one of them`() {
    let layer = LayerSpec(
      index: 0,
      branches: [
        Branch(preNorm: before, .sequence(attention)), Branch(preNorm: before, .tokens(mlp)),
      ])
    #expect(!layer.smoothings.contains { $0.tap.place == .input })
    #expect(layer.smoothings.count == 1 + mlp.units.count)
  }

  // MARK: Branches side by side, and what goes on beside a mixer

  private func mixed(_ x: Matrix) -> Matrix {
    let result = Matrix(zeros: x.rows, x.columns)
    let input = before.apply(to: x, weights: weights, backend: backend)
    mlp.add(
      to: [result], reading: [input],
      routings: mlp.route([input], weights: weights, backend: backend), weights: weights,
      backend: backend)
    return result
  }

  @Test func `a branch beside another one reads what that one does`() throws {
    var generator = SeededGenerator(seed: 66)
    let x = generator.matrix(19, Self.hidden)
    let layer = LayerSpec(
      index: 0,
      branches: [
        Branch(preNorm: before, .sequence(attention)),
        Branch(preNorm: before, .tokens(mlp), scale: 0.5, isBeside: true),
      ])
    let part = try #require(layer.parts.first)
    #expect(layer.parts.count == 1 && part.isParallel)
    let attended = try #require(part.sequence).apply(
      to: x, sequences: [0..<19], weights: weights, backend: backend)
    let expected = zip(attended.values, mixed(x).values).map { $0 + 0.5 * $1 }
    let blocks = [
      attended.prefix(7), attended.gathered(Array(7..<19), into: "rest", backend: backend),
    ]
    let read = [x.prefix(7), x.gathered(Array(7..<19), into: "rest", backend: backend)]
    try #require(part.tokens).add(to: blocks, reading: read, weights: weights, backend: backend)
    #expect(relativeError(blocks.flatMap(\.values), expected) < 1e-6)
  }

  @Test func `a norm of branches side by side is smoothed once, with the readers of both`() throws {
    let layer = LayerSpec(
      index: 0,
      branches: [
        Branch(preNorm: before, .sequence(attention)),
        Branch(preNorm: before, .tokens(mlp), isBeside: true),
      ])
    let norms = layer.smoothings.filter { $0.producer == .norm(before) }
    #expect(norms.count == 1 && norms[0].taps == [Tap(0, .input), Tap(1, .input)])
    let sequence = attention.linears.filter { $0.name != "o" }
    #expect(norms[0].consumers == sequence + mlp.deciding + mlp.units.flatMap(\.readers))
    #expect(layer.smoothing(at: Tap(1, .input)) == norms[0])
    #expect(layer.branches[1].isBeside && layer.smoothings.count == 2 + mlp.units.count)
  }

  @Test func `a branch is added to what its mixer reads where that goes on`() {
    var generator = SeededGenerator(seed: 67)
    let x = generator.matrix(19, Self.hidden)
    let normed = before.apply(to: x, weights: weights, backend: backend)
    let sequence = Branch(preNorm: before, attention, scale: 0.5, carried: 3)
    let plain = Branch(preNorm: before, attention, scale: 0.5)
    let found = sequence.apply(to: x, sequences: [0..<19], weights: weights, backend: backend)
    let alone = plain.apply(to: x, sequences: [0..<19], weights: weights, backend: backend)
    let expected = zip(zip(alone.values, x.values), normed.values).map { $0.0 - $0.1 + 3 * $1 }
    #expect(relativeError(found.values, expected) < 1e-6)
    let block = x.prefix(19)
    Branch(preNorm: before, mlp, carried: 2).add(to: [block], weights: weights, backend: backend)
    let sum = zip(normed.values, mixed(x).values).map { 2 * $0 + $1 }
    #expect(relativeError(block.values, sum) < 1e-6)
    // Whatever its readers take up, what goes on would be another.
    let layer = LayerSpec(
      index: 0, branches: [Branch(preNorm: before, .tokens(mlp), carried: 2)])
    #expect(layer.smoothings.allSatisfy { $0.producer != .norm(before) })
  }

  @Test func `a norm around the mean is smoothed by its weight and its bias`() {
    var generator = SeededGenerator(seed: 68)
    let norm = NormSpec("around", size: Self.hidden, epsilon: 1e-5, kind: .deviation(hasBias: true))
    #expect(norm.parameters == ["around.weight", "around.bias"])
    let weights = RandomWeights(
      attention.linears, norms: [norm], vectors: ["around.bias": Self.hidden])
    let layer = LayerSpec(index: 0, branches: [Branch(preNorm: norm, .sequence(attention))])
    let x = generator.matrix(9, Self.hidden)
    func output(_ weights: any LayerWeights) -> [Float] {
      Branch(preNorm: norm, attention).apply(
        to: x, sequences: [0..<9], weights: weights, backend: backend
      ).values
    }
    let applied = layer.smoothings.filter { $0.producer == .norm(norm) }.map { smoothing in
      AppliedSmoothing(
        smoothing,
        scale: (0..<smoothing.channels).map { _ in Float.random(in: 0.25...4, using: &generator) })
    }
    #expect(applied.count == 1)
    #expect(relativeError(output(SmoothedWeights(weights, applied)), output(weights)) < 1e-5)
  }

  // MARK: Parts

  private func parts(_ kinds: String) -> [String] {
    let layer = LayerSpec(
      index: 3,
      branches: kinds.map {
        Branch(preNorm: before, $0 == "s" ? .sequence(attention) : .tokens(mlp))
      })
    for (index, part) in layer.parts.enumerated() {
      #expect(part.layer == 3 && part.index == index)
    }
    return layer.parts.map { part in
      (part.sequence.map { "s\($0.number)" } ?? "") + (part.tokens.map { "t\($0.number)" } ?? "")
    }
  }

  @Test func `branches of any order and number make parts`() {
    #expect(parts("st") == ["s0t1"])
    #expect(parts("s") == ["s0"])
    #expect(parts("t") == ["t0"])
    #expect(parts("stst") == ["s0t1", "s2t3"])
    #expect(parts("sstt") == ["s0", "s1t2", "t3"])
    #expect(parts("tst") == ["t0", "s1t2"])
    #expect(parts("tts") == ["t0", "t1", "s2"])
  }

  // MARK: Activations

  @Test(arguments: [Activation.silu, .gelu, .geluTanh, .reluSquared])
  func `up is smoothed where the activation is linear in it, and smoothing keeps the function`(
    activation: Activation
  ) {
    var generator = SeededGenerator(seed: 63)
    let x = generator.matrix(9, Self.hidden)
    for gated in [true, false] {
      let plain = Self.unit("shared", 16)
      let unit = UnitSpec(
        gate: gated ? plain.gate : nil, up: plain.up, down: plain.down, activation: activation)
      let layer = LayerSpec(
        index: 0, branches: [Branch(preNorm: before, .tokens(MLPSpec(dense: unit)))])
      #expect(layer.linears == unit.linears && unit.linears.count == (gated ? 3 : 2))
      #expect(layer.smoothings.map(\.producerName) == ["before"] + (gated ? ["shared.up"] : []))
      func output(_ weights: any LayerWeights) -> [Float] {
        let input = before.apply(to: x, weights: weights, backend: backend)
        return unit.apply(to: input, weights: weights, backend: backend).values
      }
      let applied = layer.smoothings.map { smoothing in
        AppliedSmoothing(
          smoothing,
          scale: (0..<smoothing.channels).map { _ in Float.random(in: 0.25...4, using: &generator) }
        )
      }
      #expect(relativeError(output(SmoothedWeights(weights, applied)), output(weights)) < 1e-5)
      // The same move, where it was not offered, would change the function.
      let moved = Smoothing(
        tap: Tap(0, .hidden(0)), producer: .linear(unit.up), consumers: [unit.down])
      let scale = (0..<16).map { _ in Float.random(in: 0.25...4, using: &generator) }
      let error = relativeError(
        output(SmoothedWeights(weights, [AppliedSmoothing(moved, scale: scale)])), output(weights))
      #expect(gated ? error < 1e-5 : error > 1e-3)
    }
  }

  @Test func `of pairs that a fused projection makes, up and down are never smoothed`() {
    let up = LinearSpec("1.up", inputs: Self.hidden, outputs: 12)
    let down = LinearSpec("down", inputs: 6, outputs: Self.hidden)
    let weights = RandomWeights([up, down])
    let unit = UnitSpec(
      gate: nil, up: up, down: down, activation: .clampedPairs(alpha: 1.5, limit: 0.75))
    let layer = LayerSpec(
      index: 0, branches: [Branch(preNorm: before, .tokens(MLPSpec(dense: unit)))])
    #expect(layer.smoothings.map(\.producerName) == ["before"])
    var generator = SeededGenerator(seed: 65)
    let x = generator.matrix(5, Self.hidden)
    let expected = naiveLinear(rows(x), up, weights).flatMap { row in
      stride(from: 0, to: row.count, by: 2).map { index -> Float in
        let gate = min(row[index], 0.75)
        return Float((max(-0.75, min(row[index + 1], 0.75)) + 1) * gate / (1 + exp(-1.5 * gate)))
      }
    }
    let found = unit.hidden(x, weights: weights, backend: backend)
    #expect(found.columns == 6 && relativeError(found.values, expected) < 1e-5)
  }

  @Test func `a unit applies its activation to the gate, or to up without one`() {
    var generator = SeededGenerator(seed: 64)
    let x = generator.matrix(5, Self.hidden)
    let plain = Self.unit("shared", 16)
    let (gate, up) = (
      naiveLinear(rows(x), plain.gate!, weights), naiveLinear(rows(x), plain.up, weights)
    )
    func squared(_ x: Double) -> Double { x > 0 ? x * x : 0 }
    for gated in [true, false] {
      let unit = UnitSpec(
        gate: gated ? plain.gate : nil, up: plain.up, down: plain.down, activation: .reluSquared)
      let expected = zip(gate.joined(), up.joined()).map {
        Float(gated ? squared($0) * $1 : squared($1))
      }
      let found = unit.hidden(x, weights: weights, backend: backend).values
      #expect(relativeError(found, expected) < 1e-5)
    }
  }
}
