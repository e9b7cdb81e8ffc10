// A square matrix in tiles against the matrix itself.

import LinearAlgebra
import TestSupport
import Tensors
import Testing

@Suite struct TiledSquareTests {
  @Test(arguments: [1, 16, 63, 64, 65, 130, 200], [1, 3])
  func `products with rows and with columns are those of the matrix`(
    n: Int, threads: Int
  ) {
    var generator = SeededGenerator(seed: 92)
    let a = generator.matrix(n, n)
    let values = a.values
    let x = generator.matrix(n, 32)
    let backend = Backend(threads: threads)
    let square = TiledSquare(a, backend: backend)
    #expect(backend.ledger.balance(of: .buffers).bytes == 0)
    let cuts = [0, n / 3, n / 2, n]
    for (start, end) in zip(cuts, cuts.dropFirst()) where start < end {
      for (first, last) in [(0, n), (0, start), (end, n), (n / 4, n - n / 5)] where first < last {
        for isTransposed in [false, true] {
          let before = generator.matrix(end - start, 32)
          for adds in [false, true] {
            let c = Matrix(rows: end - start, columns: 32, values: before.values)
            unsafe square.multiply(
              start..<end, terms: first..<last, transposed: isTransposed, by: x.base, columns: 32,
              add: adds, into: c.base)
            var expected = before.values
            for row in start..<end {
              for column in 0..<32 {
                let place = (row - start) * 32 + column
                expected[place] = (first..<last).reduce(adds ? expected[place] : 0) { sum, term in
                  let element = isTransposed ? values[term * n + row] : values[row * n + term]
                  return unsafe sum.addingProduct(element, x.row(term)[column])
                }
              }
            }
            #expect(c.values == expected, "\(start)..<\(end) over \(first)..<\(last)")
          }
        }
      }
    }
  }
}
