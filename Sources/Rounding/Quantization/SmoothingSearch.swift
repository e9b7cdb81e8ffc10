// The AWQ grid search over scale exponents, with losses from second moments instead of forward passes.

internal import CKernels
internal import Glibc
package import LinearAlgebra
internal import Tensors

/// A weight with a NaN or an infinity.
package struct NonFiniteWeight: Error, Equatable {
  package let row: Int
  package let column: Int

  package init(row: Int, column: Int) {
    self.row = row
    self.column = column
  }
}

/// Whether the magnitude of the weights takes part in the scales: llm-compressor's `duo_scaling`, by its values.
package enum DuoScaling: String, Sendable, CaseIterable {
  case on = "true"
  case off = "false"
  case both

  /// Numbers of grid points with which the ratios go from 0 to 1; with fewer there is no step between them.
  package var gridSizes: ClosedRange<Int> {
    switch self {
    case .on: 3...1000
    case .off: 2...1000
    case .both: 4...1000
    }
  }
}

/// One point of the grid: an exponent, and whether weights take part (`duo`).
package struct GridPoint: Sendable, Equatable {
  package let ratio: Double
  package let usesWeights: Bool

  /// The points that are searched; identity first, so that it wins ties, then ratios from 0 to 1.
  ///
  /// - Parameters:
  ///   - points: one of `duo.gridSizes`. With `both`, an odd number gives one point less.
  /// Source: llm-compressor 0.14 `AWQModifier`, `n_grid` and `duo_scaling`.
  package static func grid(points: Int = 20, duo: DuoScaling = .on) -> [GridPoint] {
    precondition(duo.gridSizes.contains(points), "no grid of \(points) points")
    func ratios(_ count: Int) -> [Double] { (0..<count).map { Double($0) / Double(count - 1) } }
    return switch duo {
    case .on:
      [GridPoint(ratio: 0, usesWeights: false)]
        + ratios(points - 1).map { GridPoint(ratio: $0, usesWeights: true) }
    case .off: ratios(points).map { GridPoint(ratio: $0, usesWeights: false) }
    case .both:
      ratios(points / 2).flatMap {
        [GridPoint(ratio: $0, usesWeights: false), GridPoint(ratio: $0, usesWeights: true)]
      }
    }
  }
}

/// How the change of a Linear's output is measured.
package enum SmoothingLoss: String, Sendable, CaseIterable {
  /// sum of D² E[x²]: the diagonal of the quadratic form, no Gram matrix needed.
  case diagonal
  /// tr(D G Dᵀ), the exact mean squared change of the output.
  case gram
}

