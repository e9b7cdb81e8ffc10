// The ways of rounding a weight: to nearest, within clipped ranges, or with errors compensated.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// How weights become codes.
package enum RoundingMethod: String, Sendable, CaseIterable {
  /// Group ranges from the smallest and largest weight, each weight by itself.
  case nearest
  /// Group ranges from a search, each weight by itself.
  case clip
  /// Group ranges from a search, and later weights of a row make up for the errors of earlier ones.
  case fast
  /// Likewise, and later rows make up for earlier ones where it is known what their errors do behind them.
  case compensated

  /// Whether it asks for Gram matrices of the activations.
  package var needsGram: Bool { self == .fast || self == .compensated }
  /// Whether it asks for gradients at the outputs of Linears.
  package var compensatesOutputs: Bool { self == .compensated }
  /// Whether it asks for statistics of the activations at all.
  package var needsStatistics: Bool { self != .nearest }
}

/// A method of rounding with what it knows of the activation that the weight meets.
package enum Rounding: Sendable {
  case nearest
  /// E[x²] of each input channel.
  case clip([Float])
  case compensated(GramFactors)

  /// Rows that one task rounds: whole words of zero points at any number of bits.
  package var tileRows: Int {
    if case .compensated(let factors) = self {
      Self.compensatedRows(factors.engine)
    } else {
      64
    }
  }

  /// Rows that one task rounds with errors handed on.
  package static func compensatedRows(_ engine: Engine) -> Int {
    CompensatedTile.largestRows(engine)
  }
}

extension Rounding {
  /// What a task holds that rounds some rows of a weight `[rows, channels]`: decoded, then while errors are handed on;
  /// codes, words and scales when it is done.
  package func buffers(rows: Int, channels: Int) -> [TaskBuffer] {
    let count = min(rows, tileRows)
    let result = [
      TaskBuffer("weight tiles", floats: count * channels),
      TaskBuffer("rows being packed", byteCount: count * channels * 2, pool: .heap),
    ]
    guard case .compensated(let factors) = self else { return result }
    return result + factors.tileBuffers(rows: count)
  }

  /// Rounding a weight `[rows, channels]`. Errors are handed on by two products to measure and to compensate and two for
  /// each refinement; what the weight itself puts out is one more.
  ///
  /// - Parameters:
  ///   - one: rows of one weight, where there are those of several alike; nil for `rows`.
  ///   - outputs: of the weight, where rows make up for the errors of others, too.
  ///   - measuring: whether what the weight puts out is measured, too.
  package func operation(
    rows: Int, of one: Int? = nil, channels: Int, outputs: OutputFactor? = nil,
    measuring: Bool = false
  ) -> Operation {
    guard case .compensated(let factors) = self else {
      return Operation(.round, [rows, channels])
    }
    let squares = factors.parts.reduce(0) {
      $0 + Double($1.channels.count) * Double($1.channels.count)
    }
    return Operation(
      .compensate,
      [
        rows, channels, outputs?.stepRows(one ?? rows) ?? min(one ?? rows, tileRows),
        outputs?.taskRows ?? min(one ?? rows, tileRows),
      ],
      arithmetic: squares * Double(rows)
        * Double(2 + 2 * CompensatedTile.refinements + (measuring ? 1 : 0)))
  }
}

extension GramFactors {
  /// What errors are handed on in, for some rows at a time.
  func tileBuffers(rows: Int) -> [TaskBuffer] {
    CompensatedTile.buffers(
      rows: rows, channels: parts.map(\.channels.count).max() ?? 0,
      refined: parts.map(\.refinedColumns).max() ?? 0, engine
    ).map { TaskBuffer("rows being rounded", byteCount: $0) }
  }
}

/// What rounding did to a Linear's output: mean squares per token, summed over rows of the weight.
package struct RoundingErrors: Sendable, Equatable {
  /// tr(D G Dᵀ) of what was chosen; of `clip`, its diagonal alone.
  package var chosen = 0.0
  /// tr(D G Dᵀ) of rounding to nearest.
  package var nearest = 0.0
  /// Rows that are rounded to nearest, because nothing was better.
  package var nearestRows = 0
  package var rows = 0
  /// tr(W G Wᵀ), what the weight itself puts out, where that is measured; of `clip`, its diagonal alone.
  package internal(set) var signal = 0.0
  /// Rows of a weight whose every code is 0, though they are not: too small for what they share with others.
  package internal(set) var lostRows = 0

  package init() {}

  package mutating func add(_ other: RoundingErrors) {
    chosen += other.chosen
    nearest += other.nearest
    nearestRows += other.nearestRows
    rows += other.rows
    signal += other.signal
    lostRows += other.lostRows
  }

  /// Chooses for one row.
  ///
  /// - Returns: whether the candidate is better than rounding to nearest.
  mutating func choose(_ candidate: Double, nearest plain: Double) -> Bool {
    let isBetter = candidate < plain
    rows += 1
    nearestRows += isBetter ? 0 : 1
    chosen += isBetter ? candidate : plain
    nearest += plain
    return isBetter
  }
}

