// The bf16 engine: against plain sums, against float32, and the same bits however the work is cut.

import LinearAlgebra
import Tensors
import Testing
import TestSupport

private func bf16(threads: Int) -> Backend { Backend(threads: threads, engine: .bf16) }

private func rounded(_ matrix: Matrix) -> Matrix {
  Matrix(
    rows: matrix.rows, columns: matrix.columns, values: DType.bf16.rounded(matrix.values))
}

/// x times the transpose of weight, in Double.
func naive(_ x: Matrix, _ weight: Matrix, bias: [Float]? = nil) -> [Float] {
  let (a, b) = (x.values.map(Double.init), weight.values.map(Double.init))
  return (0..<x.rows).flatMap { row in
    (0..<weight.rows).map { output in
      var sum = Double(bias?[output] ?? 0)
      for inner in 0..<x.columns {
        sum += a[row * x.columns + inner] * b[output * x.columns + inner]
      }
      return Float(sum)
    }
  }
}

@Suite(.enabled(if: Engine.bf16.isAvailable)) struct BF16Tests {
  /// Below, at and above the edges of tiles, blocks of the depth, and chunks of tokens.
  @Test(arguments: [
    (1, 1, 1), (3, 127, 19), (2, 128, 511), (15, 129, 512), (29, 300, 513), (113, 64, 1100),
    (1025, 33, 40),
  ])
  func aProductIsTheSumOverRoundedInputsPlusTheBias(tokens: Int, outputs: Int, depth: Int) {
    var generator = SeededGenerator(seed: 71)
    let (x, weight) = (generator.matrix(tokens, depth), generator.matrix(outputs, depth))
    let bias = generator.floats(outputs)
    let rows = BF16Rows(rounding: weight)
    let expected = naive(rounded(x), rounded(weight))
    #expect(
      relativeError(Gemm.multiply(x, by: rows, backend: bf16(threads: 2)).values, expected) < 1e-6)
    #expect(
      relativeError(
        Gemm.multiply(x, by: rows, bias: bias, backend: bf16(threads: 2)).values,
        naive(rounded(x), rounded(weight), bias: bias)) < 1e-6)
  }

  /// Rows whose terms end within a block of the depth and beyond it, packed from rows and from columns, on a matrix some
  /// of whose rows have changed.
  @Test(
    arguments: [
      (0..<1, 32), (77..<200, 64), (512..<640, 512), (1000..<1120, 992), (1024..<1120, 544),
    ],
    [PackedSquare.Shape.whole, .lower])
  func packedSquaresMeetPackedColumns(
    of work: (rows: Range<Int>, terms: Int), shape: PackedSquare.Shape
  ) {
    var generator = SeededGenerator(seed: 76)
    let (rows, terms) = work
    let n = 1120
    let x = generator.matrix(n, 64)
    let packed = PackedColumns("x", depth: n, columns: x.columns, from: MemoryBudget())
    unsafe packed.fill(0..<n, from: x.base)
    let change = generator.matrix(128, 64)
    unsafe packed.fill(448..<576, from: change.base)
    unsafe x.row(448).update(from: change.base, count: change.count)
    let a = generator.matrix(n, n + 3)
    let square = PackedSquare("a", n: n, shape, Backend(threads: 1))
    let cut = terms / 2 / 32 * 32
    let values = a.values
    let transposed = Matrix(
      rows: n, columns: n, values: (0..<n * n).map { values[$0 % n * a.columns + $0 / n] })
    unsafe square.fill(
      rows, 0..<cut, from: a.row(rows.lowerBound), stride: a.columns, transposed: false)
    unsafe square.fill(
      rows, cut..<terms, from: transposed.row(cut) + rows.lowerBound, stride: n, transposed: true)
    let c = Matrix(zeros: rows.count, 64)
    unsafe packed.multiply(rows, of: square, terms: terms, into: c.base)
    let (left, right) = (rounded(a).values.map(Double.init), rounded(x).values.map(Double.init))
    let expected = (0..<rows.count * 64).map { index -> Float in
      let (row, column) = (rows.lowerBound + index / 64, index % 64)
      return Float(
        (0..<terms).reduce(0.0) { $0 + left[row * a.columns + $1] * right[$1 * 64 + column] })
    }
    #expect(relativeError(c.values, expected) < 1e-5)
  }

  @Test func aLowerSquareTakesLittleMoreThanHalf() {
    let (whole, lower) = (
      PackedSquare.byteCount(n: 4096, .whole), PackedSquare.byteCount(n: 4096, .lower)
    )
    #expect(whole == 4096 * 8 * Int(544) * 2)
    #expect(Double(lower) / Double(whole) == 0.5625)
  }

  @Test func aProductOfNoTokensIsEmpty() {
    let result = Gemm.multiply(
      Matrix(rows: 0, columns: 4), by: BF16Rows(rounding: Matrix(zeros: 3, 4)), bias: [1, 2, 3],
      backend: bf16(threads: 2))
    #expect(result.rows == 0 && result.columns == 3)
  }

  @Test func resultsDoNotDependOnThreads() {
    var generator = SeededGenerator(seed: 72)
    let (x, weight) = (generator.matrix(1300, 600), generator.matrix(300, 600))
    let rows = BF16Rows(rounding: weight)
    let results = [1, 2, 3, 7].map { threads in
      let gram = Matrix(zeros: 600, 600)
      Gemm.addGram(of: x, to: gram, backend: bf16(threads: threads))
      let product = Gemm.multiply(
        x, by: rows, bias: Array(x.values.prefix(300)), backend: bf16(threads: threads))
      return (product.values + gram.values).map(\.bitPattern)
    }
    #expect(results.allSatisfy { $0 == results[0] })
  }

  /// What an expert makes of a token does not hang on the tokens beside it.
  @Test(arguments: [1, 7, 14, 15, 100])
  func aTokenHasTheSameResultInEveryCompany(count: Int) {
    var generator = SeededGenerator(seed: 73)
    let (x, weight) = (generator.matrix(200, 700), generator.matrix(70, 700))
    let rows = BF16Rows(rounding: weight)
    let all = Gemm.multiply(x, by: rows, backend: bf16(threads: 1)).values
    let few = Gemm.multiply(x.prefix(count), by: rows, backend: bf16(threads: 1)).values
    #expect(few == Array(all.prefix(few.count)))
  }

  /// Rounding an input to 8 bits changes each term by at most 2^-9 of itself; over many terms the changes cancel.
  @Test func bf16StaysNearFloat32() {
    var generator = SeededGenerator(seed: 74)
    let (x, weight) = (generator.matrix(64, 2048), generator.matrix(96, 2048))
    let rows = BF16Rows(rounding: weight)
    let exact = Gemm.multiply(x, by: rows, backend: Backend(threads: 2)).values
    let found = Gemm.multiply(x, by: rows, backend: bf16(threads: 2)).values
    let (xs, ws) = (x.values, rounded(weight).values)
    for row in 0..<x.rows {
      for output in 0..<weight.rows {
        let terms = (0..<2048).reduce(Float(0)) {
          $0 + abs(xs[row * 2048 + $1] * ws[output * 2048 + $1])
        }
        let difference = abs(found[row * 96 + output] - exact[row * 96 + output])
        #expect(difference <= terms / 512)
      }
    }
    func norm(_ values: [Float]) -> Double {
      values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    }
    let relative = norm(zip(found, exact).map { $0 - $1 }) / norm(exact)
    #expect(relative < 1.0 / 512)
    #expect(relative > 1e-5, "rounded to nothing: this was float32")
  }

  @Test func otherWeightsAreMultipliedInFloat32() {
    var generator = SeededGenerator(seed: 75)
    let (x, weight) = (generator.matrix(9, 300), generator.matrix(130, 300))
    #expect(
      Gemm.multiply(x, by: weight, backend: bf16(threads: 2)).values
        == Gemm.multiply(x, by: weight, backend: Backend(threads: 2)).values)
    let rows = BF16Rows(rounding: weight)
    #expect(
      Gemm.multiply(x, by: rows, backend: bf16(threads: 2).exact).values
        == Gemm.multiply(x, by: rows, backend: Backend(threads: 2)).values)
  }

  @Test(arguments: [1, 255, 256, 257, 520, 1300], [1, 5, 513, 1030])
  func aGramMatrixAddsUpAndIsSymmetric(channels: Int, tokens: Int) {
    if channels * tokens > 700_000 { return }
    var generator = SeededGenerator(seed: 76)
    let blocks = [generator.matrix(tokens, channels), generator.matrix(9, channels)]
    let gram = Matrix(zeros: channels, channels)
    let plain = Matrix(zeros: channels, channels)
    for block in blocks {
      Gemm.addGram(of: block, to: gram, backend: bf16(threads: 2))
      Gemm.addGram(of: rounded(block), to: plain, backend: Backend(threads: 2))
    }
    Gemm.symmetrize(gram)
    Gemm.symmetrize(plain)
    let found = gram.values
    // One sum after the other, and on the diagonal all of one sign.
    #expect(relativeError(found, plain.values) < 5e-6)
    let mirrored = (0..<channels).flatMap { a in (0..<channels).map { found[$0 * channels + a] } }
    #expect(relativeError(found, mirrored) < 1e-6)
  }

  @Test func theCheckOfTheEnginePasses() throws {
    try Gemm.check(.bf16)
  }
}

@Suite struct EngineTests {
  @Test func float32IsEverywhereAndTheBestEngineIsAvailable() throws {
    #expect(Engine.f32.isAvailable && Engine.best.isAvailable)
    #expect(Engine.best.name.hasSuffix(Engine.f32.name))
    try Gemm.check(.f32)
  }
}
