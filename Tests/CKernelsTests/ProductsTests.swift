// Packing and products of bf16 numbers against plain sums, for every remainder of the tiles.

import CKernels
import Testing
import TestSupport

/// A product of this shape, its operands somewhere in larger matrices, at misaligned starts.
private struct Shape: CustomTestStringConvertible {
  let rows: Int
  let columns: Int
  let depth: Int

  var testDescription: String { "\(rows) x \(columns) x \(depth)" }

  var stride: Int { max(rows, columns, depth) + 5 }
  var paddedDepth: Int { (depth + 31) / 32 * 32 }
  var packedRows: Int { max(1, rows) * Int(SLUICE_ROW_STRIDE) }
  var packedPanels: Int {
    (columns + Int(SLUICE_PANEL) - 1) / Int(SLUICE_PANEL) * Int(SLUICE_PANEL * SLUICE_DEPTH)
  }

  static let all: [Shape] =
    [0, 1, 2, 13, 14, 15, 29, 57].flatMap { rows in
      [1, 16, 17, 32, 33, 70].map { Shape(rows: rows, columns: $0, depth: 39) }
    } + (1...67).map { Shape(rows: 3, columns: 35, depth: $0) }
    + (1...14).map { Shape(rows: $0, columns: 18, depth: 510) }
    + [511, 512].map { Shape(rows: 16, columns: 40, depth: $0) }
}

private func bf16(_ values: [Float]) -> [UInt16] {
  var result = [UInt16](repeating: 0, count: values.count)
  unsafe sluice_f32_to_bf16(values, &result, values.count)
  return result
}

private func float(_ half: UInt16) -> Float { Float(bitPattern: UInt32(half) << 16) }

@Suite struct ProductsTests {
  /// What each instruction set makes of the same operands.
  private func products(
    _ shape: Shape, x: [Float], w: [UInt16], before: [Float], add: Bool
  ) -> [(name: String, values: [Float])] {
    var results: [(String, [Float])] = []
    forEachInstructionSet { name in
      let (source, weight) = (KernelMemory(x, offset: 3), KernelMemory(w, offset: 5))
      let a = KernelMemory([UInt16](repeating: 0x7fc0, count: shape.packedRows))
      let b = KernelMemory([UInt16](repeating: 0x7fc0, count: shape.packedPanels))
      let c = KernelMemory(before, offset: 3)
      unsafe sluice_pack_rows(source.start, shape.rows, shape.depth, shape.stride, a.start)
      unsafe sluice_pack_panels(weight.start, shape.columns, shape.depth, shape.stride, b.start)
      unsafe sluice_multiply_packed(
        a.start, b.start, shape.rows, shape.columns, shape.depth, add ? 1 : 0, c.start,
        shape.stride)
      #expect(a.guardsStand && b.guardsStand && c.guardsStand, "\(name)")
      results.append((name, c.values))
    }
    return results
  }

  @Test(arguments: Shape.all)
  fileprivate func aProductIsTheSumOverItsTermsAndLeavesTheRestAlone(shape: Shape) {
    var generator = SeededGenerator(seed: 91)
    let x = generator.floats(max(1, shape.rows) * shape.stride)
    let w = bf16(generator.floats(shape.columns * shape.stride))
    let before = generator.floats(max(1, shape.rows) * shape.stride)
    let (rounded, weights) = (bf16(x).map(float), w.map(float))
    for add in [false, true] {
      let results = products(shape, x: x, w: w, before: before, add: add)
      for (name, found) in results {
        var expected = before
        var magnitude = 1.0
        for row in 0..<shape.rows {
          for column in 0..<shape.columns {
            let place = row * shape.stride + column
            var sum = add ? Double(before[place]) : 0
            for k in 0..<shape.depth {
              sum +=
                Double(rounded[row * shape.stride + k]) * Double(weights[column * shape.stride + k])
              magnitude = max(magnitude, abs(sum))
            }
            expected[place] = Float(sum)
          }
        }
        #expect(
          zip(found, expected).allSatisfy { abs($0 - $1) <= 2e-6 * Float(magnitude) }, "\(name)")
      }
      // Products of two bf16 numbers are exact, and all sets add the terms in one order.
      #expect(results.allSatisfy { $0.values == results[0].values })
    }
  }

  @Test(arguments: Shape.all)
  fileprivate func theColumnsOfAMatrixArePackedAsTheRowsOfItsTransposed(shape: Shape) {
    var generator = SeededGenerator(seed: 92)
    let x = generator.floats(shape.depth * shape.stride)
    let halves = bf16(x)
    forEachInstructionSet { name in
      let source = KernelMemory(x, offset: 3)
      let rows = KernelMemory([UInt16](repeating: 0x7fc0, count: shape.packedRows))
      let panels = KernelMemory([UInt16](repeating: 0x7fc0, count: shape.packedPanels))
      unsafe sluice_pack_columns(source.start, shape.rows, shape.depth, shape.stride, rows.start)
      unsafe sluice_pack_column_panels(
        source.start, shape.columns, shape.depth, shape.stride, panels.start)
      #expect(rows.guardsStand && panels.guardsStand, "\(name)")
      func element(_ column: Int, _ k: Int) -> UInt16 {
        k < shape.depth ? halves[k * shape.stride + column] : 0
      }
      var wrong = 0
      for row in 0..<shape.rows {
        for k in 0..<shape.paddedDepth
        where rows.element(row * Int(SLUICE_ROW_STRIDE) + k) != element(row, k) { wrong += 1 }
      }
      let panel = Int(SLUICE_PANEL)
      for column in 0..<(shape.columns + panel - 1) / panel * panel {
        for k in 0..<shape.paddedDepth {
          let place =
            column / panel * panel * Int(SLUICE_DEPTH) + k / 2 * 2 * panel + column % panel * 2
            + k % 2
          let expected = column < shape.columns ? element(column, k) : 0
          if panels.element(place) != expected { wrong += 1 }
        }
      }
      #expect(wrong == 0, "\(name)")
    }
  }

  @Test func whatIsNotFiniteIsSeenInTheResultAndNowhereElse() {
    let shape = Shape(rows: 15, columns: 33, depth: 40)
    var x = [Float](repeating: 1, count: shape.rows * shape.stride)
    var w = bf16([Float](repeating: 1, count: shape.columns * shape.stride))
    x[7 * shape.stride + 39] = .infinity
    w[32 * shape.stride + 38] = bf16([.nan])[0]
    let before = [Float](repeating: 0, count: shape.rows * shape.stride)
    for (name, found) in products(shape, x: x, w: w, before: before, add: true) {
      for row in 0..<shape.rows {
        for column in 0..<shape.columns {
          let isExpected = row != 7 && column != 32
          #expect(found[row * shape.stride + column].isFinite == isExpected, "\(name)")
        }
      }
    }
  }
}