/// The search for the scales between one activation and all Linears that read it.
///
/// Call `addMagnitude` for every quantized consumer, then `fixCandidates`, then `addErrors` for every quantized
/// consumer, then `best`. Weights are streamed twice and never held.
/// Source: Lin et al., AWQ (arXiv:2306.00978), section 3.2; formulas as in llm-compressor 0.14 `modifiers/transform/awq`.
package struct SmoothingSearch {
  private let meanAbsolute: [Float]
  let meanSquare: [Float]
  /// The largest magnitudes, `[C]`; empty where the statistics do not keep them.
  private let largest: [Float]
  /// One for each of `ActivationStatistics.gramRanges`; empty for the diagonal loss.
  private let grams: [Matrix]
  private let grid: [GridPoint]
  private var magnitude: [Double]
  private var rows = 0
  /// The scales of every grid point, `[C]` each.
  package private(set) var candidates: [[Float]] = []
  /// The loss of every grid point so far.
  package internal(set) var losses: [Double] = []

  /// Rows of a weight that one task judges; a function of the shape alone.
  package static let tileRows = 64

  package init(
    statistics: ActivationStatistics, loss: SmoothingLoss, grid: [GridPoint] = GridPoint.grid(),
    backend: Backend = Backend(threads: 1)
  ) {
    meanAbsolute = statistics.meanAbsolute
    meanSquare = statistics.meanSquare
    largest = statistics.largest
    grams = loss == .gram ? statistics.grams(backend: backend) : []
    self.grid = grid
    magnitude = [Double](repeating: 0, count: statistics.channels)
  }

  /// Adds the weight's share to the mean relative magnitude of each input channel.
  package mutating func addMagnitude(
    of weight: any WeightRows, in quantizer: WeightQuantizer, backend: Backend
  ) throws(NonFiniteWeight) {
    let group = quantizer.groupSize
    let parts = try backend.mapTiles(of: weight, by: Self.tileRows) { rows, _ in
      var sums = [Double](repeating: 0, count: rows.columns)
      for row in 0..<rows.rows {
        unsafe sluice_add_relative_magnitude(rows.row(row), rows.columns, group, &sums)
      }
      return sums
    }
    for part in parts {
      for (channel, sum) in part.enumerated() { magnitude[channel] += sum }
    }
    rows += weight.rows
  }

  static func tile(of weight: any WeightRows) -> TaskBuffer {
    TaskBuffer("weight tiles", floats: min(tileRows, weight.rows) * weight.columns)
  }

  /// s = x^r / (w^(1-r) + 1e-4), or x^r where weights take no part; at least 1e-4, over the geometric middle of its range.
  package mutating func fixCandidates(backend: Backend = Backend(threads: 1)) {
    if !backend.computes {
      candidates = grid.map { _ in [] }
      losses = grid.map { _ in 0 }
      return
    }
    candidates = grid.map { point in
      let scales = meanAbsolute.indices.map { channel in
        let x = Double(meanAbsolute[channel])
        let w = magnitude[channel] / Double(rows)
        let scale =
          point.usesWeights
          ? pow(x, point.ratio) / (pow(w, 1 - point.ratio) + 1e-4) : pow(x, point.ratio)
        return max(scale, 1e-4)
      }
      let middle = ((scales.max() ?? 1) * (scales.min() ?? 1)).squareRoot()
      return scales.map { scale in
        let normalized = Float(scale / middle)
        return normalized.isFinite ? normalized : 1
      }
    }
    losses = [Double](repeating: 0, count: candidates.count)
  }

  /// Adds what rounding `weight` under each candidate would do to its output, and what rounding its input would do.
  ///
  /// - Parameters:
  ///   - columns: of all weights that share a scale above their own with this one; nil where there is none.
  ///   - inputs: how the input is quantized; nil where it is read as it is.
  package mutating func addErrors(
    of weight: any WeightRows, in quantizer: WeightQuantizer, sharing columns: SharedColumns? = nil,
    inputs: QuantizationArguments? = nil, backend: Backend
  ) {
    let tiles = ranges(of: weight.rows, by: Self.tileRows)
    // As if every row had its own scales: what is compared is how well the numbers fit.
    let roundings = candidates.map { scale in
      quantizer.kernel(
        globalScale: columns.map {
          WholeWeight.coarseGlobalScale(largest: $0.largest(under: scale))
        })
    }
    let inverses = candidates.map { $0.map { 1 / $0 } }
    let (candidates, grams, meanSquare) = (candidates, grams, meanSquare)
    let noises = inputs.map { inputs in candidates.map { noise(of: inputs, under: $0) } } ?? []
    let squares = noises.isEmpty ? [] : candidates.map { $0.map { $0 * $0 } }
    weight.noteReading(weight.rows, tileRows: Self.tileRows, backend: backend)
    noteErrors(of: weight, backend)
    let parts = backend.map(tiles.count, each: buffers(of: weight)) { index in
      let rows = weight.matrix(tiles[index], from: backend.memory)
      let error = Matrix(
        "rows under search", rows: grams.isEmpty ? 1 : rows.rows, columns: rows.columns,
        from: backend.memory)
      return candidates.indices.map { candidate -> Double in
        var loss = 0.0
        if !noises.isEmpty, noises[candidate] > 0 {
          for row in 0..<rows.rows {
            loss +=
              unsafe noises[candidate]
              * sluice_weighted_squares(rows.row(row), squares[candidate], rows.columns)
          }
        }
        for row in 0..<rows.rows {
          let errorRow = unsafe error.row(grams.isEmpty ? 0 : row)
          unsafe sluice_rounding_error(
            rows.row(row), candidates[candidate], inverses[candidate], rows.columns,
            roundings[candidate], errorRow)
          if grams.isEmpty {
            loss += unsafe sluice_weighted_squares(errorRow, meanSquare, rows.columns)
          }
        }
        return loss + Gemm.quadraticForm(error, grams, from: backend.memory)
      }
    }
    for part in parts {
      for (candidate, loss) in part.enumerated() { losses[candidate] += loss }
    }
  }

  /// The mean square by which quantization changes each number of the input x / s: a twelfth of the square of its step.
  /// It goes with the largest number of a token, and so does what SmoothQuant evens out.
  ///
  /// A stored scale is that of the largest number of all. A token's own is told from second moments: the largest of n
  /// normal numbers of one size is about sqrt(2 ln n) times their deviation. Floats err by a share of each number,
  /// whatever the scale.
  /// Source: Xiao et al., SmoothQuant (arXiv:2211.10438), section 3 for why.
  private func noise(of inputs: QuantizationArguments, under scale: [Float]) -> Double {
    guard case .integer? = NumberFormat(inputs), let numbers = NumberFormat(inputs),
      !scale.isEmpty
    else { return 0 }
    let square: Double
    if inputs.dynamic == .never, !largest.isEmpty {
      let most = zip(largest, scale).map { Double($0 / $1) }.max() ?? 0
      square = most * most
    } else {
      let most = zip(meanSquare, scale).map { Double($0 / ($1 * $1)) }.max() ?? 0
      square = most * max(1, 2 * log(Double(scale.count)))
    }
    let step = numbers.scale(lowest: -square.squareRoot(), highest: square.squareRoot())
    return step * step / 12
  }

  /// Sums of a task, one for each candidate, are too few to count.
  private func buffers(of weight: any WeightRows) -> [TaskBuffer] {
    let rows = min(Self.tileRows, weight.rows)
    let error = TaskBuffer(
      "rows under search", floats: (grams.isEmpty ? 1 : rows) * weight.columns)
    let widest = grams.map(\.columns).max() ?? 0
    return [Self.tile(of: weight), error]
      + (grams.isEmpty ? [] : [TaskBuffer("rows under search", floats: rows * widest)])
  }

  private func noteErrors(of weight: any WeightRows, _ backend: Backend) {
    let squares = grams.reduce(0) { $0 + Double($1.columns) * Double($1.columns) }
    backend.ledger.note(
      Operation(
        .search, [weight.rows, weight.columns, grid.count, grams.count],
        arithmetic: 2 * Double(weight.rows) * squares * Double(grid.count)))
  }

  /// The grid point with the smallest finite loss; the earliest wins ties. Identity where no loss is finite.
  package var best: Int {
    var best = 0
    for index in losses.indices where losses[index].isFinite {
      if !losses[best].isFinite || losses[index] < losses[best] { best = index }
    }
    return best
  }
}
