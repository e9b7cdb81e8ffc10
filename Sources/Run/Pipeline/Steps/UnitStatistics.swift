// What calibration remembers of one unit: what its down projection reads, and how that goes with the projections before it.

internal import Calibration
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import Tensors
internal import Transformer

struct UnitStatistics {
  let unit: Int
  private let spec: UnitSpec
  /// Of what the down projection reads.
  let sums: ActivationStatistics
  /// Of its slopes, by the unit's sides; none where errors of the projections count alike.
  private let slopes: [ActivationStatistics]

  init(_ inputs: StepInputs, _ layer: LayerSpec, _ branch: Branch<MLPSpec>, unit: Int) {
    self.unit = unit
    spec = branch.mixer.unit(unit)
    let kinds = Self.kinds(inputs, layer, branch, unit: unit)
    sums = inputs.newStatistics(kinds[0].kind)
    slopes = kinds.dropFirst().map { inputs.newStatistics($0.kind) }
  }

  /// All of them, in a fixed order.
  var all: [ActivationStatistics] { [sums] + slopes }

  /// What is gathered of a unit, by name: its activation first.
  static func kinds(
    _ inputs: StepInputs, _ layer: LayerSpec, _ branch: Branch<MLPSpec>, unit: Int
  ) -> [(name: String, kind: StatisticsKind)] {
    let tap = branch.tap(.hidden(unit))
    return [(tap.place.name, inputs.gatheredKind(tap, of: layer))]
      + slopes(inputs, layer, branch, unit: unit)
  }

  private static func slopes(
    _ inputs: StepInputs, _ layer: LayerSpec, _ branch: Branch<MLPSpec>, unit: Int
  ) -> [(name: String, kind: StatisticsKind)] {
    let (mlp, spec) = (branch.mixer, branch.mixer.unit(unit))
    let width = spec.down.inputs
    guard StreamReaders(inputs).isKnown(in: layer), mlp.writesToStream(unit),
      spec.readers.contains(where: inputs.roundsRowsInTurn),
      let block = StreamMoments.unitBlockSize(width)
    else { return [] }
    return spec.sides.map { side in
      ("\(unit) \(side)", StatisticsKind(channels: width, withGram: true, block: block))
    }
  }

  // MARK: Gathering

  /// Adds what the unit makes of the tokens that it sees of a block.
  ///
  /// - Parameters:
  ///   - x: the block's input to the unit, `[T, H]`.
  ///   - scales: `[T]`, what the unit's router scales each token by before the unit reads it; nil where it does not.
  func add(
    _ seen: SeenTokens, of x: Matrix, scaledBy scales: [Float]? = nil, weights: any LayerWeights,
    backend: Backend
  ) {
    guard let rows = seen.rows ?? scales.map({ _ in Array(0..<x.rows) }) else {
      return add(x, weights: weights, counting: seen.weights, backend: backend)
    }
    func addPart(_ part: [Int], counting partWeights: [Float]?) {
      let gathered = x.gathered(part, into: "tokens of an expert", backend: backend)
      if let scales {
        gathered.multiply(
          byRows: backend.computes ? part.map { scales[$0] } : [], backend: backend)
      }
      add(gathered, weights: weights, counting: partWeights, backend: backend)
    }
    for part in ranges(of: rows.count, by: MLPSpec.gatheredRows) {
      addPart(Array(rows[part]), counting: seen.weights.map { Array($0[part]) })
    }
    if !backend.computes {
      // Another block may send more tokens to an expert: what that takes is planned, too.
      let most = Array(repeating: 0, count: min(x.rows, MLPSpec.gatheredRows))
      backend.ledger.repeated(0) { addPart(most, counting: nil) }
    }
  }

  /// - Parameter counts: how much each token counts; nil for all alike.
  private func add(
    _ x: Matrix, weights: any LayerWeights, counting counts: [Float]?, backend: Backend
  ) {
    if slopes.isEmpty {
      let hidden = spec.hidden(x, weights: weights, backend: backend)
      return sums.add(hidden, weights: counts, backend: backend)
    }
    let sides = spec.sides
    let hidden = spec.hidden(x, weights: weights, backend: backend) { side, each in
      guard let place = sides.firstIndex(of: side) else { return }
      slopes[place].add(each, weights: counts, backend: backend)
    }
    sums.add(hidden, weights: counts, backend: backend)
  }

  // MARK: Rounding

  /// By name, what errors of the unit's projections do. Uses up what was gathered for it.
  ///
  /// - Parameters:
  ///   - spec: of the unit; of another one like it where only shapes are known.
  ///   - stream: what errors of the down projection do; nil where that does not count.
  ///   - scale: of the smoothing of what the down projection reads; nil for none.
  func outputs(
    of spec: UnitSpec, under stream: StreamMoments?, weights: any LayerWeights,
    smoothedBy scale: [Float]?,
    backend: Backend
  ) -> [String: OutputFactor] {
    guard let stream, !slopes.isEmpty, let block = StreamMoments.unitBlockSize(spec.down.inputs)
    else { return [:] }
    let backend = backend.exact
    let behind = stream.moments(
      before: weights.weight(spec.down), block: block, backend: backend)
    let moments = slopes.map { $0.gradientMoments(behind: behind, backend: backend) }
    func factor(_ moments: [Matrix], _ scale: [Float]?) -> OutputFactor {
      OutputFactor(moments: moments, smoothedBy: scale, backend: backend)
    }
    if let gate = spec.gate {
      return [gate.name: factor(moments[0], nil), spec.up.name: factor(moments[1], scale)]
    }
    if moments.count == 1 { return [spec.up.name: factor(moments[0], scale)] }
    if case .clampedPairs = spec.activation {
      let pairs = zip(moments[0], moments[1]).map { Matrix.interleaved($0, $1, backend: backend) }
      return [spec.up.name: factor(pairs, nil)]
    }
    let ones = scale.map { [Float](repeating: 1, count: $0.count) + $0 }
    return [spec.up.name: factor(moments[0] + moments[1], ones)]
  }
}

extension MLPSpec {
  /// Whether errors of a unit's outputs reach the residual stream by norms and sums alone.
  func writesToStream(_ unit: Int) -> Bool { latent == nil || inputPlace(of: unit) == .input }
}

extension Matrix {
  /// Of two matrices `[n, n]`, one of pairs `[2 n, 2 n]`: the first counts for the first of each, and nothing for both.
  fileprivate static func interleaved(
    _ first: Matrix, _ second: Matrix, backend: Backend
  ) -> Matrix {
    let n = first.rows
    let result = backend.matrix("readers of inputs", rows: 2 * n, columns: 2 * n)
    backend.ledger.note(Operation(.elements, [result.count]))
    backend.forEach(n) { row in
      for (place, matrix) in [first, second].enumerated() {
        let to = unsafe result.row(2 * row + place)
        unsafe to.update(repeating: 0, count: 2 * n)
        for column in 0..<n { unsafe to[2 * column + place] = matrix.row(row)[column] }
      }
    }
    return result
  }
}
