// What calibration remembers of an activation: moments per channel, and the Gram matrix where it is wanted.
//
// Letters of this target: T tokens, C channels (input features of the Linears that read the activation).

internal import CKernels
package import LinearAlgebra
package import Tensors

/// Sums over all calibration tokens of an activation x `[T, C]`.
package final class ActivationStatistics {
  package let channels: Int
  package private(set) var tokens = 0
  /// Sum of the tokens' weights.
  private var weight = 0.0
  private var absoluteSum: [Double]
  private var squareSum: [Double]
  /// The largest magnitude of each channel; empty where nobody asks.
  private(set) var largest: [Float]
  /// Channels whose products are kept.
  private let gramRanges: [Range<Int>]
  /// One for each of `gramRanges`; empty where they are not wanted.
  private var gramSums: [Matrix]
  /// How often magnitudes of each channel lie in each of `MagnitudeBins`, `[C, bins]`; nil where nobody asks.
  private let magnitudes: Matrix?
  /// Whether `gramSums` have become means.
  private var gramIsMean = false

  /// - Parameters:
  ///   - withGram: also accumulate xᵀ x.
  ///   - withLargest: also keep the largest magnitudes.
  ///   - withMagnitudes: also keep how often magnitudes of every size come.
  ///   - block: channels whose products with each other are kept; nil for as many as there is room for.
  package init(
    channels: Int, withGram: Bool, withLargest: Bool = false, withMagnitudes: Bool = false,
    block: Int? = nil, backend: Backend = Backend(threads: 1)
  ) {
    gramRanges = block.map { ranges(of: channels, by: $0) } ?? Self.gramRanges(channels)
    magnitudes =
      withMagnitudes
      ? backend.matrix("sizes of activations", rows: channels, columns: MagnitudeBins.count) : nil
    largest = [Float](repeating: 0, count: withLargest ? channels : 0)
    self.channels = channels
    absoluteSum = [Double](repeating: 0, count: channels)
    squareSum = [Double](repeating: 0, count: channels)
    gramSums =
      withGram
      ? gramRanges.map {
        backend.matrix("Gram matrices", rows: $0.count, columns: $0.count)
      } : []
    for matrix in gramSums + (magnitudes.map { [$0] } ?? []) { backend.clear(matrix) }
  }

  /// Channels whose products are kept: all of them, or blocks of heads where there are more than any hidden size has:
  /// the outputs of a wide attention, whose whole matrix would be the largest buffer of a run. A function of the shape
  /// alone. Measured on glm4-moe-16m and -4m: in two blocks of 4 heads the KL is 0.00100 and 0.00027 as it is in one.
  package static func gramRanges(_ channels: Int) -> [Range<Int>] {
    if channels <= widestWhole { return [0..<channels] }
    let parts = (channels + widestBlock - 1) / widestBlock
    // Whole groups of every usual size.
    return ranges(of: channels, by: (channels / parts + 255) / 256 * 256)
  }

  private static let widestWhole = 8192
  private static let widestBlock = 2048

  /// Rows of a Gram matrix that are written to scratch together.
  package static let storedRows = 256

  /// Adds the rows of x. Blocks must come in the same order in every run: sums are not associative.
  ///
  /// - Parameter weights: how much each token counts, `[T]`; x is scaled by their roots then, and used up.
  package func add(_ x: Matrix, weights: [Float]? = nil, backend: Backend) {
    precondition(x.columns == channels, "\(x.columns) channels instead of \(channels)")
    precondition(!gramIsMean, "the Gram matrix has been handed out")
    let strips = ranges(of: channels, by: 256)
    backend.ledger.note(Operation(.elements, [x.count]))
    unsafe absoluteSum.withUnsafeMutableBufferPointer { absolute in
      unsafe squareSum.withUnsafeMutableBufferPointer { square in
        nonisolated(unsafe) let absolute = absolute.baseAddress!
        nonisolated(unsafe) let square = square.baseAddress!
        backend.forEach(strips.count) { index in
          let strip = strips[index]
          unsafe sluice_add_moments(
            x.base + strip.lowerBound, weights, x.rows, strip.count, x.columns,
            absolute + strip.lowerBound, square + strip.lowerBound)
        }
      }
    }
    if !largest.isEmpty { addLargest(x, strips, backend) }
    if let magnitudes { MagnitudeBins.count(x, into: magnitudes, backend) }
    if !gramSums.isEmpty {
      if let weights { scale(x, byRootsOf: weights, backend) }
      for (gram, columns) in zip(gramSums, gramRanges) {
        Gemm.addGram(of: x, columns: columns, to: gram, backend: backend)
      }
    }
    tokens += x.rows
    weight += weights.map { $0.reduce(0) { $0 + Double($1) } } ?? Double(x.rows)
  }

  private func addLargest(_ x: Matrix, _ strips: [Range<Int>], _ backend: Backend) {
    backend.ledger.note(Operation(.elements, [x.count]))
    unsafe largest.withUnsafeMutableBufferPointer { largest in
      nonisolated(unsafe) let base = largest.baseAddress!
      backend.forEach(strips.count) { index in
        let strip = strips[index]
        for row in 0..<x.rows {
          unsafe sluice_group_magnitudes(
            x.row(row) + strip.lowerBound, strip.count, 1, base + strip.lowerBound)
        }
      }
    }
  }

  private func scale(_ x: Matrix, byRootsOf weights: [Float], _ backend: Backend) {
    let parts = ranges(of: x.rows, by: 64)
    backend.forEach(parts.count) { index in
      for row in parts[index] {
        unsafe sluice_scale(x.row(row), weights[row].squareRoot(), x.row(row), x.columns)
      }
    }
  }

  /// Largest magnitudes were gathered for others.
  package func forgetLargest() { largest = [] }

  // MARK: Kept for later

  /// What was added up so far: tokens and their weight, then the sums of |x| and of x² per channel, and the largest |x|
  /// where it is kept.
  package var sums: [Double] {
    [Double(tokens), weight] + absoluteSum + squareSum + largest.map(Double.init)
  }

  /// What tells the sizes of `sums` and of `matricesSoFar`.
  package var storedShape: [Int] {
    [channels, largest.count, gramSums.count, magnitudes == nil ? 0 : 1]
  }

  package var sumsCount: Int { 2 * channels + 2 + largest.count }

  /// The sums of xᵀ x as they stand, on and above the diagonal, then the counts of magnitudes.
  package var matricesSoFar: [Matrix] {
    precondition(!gramIsMean, "the Gram matrix has been handed out")
    return gramSums + (magnitudes.map { [$0] } ?? [])
  }

  /// Goes on from what `sums` was; `matricesSoFar` are filled by who kept them.
  package func restore(sums: [Double]) {
    precondition(sums.count == sumsCount, "other sums")
    tokens = Int(exactly: sums[0]) ?? 0
    weight = sums[1]
    absoluteSum = Array(sums[2..<channels + 2])
    squareSum = Array(sums[channels + 2..<2 * channels + 2])
    largest = sums[(2 * channels + 2)...].map { Float($0) }
  }

  // MARK: Results

  /// mean |x| per channel, `[C]`.
  package var meanAbsolute: [Float] { absoluteSum.map { Float($0 / weight) } }

  /// mean x² per channel, `[C]`: the diagonal of the Gram matrix over T.
  package var meanSquare: [Float] { squareSum.map { Float($0 / weight) } }

  /// The largest magnitude of x / `scale`, where it is kept; 0 otherwise.
  ///
  /// - Parameter scale: the smoothing scale of the activation, `[C]`; nil for none.
  package func largest(smoothedBy scale: [Float]?) -> Float {
    largest(inEach: max(1, largest.count), smoothedBy: scale).first ?? 0
  }

  /// The magnitude of x / `scale` that gets the largest code, where a scale for `arguments` is stored: the largest, or
  /// the share of it under which the mean square of all errors is least.
  ///
  /// - Parameter arguments: of all readers that keep a scale.
  package func range(for arguments: QuantizationArguments?, smoothedBy scale: [Float]?) -> Float {
    let most = largest(smoothedBy: scale)
    guard let arguments, arguments.leastSquares, let magnitudes,
      let numbers = NumberFormat(arguments)
    else { return most }
    return MagnitudeBins.range(
      magnitudes, largest: largest, smoothedBy: scale, below: most, numbers)
  }

  /// The largest magnitude of x / `scale` in each of the groups of `count` channels, where it is kept.
  package func largest(inEach count: Int, smoothedBy scale: [Float]?) -> [Float] {
    let smoothed = scale.map { zip(largest, $0).map { $0 / $1 } } ?? largest
    return stride(from: 0, to: smoothed.count, by: count).map { start in
      smoothed[start..<min(start + count, smoothed.count)].max() ?? 0
    }
  }

  /// xᵀ x / T of each of `gramRanges`; empty where they were not asked for. Ends accumulation.
  package func grams(backend: Backend = Backend(threads: 1)) -> [Matrix] {
    if gramIsMean { return gramSums }
    for gram in gramSums {
      backend.ledger.note(Operation(.elements, [gram.count]))
      Gemm.symmetrize(gram, backend: backend)
      let share = 1 / Float(weight)
      unsafe backend.forEachPiece(of: gram) { unsafe sluice_scale($0, share, $0, $1) }
    }
    gramIsMean = true
    return gramSums
  }

  /// What compensated rounding needs of x / `scale`, in the place of the Gram matrices: one after the other goes.
  ///
  /// - Parameters:
  ///   - scale: the smoothing scale of the activation, `[C]`; nil for none.
  ///   - refining: columns that are refined together, of the weights that read it.
  ///   - keeping: whether the Gram matrices stay for another scale.
  package func factors(
    smoothedBy scale: [Float]?, refining sizes: Set<Int>, damping: Double, keeping: Bool = false,
    backend: Backend
  ) throws(NotPositiveDefinite) -> GramFactors {
    // What is packed for products in bf16 is cut in units.
    let backend = channels % PackedColumns.unit == 0 ? backend : backend.exact
    var parts: [GramFactor] = []
    var grams = grams(backend: backend)
    if !keeping { gramSums = [] }
    for channels in gramRanges where !grams.isEmpty {
      let gram = keeping ? copy(grams[parts.count], backend) : grams.removeFirst()
      if let scale {
        let inverse = scale[channels].map { 1 / $0 }
        backend.forEach(gram.rows) { row in
          unsafe sluice_multiply(gram.row(row), inverse, gram.row(row), gram.columns)
          unsafe sluice_scale(gram.row(row), inverse[row], gram.row(row), gram.columns)
        }
      }
      parts.append(
        try GramFactor(
          gram, channels: channels, refining: sizes, damping: damping, backend: backend))
    }
    return GramFactors(parts)
  }

  private func copy(_ gram: Matrix, _ backend: Backend) -> Matrix {
    let result = backend.matrix("Gram matrices", rows: gram.rows, columns: gram.columns)
    backend.ledger.note(Operation(.elements, [gram.count]))
    backend.forEach(gram.rows) { row in
      unsafe result.row(row).update(from: gram.row(row), count: gram.columns)
    }
    return result
  }

  /// The first channel whose sums are not finite: somewhere a NaN or an infinity went through.
  package var firstNonFiniteChannel: Int? {
    squareSum.indices.first { !squareSum[$0].isFinite || !absoluteSum[$0].isFinite }
  }
}
