// Searches, compensation and refinement on every kind of number and scale: better than to nearest, and never worse.

import CompressedTensors
import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport

@Suite struct EverySchemeTests {
  /// Weights by their arguments, each kind of numbers, scales and sharing once.
  static let all: [QuantizationArguments] =
    [
      "W3A16", "W4A16_ASYM", "W8A8", "FP8", "FP8_DYNAMIC", "FP8_BLOCK", "NVFP4A16", "MXFP4A16",
      "MXFP6A16", "MXFP8A16",
    ].compactMap { SchemePreset.named($0)?.scheme.weights }
    + [
      .integers(bits: 4, groupSize: 256), .integers(bits: 4, groupSize: -1).grouped(by: -1),
      QuantizationArguments(bits: 4, isSymmetric: false, strategy: .channel),
      // Blocks that no unit of products divides.
      QuantizationArguments(
        bits: 8, type: .float, strategy: .block,
        block: QuantizationArguments.Block(rows: 24, columns: 40)),
    ]

  /// Those that this CPU has.
  private static let engines = [Engine.f32, .bf16].filter(\.isAvailable)

  private let backend = Backend(threads: 2)

  /// tr(D G Dᵀ) by rows, in Double.
  private func errors(_ found: [Float], _ weight: Matrix, _ gram: Matrix) -> [Double] {
    (0..<weight.rows).map { row in
      let change = (0..<weight.columns).map {
        unsafe Double(found[row * weight.columns + $0]) - Double(weight.row(row)[$0])
      }
      return change.indices.reduce(0.0) { sum, i in
        change.indices.reduce(sum) { unsafe $0 + change[i] * change[$1] * Double(gram.row(i)[$1]) }
      }
    }
  }

  private func values(_ rows: QuantizedRows, _ quantizer: WeightQuantizer) -> [Float] {
    var result = [Float](repeating: 0, count: rows.rows * rows.columns)
    for row in 0..<rows.rows {
      let own = row * rows.groups..<(row + 1) * rows.groups
      unsafe result.withUnsafeMutableBufferPointer { to in
        unsafe rows.codes.withUnsafeBufferPointer { codes in
          unsafe quantizer.decode(
            codes.baseAddress! + row * rows.columns, scales: Array(rows.scales[own]),
            zeroPoints: Array(rows.zeroPoints[own]), columns: rows.columns,
            into: to.baseAddress! + row * rows.columns)
        }
      }
    }
    return result
  }

  @Test(arguments: all, engines)
  func `compensated rounding is better than to nearest, and no row is worse`(
    arguments: QuantizationArguments, engine: Engine
  ) throws {
    let (rows, columns) = (70, arguments.strategy == .channel ? 384 : 256)
    var generator = SeededGenerator(seed: 101)
    let weight = generator.matrix(rows, columns)
    let x = generator.matrix(400, columns)
    for row in 0..<x.rows {
      for channel in 0..<columns {
        unsafe x.row(row)[channel] =
          (channel % 17 == 0 ? 6 : 1)
          * (x.row(row)[channel] + 0.7 * x.row(row)[channel / 8 * 8])
      }
    }
    let statistics = ActivationStatistics(channels: columns, withGram: true)
    statistics.add(x, backend: backend)
    let gram = try #require(statistics.grams().first).prefix(columns)
    let ratio = try errorToNearest(weight, under: statistics, gram, arguments, engine)
    #expect(ratio < 0.75, "\(ratio)")
  }

  /// Rounds, and holds what is told of the errors against what codes and scales make.
  ///
  /// - Parameters:
  ///   - statistics: of the input; they are used up.
  ///   - gram: what of its products counts, `[in, in]`.
  /// - Returns: tr(D G Dᵀ) of the whole weight over that of rounding to nearest.
  private func errorToNearest(
    _ weight: Matrix, under statistics: ActivationStatistics, _ gram: Matrix,
    _ arguments: QuantizationArguments, _ engine: Engine
  ) throws -> Double {
    let quantizer = WeightQuantizer(arguments, columns: weight.columns, dtype: .bf16)
    let whole = try quantizer.whole(weight, backend: backend)
    let rounding = Rounding.compensated(
      try statistics.factors(
        smoothedBy: nil, refining: [quantizer.refinedColumns], damping: 0.005,
        backend: Backend(threads: 2, engine: engine)))
    let rows = 0..<weight.rows
    let plain = try quantizer.round(weight, rows: rows, knowing: whole)
    let found = try quantizer.round(weight, rows: rows, by: rounding, knowing: whole)
    let (before, after) = (
      errors(values(plain, quantizer), weight, gram), errors(values(found, quantizer), weight, gram)
    )
    let (sum, plainSum) = (after.reduce(0, +), before.reduce(0, +))
    // Products in bf16 know an error to a part in a hundred or so.
    #expect(zip(after, before).allSatisfy { $0 <= $1 * 1.02 })
    #expect(abs(found.errors.chosen - sum) < 0.02 * sum)
    #expect(abs(found.errors.nearest - plainSum) < 0.02 * plainSum)
    return sum / plainSum
  }

