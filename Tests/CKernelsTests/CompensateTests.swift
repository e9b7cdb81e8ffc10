// The kernels of compensated rounding: the same bits under every instruction set, and sums as in Double.

import CKernels
import Testing
import TestSupport

private let width = 2 * Int(SLUICE_TILE_STRIP)

private func rounding(_ group: Int, symmetric: Bool = true, bits: Int32 = 4) -> sluice_rounding {
  sluice_rounding(
    numbers: Int32(SLUICE_INTEGERS), bits: bits, group: Int32(group), before: 0,
    symmetric: symmetric ? 1 : 0,
    scale_type: Int32(SLUICE_SCALE_BF16), weight_type: Int32(SLUICE_SCALE_BF16), global_scale: 0)
}

/// What `body` fills under each instruction set must be the same: all of it, or the first `compared` arrays.
private func expectSameBits(
  _ counts: [Int], compared: Int = .max, _ body: ([KernelMemory<Float>]) -> [Int8]
) {
  var first: (floats: [[UInt32]], codes: [Int8])?
  forEachInstructionSet { name in
    let memory = counts.map { KernelMemory([Float](repeating: 0, count: $0), offset: 3) }
    let codes = body(memory)
    let floats = memory.prefix(compared).map { $0.values.map(\.bitPattern) }
    let isGuarded = memory.allSatisfy { $0.guardsStand }
    #expect(isGuarded, "\(name)")
    if let first {
      #expect(first.floats == floats && first.codes == codes, "\(name)")
    } else {
      first = (floats, codes)
    }
  }
}

@Suite struct CompensateTests {
  @Test(arguments: [(1, 1), (15, 17), (16, 16), (33, 70)])
  func aTransposeIsOne(rows: Int, columns: Int) {
    var generator = SeededGenerator(seed: 81)
    let x = generator.floats(rows * (columns + 3))
    expectSameBits([columns * (rows + 2)]) { memory in
      unsafe sluice_transpose(x, rows, columns, columns + 3, memory[0].start, rows + 2)
      for row in 0..<rows {
        for column in 0..<columns {
          #expect(memory[0].element(column * (rows + 2) + row) == x[row * (columns + 3) + column])
        }
      }
      return []
    }
  }

  @Test(arguments: [32, 128], [true, false])
  func clippedRangesAreTheBestOfThoseSearched(group: Int, symmetric: Bool) {
    var generator = SeededGenerator(seed: 82)
    let rule = rounding(group, symmetric: symmetric)
    var w = generator.floats(3 * group)
    w[5] = 4
    w[group + 7] = -3
    let weight = generator.floats(3 * group).map { abs($0) }
    func error(_ group: Int, of w: [Float], _ scale: Float, _ zero: Float) -> Double {
      var sum = 0.0
      let size = Int(rule.group)
      for c in group * size..<(group + 1) * size {
        let code = max(-8, min(7, w[c] / scale + zero)).rounded(.toNearestOrEven)
        let change = Double((code - zero) * scale - w[c])
        sum += change * change * Double(weight[c])
      }
      return sum
    }
    expectSameBits([3, 3, 3, 3]) { memory in
      unsafe sluice_clipped_ranges(w, weight, w.count, rule, memory[0].start, memory[1].start)
      for index in 0..<3 {
        let found = error(index, of: w, memory[0].element(index), memory[1].element(index))
        for clip in 0..<21 {
          let share = 1 - 0.025 * Float(clip)
          let part = w.map { $0 * share }
          unsafe sluice_group_ranges(part, w.count, rule, memory[2].start, memory[3].start)
          let other = error(index, of: w, memory[2].element(index), memory[3].element(index))
          #expect(found <= other * 1.001 + 1e-9, "group \(index), clip \(clip)")
        }
      }
      return []
    }
  }

  @Test func codesWithinRangesAreNearest() {
    var generator = SeededGenerator(seed: 83)
    let w = generator.floats(64)
    let rule = rounding(32, symmetric: false)
    expectSameBits([2, 2, 64]) { memory in
      var codes = [Int8](repeating: 0, count: 64)
      var (expected, zeros) = (codes, [Int8](repeating: 0, count: 2))
      var scales: [Float] = [0, 0]
      unsafe sluice_group_ranges(w, 64, rule, memory[0].start, memory[1].start)
      unsafe sluice_round_within(
        w, 64, rule, memory[0].start, memory[1].start, &codes, memory[2].start)
      _ = unsafe sluice_quantize_row(w, 64, rule, &expected, &scales, &zeros)
      #expect(codes == expected)
      for c in 0..<64 {
        let stands = (Float(codes[c]) - Float(zeros[c / 32])) * scales[c / 32]
        #expect(memory[2].element(c) == w[c] - stands)
      }
      return codes
    }
  }

