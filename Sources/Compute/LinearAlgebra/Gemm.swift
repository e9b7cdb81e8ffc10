// The front of all matrix products: in bf16 or over OpenBLAS, as the run's engine says, cut so that the result never
// depends on the number of threads.

internal import CKernels
package import Tensors

/// An engine that multiplies wrongly on this CPU.
package struct WrongProducts: Error, CustomStringConvertible, Equatable {
  package let engine: Engine
  package let difference: Float
  package var description: String {
    "\(engine.name) computes wrong products on this CPU (off by \(difference) of their size); "
      + (engine == .bf16
        ? "use --engine f32, and please report it"
        : "install a newer OpenBLAS, or name other kernels: OPENBLAS_CORETYPE=Haswell")
  }
}

/// Which library multiplies, and with which kernels.
package enum Gemm {
  /// The name of OpenBLAS's kernels for this CPU, e.g. "SkylakeX"; results may differ between kernels in the last bit.
  package static let engine: String =
    OpenBLAS.kernels.isEmpty ? "openblas" : "openblas " + OpenBLAS.kernels

  /// Call before any product: without OpenBLAS there is none.
  package static func open() throws(MissingBLAS) { try OpenBLAS.open() }

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
    _ x: Matrix, by weight: any WeightRows, bias: [Float]? = nil, backend: Backend,
    into name: String = "products"
  ) -> Matrix {
    precondition(
      x.columns == weight.columns, "\(x.columns) columns times \(weight.columns) columns")
    let result = backend.matrix(name, rows: x.rows, columns: weight.rows)
    if x.rows == 0 { return result }
    let isExact = backend.engine == .f32 || !weight.isBF16
    backend.ledger.note(.product(x.rows, x.columns, weight.rows, isExact: isExact))
    if let bias { backend.compute { fill(result, with: bias) } }
    if !isExact {
      BF16Products.multiply(x, by: weight, adds: bias != nil, into: result, backend: backend)
      return result
    }
    let tileRows = tileRows(weight.rows, columns: weight.columns)
    let tiles = ranges(of: weight.rows, by: tileRows)
    weight.noteReading(weight.rows, tileRows: tileRows, backend: backend)
    let tile = TaskBuffer("weight tiles", floats: min(tileRows, weight.rows) * weight.columns)
    backend.forEach(tiles.count, each: [tile]) { index in
      let tile = tiles[index]
      let decoded = weight.matrix(tile, from: backend.memory)
      unsafe product(
        transposeB: true, rows: x.rows, columns: tile.count, inner: x.columns,
        a: x.base, aStride: x.columns, b: decoded.base, bStride: weight.columns,
        add: bias != nil, c: result.base + tile.lowerBound, cStride: result.columns)
    }
    return result
  }

  private static func fill(_ result: Matrix, with bias: [Float]) {
    for row in 0..<result.rows { unsafe result.row(row).update(from: bias, count: bias.count) }
  }

  /// Rows and columns of a Gram matrix that are made together: of the tiles on the diagonal all numbers are there.
  package static func gramTile(_ channels: Int) -> Int { channels < 1024 ? 128 : 256 }

  /// gram `[n, n]` += xᵀ x for n columns of x; only what lies on and above the diagonal means something.
  package static func addGram(
    of x: Matrix, columns: Range<Int>? = nil, to gram: Matrix, backend: Backend
  ) {
    let columns = columns ?? 0..<x.columns
    precondition(
      gram.rows == columns.count && gram.columns == columns.count, "Gram matrix of another size")
    precondition(columns.upperBound <= x.columns, "columns \(columns) of \(x.columns)")
    backend.ledger.note(
      Operation(
        .gram, [x.rows, columns.count],
        arithmetic: Double(x.rows) * Double(columns.count) * Double(columns.count)))
    if backend.engine == .bf16 {
      BF16Products.addGram(of: x, columns: columns, to: gram, backend: backend)
      return
    }
    let strips = ranges(of: columns.count, by: gramTile(columns.count))
    let tiles = strips.indices.flatMap { row in
      (row..<strips.count).map { (strips[row], strips[$0]) }
    }
    backend.forEach(tiles.count) { index in
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

  /// Copies the upper triangle that `addGram` fills to the lower one, a tile at a time to stay in the cache.
  package static func symmetrize(_ gram: Matrix, backend: Backend = Backend(threads: 1)) {
    let strips = ranges(of: gram.rows, by: 64)
    backend.forEach(strips.count) { index in
      for columns in strips[...index] {
        for row in strips[index] {
          let to = unsafe gram.row(row)
          for column in columns.lowerBound..<min(row, columns.upperBound) {
            unsafe to[column] = gram.base[column * gram.columns + row]
          }
        }
      }
    }
  }

  /// The sum over rows of d G dᵀ, where G has `blocks` on its diagonal, one after the other; on the calling thread.
  package static func quadraticForm(
    _ d: Matrix, _ blocks: [Matrix], from budget: MemoryBudget
  ) -> Double {
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
    unsafe OpenBLAS.product(
      transposeA: transposeA, transposeB: transposeB, rows: rows, columns: columns, inner: inner,
      a: a, aStride: aStride, b: b, bStride: bStride, add: add, c: c, cStride: cStride)
  }

  /// Multiplies small matrices of awkward sizes in every form that the engine uses, and compares with plain sums: some
  /// versions of OpenBLAS mistake newer CPUs for ones they have no working kernels for.
  package static func check(_ engine: Engine) throws {
    try open()
    let (rows, columns, inner) = (67, 45, 131)
    // Numbers that bf16 holds, so that both engines have the same to add.
    func values(_ count: Int, from start: Int) -> [Float] {
      DType.bf16.rounded((start..<start + count).map { Float(($0 * 7919) % 1021) / 510 - 1 })
    }
    let a = Matrix(rows: rows, columns: inner, values: values(rows * inner, from: 0))
    let b = Matrix(rows: inner, columns: columns, values: values(inner * columns, from: 5))
    let (aTransposed, bTransposed) = (a.transposed, b.transposed)
    let c = Matrix(rows: rows, columns: columns)
    for (transposeA, transposeB) in [(false, false), (false, true), (true, false)] {
      let (first, second) = (transposeA ? aTransposed : a, transposeB ? bTransposed : b)
      unsafe product(
        transposeA: transposeA, transposeB: transposeB, rows: rows, columns: columns, inner: inner,
        a: first.base, aStride: first.columns, b: second.base, bStride: second.columns,
        c: c.base, cStride: columns)
      try check(c, is: a, times: b, .f32)
    }
    if engine == .f32 { return }
    let backend = Backend(threads: 1, engine: engine)
    try check(
      multiply(a, by: BF16Rows(rounding: bTransposed), backend: backend), is: a, times: b, engine)
    let gram = Matrix(zeros: inner, inner)
    addGram(of: a, to: gram, backend: backend)
    symmetrize(gram)
    try check(gram, is: aTransposed, times: a, engine)
  }

  private static func check(
    _ c: Matrix, is a: Matrix, times b: Matrix, _ engine: Engine
  ) throws(WrongProducts) {
    var largest: Float = 0
    for row in 0..<c.rows {
      for column in 0..<c.columns {
        let sum = (0..<a.columns).reduce(0.0) {
          unsafe $0 + Double(a.row(row)[$1]) * Double(b.row($1)[column])
        }
        let difference = unsafe Float(abs(Double(c.row(row)[column]) - sum) / Double(a.columns))
        // Not max(): a NaN must not hide.
        if !(difference <= largest) { largest = difference }
      }
    }
    if !(largest < 1e-6) { throw WrongProducts(engine: engine, difference: largest) }
  }
}

extension Matrix {
  fileprivate var transposed: Matrix {
    Matrix(
      rows: columns, columns: rows,
      values: (0..<count).map { unsafe row($0 % rows)[$0 / rows] })
  }
}
