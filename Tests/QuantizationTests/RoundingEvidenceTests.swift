// A rounding is told from damage, whatever its weights and activations are.

import Glibc
import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport

@Suite struct RoundingEvidenceTests {
  private let backend = Backend(threads: 2, engine: .f32)

  /// A weight, what it meets, and how it is rounded.
  private struct Case {
    var rows = 64
    var columns = 256
    var scheme = IntegerScheme(.w4a16, groupSize: 32)
    var method = RoundingMethod.compensated
    var dtype = DType.bf16
    var damping = 0.005
    /// Groups of a row that are smaller by up to this power of ten, and how they lie.
    var spread = 0.0
    var pattern = Pattern.cells
    /// A column of the weight that is larger.
    var largeColumn: Float = 1
    /// Weights near 0 but for one in so many.
    var sparseness = 1
    var tokens = 500
    /// The rank of the activation; nil for channels that have nothing in common.
    var rank: Int?
    var noise: Float = 0.5
    var mean: Float = 0
    /// Channels that are louder.
    var loud: Float = 1
    var loudChannels = 1

    enum Pattern: CaseIterable { case cells, columns, oneColumn, oneCell, oneLargeCell, rows }

    /// Drawn from all that a model may bring, and from more.
    static func random(_ generator: inout SeededGenerator) -> Case {
      func pick<T>(_ values: T...) -> T {
        values[Int.random(in: 0..<values.count, using: &generator)]
      }
      var result = Case()
      result.scheme = IntegerScheme(
        pick(.w4a16, .w4a16, .w4a16Asymmetric, .w8a16), groupSize: pick(32, 64, 128))
      result.columns = result.scheme.groupSize * pick(1, 2, 4, 8)
      result.rows = pick(32, 64, 130)
      result.method = pick(.compensated, .compensated, .compensated, .clip, .nearest)
      result.dtype = pick(.bf16, .bf16, .f16, .f32)
      result.damping = pick(0.0001, 0.005, 0.005, 0.1)
      result.spread = pick(0, 0.5, 1, 2, 3)
      result.pattern = pick(.cells, .columns, .oneColumn, .oneCell, .oneLargeCell, .rows)
      result.largeColumn = pick(1, 1, 10, 100, 1000)
      result.sparseness = pick(1, 1, 1, 10)
      result.tokens = pick(32, 128, 1000)
      result.rank = pick(nil, 1, 2, 8)
      result.noise = pick(0.01, 0.1, 0.5)
      result.mean = pick(0, 0, 1, 5)
      result.loud = pick(1, 10, 1000, 1_000_000)
      result.loudChannels = pick(1, 2, 5)
      return result
    }

    func weight(_ generator: inout SeededGenerator) -> Matrix {
      let group = scheme.groupSize
      let groups = columns / group
      func share() -> Float { Float(pow(10, -Double.random(in: 0...spread, using: &generator))) }
      func cell(_ body: (Int, Int) -> Bool) -> [Float] {
        (0..<rows * groups).map { body($0 / groups, $0 % groups) ? Float(pow(10, -spread)) : 1 }
      }
      let oneRow = Int.random(in: 0..<rows, using: &generator)
      let oneGroup = Int.random(in: 0..<groups, using: &generator)
      var shares: [Float]
      switch pattern {
      case .cells: shares = (0..<rows * groups).map { _ in share() }
      case .columns:
        let row = (0..<groups).map { _ in share() }
        shares = (0..<rows).flatMap { _ in row }
      case .oneColumn: shares = cell { $1 == oneGroup }
      case .oneCell: shares = cell { $0 == oneRow && $1 == oneGroup }
      case .oneLargeCell: shares = cell { !($0 == oneRow && $1 == oneGroup) }
      case .rows: shares = (0..<rows).flatMap { _ in [Float](repeating: share(), count: groups) }
      }
      let result = generator.matrix(rows, columns)
      let large = Int.random(in: 0..<columns, using: &generator)
      for row in 0..<rows {
        for column in 0..<columns {
          var value = unsafe result.row(row)[column] * shares[row * groups + column / group]
          if Int.random(in: 0..<sparseness, using: &generator) > 0 { value *= 0.001 }
          if column == large { value *= largeColumn }
          unsafe result.row(row)[column] = value
        }
      }
      return result
    }

