// A short convolution, a step of the delta rule and one of a state space against the same formulas in Double.

import CKernels
import Glibc
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
        var expected: [Double] = x.map { Double($0) }
        for row in 0..<rows {
          for column in 0..<columns {
            var sum = 0.0
            for back in 0..<min(taps, row + 1) {
              let tap: Int = (taps - 1 - back) * stride + column
              let place: Int = (row - back) * stride + column
              sum += Double(weight[tap]) * Double(x[place])
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

  /// - Parameter isByChannel: whether each channel of a key forgets in its own time.
  @Test(arguments: [false, true])
  func `a step forgets, corrects what a key stands for, and reads`(isByChannel: Bool) {
    var generator = SeededGenerator(seed: 42)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      let rows = 5
      let decays: [Float] = isByChannel ? [0.75, 0.5, 1, 0.25, 0.875] : [0.75]
      let strength: Float = 0.375
      let state = generator.floats(rows * columns)
      let (query, key) = (generator.floats(rows), generator.floats(rows))
      let value = generator.floats(columns)
      var kept = state.indices.map { index in
        Double(decays[isByChannel ? index / columns : 0]) * Double(state[index])
      }
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
          memory.start, query, key, result.start, decays, isByChannel ? 1 : 0, strength, rows,
          columns, change.start)
        #expect(
          zip(memory.values, kept).allSatisfy { abs(Double($0) - $1) < 2e-6 }, "\(name) \(columns)")
        #expect(
          zip(result.values, read).allSatisfy { abs(Double($0) - $1) < 4e-6 }, "\(name) \(columns)")
        #expect(memory.guardsStand && result.guardsStand && change.guardsStand)
      }
    }
  }

  @Test func `a state space forgets, adds, reads, and lets a share pass by`() {
    var generator = SeededGenerator(seed: 43)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      let rows = 5
      let (decay, strength, skip): (Float, Float, Float) = (0.75, 0.375, -0.625)
      let state = generator.floats(rows * columns)
      let (query, key) = (generator.floats(rows), generator.floats(rows))
      let value = generator.floats(columns)
      let kept = state.indices.map { index in
        Double(decay) * Double(state[index])
          + Double(key[index / columns]) * Double(strength) * Double(value[index % columns])
      }
      let read = (0..<columns).map { column in
        (0..<rows).reduce(Double(skip) * Double(value[column])) {
          $0 + Double(query[$1]) * kept[$1 * columns + column]
        }
      }
      forEachInstructionSet { name in
        let memory = KernelMemory(state, offset: offset)
        let result = KernelMemory(value, offset: offset)
        let change = KernelMemory([Float](repeating: .nan, count: columns), offset: offset)
        unsafe sluice_state_step(
          memory.start, query, key, result.start, decay, strength, skip, rows, columns,
          change.start)
        #expect(
          zip(memory.values, kept).allSatisfy { abs(Double($0) - $1) < 2e-6 }, "\(name) \(columns)")
        #expect(
          zip(result.values, read).allSatisfy { abs(Double($0) - $1) < 4e-6 }, "\(name) \(columns)")
        #expect(memory.guardsStand && result.guardsStand && change.guardsStand)
      }
    }
  }

  @Test func `every channel of a state space forgets as its own step says`() {
    var generator = SeededGenerator(seed: 44)
    for (columns, offset) in lengthsAndOffsets where columns > 0 {
      let (rows, stride) = (5, columns + 3)
      let rates = generator.floats(rows * stride).map { abs($0) }
      let state = generator.floats(rows * columns)
      let (query, key) = (generator.floats(rows), generator.floats(rows))
      let steps = generator.floats(columns).map { abs($0) }
      let (skips, value) = (generator.floats(columns), generator.floats(columns))
      let kept = state.indices.map { index in
        let (row, column) = (index / columns, index % columns)
        return exp(-Double(rates[row * stride + column]) * Double(steps[column]))
          * Double(state[index])
          + Double(key[row]) * Double(steps[column]) * Double(value[column])
      }
      let read = (0..<columns).map { column in
        (0..<rows).reduce(Double(skips[column]) * Double(value[column])) {
          $0 + Double(query[$1]) * kept[$1 * columns + column]
        }
      }
      forEachInstructionSet { name in
        let memory = KernelMemory(state, offset: offset)
        let result = KernelMemory(value, offset: offset)
        let change = KernelMemory([Float](repeating: .nan, count: columns), offset: offset)
        unsafe sluice_selective_step(
          memory.start, rates, stride, query, key, steps, skips, result.start, rows, columns,
          change.start)
        #expect(
          zip(memory.values, kept).allSatisfy { abs(Double($0) - $1) < 2e-6 }, "\(name) \(columns)")
        #expect(
          zip(result.values, read).allSatisfy { abs(Double($0) - $1) < 4e-6 }, "\(name) \(columns)")
        #expect(memory.guardsStand && result.guardsStand && change.guardsStand)
      }
    }
  }
}
