// The triangular factor against the product it must have, in Double.

import LinearAlgebra
import Tensors
import Testing
import TestSupport

@Suite struct UpperFactorTests {
  /// xᵀ x + n/8 I, `[n, n]`.
  private func positive(_ n: Int, seed: UInt64) -> Matrix {
    var generator = SeededGenerator(seed: seed)
    let a = Matrix(zeros: n, n)
    Gemm.addGram(of: generator.matrix(n + 3, n), to: a, workers: Workers(threads: 1))
    Gemm.symmetrize(a)
    for index in 0..<n { unsafe a.row(index)[index] += Float(n) / 8 }
    return a
  }

  @Test(arguments: [1, 2, 31, 127, 128, 129, 256, 300, 600])
  func theFactorTimesItsTransposeIsTheMatrix(n: Int) {
    let a = positive(n, seed: UInt64(n))
    let r = a.prefix(n)
    #expect(UpperFactor.factor(r, workers: Workers(threads: 2)))
    var (difference, size) = (0.0, 0.0)
    for i in 0..<n {
      for j in i..<n {
        var sum = 0.0
        for k in j..<n { sum += unsafe Double(r.row(i)[k]) * Double(r.row(j)[k]) }
        let wanted = unsafe Double(a.row(i)[j])
        difference += (sum - wanted) * (sum - wanted)
        size += wanted * wanted
      }
    }
    #expect(difference.squareRoot() < 1e-6 * size.squareRoot())
  }

  @Test func whatLiesBelowTheDiagonalStays() {
    let n = 300
    let a = positive(n, seed: 7)
    for row in 0..<n {
      for column in 0..<row { unsafe a.row(row)[column] = Float(row * n + column) }
    }
    #expect(UpperFactor.factor(a, workers: Workers(threads: 2)))
    for row in 0..<n {
      for column in 0..<row {
        #expect(unsafe a.row(row)[column] == Float(row * n + column))
      }
    }
  }

  @Test func theFactorDoesNotDependOnThreads() {
    let a = positive(700, seed: 8)
    let factors = [1, 2, 3, 7].map { threads in
      let r = a.prefix(700)
      #expect(UpperFactor.factor(r, workers: Workers(threads: threads)))
      return r.values.map(\.bitPattern)
    }
    for other in factors[1...] { #expect(other == factors[0]) }
  }

  @Test(arguments: [0, 5, 150, 299])
  func aMatrixThatIsNotPositiveDefiniteIsRefused(place: Int) {
    for bad in [Float(-1), 0, .nan, .infinity] {
      let a = positive(300, seed: 9)
      for index in 0..<300 {
        unsafe a.row(place)[index] = 0
        unsafe a.row(index)[place] = 0
      }
      unsafe a.row(place)[place] = bad
      #expect(!UpperFactor.factor(a, workers: Workers(threads: 2)))
    }
  }

  @Test(arguments: [1, 2, 127, 128, 129, 300])
  func `what is solved for gives back what was asked`(n: Int) {
    let a = positive(n, seed: UInt64(n))
    let order = (0..<n).map { UInt32(n - 1 - $0) }
    // The matrix in that order.
    let r = Matrix(zeros: n, n)
    for i in 0..<n {
      for j in i..<n { unsafe r.row(i)[j] = a.row(n - 1 - i)[n - 1 - j] }
    }
    #expect(UpperFactor.factor(r, workers: Workers(threads: 1)))
    var generator = SeededGenerator(seed: 5)
    let asked = generator.matrix(70, n)
    let solutions = [1, 3].map { threads in
      let x = asked.prefix(70)
      UpperFactor.solve(r, for: x, by: order, workers: Workers(threads: threads))
      return x
    }
    #expect(solutions[0].values == solutions[1].values)
    var (difference, size) = (0.0, 0.0)
    for row in 0..<70 {
      for column in 0..<n {
        var sum = 0.0
        for k in 0..<n { sum += unsafe Double(solutions[0].row(row)[k]) * Double(a.row(k)[column]) }
        let wanted = unsafe Double(asked.row(row)[column])
        difference += (sum - wanted) * (sum - wanted)
        size += wanted * wanted
      }
    }
    #expect(difference.squareRoot() < 2e-5 * size.squareRoot())
  }
}
