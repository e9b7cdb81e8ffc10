// Norm, softmax, activations and rotation against the same formulas in Double, and against PyTorch's numbers.

import CKernels
import Glibc
import Testing
import TestSupport

@Suite struct ActivationTests {
  private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

  private func softmax(_ x: [Float], scale: Float) -> [Double] {
    let scaled = x.map { Double($0) * Double(scale) }
    let weights = scaled.map { exp($0 - (scaled.max() ?? 0)) }
    let sum = weights.reduce(0, +)
    return weights.map { $0 / sum }
  }

  @Test func normDividesEveryRowByItsRootMeanSquare() {
    var generator = SeededGenerator(seed: 2)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      let rows = 3
      let x = generator.floats(rows * columns)
      let weight = generator.floats(columns)
      let expected = (0..<rows).flatMap { row -> [Double] in
        let row = x[row * columns..<(row + 1) * columns].map(Double.init)
        let mean = row.reduce(0) { $0 + $1 * $1 } / Double(columns)
        return zip(row, weight).map { $0 * Double($1) / (mean + Double(Float(1e-5))).squareRoot() }
      }
      forEachInstructionSet { name in
        let source = KernelMemory(x, offset: offset)
        let result = KernelMemory([Float](repeating: 0, count: x.count), offset: offset)
        unsafe sluice_rms_norm(source.start, weight, 1e-5, rows, columns, result.start)
        #expect(zip(result.values, expected).allSatisfy { isClose($0, $1) }, "\(name) \(columns)")
        #expect(result.guardsStand)
        unsafe sluice_rms_norm(source.start, weight, 1e-5, rows, columns, source.start)
        #expect(source.values == result.values, "in place")
        #expect(source.guardsStand)
      }
    }
  }

  @Test
  func `a norm around the mean takes it away and divides by the deviation, with a bias or without`()
  {
    var generator = SeededGenerator(seed: 22)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      let rows = 3
      let x = generator.floats(rows * columns).map { 3 + $0 }
      let (weight, bias) = (generator.floats(columns), generator.floats(columns))
      for hasBias in [false, true] {
        let expected = (0..<rows).flatMap { row -> [Double] in
          let row = x[row * columns..<(row + 1) * columns].map(Double.init)
          let mean = row.reduce(0, +) / Double(columns)
          let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(columns)
          return row.indices.map {
            (row[$0] - mean) / (variance + 1e-5).squareRoot() * Double(weight[$0])
              + (hasBias ? Double(bias[$0]) : 0)
          }
        }
        forEachInstructionSet { name in
          let source = KernelMemory(x, offset: offset)
          let result = KernelMemory([Float](repeating: 0, count: x.count), offset: offset)
          unsafe sluice_layer_norm(
            source.start, weight, hasBias ? bias : nil, 1e-5, rows, columns, result.start)
          #expect(
            zip(result.values, expected).allSatisfy { abs(Double($0) - $1) < 2e-5 },
            "\(name) \(columns)")
          #expect(result.guardsStand)
          unsafe sluice_layer_norm(
            source.start, weight, hasBias ? bias : nil, 1e-5, rows, columns, source.start)
          #expect(source.values == result.values, "in place")
          #expect(source.guardsStand)
        }
      }
    }
  }

  @Test func softmaxIsExactToSixDigitsAtEveryLength() {
    var generator = SeededGenerator(seed: 3)
    for (count, offset) in lengthsAndOffsets {
      let x = generator.floats(count).map { 20 * $0 }
      let expected = softmax(x, scale: 0.5)
      forEachInstructionSet { name in
        let result = KernelMemory(x, offset: offset)
        unsafe sluice_softmax(result.start, 0.5, count)
        // The exponent is rounded once, which is worth a few units of 2^-24 for each unit of it.
        #expect(
          zip(result.values, expected).allSatisfy { isClose($0, $1, relative: 3e-6) },
          "\(name) \(count)")
        #expect(result.guardsStand)
      }
    }
  }

  @Test
  func `clamped numbers stay within their bounds, and gates and up of their own are as pairs are`()
  {
    var generator = SeededGenerator(seed: 12)
    for (count, offset) in lengthsAndOffsets {
      let (gate, up) = (
        generator.floats(count).map { 3 * $0 }, generator.floats(count).map { 3 * $0 }
      )
      forEachInstructionSet { name in
        let clamped = KernelMemory(gate, offset: offset)
        unsafe sluice_clamp(clamped.start, -.infinity, 1.5, count)
        #expect(clamped.values == gate.map { min($0, 1.5) }, "\(name)")
        unsafe sluice_clamp(clamped.start, -0.5, 1.5, count)
        #expect(clamped.values == gate.map { max(-0.5, min($0, 1.5)) }, "\(name)")
        let found = KernelMemory(up, offset: offset)
        unsafe sluice_clamped_gates(gate, 1.702, 1.5, found.start, count)
        var pairs = [Float](repeating: 0, count: count)
        unsafe sluice_clamped_pairs(zip(gate, up).flatMap { [$0, $1] }, 1.702, 1.5, &pairs, count)
        #expect(zip(found.values, pairs).allSatisfy { isClose($0, Double($1)) }, "\(name)")
        #expect(clamped.guardsStand && found.guardsStand)
      }
    }
  }

  @Test func `SiTU is a bounded gate times its sigmoid`() {
    let x = (-4000...4000).map { Float($0) / 64 }
    for beta: Float in [0.5, 4] {
      forEachInstructionSet { name in
        let found = KernelMemory(x, offset: 1)
        unsafe sluice_situ(found.start, beta, x.count)
        for (value, x) in zip(found.values, x) {
          let expected = Double(beta) * tanh(Double(x) / Double(beta)) / (1 + exp(-Double(x)))
          #expect(abs(Double(value) - expected) < 1e-6 * Double(beta), "\(name) \(x)")
        }
        #expect(found.guardsStand)
      }
    }
  }

  @Test func `mixed states are weighted by a softmax over what scores their norms`() {
    var generator = SeededGenerator(seed: 17)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      for states in [1, 2, 9] {
        let x = generator.floats(states * columns)
        let weight = generator.floats(columns).map { 3 * $0 }
        let rows = (0..<states).map { x[$0 * columns..<($0 + 1) * columns].map(Double.init) }
        let scores = rows.map { row in
          let square = row.reduce(0) { $0 + $1 * $1 } / Double(columns)
          return zip(row, weight).reduce(0) { $0 + $1.0 * Double($1.1) }
            / (square + 1e-5).squareRoot()
        }
        let shares = scores.map { exp($0 - scores.max()!) }
        let sum = shares.reduce(0, +)
        let expected = (0..<columns).map { column in
          zip(rows, shares).reduce(0) { $0 + $1.0[column] * $1.1 / sum }
        }
        forEachInstructionSet { name in
          let result = KernelMemory([Float](repeating: 7, count: columns), offset: offset)
          let room = KernelMemory([Float](repeating: 0, count: states), offset: offset)
          unsafe sluice_mix_states(x, weight, 1e-5, states, columns, room.start, result.start)
          // Scores grow with the row, and what is lost of one is lost of its exponential.
          for (value, expected) in zip(result.values, expected) {
            #expect(abs(Double(value) - expected) < 3e-5, "\(name) \(states) \(columns)")
          }
          #expect(result.guardsStand && room.guardsStand)
        }
      }
    }
  }

  @Test func `a softplus is the logarithm of one and an exponential`() {
    let x = (-4000...4000).map { Float($0) / 64 }
    forEachInstructionSet { name in
      let found = KernelMemory(x, offset: 1)
      unsafe sluice_softplus(found.start, x.count)
      #expect(
        zip(found.values, x).allSatisfy {
          isClose($0, log1p(exp(Double($1))), relative: 3e-6)
        }, "\(name)")
      #expect(found.guardsStand)
    }
  }

  @Test func `a soft cap bends numbers towards it`() {
    let x = (-4000...4000).map { Float($0) / 16 }
    for cap: Float in [1, 30, 50] {
      forEachInstructionSet { name in
        let result = KernelMemory(x, offset: 1)
        unsafe sluice_soft_cap(result.start, cap, x.count)
        for (value, x) in zip(result.values, x) {
          let expected = Double(cap) * tanh(Double(x) / Double(cap))
          #expect(abs(Double(value) - expected) < 4e-7 * Double(cap), "\(name) \(x)")
        }
        #expect(result.guardsStand)
      }
    }
  }

  /// Far below the scores, among them, and far above.
  @Test(arguments: [-200, -3, 0.5, 9, 200] as [Float])
  func `a sink takes its share of a softmax at every length`(sink: Float) {
    var generator = SeededGenerator(seed: 5)
    for (count, offset) in lengthsAndOffsets {
      let x = generator.floats(count).map { 20 * $0 }
      let all = softmax(x.map { 0.5 * $0 } + [sink], scale: 1)
      forEachInstructionSet { name in
        let result = KernelMemory(x, offset: offset)
        unsafe sluice_softmax_sink(result.start, 0.5, sink, count)
        #expect(
          zip(result.values, all).allSatisfy {
            $1 < 1e-30 ? $0 < 1e-30 : isClose($0, $1, relative: 6e-6)
          }, "\(name) \(count)")
        #expect(result.guardsStand)
      }
    }
  }

  /// Within the limits and beyond them, on both sides.
  @Test func `pairs of gate and up are clamped and multiplied`() {
    var generator = SeededGenerator(seed: 6)
    for (count, offset) in lengthsAndOffsets {
      let pairs = generator.floats(2 * count).map { 12 * $0 }
      let expected = (0..<count).map { index -> Double in
        let gate = min(Double(pairs[2 * index]), 7)
        let up = max(-7, min(Double(pairs[2 * index + 1]), 7))
        return (up + 1) * gate * sigmoid(1.702 * gate)
      }
      forEachInstructionSet { name in
        let from = KernelMemory(pairs, offset: offset)
        let result = KernelMemory([Float](repeating: 0, count: count), offset: offset)
        unsafe sluice_clamped_pairs(from.start, 1.702, 7, result.start, count)
        #expect(
          zip(result.values, expected).allSatisfy { abs(Double($0) - $1) <= 3e-6 * (1 + abs($1)) },
          "\(name) \(count)")
        #expect(from.values == pairs && result.guardsStand)
      }
    }
  }

  @Test func theExponentialIsExactToSixDigitsOverItsRange() {
    // With 0 the largest and a scale of 1 the exponents are exact: what is left is the error of exp and of a short sum.
    let rows = (0..<10_000).map { row in [0] + (0..<7).map { Float(-8 * row - $0) / 1024 } }
    forEachInstructionSet { name in
      var worst = 0.0
      for row in rows {
        var weights = row
        unsafe sluice_softmax(&weights, 1, row.count)
        for (weight, exact) in zip(weights, softmax(row, scale: 1)) {
          worst = max(worst, abs(Double(weight) / exact - 1))
        }
      }
      #expect(worst < 1e-6, "\(name)")
    }
  }

  @Test func sigmoidAndSwiGLUAreExactToSixDigits() {
    let gate = (-40_000...40_000).map { Float($0) / 1024 }
    let up = gate.map { 1 + $0 / 64 }
    forEachInstructionSet { name in
      let swiglu = KernelMemory(up, offset: 1)
      unsafe sluice_swiglu(gate, swiglu.start, gate.count)
      let sigmoids = KernelMemory(gate, offset: 1)
      unsafe sluice_sigmoid(sigmoids.start, gate.count)
      for (index, x) in gate.enumerated() {
        let exact = sigmoid(Double(x))
        let product = Double(x) * exact * Double(up[index])
        guard isClose(sigmoids.element(index), exact), isClose(swiglu.element(index), product)
        else {
          Issue.record("\(name): x = \(x)")
          return
        }
      }
    }
  }

  @Test func sigmoidAndSwiGLUTouchTheirElementsOnly() {
    var generator = SeededGenerator(seed: 4)
    for (count, offset) in lengthsAndOffsets {
      let (gate, up) = (generator.floats(count), generator.floats(count))
      forEachInstructionSet { name in
        let result = KernelMemory(up, offset: offset)
        let gates = KernelMemory(gate, offset: offset)
        unsafe sluice_swiglu(gates.start, result.start, count)
        for index in 0..<count {
          let x = Double(gate[index])
          #expect(isClose(result.values[index], x * sigmoid(x) * Double(up[index])), "\(name)")
        }
        #expect(gates.values == gate)
        unsafe sluice_sigmoid(gates.start, count)
        #expect(zip(gates.values, gate).allSatisfy { isClose($0, sigmoid(Double($1))) }, "\(name)")
        #expect(result.guardsStand && gates.guardsStand)
      }
    }
  }

  private enum Activation: CaseIterable {
    case silu
    case gelu
    case geluTanh
    case reluSquared

    func apply(in x: KernelMemory<Float>, count: Int) {
      switch self {
      case .silu: unsafe sluice_silu(x.start, count)
      case .gelu: unsafe sluice_gelu(x.start, count)
      case .geluTanh: unsafe sluice_gelu_tanh(x.start, count)
      case .reluSquared: unsafe sluice_relu_squared(x.start, count)
      }
    }
  }

  /// PyTorch 2.13.0, `torch.nn.functional` in float64.
  private let judgedAt: [Float] = [
    -20, -6, -3, -1.5, -0.75, -0.25, -1e-3, 0, 1e-3, 0.25, 0.75, 1.5, 3, 6, 20,
  ]
  private let judged: [(activation: Activation, values: [Double])] = [
    (
      .silu,
      [
        -4.12230724e-08, -0.0148357389, -0.14227762, -0.273638286, -0.240615976, -0.109455875,
        -0.00049975, 0, 0.00050025, 0.140544125, 0.509384024, 1.22636171, 2.85772238, 5.98516426,
        20,
      ]
    ),
    (
      .gelu,
      [
        0, -5.91952587e-09, -0.00404969409, -0.100210802, -0.169970514, -0.100323419,
        -0.000499601058, 0, 0.000500398942, 0.149676581, 0.580029486, 1.3997892, 2.99595031,
        5.99999999, 20,
      ]
    ),
    (
      .geluTanh,
      [
        0, -8.43964898e-11, -0.00363739208, -0.100428423, -0.170039445, -0.100324649,
        -0.000499601058, 0, 0.000500398942, 0.149675351, 0.579960555, 1.39957158, 2.99636261, 6, 20,
      ]
    ),
    (.reluSquared, [0, 0, 0, 0, 0, 0, 0, 0, 1e-06, 0.0625, 0.5625, 2.25, 9, 36, 400]),
  ]
  @Test func `every activation is that of PyTorch`() {
    forEachInstructionSet { name in
      for (activation, values) in judged {
        let x = KernelMemory(judgedAt, offset: 1)
        activation.apply(in: x, count: judgedAt.count)
        for (index, expected) in values.enumerated() {
          let found = x.element(index)
          #expect(
            isClose(found, expected, relative: 3e-6, absolute: 1e-15),
            "\(name), \(activation) of \(judgedAt[index]): \(found)")
        }
        #expect(x.guardsStand)
      }
    }
  }

  @Test func `every activation is exact to six digits over its range`() {
    let x = (-6_000...9_000).map { Float($0) / 1024 }
    let formulas: [(Double) -> Double] = [
      { $0 / (1 + exp(-$0)) }, { $0 * erfc(-$0 / 2.0.squareRoot()) / 2 },
      { $0 / (1 + exp(-2 * (2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) },
      { $0 > 0 ? $0 * $0 : 0 },
    ]
    forEachInstructionSet { name in
      for (activation, formula) in zip(Activation.allCases, formulas) {
        let found = KernelMemory(x, offset: 2)
        activation.apply(in: found, count: x.count)
        let wrong = x.indices.first {
          // The exponent of a tail is rounded once, which is worth a few units of 2^-24 for each unit of it.
          !isClose(found.element($0), formula(Double(x[$0])), relative: 8e-6)
        }
        #expect(wrong == nil, "\(name), \(activation) of \(wrong.map { x[$0] } ?? 0)")
      }
    }
  }

  @Test func `activations of large magnitudes are limits and no NaN`() {
    let large: [Float] = [-1e30, -1e4, -100, 100, 1e4]
    forEachInstructionSet { name in
      for activation in Activation.allCases {
        let x = KernelMemory(large)
        activation.apply(in: x, count: large.count)
        for (found, value) in zip(x.values, large) {
          let positive = Double(max(value, 0))
          let limit = activation == .reluSquared ? positive * positive : positive
          #expect(isClose(found, limit, absolute: 1e-7), "\(name), \(activation) \(value)")
        }
      }
    }
  }

  @Test func largeMagnitudesGiveLimitsAndNoNaN() {
    let large: [Float] = [-1e4, 1e4, -1e30, 1e30, -100, 100, 0]
    forEachInstructionSet { name in
      let weights = KernelMemory(large)
      unsafe sluice_softmax(weights.start, 1, large.count)
      #expect(weights.values[3] == 1, "\(name)")
      for (index, weight) in weights.values.enumerated() where index != 3 {
        #expect(weight >= 0 && weight < 1e-30, "\(name)")
      }
      let up = KernelMemory([Float](repeating: 1, count: large.count))
      unsafe sluice_swiglu(large, up.start, large.count)
      let sigmoids = KernelMemory(large)
      unsafe sluice_sigmoid(sigmoids.start, large.count)
      for (index, x) in large.enumerated() {
        let limit: Float = x > 0 ? 1 : x < 0 ? 0 : 0.5
        #expect(abs(sigmoids.values[index] - limit) < 1e-30, "\(name) \(x)")
        #expect(isClose(up.values[index], x > 0 ? Double(x) : 0, absolute: 1e-7), "\(name) \(x)")
      }
    }
  }

  @Test func rotationTurnsEachPairByItsAngle() {
    var generator = SeededGenerator(seed: 5)
    for (half, offset) in lengthsAndOffsets {
      let x = generator.floats(2 * half)
      let angles = generator.floats(half).map { Double(3 * $0) }
      let (cosines, sines) = (angles.map { Float(cos($0)) }, angles.map { Float(sin($0)) })
      forEachInstructionSet { name in
        let result = KernelMemory(x, offset: offset)
        unsafe sluice_rotate_half(result.start, cosines, sines, half)
        for i in 0..<half {
          let (c, s) = (Double(cosines[i]), Double(sines[i]))
          let (a, b) = (Double(x[i]), Double(x[i + half]))
          #expect(isClose(result.values[i], a * c - b * s, absolute: 1e-6), "\(name)")
          #expect(isClose(result.values[i + half], b * c + a * s, absolute: 1e-6), "\(name)")
        }
        #expect(result.guardsStand)
      }
    }
  }

  @Test func productsAndScalingAreElementWise() {
    var generator = SeededGenerator(seed: 6)
    for (count, offset) in lengthsAndOffsets {
      let (x, y) = (generator.floats(count), generator.floats(count))
      forEachInstructionSet { name in
        let source = KernelMemory(x, offset: offset)
        let result = KernelMemory(y, offset: offset)
        unsafe sluice_multiply(source.start, y, result.start, count)
        #expect(result.values == zip(x, y).map { $0 * $1 }, "\(name)")
        unsafe sluice_scale(source.start, 0.3, result.start, count)
        #expect(result.values == x.map { $0 * 0.3 }, "\(name)")
        unsafe sluice_add_scaled(source.start, 0.7, result.start, count)
        for index in 0..<count {
          let expected = Double(x[index]) * (Double(Float(0.3)) + Double(Float(0.7)))
          #expect(isClose(result.values[index], expected, relative: 2e-7), "\(name)")
        }
        #expect(source.values == x)
        unsafe sluice_scale(source.start, 3, source.start, count)
        #expect(source.values == x.map { $0 * 3 }, "in place")
        unsafe sluice_multiply(source.start, y, source.start, count)
        #expect(source.values == zip(x, y).map { $0 * 3 * $1 }, "in place")
        #expect(result.guardsStand && source.guardsStand)
      }
    }
  }
}