  @Test func aBlockAddsTheSquaresOfWhatIsLeft() {
    var generator = SeededGenerator(seed: 84)
    let count = 37
    let factor = generator.floats(count * count)
    let d = generator.floats(count * width)
    let before = generator.floats(count * width)
    expectSameBits([count * width, width]) { memory in
      for (index, value) in before.enumerated() { unsafe memory[0].start[index] = value }
      unsafe sluice_triangular_block(
        width, count, factor, count, d, memory[0].start, memory[1].start)
      for row in [0, 1, 63, 64, width - 1] {
        var sum = 0.0
        for j in 0..<count {
          let left = (0...j).reduce(Double(before[j * width + row])) {
            $0 + Double(d[$1 * width + row]) * Double(factor[$1 * count + j])
          }
          sum += left * left
        }
        #expect(isClose(memory[1].element(row), sum, relative: 1e-5))
      }
      return []
    }
  }

  @Test(arguments: [true, false])
  func refiningAGroupMakesTheLossWhatItSays(symmetric: Bool) {
    var generator = SeededGenerator(seed: 85)
    let (count, rule) = (32, rounding(32, symmetric: symmetric))
    // x xᵀ of a few tokens, and a diagonal.
    let x = generator.floats(count * 50)
    let gram = (0..<count * count).map { index -> Float in
      let (i, j) = (index / count, index % count)
      return (0..<50).reduce(i == j ? 1 : 0) { $0 + x[i * 50 + $1] * x[j * 50 + $1] }
    }
    let w = generator.floats(count * width)
    let scales = (0..<width).map { _ in Float(bitPattern: (0.15 as Float).bitPattern & 0xffff_0000)
    }
    let zeros = [Float](repeating: symmetric ? 0 : 1, count: width)
    func loss(_ d: (Int, Int) -> Float, _ row: Int) -> Double {
      var sum = 0.0
      for i in 0..<count {
        for j in 0..<count {
          sum += Double(d(i, row)) * Double(gram[i * count + j]) * Double(d(j, row))
        }
      }
      return sum
    }
    // Scales and codes; the sums behind them may be fused.
    expectSameBits(
      [width, count * width, count * width, width, 2 * count * width], compared: 1
    ) { memory in
      let (scale, d, correlation, change, work) = (
        memory[0], memory[1], memory[2], memory[3], memory[4]
      )
      var codes = [Int8](repeating: 0, count: count * width)
      for (index, value) in scales.enumerated() { unsafe scale.start[index] = value }
      for index in 0..<count * width {
        let unit = scales[index % width]
        let code = max(-8, min(7, w[index] / unit + zeros[0])).rounded()
        codes[index] = Int8(code)
        unsafe d.start[index] = w[index] - (code - zeros[0]) * unit
      }
      for i in 0..<count {
        for row in 0..<width {
          unsafe correlation.start[i * width + row] = (0..<count).reduce(0) {
            $0 + d.element($1 * width + row) * gram[$1 * count + i]
          }
        }
      }
      let rows = [0, 7, 63, 64, 127]
      let before = rows.map { row in loss({ d.element($0 * width + $1) }, row) }
      unsafe sluice_refine_group(
        width, count, gram, rule, 1, scale.start, zeros, &codes, correlation.start, d.start,
        change.start, work.start)
      for (row, old) in zip(rows, before) {
        let new = loss({ d.element($0 * width + $1) }, row)
        #expect(new < old)
        #expect(abs(Double(change.element(row)) - (new - old)) < 1e-3 * old)
        for column in 0..<count {
          let index = column * width + row
          let stands = (Float(codes[index]) - zeros[0]) * scale.element(row)
          #expect(abs(d.element(index) - (w[index] - stands)) < 1e-5)
        }
      }
      return codes
    }
  }

  @Test(arguments: [1, 2, 31, 128])
  func aSmallFactorTimesItsInverseIsOne(n: Int) {
    var generator = SeededGenerator(seed: 86)
    let x = generator.floats(n * (n + 4))
    let a = (0..<n * n).map { index -> Float in
      (0..<n + 4).reduce(index / n == index % n ? 1 : 0) {
        $0 + x[index / n * (n + 4) + $1] * x[index % n * (n + 4) + $1]
      }
    }
    forEachInstructionSet { name in
      let factor = KernelMemory(a, offset: 1)
      let inverse = KernelMemory([Float](repeating: 0, count: n * n))
      var work = [Double](repeating: 0, count: n * n + n)
      #expect(unsafe sluice_factor_upper(factor.start, n, n, &work) == 1, "\(name)")
      unsafe sluice_invert_upper(factor.start, n, n, inverse.start, &work)
      #expect(factor.guardsStand && inverse.guardsStand)
      for i in 0..<n {
        for j in 0..<n {
          let sum = (0..<n).reduce(0.0) {
            $1 < i
              ? $0 : $0 + Double(factor.element(i * n + $1)) * Double(inverse.element($1 * n + j))
          }
          #expect(abs(sum - (i == j ? 1 : 0)) < 1e-4, "\(name)")
        }
      }
    }
  }
}