  /// Wide activations are cut by their width alone: a part may begin and end within a group.
  @Test(arguments: all, engines)
  func `rounding in parts tells the error that its codes make`(
    arguments: QuantizationArguments, engine: Engine
  ) throws {
    let (rows, columns, part) = (70, 640, 224)
    var generator = SeededGenerator(seed: 103)
    let weight = generator.matrix(rows, columns)
    // Groups of sizes that differ, so that a neighbour's scale would not do.
    for row in 0..<rows {
      for column in 0..<columns {
        unsafe weight.row(row)[column] *= Float(1 + column / 8 * 7 % 5)
      }
    }
    func statistics() -> ActivationStatistics {
      var generator = SeededGenerator(seed: 104)
      let x = generator.matrix(800, columns)
      for row in 0..<x.rows {
        for channel in 0..<columns {
          unsafe x.row(row)[channel] += 0.7 * x.row(row)[channel / 8 * 8]
        }
      }
      let result = ActivationStatistics(channels: columns, withGram: true, block: part)
      result.add(x, backend: backend)
      return result
    }
    let gram = Matrix(zeros: columns, columns)
    for (channels, moments) in zip(ranges(of: columns, by: part), statistics().grams()) {
      for (row, channel) in channels.enumerated() {
        unsafe (gram.row(channel) + channels.lowerBound)
          .update(from: moments.row(row), count: channels.count)
      }
    }
    let ratio = try errorToNearest(weight, under: statistics(), gram, arguments, engine)
    #expect(ratio < 0.9, "\(ratio)")
  }

  @Test(arguments: all)
  func `what was rounded passes for a rounding of its source`(
    arguments: QuantizationArguments
  ) throws {
    let (rows, columns) = (64, 512)
    var generator = SeededGenerator(seed: 102)
    let weight = generator.matrix(rows, columns)
    for column in 0..<columns { unsafe weight.row(5)[column] = 0 }
    let quantizer = WeightQuantizer(arguments, columns: columns, dtype: .bf16)
    let whole = try quantizer.whole(weight, backend: backend)
    let found = try quantizer.round(weight, rows: 0..<rows, knowing: whole)
    var evidence = RoundingEvidence(quantizer)
    let stands = Matrix(rows: rows, columns: columns, values: values(found, quantizer))
    evidence.add(
      stands, from: weight, firstRow: 0, scales: found.scales,
      zeroPoints: quantizer.numbers.hasZeroPoints ? found.zeroPoints : nil)
    #expect(evidence.faults == [])
    var other = RoundingEvidence(quantizer)
    let shifted = Matrix(rows: rows, columns: columns)
    for row in 0..<rows {
      unsafe shifted.row(row).update(from: stands.row((row + 7) % rows), count: columns)
    }
    other.add(
      shifted, from: weight, firstRow: 0, scales: found.scales,
      zeroPoints: quantizer.numbers.hasZeroPoints ? found.zeroPoints : nil)
    #expect(other.faults != [])
  }

  /// Also one that all rows share, or those of a block.
  @Test(arguments: all)
  func `a scale that is three times too large is told from clipping`(
    arguments: QuantizationArguments
  ) throws {
    let (rows, columns) = (64, 512)
    var generator = SeededGenerator(seed: 104)
    let weight = generator.matrix(rows, columns)
    let quantizer = WeightQuantizer(arguments, columns: columns, dtype: .bf16)
    guard case .plain = quantizer.scales else { return }
    let whole = try quantizer.whole(weight, backend: backend)
    let found = try quantizer.round(weight, rows: 0..<rows, knowing: whole)
    var evidence = RoundingEvidence(quantizer)
    let stands = values(found, quantizer).map { 3 * $0 }
    evidence.add(
      Matrix(rows: rows, columns: columns, values: stands), from: weight, firstRow: 0,
      scales: found.scales.map { 3 * $0 },
      zeroPoints: quantizer.numbers.hasZeroPoints ? found.zeroPoints : nil)
    let isTold = evidence.faults.contains { if case .scales = $0 { true } else { false } }
    #expect(isTold, "\(evidence.faults)")
  }

  /// One pass finds the same whatever the tiles and threads.
  @Test func `the largest weight is that of all rows, also over several weights`() throws {
    let quantizer = WeightQuantizer(
      try #require(SchemePreset.named("NVFP4A16")?.scheme.weights), columns: 64, dtype: .bf16)
    var generator = SeededGenerator(seed: 103)
    let weight = generator.matrix(200, 64)
    unsafe weight.row(131)[40] = -9
    for threads in [1, 2, 5] {
      let backend = Backend(threads: threads)
      #expect(try quantizer.largest(of: weight, backend: backend) == 9)
      #expect(try quantizer.whole(weight, backend: backend).globalScale == (1 / 9 as Float) * 2688)
      #expect(
        try quantizer.whole(weight, largest: 12, backend: backend).globalScale == (1 / 12 as Float)
          * 2688)
    }
    unsafe weight.row(131)[41] = .nan
    #expect(throws: NonFiniteWeight(row: 131, column: 41)) {
      try quantizer.largest(of: weight, backend: backend)
    }
  }
}