    func activation(_ generator: inout SeededGenerator) -> Matrix {
      let own = generator.matrix(tokens, columns)
      guard let rank else { return own }
      let (left, right) = (generator.matrix(tokens, rank), generator.matrix(rank, columns))
      let means = generator.floats(columns)
      let loudest = (0..<loudChannels).map { _ in Int.random(in: 0..<columns, using: &generator) }
      for token in 0..<tokens {
        let row = unsafe own.row(token)
        for channel in 0..<columns {
          var value = unsafe noise * row[channel] + mean * means[channel]
          for index in 0..<rank {
            value += unsafe left.row(token)[index] * right.row(index)[channel]
          }
          unsafe row[channel] = loudest.contains(channel) ? loud * value : value
        }
      }
      return own
    }
  }

  /// A rounded weight, to be spoiled.
  private struct Rounded {
    let scheme: IntegerScheme
    let source: Matrix
    var codes: [Int8]
    var scales: [Float]
    var zeroPoints: [Int8]

    var groups: Int { source.columns / scheme.groupSize }

    func place(_ row: Int, _ group: Int) -> Int { row * groups + group }

    func indices(_ row: Int, _ group: Int) -> Range<Int> {
      let start = row * source.columns + group * scheme.groupSize
      return start..<start + scheme.groupSize
    }

    var evidence: RoundingEvidence {
      let columns = source.columns
      let values = codes.indices.map { index in
        let place = place(index / columns, index % columns / scheme.groupSize)
        return Float(Int(codes[index]) - Int(zeroPoints[place])) * scales[place]
      }
      var result = RoundingEvidence(scheme.quantizer(.bf16))
      for rows in ranges(of: source.rows, by: RoundingEvidence.tileRows) {
        func part<T>(_ all: [T], of width: Int) -> [T] {
          Array(all[rows.lowerBound * width..<rows.upperBound * width])
        }
        var tile = RoundingEvidence(scheme.quantizer(.bf16))
        tile.add(
          Matrix(rows: rows.count, columns: columns, values: part(values, of: columns)),
          from: source.matrix(rows), firstRow: rows.lowerBound, scales: part(scales, of: groups),
          zeroPoints: scheme.isSymmetric ? nil : part(zeroPoints, of: groups))
        result.add(tile)
      }
      return result
    }
  }

  private func round(_ test: Case, _ generator: inout SeededGenerator) throws -> Rounded {
    let weight = test.weight(&generator)
    let statistics = ActivationStatistics(
      channels: test.columns, withGram: test.method.needsGram)
    statistics.add(test.activation(&generator), backend: backend)
    let rounding: Rounding =
      switch test.method {
      case .nearest: .nearest
      case .clip: .clip(statistics.meanSquare)
      case .fast, .compensated:
        .compensated(
          try statistics.factors(
            smoothedBy: nil, refining: [test.scheme.groupSize], damping: test.damping,
            backend: backend))
      }
    let rows = try test.scheme.round(
      weight, rows: 0..<test.rows, dtype: test.dtype, by: rounding)
    return Rounded(
      scheme: test.scheme, source: weight, codes: rows.codes, scales: rows.scales,
      zeroPoints: rows.zeroPoints)
  }

  @Test(arguments: 0..<8)
  func `no rounding is a fault, however its groups and channels differ`(part: Int) throws {
    var generator = SeededGenerator(seed: UInt64(part))
    for _ in 0..<50 {
      let test = Case.random(&generator)
      do {
        let evidence = try round(test, &generator).evidence
        #expect(evidence.faults == [], "\(test)")
      } catch is NotPositiveDefinite {
        // A run rounds such a weight without its Gram matrix.
      }
    }
  }

  // MARK: Faults

  private static let presets = IntegerScheme.Preset.allCases

  private func faults(
    _ preset: IntegerScheme.Preset, rank: Int? = 8, _ plant: (inout Rounded) -> Void
  ) throws -> [RoundingFault] {
    var generator = SeededGenerator(seed: 11)
    var test = Case()
    test.scheme = IntegerScheme(preset, groupSize: 32)
    test.rank = rank
    var rounded = try round(test, &generator)
    #expect(rounded.evidence.faults == [])
    plant(&rounded)
    return rounded.evidence.faults
  }

  @Test(arguments: presets, [0.25, 4, 1000])
  func `a scale of another size is a fault`(preset: IntegerScheme.Preset, factor: Float) throws {
    let place = GroupPlace(row: 40, group: 3)
    let faults = try faults(preset) { $0.scales[$0.place(40, 3)] *= factor }
    #expect(faults.first == .scales(1, first: place))
  }

