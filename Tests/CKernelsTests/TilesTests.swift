// Products of tiles of a float32 matrix against sums in their order, for every remainder of the kernels.

import CKernels
import TestSupport
import Testing

/// A product of this shape, the first operand somewhere in a larger matrix.
private struct TileShape: CustomTestStringConvertible {
  let rows: Int
  let terms: Int
  let columns: Int
  let isTransposed: Bool

  var testDescription: String {
    "\(rows) x \(terms) x \(columns)\(isTransposed ? ", transposed" : "")"
  }

  var stride: Int { (isTransposed ? rows : terms) + 3 }

  static let all: [TileShape] = [false, true].flatMap { isTransposed in
    ((1...26).map { ($0, 7, 16) } + (0...13).map { (5, $0, 32) }
      + [(64, 64, 64), (64, 64, 128), (48, 32, 64), (1, 1, 16), (128, 128, 64)]).map {
        TileShape(rows: $0, terms: $1, columns: $2, isTransposed: isTransposed)
      }
  }
}

@Suite struct TilesTests {
  @Test(arguments: TileShape.all)
  fileprivate func `a product is the sum over its terms in order, to the bit, on every CPU`(
    shape: TileShape
  ) {
    var generator = SeededGenerator(seed: 91)
    let count = shape.stride * max(1, shape.isTransposed ? shape.terms : shape.rows)
    let (a, b) = (generator.floats(count), generator.floats(max(1, shape.terms) * shape.columns))
    let before = generator.floats(shape.rows * shape.columns)
    let (down, across) = shape.isTransposed ? (1, shape.stride) : (shape.stride, 1)
    for adds in [false, true] {
      var expected = before
      for row in 0..<shape.rows {
        for column in 0..<shape.columns {
          expected[row * shape.columns + column] = (0..<shape.terms).reduce(
            adds ? before[row * shape.columns + column] : 0
          ) { sum, term in
            sum.addingProduct(a[row * down + term * across], b[term * shape.columns + column])
          }
        }
      }
      forEachInstructionSet { name in
        let (left, right) = (KernelMemory(a, offset: 3), KernelMemory(b, offset: 5))
        let result = KernelMemory(before, offset: 1)
        unsafe sluice_multiply_tile(
          left.start, down, across, adds ? left.start : nil, shape.rows, shape.terms, right.start,
          shape.columns, adds ? 1 : 0, result.start)
        #expect(result.guardsStand && result.values == expected, "\(name)")
      }
    }
  }

  @Test func `what is not finite is seen in the result and nowhere else`() {
    forEachInstructionSet { name in
      var a = [Float](repeating: 1, count: 8 * 9)
      a[3 * 9 + 4] = .nan
      a[5 * 9 + 2] = .infinity
      let (left, right) = (
        KernelMemory(a), KernelMemory([Float](repeating: 1, count: 9 * 16))
      )
      let result = KernelMemory([Float](repeating: 0, count: 8 * 16))
      unsafe sluice_multiply_tile(left.start, 9, 1, nil, 8, 9, right.start, 16, 0, result.start)
      for (index, value) in result.values.enumerated() {
        switch index / 16 {
        case 3: #expect(value.isNaN, "\(name)")
        case 5: #expect(value == .infinity, "\(name)")
        default: #expect(value == 9, "\(name)")
        }
      }
    }
  }
}
