// Rounding for an activation that comes of errors before it: against a direct least squares solution in Double.

import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport

@Suite struct HandedOnErrorsTests {
  private let workers = Workers(threads: 2)
  private static let damping = 0.005

  /// A weight, what it should read and what it reads, both `[T, C]`.
  private struct Case {
    let weight: Matrix
    let original: Matrix
    let found: Matrix

    /// - Parameter error: how far both are from each other.
    init(channels: Int, error: Float) {
      var generator = SeededGenerator(seed: UInt64(channels) + 3)
      weight = generator.matrix(48, channels)
      original = generator.matrix(4 * channels, channels)
      found = original.prefix(original.rows)
      let noise = generator.matrix(original.rows, channels)
      for row in 0..<original.rows {
        for channel in 0..<channels {
          let shared = unsafe original.row(row)[channel / 8 * 8]
          unsafe original.row(row)[channel] += 0.7 * shared
          // What a rounded projection makes of it: less of what it was, something of a neighbour, and noise.
          let next = unsafe original.row(row)[(channel + 1) % channels]
          unsafe found.row(row)[channel] =
            original.row(row)[channel] * (1 - error * Float(channel % 3) / 3)
            + error * (0.3 * next + 0.2 * noise.row(row)[channel])
        }
      }
    }

    /// aᵀ b / T, in Double.
    func moments(_ a: Matrix, _ b: Matrix) -> [[Double]] {
      (0..<a.columns).map { i in
        (0..<b.columns).map { j in
          (0..<a.rows).reduce(0.0) { unsafe $0 + Double(a.row($1)[i]) * Double(b.row($1)[j]) }
            / Double(a.rows)
        }
      }
    }

    /// The rows that make the mean of |w x - w' x̂|² + λ |w - w'|² least, with x - x̂ taken for as much of itself as so
    /// many tokens are sure of.
    func best(_ gram: [[Double]], lambda: Double) -> [[Double]] {
      let cross = moments(original, found)
      let n = gram.count
      let share = Double(original.rows) / Double(original.rows + n)
      return (0..<weight.rows).map { row in
        // w' (G + λI) = w (G + share (C - G) + λI).
        var sides = (0..<n).map { j in
          (0..<n).reduce(0.0) { sum, i in
            let sure = gram[i][j] + share * (cross[i][j] - gram[i][j])
            return unsafe sum + Double(weight.row(row)[i]) * (sure + (i == j ? lambda : 0))
          }
        }
        var left = gram
        for index in 0..<n { left[index][index] += lambda }
        for pivot in 0..<n {
          for below in pivot + 1..<max(n, pivot + 1) {
            let share = left[below][pivot] / left[pivot][pivot]
            for column in pivot..<n { left[below][column] -= share * left[pivot][column] }
            sides[below] -= share * sides[pivot]
          }
        }
        for pivot in (0..<n).reversed() {
          for known in pivot + 1..<max(n, pivot + 1) {
            sides[pivot] -= left[pivot][known] * sides[known]
          }
          sides[pivot] /= left[pivot][pivot]
        }
        return sides
      }
    }

    /// The mean of |w x - q x̂|² over tokens, for each row.
    func errors(_ rounded: [[Double]]) -> [Double] {
      rounded.enumerated().map { row, codes in
        (0..<original.rows).reduce(0.0) { sum, token in
          let missing = (0..<original.columns).reduce(0.0) {
            unsafe $0 + Double(weight.row(row)[$1]) * Double(original.row(token)[$1])
              - codes[$1] * Double(found.row(token)[$1])
          }
          return sum + missing * missing
        } / Double(original.rows)
      }
    }
  }

  private let quantizer = WeightQuantizer(
    .integers(bits: 4, groupSize: 32), columns: 64, dtype: .bf16, signsScales: true)

  private func values(_ rows: QuantizedRows) -> [[Double]] {
    (0..<rows.rows).map { row in
      (0..<rows.columns).map { column in
        Double(rows.codes[row * rows.columns + column])
          * Double(rows.scales[row * rows.groups + column / 32])
      }
    }
  }

  /// - Parameter knowing: whether errors are handed on; else the activation is taken as it should be.
  private func rounded(
    _ each: Case, knowing: Bool, engine: Engine = .f32
  ) throws -> QuantizedRows {
    let workers = Workers(threads: 2, engine: engine)
    let statistics = ActivationStatistics(
      channels: each.weight.columns, withGram: true, withErrors: knowing, workers: workers)
    if knowing {
      statistics.addErrors(
        of: each.found, insteadOf: each.original.prefix(each.original.rows), smoothedBy: nil,
        workers: workers)
      statistics.add(each.found, workers: workers)
    } else {
      statistics.add(each.original, workers: workers)
    }
    let factors = try statistics.factors(
      smoothedBy: nil, refining: [32], damping: Self.damping, workers: workers)
    return try quantizer.round(
      each.weight, rows: 0..<each.weight.rows, by: .compensated(factors))
  }

  private func nearest(_ each: Case) throws -> QuantizedRows {
    try quantizer.round(each.weight, rows: 0..<each.weight.rows, by: .nearest)
  }

