// Products and Gram matrices against plain sums in Double.

import LinearAlgebra
import Tensors
import Testing
import TestSupport

@Suite struct GemmTests {
  /// Below, at and above the edges of the tiles of weight rows.
  @Test(arguments: [1, 63, 64, 65, 511, 512, 700, 2048, 2050])
  func aProductIsTheSumOverInputsPlusTheBias(outputs: Int) {
    var generator = SeededGenerator(seed: 61)
    let (x, weight) = (generator.matrix(3, 19), generator.matrix(outputs, 19))
    let bias = generator.floats(outputs)
    let backend = Backend(threads: 2)
    #expect(
      relativeError(
        Gemm.multiply(x, by: weight, backend: backend).values, naive(x, weight, bias: nil))
        < 1e-6)
    #expect(
      relativeError(
        Gemm.multiply(x, by: weight, bias: bias, backend: backend).values,
        naive(x, weight, bias: bias)) < 1e-6)
  }

  @Test func aProductOfNoTokensIsEmpty() {
    let result = Gemm.multiply(
      Matrix(rows: 0, columns: 4), by: Matrix(zeros: 3, 4), bias: [1, 2, 3],
      backend: Backend(threads: 2))
    #expect(result.rows == 0 && result.columns == 3)
  }

  @Test func resultsDoNotDependOnThreads() {
    var generator = SeededGenerator(seed: 62)
    let (x, weight) = (generator.matrix(70, 300), generator.matrix(600, 300))
    let results = [1, 2, 7].map { threads in
      let backend = Backend(threads: threads)
      let gram = Matrix(zeros: 300, 300)
      Gemm.addGram(of: x, to: gram, backend: backend)
      let product = Gemm.multiply(
        x, by: weight, bias: Array(weight.values.prefix(600)), backend: backend)
      return (product.values + gram.values).map(\.bitPattern)
    }
    #expect(results[0] == results[1] && results[0] == results[2])
  }

  @Test(arguments: [1, 255, 256, 257, 520])
  func aGramMatrixAddsUpAndIsSymmetric(columns: Int) {
    var generator = SeededGenerator(seed: 63)
    let blocks = [generator.matrix(5, columns), generator.matrix(9, columns)]
    let gram = Matrix(zeros: columns, columns)
    for block in blocks { Gemm.addGram(of: block, to: gram, backend: Backend(threads: 2)) }
    Gemm.symmetrize(gram)
    var expected = [Double](repeating: 0, count: columns * columns)
    for block in blocks {
      let values = block.values.map(Double.init)
      for row in 0..<block.rows {
        for a in 0..<columns {
          for b in 0..<columns {
            expected[a * columns + b] += values[row * columns + a] * values[row * columns + b]
          }
        }
      }
    }
    let found = gram.values
    #expect(relativeError(found, expected.map { Float($0) }) < 1e-6)
    let mirrored = (0..<columns).flatMap { a in (0..<columns).map { found[$0 * columns + a] } }
    #expect(relativeError(found, mirrored) < 1e-6)
  }

  /// The sum over tokens and rows of (x d)², of each block of columns by itself.
  @Test func aQuadraticFormIsTheSquareOfTheOutputs() {
    var generator = SeededGenerator(seed: 64)
    let (d, x) = (generator.matrix(4, 30), generator.matrix(50, 30))
    let parts = [0..<18, 18..<30]
    let grams = parts.map { columns in
      let gram = Matrix(zeros: columns.count, columns.count)
      Gemm.addGram(of: x, columns: columns, to: gram, backend: Backend(threads: 1))
      Gemm.symmetrize(gram)
      return gram
    }
    var expected = 0.0
    for token in 0..<50 {
      for row in 0..<4 {
        for columns in parts {
          let output = columns.reduce(0.0) {
            unsafe $0 + Double(x.row(token)[$1]) * Double(d.row(row)[$1])
          }
          expected += output * output
        }
      }
    }
    let found = Gemm.quadraticForm(d, grams, from: Matrix.unlimited)
    #expect(abs(found - expected) < 1e-5 * expected)
  }
}

@Suite struct BackendTests {
  @Test(arguments: [1, 2, 7], [0, 1, 2, 6, 7, 8, 1000])
  func everyIndexIsVisitedOnceAndResultsAreInOrder(threads: Int, count: Int) {
    let backend = Backend(threads: threads)
    #expect(backend.map(count) { "\($0)" } == (0..<count).map { "\($0)" })
    let visits = Matrix(zeros: 1, max(count, 1))
    backend.forEach(count) { unsafe visits.row(0)[$0] += 1 }
    #expect(visits.values.prefix(count).allSatisfy { $0 == 1 })
  }

  @Test func rangesCoverTheCountInPiecesOfTheSize() {
    #expect(ranges(of: 0, by: 4) == [])
    #expect(ranges(of: 4, by: 4) == [0..<4])
    #expect(ranges(of: 9, by: 4) == [0..<4, 4..<8, 8..<9])
  }

  @Test(arguments: [1, 2, 7])
  func `a Gram matrix is cleared and made whole by any number of threads`(threads: Int) {
    let backend = Backend(threads: threads)
    var generator = SeededGenerator(seed: 71)
    let gram = generator.matrix(300, 300)
    let whole = Matrix(rows: 300, columns: 300)
    unsafe whole.base.update(from: gram.base, count: gram.count)
    Gemm.symmetrize(whole, backend: backend)
    let isWhole = (0..<300).allSatisfy { row in
      (0..<300).allSatisfy { column in
        unsafe whole.row(row)[column] == gram.row(min(row, column))[max(row, column)]
      }
    }
    #expect(isWhole)
    let wide = generator.matrix(3, (1 << 18) + 5)
    backend.clear(wide)
    #expect((0..<wide.count).allSatisfy { unsafe wide.base[$0] == 0 })
  }
}
