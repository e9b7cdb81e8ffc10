// Matrix products over OpenBLAS, cut so that the result never depends on the number of threads.

internal import CKernels
internal import COpenBLAS
package import Tensors

/// A BLAS that multiplies wrongly on this CPU.
package struct WrongProducts: Error, CustomStringConvertible, Equatable {
  package let engine: String
  package let difference: Float
  package var description: String {
    "\(engine) computes wrong products on this CPU (off by \(difference) of their size); install a "
      + "newer OpenBLAS, or name other kernels: OPENBLAS_CORETYPE=Haswell"
  }
}

/// Which library multiplies, and with which kernels.
package enum Gemm {
  /// The name of OpenBLAS's kernels for this CPU, e.g. "SkylakeX"; results may differ between kernels in the last bit.
  package static let engine: String = {
    useOneThread()
    guard let name = unsafe openblas_get_corename() else { return "openblas" }
    return "openblas " + (unsafe String(cString: name))
  }()

  /// The vector instructions that the kernels around the products use.
  package static let instructionSet = unsafe String(cString: sluice_instruction_set())

  /// `Workers` owns the cores; a BLAS that threads as well would cut sums by the number of cores.
  private static let once: Void = openblas_set_num_threads(1)

  package static func useOneThread() { _ = once }

  /// Rows of the weight that one task decodes and multiplies: enough for the BLAS to reach its speed, and few enough
  /// that a small expert still feeds several cores, and that a tile of many columns stays small. A function of the
  /// shape alone.
  package static func tileRows(_ rows: Int, columns: Int) -> Int {
    let wanted = rows >= 2048 ? 512 : rows >= 512 ? 256 : 64
    return min(wanted, max(64, largestTile / max(1, columns) / 64 * 64))
  }

  /// Elements.
  private static let largestTile = 3 << 20

  /// x `[tokens, in]` times the transpose of `weight` `[out, in]`, plus `bias` `[out]`: `[tokens, out]`.
  ///
  /// - Parameter name: of the result, in the budget.
  package static func multiply(
    _ x: Matrix, by weight: any WeightRows, bias: [Float]? = nil, workers: Workers,
    into name: String = "products"
  ) -> Matrix {
    precondition(
      x.columns == weight.columns, "\(x.columns) columns times \(weight.columns) columns")
    useOneThread()
    let result = workers.matrix(name, rows: x.rows, columns: weight.rows)
    if x.rows == 0 { return result }
    let tiles = ranges(of: weight.rows, by: tileRows(weight.rows, columns: weight.columns))
    workers.forEach(tiles.count) { index in
      let tile = tiles[index]
      let decoded = weight.matrix(tile, from: workers.memory)
      if let bias {
        for row in 0..<x.rows {
          let to = unsafe result.row(row)
          for column in tile { unsafe to[column] = bias[column] }
        }
      }
      unsafe product(
        transposeB: true, rows: x.rows, columns: tile.count, inner: x.columns,
        a: x.base, aStride: x.columns, b: decoded.base, bStride: weight.columns,
        add: bias != nil, c: result.base + tile.lowerBound, cStride: result.columns)
    }
    return result
  }

  /// gram `[n, n]` += xᵀ x for n columns of x, upper triangle of tiles only (the rest stays as it is).
  package static func addGram(
    of x: Matrix, columns: Range<Int>? = nil, to gram: Matrix, workers: Workers
  ) {
    let columns = columns ?? 0..<x.columns
    precondition(
      gram.rows == columns.count && gram.columns == columns.count, "Gram matrix of another size")
    precondition(columns.upperBound <= x.columns, "columns \(columns) of \(x.columns)")
    useOneThread()
    let strips = ranges(of: columns.count, by: gramTile)
    let tiles = strips.indices.flatMap { row in
      (row..<strips.count).map { (strips[row], strips[$0]) }
    }
    workers.forEach(tiles.count) { index in
      let (rows, others) = tiles[index]
      let base = unsafe x.base + columns.lowerBound
      unsafe product(
        transposeA: true, rows: rows.count, columns: others.count, inner: x.rows,
        a: base + rows.lowerBound, aStride: x.columns,
        b: base + others.lowerBound, bStride: x.columns,
        add: true, c: gram.base + rows.lowerBound * gram.columns + others.lowerBound,
        cStride: gram.columns)
    }
  }

  static let gramTile = 256

  /// Copies the upper triangle of tiles that `addGram` fills to the lower one.
  package static func symmetrize(_ gram: Matrix) {
    for row in 0..<gram.rows {
      let stripStart = row / gramTile * gramTile
      for column in 0..<stripStart {
        unsafe gram.row(row)[column] = gram.row(column)[row]
      }
    }
  }

  /// The sum over rows of d G dᵀ, where G has `blocks` on its diagonal, one after the other; on the calling thread.
  package static func quadraticForm(
    _ d: Matrix, _ blocks: [Matrix], from budget: MemoryBudget
  ) -> Double {
    useOneThread()
    var sum = 0.0
    var first = 0
    for gram in blocks {
      let product = Matrix("rows under search", rows: d.rows, columns: gram.columns, from: budget)
      unsafe Gemm.product(
        rows: d.rows, columns: gram.columns, inner: gram.rows, a: d.base + first,
        aStride: d.columns, b: gram.base, bStride: gram.columns, c: product.base,
        cStride: product.columns)
      for row in 0..<d.rows {
        sum += unsafe sluice_dot(d.row(row) + first, product.row(row), gram.columns)
      }
      first += gram.rows
    }
    return sum
  }

  /// c `[rows, columns]` = a b (+ c), on the calling thread; strides are elements between rows.
  package static func product(
    transposeA: Bool = false, transposeB: Bool = false, rows: Int, columns: Int, inner: Int,
    a: UnsafePointer<Float>, aStride: Int, b: UnsafePointer<Float>, bStride: Int, add: Bool = false,
    c: UnsafeMutablePointer<Float>, cStride: Int
  ) {
    unsafe cblas_sgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      blasint(rows), blasint(columns), blasint(inner), 1, a, blasint(aStride), b, blasint(bStride),
      add ? 1 : 0, c, blasint(cStride))
  }

  /// Floating-point operations per second of a product as a layer has them, measured for about a third of a second.
  package static func measuredRate(workers: Workers) -> Double {
    let (x, weight) = (Matrix(zeros: 1024, 2048), Matrix(zeros: 2048, 2048))
    let operations = 2.0 * 1024 * 2048 * 2048
    _ = multiply(x, by: weight, workers: workers)
    var rounds = 0.0
    let clock = ContinuousClock()
    let start = clock.now
    while clock.now - start < .milliseconds(300) {
      _ = multiply(x, by: weight, workers: workers)
      rounds += 1
    }
    let elapsed = (clock.now - start).components
    return rounds * operations / (Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18)
  }

  /// Multiplies small matrices of awkward sizes in every form that is used, and compares with plain sums: some versions
  /// of OpenBLAS mistake newer CPUs for ones they have no working kernels for.
  package static func check() throws(WrongProducts) {
    useOneThread()
    let (rows, columns, inner) = (67, 45, 131)
    func value(_ index: Int) -> Float { Float((index * 7919) % 1021) / 510 - 1 }
    let a = Matrix(rows: rows, columns: inner, values: (0..<rows * inner).map(value))
    let b = Matrix(
      rows: inner, columns: columns, values: (0..<inner * columns).map { value($0 + 5) })
    func transposed(_ x: Matrix) -> Matrix {
      Matrix(
        rows: x.columns, columns: x.rows,
        values: (0..<x.count).map { unsafe x.row($0 % x.rows)[$0 / x.rows] })
    }
    let (aTransposed, bTransposed) = (transposed(a), transposed(b))
    var largest: Float = 0
    for (transposeA, transposeB) in [(false, false), (false, true), (true, false)] {
      let (first, second) = (transposeA ? aTransposed : a, transposeB ? bTransposed : b)
      let c = Matrix(rows: rows, columns: columns)
      unsafe product(
        transposeA: transposeA, transposeB: transposeB, rows: rows, columns: columns, inner: inner,
        a: first.base, aStride: first.columns, b: second.base, bStride: second.columns,
        c: c.base, cStride: columns)
      for row in 0..<rows {
        for column in 0..<columns {
          let sum = (0..<inner).reduce(0.0) {
            unsafe $0 + Double(a.row(row)[$1]) * Double(b.row($1)[column])
          }
          let difference = unsafe Float(abs(Double(c.row(row)[column]) - sum) / Double(inner))
          // Not max(): a NaN must not hide.
          if !(difference <= largest) { largest = difference }
        }
      }
    }
    if !(largest < 1e-6) { throw WrongProducts(engine: engine, difference: largest) }
  }
}
