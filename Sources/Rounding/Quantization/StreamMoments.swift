// Second moments of gradients at the residual stream, from the weights that read it.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// A = E[g gᵀ] of the residual stream by blocks of channels, g the gradient at the stream of what reads it.
///
/// An error e of the stream changes what a reader puts out by V e, V its weight. Where a softmax or a choice follows,
/// nothing comes of what is added to all outputs alike, and to the second order the rest costs its variance over them:
/// A = Vᵀ (diag f - f fᵀ) V, f how often each output is the right one; it has a row of V for each time.
package struct StreamMoments {
  /// Of each block `[size, size]`; above the diagonal alone until `complete`.
  package let blocks: [Matrix]
  private let channels: Int
  private let backend: Backend

  /// Most channels of a block, whose errors make up for each other.
  private static let largestBlock = 512
  /// Of what a unit's activation takes: there are statistics of each unit.
  private static let largestUnitBlock = 256
  /// Rows of a weight that are looked at together.
  package static let tileRows = 64

  /// Channels of a block: parts of one size, and of whole words of zero points. Nil where there are none.
  package static func blockSize(_ channels: Int) -> Int? { size(channels, most: largestBlock) }

  /// Of what a unit's activation takes.
  package static func unitBlockSize(_ width: Int) -> Int? { size(width, most: largestUnitBlock) }

  private static func size(_ channels: Int, most: Int) -> Int? {
    if channels <= most { return channels }
    return stride(from: most, to: 0, by: -32).first { channels % $0 == 0 }
  }

  package init(channels: Int, block: Int, backend: Backend) {
    self.channels = channels
    self.backend = backend.exact
    blocks = ranges(of: channels, by: block).map {
      backend.matrix("readers of the stream", rows: $0.count, columns: $0.count)
    }
    for matrix in blocks { backend.clear(matrix) }
  }

  /// Adds what a reader makes of errors, `weight` times as large as A with a mean of 1 on its diagonal. A reader whose
  /// outputs are all alike adds nothing.
  ///
  /// - Parameters:
  ///   - count: of rows.
  ///   - gains: what each channel is multiplied by before it is read.
  ///   - read: makes some of the rows, which are used up; it is asked twice.
  package func add(
    _ count: Int, weight: Double, gains: [Float], read: (Range<Int>) throws -> Matrix
  ) rethrows {
    let tiles = ranges(of: count, by: Self.tileRows)
    var sum = [Double](repeating: 0, count: channels)
    var squares = 0.0
    try backend.forEach(of: tiles, alike: \.count) { tile in
      let rows = try read(tile)
      backend.ledger.note(Operation(.elements, [rows.count]))
      if !backend.computes { return }
      for row in 0..<rows.rows {
        let values = unsafe rows.row(row)
        for channel in 0..<channels {
          let value = unsafe Double(values[channel] * gains[channel])
          sum[channel] += value
          squares += value * value
        }
      }
    }
    let center = sum.map { Float($0 / Double(count)) }
    let variance =
      (squares - sum.reduce(0) { $0 + $1 * $1 } / Double(count)) / Double(channels)
    // Over the sum of all rows.
    let scale = variance > 0 && variance.isFinite ? Float((weight / variance).squareRoot()) : 0
    try backend.forEach(of: tiles, alike: \.count) { tile in
      let rows = try read(tile)
      backend.ledger.note(Operation(.elements, [rows.count]))
      backend.compute {
        for row in 0..<rows.rows {
          let values = unsafe rows.row(row)
          unsafe sluice_multiply(values, gains, values, channels)
          unsafe sluice_add_scaled(center, -1, values, channels)
          unsafe sluice_scale(values, scale, values, channels)
        }
      }
      var first = 0
      for block in blocks {
        Gemm.addGram(
          of: rows, columns: first..<first + block.rows, to: block, backend: backend)
        first += block.rows
      }
    }
  }

  /// To be called once all readers are there.
  package func complete() {
    for matrix in blocks { Gemm.symmetrize(matrix, backend: backend) }
  }

  /// What errors of the stream's channels do.
  package func factor() -> OutputFactor { OutputFactor(moments: blocks, backend: backend) }

  /// What errors do of what a Linear reads that writes to the stream: Wᵀ A W by blocks of `size` inputs, each `[size, size]`.
  ///
  /// - Parameters:
  ///   - weight: W, `[channels, inputs]`.
  ///   - size: whole blocks of it are the inputs.
  package func moments(
    before weight: any WeightRows, block size: Int, backend: Backend
  ) -> [Matrix] {
    let backend = backend.exact
    let parts = ranges(of: weight.columns, by: size)
    let results = parts.map { part in
      backend.matrix("readers of inputs", rows: part.count, columns: part.count)
    }
    weight.noteReading(weight.rows, tileRows: Self.tileRows, backend: backend)
    var first = 0
    for (number, block) in blocks.enumerated() {
      for some in ranges(of: parts.count, by: max(1, Self.mostInputs / size)) {
        add(
          block, at: first, columns: parts[some], of: weight, to: Array(results[some]),
          isFirst: number == 0, backend)
      }
      first += block.rows
    }
    return results
  }

  /// Inputs whose weights are held at a time.
  private static let mostInputs = 2048

  /// results += Wᵀ A W for the rows of one block of A, and some columns of W.
  private func add(
    _ block: Matrix, at first: Int, columns parts: ArraySlice<Range<Int>>,
    of weight: any WeightRows,
    to results: [Matrix], isFirst: Bool, _ backend: Backend
  ) {
    let (parts, start) = (Array(parts), parts.first?.lowerBound ?? 0)
    let count = parts.reduce(0) { $0 + $1.count }
    let rows = backend.matrix("weights of some inputs", rows: block.rows, columns: count)
    let tiles = ranges(of: block.rows, by: Self.tileRows)
    let tile = TaskBuffer("weight tiles", floats: min(Self.tileRows, block.rows) * weight.columns)
    backend.ledger.note(Operation(.elements, [rows.count]))
    backend.forEach(tiles.count, each: [tile]) { index in
      let tile = tiles[index]
      let decoded = weight.matrix(
        first + tile.lowerBound..<first + tile.upperBound, from: backend.memory)
      for row in 0..<tile.count {
        unsafe rows.row(tile.lowerBound + row).update(from: decoded.row(row) + start, count: count)
      }
    }
    for part in parts {
      backend.ledger.note(
        .product(block.rows, block.rows + part.count, part.count, isExact: true))
    }
    let most = parts.map(\.count).max() ?? 0
    let each = TaskBuffer("readers of inputs", floats: block.rows * most)
    backend.forEach(parts.count, each: [each]) { index in
      let (part, result) = (parts[index], results[index])
      let product = Matrix(
        "readers of inputs", rows: block.rows, columns: part.count, from: backend.memory)
      let columns = unsafe rows.base + part.lowerBound - start
      unsafe Gemm.product(
        rows: block.rows, columns: part.count, inner: block.rows, a: block.base,
        aStride: block.columns, b: columns, bStride: count, add: false, c: product.base,
        cStride: part.count)
      unsafe Gemm.product(
        transposeA: true, rows: part.count, columns: part.count, inner: block.rows, a: columns,
        aStride: count, b: product.base, bStride: part.count, add: !isFirst, c: result.base,
        cStride: part.count)
    }
  }
}

extension ActivationStatistics {
  /// A = (Wᵀ A W) ∘ E[a aᵀ] of outputs that are multiplied by a before a down projection W reads them, in the place of the
  /// Gram matrices of a, which these statistics are of.
  ///
  /// - Parameter moments: what `StreamMoments.moments(before:block:)` found, in the same blocks.
  package func gradientMoments(behind moments: [Matrix], backend: Backend) -> [Matrix] {
    let grams = grams(backend: backend)
    for (gram, moments) in zip(grams, moments) {
      backend.ledger.note(Operation(.elements, [gram.count]))
      backend.forEach(gram.rows) { row in
        unsafe sluice_multiply(gram.row(row), moments.row(row), gram.row(row), gram.columns)
      }
    }
    return grams
  }
}
