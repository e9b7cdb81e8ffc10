// The formulas of the search on small matrices, written down once more in Double.

import Glibc
import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct SmoothingSearchTests {
  private let scheme = IntegerScheme(bits: 4, groupSize: 32, isSymmetric: true)
  private let backend = Backend(threads: 2)

  private func statistics(_ x: Matrix) -> ActivationStatistics {
    let result = ActivationStatistics(channels: x.columns, withGram: true)
    result.add(x, backend: backend)
    return result
  }

  private func search(
    _ weights: [Matrix], _ x: Matrix, _ loss: SmoothingLoss, dtype: DType = .f32,
    scheme: IntegerScheme? = nil, threads: Int = 2
  ) throws -> SmoothingSearch {
    let backend = Backend(threads: threads)
    let quantizer = (scheme ?? self.scheme).quantizer(dtype)
    var search = SmoothingSearch(statistics: statistics(x), loss: loss)
    for weight in weights { try search.addMagnitude(of: weight, in: quantizer, backend: backend) }
    search.fixCandidates()
    for weight in weights { search.addErrors(of: weight, in: quantizer, backend: backend) }
    return search
  }

  /// Activations with four outlier channels, and two weights that read them.
  private func example() -> (x: Matrix, weights: [Matrix]) {
    var generator = SeededGenerator(seed: 41)
    let gains = (0..<64).map { $0 % 16 == 3 ? Float(20) : 1 }
    let x = generator.floats(50 * 64).enumerated().map { $1 * gains[$0 % 64] }
    return (
      Matrix(rows: 50, columns: 64, values: x), [generator.matrix(70, 64), generator.matrix(9, 64)]
    )
  }

  @Test func theGridIsTheIdentityAndNineteenRatios() {
    let grid = GridPoint.grid()
    #expect(grid.count == 20)
    #expect(grid.map(\.ratio) == [0] + (0...18).map { Double($0) / 18 })
    #expect(grid.map(\.usesWeights) == [false] + [Bool](repeating: true, count: 19))
  }

  /// The peer's formulas, written down once more.
  @Test func `other grids are the peer's`() {
    func points(_ grid: [GridPoint]) -> [String] { grid.map { "\($0.ratio) \($0.usesWeights)" } }
    for n in [2, 3, 7, 20] {
      #expect(
        points(GridPoint.grid(points: n, duo: .off))
          == (0..<n).map { "\(Double($0) / Double(n - 1)) false" })
    }
    for n in [3, 4, 20, 31] {
      #expect(
        points(GridPoint.grid(points: n, duo: .on))
          == ["0.0 false"] + (0...(n - 2)).map { "\(Double($0) / Double(n - 2)) true" })
    }
    for n in [4, 5, 20] {
      let half = n / 2
      #expect(
        points(GridPoint.grid(points: n, duo: .both))
          == (0..<half).flatMap { index -> [String] in
            let ratio = Double(index) / Double(half - 1)
            return ["\(ratio) false", "\(ratio) true"]
          })
    }
  }

  @Test(arguments: DuoScaling.allCases)
  func `every grid begins with the identity and has finite ratios from the smallest size on`(
    duo: DuoScaling
  ) {
    for points in duo.gridSizes.lowerBound...40 {
      let grid = GridPoint.grid(points: points, duo: duo)
      #expect(grid[0].ratio == 0 && !grid[0].usesWeights)
      #expect(grid.map(\.ratio).max() == 1)
      #expect(grid.allSatisfy { $0.ratio >= 0 })
    }
  }

  @Test func `without duo scaling only activations make the scales`() throws {
    let (x, weights) = example()
    let grid = GridPoint.grid(points: 5, duo: .off)
    var search = SmoothingSearch(statistics: statistics(x), loss: .diagonal, grid: grid)
    for weight in weights {
      try search.addMagnitude(of: weight, in: scheme.quantizer(.f32), backend: backend)
    }
    search.fixCandidates()
    let mean = (0..<64).map { channel in
      (0..<x.rows).reduce(0.0) { $0 + Double(abs(x.values[$1 * 64 + channel])) } / Double(x.rows)
    }
    #expect(search.candidates.count == 5)
    for (point, scales) in zip(grid, search.candidates) {
      let raw = mean.map { max(pow($0, point.ratio), 1e-4) }
      let middle = ((raw.max() ?? 1) * (raw.min() ?? 1)).squareRoot()
      #expect(zip(scales, raw).allSatisfy { abs(Double($0) / ($1 / middle) - 1) < 1e-5 })
    }
  }

  @Test func candidatesAreTheFormulaOfThePaper() throws {
    let (x, weights) = example()
    let found = try search(weights, x, .diagonal).candidates
    let xMean = (0..<64).map { channel in
      (0..<x.rows).reduce(0.0) { $0 + Double(abs(x.values[$1 * 64 + channel])) } / Double(x.rows)
    }
    var wMean = [Double](repeating: 0, count: 64)
    for weight in weights {
      for row in 0..<weight.rows {
        for channel in 0..<64 {
          let start = row * 64 + channel / 32 * 32
          let largest = weight.values[start..<start + 32].map(abs).max() ?? 0
          wMean[channel] += Double(abs(weight.values[row * 64 + channel]) / (largest + 1e-6)) / 79
        }
      }
    }
    #expect(found[0] == [Float](repeating: 1, count: 64))
    for (point, scales) in zip(GridPoint.grid(), found).dropFirst() {
      let raw = zip(xMean, wMean).map { x, w in
        max(pow(x, point.ratio) / (pow(w, 1 - point.ratio) + 1e-4), 1e-4)
      }
      let middle = (raw.max()! * raw.min()!).squareRoot()
      #expect(zip(scales, raw).allSatisfy { abs(Double($0) / ($1 / middle) - 1) < 1e-5 })
    }
  }

  /// Rounds the scaled weight with the public rounding, and multiplies the change with every token.
  private func change(
    _ weight: Matrix, _ x: Matrix, scale: [Float], scheme: IntegerScheme, dtype: DType
  ) throws -> (diagonal: Double, exact: Double) {
    let columns = weight.columns
    let scaled = Matrix(
      rows: weight.rows, columns: columns,
      values: weight.values.enumerated().map { $1 * scale[$0 % columns] })
    let rounded = try scheme.round(scaled, rows: 0..<weight.rows, dtype: dtype)
    let groups = columns / scheme.groupSize
    let change = weight.values.enumerated().map { index, value -> Double in
      let (row, column) = (index / columns, index % columns)
      let group = row * groups + column / scheme.groupSize
      let code = Double(rounded.codes[index]) - Double(rounded.zeroPoints[group])
      return code * Double(rounded.scales[group]) / Double(scale[column]) - Double(value)
    }
    var (diagonal, exact) = (0.0, 0.0)
    for token in 0..<x.rows {
      let input = x.values[token * columns..<(token + 1) * columns].map(Double.init)
      for row in 0..<weight.rows {
        var sum = 0.0
        for column in 0..<columns {
          let term = change[row * columns + column] * input[column]
          sum += term
          diagonal += term * term
        }
        exact += sum * sum
      }
    }
    return (diagonal / Double(x.rows), exact / Double(x.rows))
  }

  @Test(arguments: [true, false], [DType.f32, .bf16])
  func lossesAreTheSquaredChangeOfTheOutputs(isSymmetric: Bool, dtype: DType) throws {
    let (x, weights) = example()
    let scheme = IntegerScheme(bits: 4, groupSize: 32, isSymmetric: isSymmetric)
    let stored = weights.map {
      Matrix(rows: $0.rows, columns: $0.columns, values: dtype.rounded($0.values))
    }
    let diagonal = try search(stored, x, .diagonal, dtype: dtype, scheme: scheme)
    let gram = try search(stored, x, .gram, dtype: dtype, scheme: scheme)
    for point in [0, 1, 9, 19] {
      let expected = try stored.map {
        try change($0, x, scale: diagonal.candidates[point], scheme: scheme, dtype: dtype)
      }
      let (diagonalSum, exactSum) = expected.reduce((0, 0)) {
        ($0.0 + $1.diagonal, $0.1 + $1.exact)
      }
      #expect(abs(diagonal.losses[point] / diagonalSum - 1) < 1e-4, "point \(point)")
      #expect(abs(gram.losses[point] / exactSum - 1) < 1e-4, "point \(point)")
    }
  }

  @Test(arguments: SmoothingLoss.allCases)
  func theResultIsTheSameForEveryNumberOfThreads(loss: SmoothingLoss) throws {
    let (x, weights) = example()
    let results = try [1, 2, 7].map { try search(weights, x, loss, threads: $0) }
    for other in results[1...] {
      #expect(other.losses == results[0].losses)
      #expect(other.candidates == results[0].candidates)
    }
  }

  @Test(arguments: SmoothingLoss.allCases)
  func theIdentityWinsTies(loss: SmoothingLoss) throws {
    let (x, _) = example()
    // Nothing is lost at any grid point: a row of zeros.
    let result = try search([Matrix(zeros: 4, 64)], x, loss)
    #expect(result.losses.allSatisfy { $0 == 0 })
    #expect(result.best == 0)
  }

  @Test func theSmallestLossWins() throws {
    let (x, weights) = example()
    let result = try search(weights, x, .diagonal)
    #expect(result.losses[result.best] == result.losses.min())
    #expect(result.best > 1, "outlier channels are worth protecting")
  }

  @Test(arguments: SmoothingLoss.allCases)
  func aChannelThatIsAlwaysZeroKeepsScalesFinite(loss: SmoothingLoss) throws {
    let (x, weights) = example()
    for row in 0..<x.rows { unsafe x.row(row)[5] = 0 }
    let result = try search(weights, x, loss)
    #expect(result.candidates.joined().allSatisfy { $0.isFinite && $0 > 0 })
    #expect(result.losses.allSatisfy { $0.isFinite })
  }

  // MARK: Scales that rows share

  private static func weights(_ preset: String) throws -> QuantizationArguments {
    try #require(SchemePreset.named(preset)?.scheme.weights)
  }

  /// A channel that is always 0 gets the smallest scale there is, and the row that makes it becomes the largest by far.
  @Test(arguments: ["NVFP4A16", "FP8"])
  func `a producer whose rows share a scale keeps them`(preset: String) throws {
    var generator = SeededGenerator(seed: 61)
    let gains = (0..<64).map { $0 == 9 ? Float(0) : $0 % 16 == 3 ? 20 : 1 }
    let x = Matrix(
      rows: 50, columns: 64,
      values: generator.floats(50 * 64).enumerated().map { $1 * gains[$0 % 64] })
    let (reader, producer) = (generator.matrix(70, 64), generator.matrix(64, 64))
    for column in 0..<64 { unsafe producer.row(9)[column] *= 100 }
    let quantizer = WeightQuantizer(try Self.weights(preset), columns: 64, dtype: .bf16)
    var search = SmoothingSearch(statistics: statistics(x), loss: .diagonal)
    try search.addMagnitude(of: reader, in: quantizer, backend: backend)
    search.fixCandidates()
    var readers = SharedColumns(columns: 64)
    readers.add(reader, backend: backend)
    search.addErrors(
      of: reader, in: quantizer, sharing: quantizer.needsLargest ? readers : nil, backend: backend)
    let before = search.losses
    let naive = search.best
    try search.addLosses(
      ofProducer: producer, in: quantizer, beside: 0, readers: readers, backend: backend)
    func lost(_ candidate: Int) throws -> Int {
      let divided = SmoothedRows(
        producer, columnScale: nil, rowDivisor: search.candidates[candidate])
      let whole = try quantizer.whole(divided, backend: backend)
      return try quantizer.round(divided, rows: 0..<64, knowing: whole).errors.lostRows
    }
    #expect(try lost(naive) > 30)
    #expect(try lost(search.best) == 0)
    #expect(zip(search.losses, before).allSatisfy { $0 >= $1 })
    #expect(search.losses[0] == before[0])
  }

  /// Where every row is within reach, nothing is added, and the scale above others decides nothing.
  @Test(arguments: ["NVFP4A16", "FP8", "FP8_BLOCK"])
  func `rows that share a scale and are alike cost nothing more`(preset: String) throws {
    let (x, weights) = example()
    let quantizer = WeightQuantizer(try Self.weights(preset), columns: 64, dtype: .bf16)
    var generator = SeededGenerator(seed: 62)
    let producer = generator.matrix(64, 64)
    var readers = SharedColumns(columns: 64)
    for weight in weights { readers.add(weight, backend: backend) }
    func search(_ shared: SharedColumns?) throws -> SmoothingSearch {
      var result = SmoothingSearch(statistics: statistics(x), loss: .diagonal)
      for weight in weights {
        try result.addMagnitude(of: weight, in: quantizer, backend: backend)
      }
      result.fixCandidates()
      for weight in weights {
        result.addErrors(of: weight, in: quantizer, sharing: shared, backend: backend)
      }
      return result
    }
    let alone = try search(nil)
    var shared = try search(quantizer.needsLargest ? readers : nil)
    #expect(shared.losses == alone.losses)
    try shared.addLosses(
      ofProducer: producer, in: quantizer, beside: 3, readers: readers, backend: backend)
    #expect(shared.losses == alone.losses)
  }

  /// The squares of such a row are 0 in float32.
  @Test(arguments: ["NVFP4A16", "FP8", "FP8_BLOCK"])
  func `a row as good as zero does not spoil the search`(preset: String) throws {
    let (x, weights) = example()
    let quantizer = WeightQuantizer(try Self.weights(preset), columns: 64, dtype: .bf16)
    var generator = SeededGenerator(seed: 64)
    let producer = generator.matrix(64, 64)
    for column in 0..<64 { unsafe producer.row(11)[column] *= 1e-30 }
    var readers = SharedColumns(columns: 64)
    var search = SmoothingSearch(statistics: statistics(x), loss: .diagonal)
    for weight in weights {
      readers.add(weight, backend: backend)
      try search.addMagnitude(of: weight, in: quantizer, backend: backend)
    }
    search.fixCandidates()
    for weight in weights {
      search.addErrors(
        of: weight, in: quantizer, sharing: quantizer.needsLargest ? readers : nil,
        backend: backend)
    }
    let before = search.best
    try search.addLosses(
      ofProducer: producer, in: quantizer, beside: 3, readers: readers, backend: backend)
    #expect(search.losses.allSatisfy { $0.isFinite })
    #expect(search.best == before)
  }

  @Test func `columns of several weights are the same for any threads`() {
    var generator = SeededGenerator(seed: 63)
    let weights = [generator.matrix(1100, 64), generator.matrix(5, 64)]
    let all = [1, 2, 7].map { threads in
      var columns = SharedColumns(columns: 64)
      for weight in weights { columns.add(weight, backend: Backend(threads: threads)) }
      return columns
    }
    #expect(all[0] == all[1] && all[0] == all[2])
    for column in 0..<64 {
      let values = weights.flatMap { weight in
        (0..<weight.rows).map { unsafe Double(weight.row($0)[column]) }
      }
      #expect(Double(all[0].largest[column]) == values.map(abs).max())
      let sum = values.reduce(0) { $0 + $1 * $1 }
      #expect(abs(all[0].squares[column] / sum - 1) < 1e-6)
    }
  }

  @Test func activationsThatAreAllZeroGiveTheIdentity() throws {
    let (_, weights) = example()
    let result = try search(weights, Matrix(zeros: 4, 64), .diagonal)
    #expect(result.best == 0)
    #expect(result.candidates.joined().allSatisfy { $0.isFinite && $0 > 0 })
  }

  @Test func aNonFiniteWeightIsRefusedByRowAndColumn() {
    let (x, weights) = example()
    for bad in [Float.nan, .infinity] {
      unsafe weights[0].row(66)[33] = bad
      #expect(throws: NonFiniteWeight(row: 66, column: 33)) {
        try search(weights, x, .diagonal)
      }
    }
  }
}
