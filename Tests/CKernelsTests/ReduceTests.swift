// Sums against Double.

import CKernels
import Testing
import TestSupport

@Suite struct ReduceTests {
  private func isClose(_ found: Double, _ expected: Double, magnitude: Double) -> Bool {
    abs(found - expected) <= 1e-5 * magnitude
  }

  @Test func momentsAreSumsOverRowsAndAddToWhatWasThere() {
    var generator = SeededGenerator(seed: 7)
    for (columns, offset) in lengthsAndOffsets + [(300, 1), (513, 2)] {
      for rows in [0, 1, 31, 32, 33, 70] {
        let stride = columns + 5
        let x = generator.floats(rows * stride)
        let before = (0..<columns).map { Double($0) }
        let weights = rows % 2 == 0 ? nil : (0..<rows).map { Float($0 % 3) }
        func sum(_ term: (Double) -> Double) -> [Double] {
          (0..<columns).map { column in
            (0..<rows).reduce(before[column]) { sum, row in
              let share = Double(weights?[row] ?? 1)
              return sum + share * term(Double(x[row * stride + column]))
            }
          }
        }
        let (absolutes, squares) = (sum { abs($0) }, sum { $0 * $0 })
        forEachInstructionSet { name in
          let source = KernelMemory(x, offset: offset)
          let absolute = KernelMemory(before, offset: offset)
          let square = KernelMemory(before, offset: offset)
          unsafe sluice_add_moments(
            source.start, weights, rows, columns, stride, absolute.start, square.start)
          #expect(
            zip(absolute.values, absolutes).allSatisfy { isClose($0, $1, magnitude: $1) }, "\(name)"
          )
          #expect(
            zip(square.values, squares).allSatisfy { isClose($0, $1, magnitude: $1) }, "\(name)")
          #expect(absolute.guardsStand && square.guardsStand)
        }
      }
    }
  }

  @Test func momentsKeepSmallTermsAfterManyRows() {
    let rows = 100_000
    let x = [Float](repeating: 0.1, count: rows)
    forEachInstructionSet { name in
      var (absolute, square) = (0.0, 0.0)
      unsafe sluice_add_moments(x, nil, rows, 1, 1, &absolute, &square)
      #expect(abs(absolute / (Double(rows) * Double(Float(0.1))) - 1) < 1e-6, "\(name)")
      #expect(abs(square / (Double(rows) * 0.01) - 1) < 1e-6, "\(name)")
    }
  }

  @Test(arguments: [1, 2, 7, 16, 32, 64])
  func relativeMagnitudeIsRelativeToTheLargestOfTheGroup(group: Int) {
    var generator = SeededGenerator(seed: 8)
    for groups in [0, 1, 3] {
      var w = generator.floats(groups * group)
      if groups == 3 { for index in group..<2 * group { w[index] = 0 } }
      let before = w.indices.map { Double($0) }
      let expected = w.indices.map { index -> Double in
        let start = index / group * group
        let largest = w[start..<start + group].map(abs).max() ?? 0
        return before[index] + Double(abs(w[index]) / (largest + 1e-6))
      }
      forEachInstructionSet { name in
        let source = KernelMemory(w, offset: 3)
        let sum = KernelMemory(before, offset: 3)
        unsafe sluice_add_relative_magnitude(source.start, w.count, group, sum.start)
        #expect(sum.values == expected, "\(name)")
        #expect(sum.guardsStand)
      }
    }
  }

  @Test func productsOfVectorsAreSummedToFiveDigits() {
    var generator = SeededGenerator(seed: 9)
    for (count, offset) in lengthsAndOffsets + [(255, 0), (257, 1), (1000, 3)] {
      let (a, b) = (generator.floats(count), generator.floats(count))
      let terms = zip(a, b).map { Double($0) * Double($1) }
      let squares = zip(a, b).map { Double($0) * Double($0) * Double($1) }
      forEachInstructionSet { name in
        let (first, second) = (KernelMemory(a, offset: offset), KernelMemory(b, offset: offset))
        let dot = unsafe sluice_dot(first.start, second.start, count)
        #expect(
          isClose(dot, terms.reduce(0, +), magnitude: terms.reduce(0) { $0 + abs($1) }),
          "\(name) \(count)")
        let weighted = unsafe sluice_weighted_squares(first.start, second.start, count)
        #expect(
          isClose(weighted, squares.reduce(0, +), magnitude: squares.reduce(0) { $0 + abs($1) }),
          "\(name) \(count)")
      }
    }
  }

  @Test func theFirstNonFiniteElementIsFoundWhereverItIs() {
    for (count, offset) in lengthsAndOffsets + [(255, 0), (256, 0), (600, 1)] {
      let x = (0..<count).map { _ in Float.greatestFiniteMagnitude }
      let positions = count < 70 ? Array(0..<count) : [0, 200, 254, count - 1]
      forEachInstructionSet { name in
        let source = KernelMemory(x, offset: offset)
        #expect(unsafe sluice_first_nonfinite(source.start, count) == count, "\(name)")
        for position in positions.reversed() {
          unsafe source.start[position] = [.nan, .infinity, -.infinity][position % 3]
          #expect(unsafe sluice_first_nonfinite(source.start, count) == position, "\(name)")
        }
      }
    }
  }
}
