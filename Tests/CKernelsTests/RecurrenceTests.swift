// A short convolution and a step of the delta rule against the same formulas in Double.

import CKernels
import Testing
import TestSupport

@Suite struct RecurrenceTests {
  @Test func `a convolution reads the tokens before and none behind`() {
    var generator = SeededGenerator(seed: 41)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      for (rows, taps) in [(1, 4), (3, 4), (9, 4), (9, 1), (2, 2)] {
        let stride = columns + 3
        let x = generator.floats(rows * stride)
        let weight = generator.floats(taps * stride)
        var expected = x.map(Double.init)
        for row in 0..<rows {
          for column in 0..<columns {
            var sum = 0.0
            for back in 0..<min(taps, row + 1) {
              let share = Double(weight[(taps - 1 - back) * stride + column])
              sum += share * Double(x[(row - back) * stride + column])
            }
            expected[row * stride + column] = sum
          }
        }
        forEachInstructionSet { name in
          let result = KernelMemory(x, offset: offset)
          unsafe sluice_causal_convolution(result.start, weight, taps, rows, columns, stride)
          #expect(
            zip(result.values, expected).allSatisfy { abs(Double($0) - $1) < 1e-6 },
            "\(name) \(columns) \(rows) \(taps)")
          #expect(result.guardsStand)
        }
      }
    }
  }

  @Test func `a step forgets, corrects what a key stands for, and reads`() {
    var generator = SeededGenerator(seed: 42)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      let rows = 5
      let (decay, strength): (Float, Float) = (0.75, 0.375)
      let state = generator.floats(rows * columns)
      let (query, key) = (generator.floats(rows), generator.floats(rows))
      let value = generator.floats(columns)
      var kept = state.map { Double(decay) * Double($0) }
      var read: [Double] = []
      for column in 0..<columns {
        let known = (0..<rows).reduce(0) { $0 + Double(key[$1]) * kept[$1 * columns + column] }
        let change = Double(strength) * (Double(value[column]) - known)
        for row in 0..<rows { kept[row * columns + column] += Double(key[row]) * change }
        read.append((0..<rows).reduce(0) { $0 + Double(query[$1]) * kept[$1 * columns + column] })
      }
      forEachInstructionSet { name in
        let memory = KernelMemory(state, offset: offset)
        let result = KernelMemory(value, offset: offset)
        let change = KernelMemory([Float](repeating: .nan, count: columns), offset: offset)
        unsafe sluice_delta_step(
          memory.start, query, key, result.start, decay, strength, rows, columns, change.start)
        #expect(
          zip(memory.values, kept).allSatisfy { abs(Double($0) - $1) < 2e-6 }, "\(name) \(columns)")
        #expect(
          zip(result.values, read).allSatisfy { abs(Double($0) - $1) < 4e-6 }, "\(name) \(columns)")
        #expect(memory.guardsStand && result.guardsStand && change.guardsStand)
      }
    }
  }
}
