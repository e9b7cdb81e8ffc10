// A short convolution and a step of the delta rule against the same formulas in Double.

import CKernels
import Testing
import TestSupport

@Suite struct RecurrenceTests {
  private func isNear(_ found: [Float], _ expected: [Double]) -> Bool {
    zip(found, expected).allSatisfy { abs(Double($0) - $1) < 4e-6 }
  }

  /// One channel of a convolution.
  private func convolved(_ x: [Double], by weight: [Double]) -> [Double] {
    x.indices.map { row in
      var sum = 0.0
      for back in 0..<min(weight.count, row + 1) {
        sum += weight[weight.count - 1 - back] * x[row - back]
      }
      return sum
    }
  }

  @Test func `a convolution reads the tokens before and none behind`() {
    var generator = SeededGenerator(seed: 41)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      for (rows, taps) in [(1, 4), (3, 4), (9, 4), (9, 1), (2, 2)] {
        let stride = columns + 3
        let x = generator.floats(rows * stride)
        let weight = generator.floats(taps * stride)
        var expected = x.map(Double.init)
        for column in 0..<columns {
          func channel(_ values: [Float], _ count: Int) -> [Double] {
            (0..<count).map { Double(values[$0 * stride + column]) }
          }
          let result = convolved(channel(x, rows), by: channel(weight, taps))
          for row in 0..<rows { expected[row * stride + column] = result[row] }
        }
        forEachInstructionSet { name in
          let result = KernelMemory(x, offset: offset)
          unsafe sluice_causal_convolution(result.start, weight, taps, rows, columns, stride)
          #expect(isNear(result.values, expected), "\(name) \(columns) \(rows) \(taps)")
          #expect(result.guardsStand)
        }
      }
    }
  }

  @Test func `a step forgets, corrects what a key stands for, and reads`() {
    var generator = SeededGenerator(seed: 42)
    let (rows, decay, strength): (Int, Float, Float) = (5, 0.75, 0.375)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      let state = generator.floats(rows * columns)
      let (query, key) = (generator.floats(rows), generator.floats(rows))
      let value = generator.floats(columns)
      var kept = state.map { Double(decay) * Double($0) }
      var read: [Double] = []
      for column in 0..<columns {
        /// What a vector reads of a column of the state.
        func product(_ vector: [Float]) -> Double {
          var sum = 0.0
          for row in 0..<rows { sum += Double(vector[row]) * kept[row * columns + column] }
          return sum
        }
        let change = Double(strength) * (Double(value[column]) - product(key))
        for row in 0..<rows { kept[row * columns + column] += Double(key[row]) * change }
        read.append(product(query))
      }
      forEachInstructionSet { name in
        let memory = KernelMemory(state, offset: offset)
        let result = KernelMemory(value, offset: offset)
        let change = KernelMemory([Float](repeating: .nan, count: columns), offset: offset)
        unsafe sluice_delta_step(
          memory.start, query, key, result.start, decay, strength, rows, columns, change.start)
        #expect(isNear(memory.values, kept), "\(name) \(columns)")
        #expect(isNear(result.values, read), "\(name) \(columns)")
        #expect(memory.guardsStand && result.guardsStand && change.guardsStand)
      }
    }
  }
}