extension WeightQuantizer {
  /// Rounds rows of `weight`.
  ///
  /// - Parameters:
  ///   - whole: what `whole(_:)` found of the weight.
  ///   - measuring: whether what the weight itself puts out is measured, too.
  /// - Throws: `NonFiniteWeight` at the first NaN or infinity.
  package func round(
    _ weight: any WeightRows, rows: Range<Int>, by rounding: Rounding = .nearest,
    knowing whole: WholeWeight = .unneeded, measuring: Bool = false,
    from budget: MemoryBudget = Matrix.unlimited
  ) throws(NonFiniteWeight) -> QuantizedRows {
    let values = try weight.finite(rows, from: budget)
    var result = QuantizedRows(
      rows: values.rows, columns: values.columns, groups: groups(of: values.columns),
      globalScale: whole.globalScale)
    let kernel = kernel(globalScale: whole.globalScale)
    func shared(_ row: Int) -> [Float]? {
      whole.scales(ofRow: rows.lowerBound + row, self, columns: values.columns)
    }
    switch rounding {
    // Ranges that rows share are not clipped for one of them.
    case .nearest where sharesScales, .clip where sharesScales:
      var moments: [Float]?
      if measuring, case .clip(let known) = rounding { moments = known }
      for row in 0..<values.rows {
        if let scales = shared(row) {
          unsafe result.round(
            row, values.row(row), within: GroupRanges(scales: scales), weighted: moments,
            by: kernel)
        }
      }
    case .nearest:
      for row in 0..<values.rows { unsafe result.round(row, values.row(row), by: kernel) }
    case .clip(let moments):
      for row in 0..<values.rows {
        unsafe result.clip(row, values.row(row), weighted: moments, by: kernel)
      }
    case .compensated(let factors):
      let kernel = self.kernel(globalScale: whole.globalScale, signed: true)
      let tile = CompensatedTile(values, by: kernel, refining: self, from: budget)
      unsafe tile.round(under: factors, sharing: shared, measuring: measuring, into: &result)
    }
    if losesSmallRows {
      unsafe result.countLostRows(of: (0..<values.rows).map { unsafe values.row($0) }, numbers)
    }
    if measuring, case .clip(let moments) = rounding {
      for row in 0..<values.rows {
        result.errors.signal += unsafe sluice_weighted_squares(
          values.row(row), moments, values.columns)
      }
    }
    return result
  }
}

extension Backend {
  /// What `body` makes of every tile of a weight, in their order; it takes the rows and the number of the first one.
  ///
  /// - Throws: `NonFiniteWeight` at the first NaN or infinity.
  func mapTiles<Value: Sendable>(
    of weight: any WeightRows, by tileRows: Int, _ body: @Sendable (Matrix, _ first: Int) -> Value
  ) throws(NonFiniteWeight) -> [Value] {
    let tiles = ranges(of: weight.rows, by: tileRows)
    weight.noteReading(weight.rows, tileRows: tileRows, backend: self)
    ledger.note(Operation(.elements, [weight.rows * weight.columns]))
    let tile = TaskBuffer("weight tiles", floats: min(tileRows, weight.rows) * weight.columns)
    let parts = map(tiles.count, each: [tile]) { index -> Result<Value, NonFiniteWeight> in
      Result { () throws(NonFiniteWeight) -> Value in
        body(try weight.finite(tiles[index], from: memory), tiles[index].lowerBound)
      }
    }
    var result: [Value] = []
    for part in parts { result.append(try part.get()) }
    return result
  }
}

extension WeightRows {
  /// Rows in float32.
  ///
  /// - Throws: `NonFiniteWeight` at the first NaN or infinity.
  func finite(_ rows: Range<Int>, from budget: MemoryBudget) throws(NonFiniteWeight) -> Matrix {
    let values = matrix(rows, from: budget)
    if let bad = values.firstNonFinite {
      throw NonFiniteWeight(
        row: rows.lowerBound + bad / values.columns, column: bad % values.columns)
    }
    return values
  }
}