  /// (w' - q) G (w' - q)ᵀ of each row.
  private func distances(
    _ rounded: [[Double]], from best: [[Double]], _ gram: [[Double]]
  ) -> [Double] {
    zip(rounded, best).map { rounded, best in
      let change = zip(rounded, best).map { $0 - $1 }
      return change.indices.reduce(0.0) { sum, i in
        sum + change[i] * change.indices.reduce(0.0) { $0 + gram[i][$1] * change[$1] }
      }
    }
  }

  @Test func `what is measured is the distance from a direct least squares solution`() throws {
    let each = Case(channels: 64, error: 0.2)
    let gram = each.moments(each.found, each.found)
    let mean = gram.indices.reduce(0.0) { $0 + gram[$1][$1] } / 64
    let best = each.best(gram, lambda: Self.damping * mean)
    let found = try rounded(each, knowing: true)
    let chosen = distances(values(found), from: best, gram).reduce(0, +)
    #expect(abs(found.errors.chosen - chosen) < 1e-3 * chosen)
    let plain = distances(values(try nearest(each)), from: best, gram).reduce(0, +)
    #expect(abs(found.errors.nearest - plain) < 1e-3 * plain)
    // It is no small thing that they are moved.
    let unmoved = (0..<48).map { row in
      (0..<64).map { unsafe Double(each.weight.row(row)[$0]) }
    }
    #expect(distances(unmoved, from: best, gram).reduce(0, +) > 0.5 * chosen)
  }

  @Test(arguments: [Engine.f32, .bf16].filter(\.isAvailable))
  func `outputs come nearer to those of the original input`(engine: Engine) throws {
    let each = Case(channels: 64, error: 0.2)
    func sum(_ rows: QuantizedRows) -> Double { each.errors(values(rows)).reduce(0, +) }
    let (known, unknown) = try (
      sum(rounded(each, knowing: true, engine: engine)),
      sum(rounded(each, knowing: false, engine: engine))
    )
    #expect(known < 0.7 * unknown, "\(known / unknown)")
  }

  @Test(arguments: [0.02, 0.2, 1] as [Float])
  func `no row is farther from its best than one rounded to nearest`(error: Float) throws {
    let each = Case(channels: 64, error: error)
    let gram = each.moments(each.found, each.found)
    let mean = gram.indices.reduce(0.0) { $0 + gram[$1][$1] } / 64
    let best = each.best(gram, lambda: Self.damping * mean)
    let found = distances(values(try rounded(each, knowing: true)), from: best, gram)
    let plain = distances(values(try nearest(each)), from: best, gram)
    for (row, pair) in zip(found, plain).enumerated() {
      #expect(pair.0 <= pair.1 * (1 + 1e-4), "row \(row)")
    }
  }

  /// Chance makes more of errors than there is to them: two tokens for each channel say less than many.
  @Test func `few tokens move a weight less`() throws {
    func moved(_ tokens: Int) throws -> Double {
      let each = Case(channels: 64, error: 0.2)
      let statistics = ActivationStatistics(
        channels: 64, withGram: true, withErrors: true, workers: workers)
      statistics.add(each.found, workers: workers)
      // The same errors over and over, for as many tokens as are counted.
      var weights = [Float](repeating: 0, count: each.found.rows)
      for row in 0..<tokens { weights[row] = 1 }
      statistics.addErrors(
        of: each.found, insteadOf: each.original.prefix(each.original.rows), smoothedBy: nil,
        weights: weights, workers: workers)
      let factors = try statistics.factors(
        smoothedBy: nil, refining: [32], damping: Self.damping, workers: workers)
      let found = try quantizer.round(
        each.weight, rows: 0..<each.weight.rows, by: .compensated(factors))
      let gram = each.moments(each.found, each.found)
      let weight = (0..<48).map { row in
        (0..<64).map { unsafe Double(each.weight.row(row)[$0]) }
      }
      return distances(values(found), from: weight, gram).reduce(0, +)
    }
    #expect(try moved(4) < moved(256))
  }

  @Test func `an input without errors changes nothing`() throws {
    let each = Case(channels: 64, error: 0)
    let (known, unknown) = try (rounded(each, knowing: true), rounded(each, knowing: false))
    #expect(known.codes == unknown.codes && known.scales == unknown.scales)
  }

  /// What is smoothed behind the original input is smoothed in the rounded one already.
  @Test func `the original input is smoothed as the rounded one is`() throws {
    var generator = SeededGenerator(seed: 9)
    let (x, found) = (generator.matrix(300, 64), generator.matrix(300, 64))
    let scale = (0..<64).map { 1 + Float($0 % 4) / 2 }
    let smoothed = Matrix(rows: 300, columns: 64)
    for row in 0..<300 {
      for channel in 0..<64 {
        unsafe smoothed.row(row)[channel] = x.row(row)[channel] * (1 / scale[channel])
      }
    }
    func sums(_ x: Matrix, _ scale: [Float]?) -> [Float] {
      let statistics = ActivationStatistics(
        channels: 64, withGram: true, withErrors: true, workers: workers)
      statistics.addErrors(of: found, insteadOf: x, smoothedBy: scale, workers: workers)
      return statistics.matricesSoFar[1].values
    }
    #expect(sums(x, scale) == sums(smoothed, nil))
  }
}
