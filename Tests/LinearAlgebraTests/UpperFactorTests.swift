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
    Gemm.addGram(of: generator.matrix(n + 3, n), to: a, backend: Backend(threads: 1))
    Gemm.symmetrize(a)
    for index in 0..<n { unsafe a.row(index)[index] += Float(n) / 8 }
    return a
  }

  @Test(arguments: [1, 2, 31, 127, 128, 129, 256, 300, 600])
  func theFactorTimesItsTransposeIsTheMatrix(n: Int) {
    let a = positive(n, seed: UInt64(n))
    let r = a.prefix(n)
    #expect(UpperFactor.factor(r, backend: Backend(threads: 2)))
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
    #expect(UpperFactor.factor(a, backend: Backend(threads: 2)))
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
      #expect(UpperFactor.factor(r, backend: Backend(threads: threads)))
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
      #expect(!UpperFactor.factor(a, backend: Backend(threads: 2)))
    }
  }
}