  @Test func `a scale that is no number is a fault`() throws {
    let faults = try faults(.w4a16) { $0.scales[$0.place(1, 2)] = .nan }
    #expect(faults.first == .scales(1, first: GroupPlace(row: 1, group: 2)))
  }

  @Test(arguments: [-4, 4]) func `a zero point of another range is a fault`(shift: Int8) throws {
    let faults = try faults(.w4a16Asymmetric) { $0.zeroPoints[$0.place(2, 1)] += shift }
    #expect(faults.first == .zeroPoints(1, first: GroupPlace(row: 2, group: 1)))
  }

  @Test(arguments: presets) func `the codes of another row are a fault`(
    preset: IntegerScheme.Preset
  ) throws {
    let one = try faults(preset) { rounded in
      rounded.codes.replaceSubrange(
        rounded.indices(5, 6), with: rounded.codes[rounded.indices(6, 6)])
    }
    #expect(one == [.farGroups(1, first: GroupPlace(row: 5, group: 6))])
    let all = try faults(preset) { rounded in
      rounded.codes = Array(rounded.codes[256...] + rounded.codes[..<256])
    }
    #expect(all == [.lost(1, first: 0..<64)])
  }

  /// Where one column is all that a row has, only rows of another sign than the next one's can be told apart.
  @Test(arguments: RoundingMethod.allCases)
  func `the codes of another row are a fault where few rows can be told apart`(
    method: RoundingMethod
  ) throws {
    for seed in UInt64(0)..<20 {
      var generator = SeededGenerator(seed: seed)
      var test = Case()
      test.scheme = IntegerScheme(.w4a16Asymmetric, groupSize: 64)
      test.columns = 64
      test.method = method
      test.largeColumn = 1000
      let rounded = try round(test, &generator)
      #expect(rounded.evidence.faults == [], "\(seed)")
      for shift in [64, 63 * 64] {
        var turned = rounded
        turned.codes = Array(rounded.codes[shift...] + rounded.codes[..<shift])
        #expect(turned.evidence.faults == [.lost(1, first: 0..<64)], "\(seed), \(shift)")
      }
    }
  }

  @Test(arguments: presets) func `codes that nobody wrote are a fault`(
    preset: IntegerScheme.Preset
  ) throws {
    let lowest: Int8 = preset == .w8a16 ? -128 : -8
    let one = try faults(preset) { rounded in
      for index in rounded.indices(9, 0) { rounded.codes[index] = lowest }
    }
    #expect(one == [.farGroups(1, first: GroupPlace(row: 9, group: 0))])
    let all = try faults(preset) { rounded in
      for index in rounded.codes.indices { rounded.codes[index] = lowest }
    }
    #expect(all == [.lost(1, first: 0..<64)])
  }

  @Test(arguments: presets) func `codes in another order are a fault`(
    preset: IntegerScheme.Preset
  ) throws {
    let faults = try faults(preset) { rounded in
      for index in stride(from: 0, to: rounded.codes.count, by: 2) {
        rounded.codes.swapAt(index, index + 1)
      }
    }
    #expect(faults == [.lost(1, first: 0..<64)])
  }

  @Test(arguments: presets) func `a row of the other sign is a fault`(
    preset: IntegerScheme.Preset
  ) throws {
    let faults = try faults(preset) { rounded in
      for group in 0..<8 {
        let zero = Int(rounded.zeroPoints[rounded.place(3, group)])
        for index in rounded.indices(3, group) {
          let code = 2 * zero - Int(rounded.codes[index])
          rounded.codes[index] = Int8(
            clamping: min(max(code, preset == .w8a16 ? -128 : -8), preset == .w8a16 ? 127 : 7))
        }
      }
    }
    #expect(faults == [.farGroups(8, first: GroupPlace(row: 3, group: 0))])
  }

  @Test func `a weight that is all zero is no fault`() throws {
    let scheme = IntegerScheme(.w4a16, groupSize: 32)
    let zeros = Matrix(zeros: 64, 64)
    var evidence = RoundingEvidence(scheme.quantizer(.bf16))
    evidence.add(
      zeros, from: zeros, firstRow: 0, scales: [Float](repeating: 0.0078125, count: 128),
      zeroPoints: nil)
    #expect(evidence.faults == [] && evidence.relativeError == 0)
  }
}
