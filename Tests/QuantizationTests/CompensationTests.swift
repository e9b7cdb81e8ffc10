// Error-compensated rounding: against the peer's GPTQ, and its errors against sums in Double.

import CKernels
import LinearAlgebra
import Quantization
import Safetensors
import Tensors
import Testing
import TestSupport

@Suite struct CompensationTests {
  private let backend = Backend(threads: 2)

  /// What codes stand for.
  private func dequantized(_ rows: QuantizedRows, group: Int) -> [Float] {
    rows.codes.indices.map { index in
      let (row, column) = (index / rows.columns, index % rows.columns)
      let place = row * rows.groups + column / group
      return Float(Int(rows.codes[index]) - Int(rows.zeroPoints[place])) * rows.scales[place]
    }
  }

  /// tr(D G Dᵀ) of some channels, in Double.
  private func error(
    _ found: [Float], _ weight: Matrix, _ gram: Matrix, channels: Range<Int>? = nil
  ) -> Double {
    let channels = channels ?? 0..<weight.columns
    var sum = 0.0
    for row in 0..<weight.rows {
      let change = channels.map {
        unsafe Double(found[row * weight.columns + $0]) - Double(weight.row(row)[$0])
      }
      for i in change.indices {
        for j in change.indices { sum += unsafe change[i] * change[j] * Double(gram.row(i)[j]) }
      }
    }
    return sum
  }

  /// An activation with loud channels that go together, and its statistics.
  private func statistics(_ channels: Int, tokens: Int, seed: UInt64) -> ActivationStatistics {
    var generator = SeededGenerator(seed: seed)
    let x = generator.matrix(tokens, channels)
    for row in 0..<tokens {
      for channel in 0..<channels {
        let loud: Float = channel % 17 == 0 ? 6 : 1
        unsafe x.row(row)[channel] =
          loud * (x.row(row)[channel] + 0.7 * x.row(row)[channel / 8 * 8])
      }
    }
    let result = ActivationStatistics(channels: channels, withGram: true)
    result.add(x, backend: backend)
    return result
  }

  private func rounding(
    _ statistics: ActivationStatistics, group: Int, scale: [Float]? = nil,
    damping: Double = 0.005, engine: Engine = .f32
  ) throws -> Rounding {
    .compensated(
      try statistics.factors(
        smoothedBy: scale, refining: [group], damping: damping,
        backend: Backend(threads: 2, engine: engine)))
  }

  // MARK: Signs of scales

  /// Where every group has its largest weight above zero, the one code more below zero would stay without use.
  @Test(arguments: [2, 3, 4, 6, 8])
  func `scales are negative where that fits better, and nowhere else`(bits: Int) throws {
    let (rows, channels, group) = (48, 128, 32)
    var generator = SeededGenerator(seed: 211)
    let weight = generator.matrix(rows, channels)
    for row in 0..<rows {
      for start in stride(from: 0, to: channels, by: group) {
        unsafe weight.row(row)[start + row % group] = 6
      }
    }
    let arguments = QuantizationArguments.integers(bits: bits, groupSize: group)
    func error(signed: Bool) throws -> (rows: QuantizedRows, error: Double) {
      // Rounding uses Gram matrices up.
      let statistics = statistics(channels, tokens: 400, seed: 212)
      let gram = try #require(statistics.grams().first).prefix(channels)
      let quantizer = WeightQuantizer(
        arguments, columns: channels, dtype: .bf16, signsScales: signed)
      let found = try quantizer.round(
        weight, rows: 0..<rows, by: rounding(statistics, group: group))
      return (found, self.error(dequantized(found, group: group), weight, gram))
    }
    let (plain, signed) = (try error(signed: false), try error(signed: true))
    #expect(plain.rows.scales.allSatisfy { $0 > 0 })
    #expect(signed.rows.scales.allSatisfy { $0 != 0 && $0.isFinite })
    if bits <= 6 {
      #expect(signed.rows.scales.contains { $0 < 0 })
      #expect(signed.error < plain.error, "\(signed.error / plain.error)")
    } else {
      #expect(signed.rows.scales == plain.rows.scales && signed.rows.codes == plain.rows.codes)
    }
  }

  /// Zero points do what signs would, floats have none to spare, and served activations are multiplied by kernels of
  /// their own.
  @Test(arguments: ["W4A16_ASYM", "W4A8", "W4AFP8", "NVFP4A16", "MXFP4A16", "FP8_BLOCK", "W8A16"])
  func `scales stay above zero where no engine is known to take others`(scheme: String) throws {
    let scheme = try #require(SchemePreset.named(scheme)?.scheme)
    let quantizer = WeightQuantizer(
      try #require(scheme.weights), columns: 256, dtype: .bf16, signsScales: scheme.signsScales)
    #expect(!quantizer.signsScales)
  }

  // MARK: The peer

  /// One block of the kernel, within the peer's ranges, and without refinement.
  @Test(arguments: ["symmetric", "asymmetric"])
  func withinTheSameRangesCodesAreThePeers(name: String) throws {
    let file = try SafetensorsFile(path: fixturePath("gptq/\(name).safetensors"))
    let (rows, columns, group) = (48, 160, 32)
    let weight = try file.matrix("weight", columns: columns)
    let gram = try file.matrix("gram", columns: columns)
    let peer = try file.floats("result")
    let diagonal = (0..<columns).map { unsafe gram.row($0)[$0] }
    let order = diagonal.indices.sorted { diagonal[$0] > diagonal[$1] }
    let damping = 0.01 * diagonal.reduce(0, +) / Float(columns)
    let factor = Matrix(rows: columns, columns: columns)
    for i in 0..<columns {
      for j in 0..<columns {
        unsafe factor.row(i)[j] = gram.row(order[i])[order[j]] + (i == j ? damping : 0)
      }
    }
    #expect(UpperFactor.factor(factor, backend: backend))
    let width = Int(SLUICE_TILE_STRIP)
    func byColumns(_ values: [Float], _ count: Int, filler: Float) -> [Float] {
      (0..<count * width).map { index in
        index % width < rows ? values[index % width * count + index / width] : filler
      }
    }
    let scales = byColumns(try file.floats("scale"), columns / group, filler: 1)
    let zeros = byColumns(try file.floats("zero_point"), columns / group, filler: 0)
    let w = byColumns(weight.values, columns, filler: 0)
    var sums = [Float](repeating: 0, count: columns * width)
    var errors = sums
    var codes = [Int8](repeating: 0, count: columns * width)
    var loss = [Float](repeating: 0, count: width)
    unsafe sluice_compensate_block(
      width, columns, factor.base, columns, order.map(UInt32.init), w, scales, zeros,
      sluice_rounding(
        numbers: Int32(SLUICE_INTEGERS), bits: 4, group: Int32(group),
        before: 0, symmetric: name == "symmetric" ? 1 : 0, scale_type: Int32(SLUICE_SCALE_F32),
        weight_type: Int32(SLUICE_SCALE_F32), global_scale: 0), &sums, &errors, &codes, &loss)
    let found = (0..<rows * columns).map { index in
      let (row, column) = (index / columns, index % columns)
      let place = column / group * width + row
      return (Float(codes[column * width + row]) - zeros[place]) * scales[place]
    }
    // A quotient beside a tie falls to the other side now and then, and what follows with it.
    let different = zip(found, peer).count { abs($0 - $1) > 1e-4 * abs($1) + 1e-6 }
    #expect(different < rows * columns / 100)
    let (ours, theirs) = (error(found, weight, gram), error(peer, weight, gram))
    #expect(abs(ours - theirs) < 0.01 * theirs)
    // The kernel's own account, damping included.
    let damped = zip(found, weight.values).reduce(ours) {
      $0 + Double(damping) * Double($1.0 - $1.1) * Double($1.0 - $1.1)
    }
    let told = loss[..<rows].reduce(0.0) { $0 + Double($1) }
    #expect(abs(told - damped) < 1e-3 * damped)
  }

  @Test(arguments: ["symmetric", "asymmetric"])
  func clippedAndRefinedItIsBetterThanThePeer(name: String) throws {
    let file = try SafetensorsFile(path: fixturePath("gptq/\(name).safetensors"))
    let weight = try file.matrix("weight", columns: 160)
    let gram = try file.matrix("gram", columns: 160)
    let factor = try GramFactor(
      gram.prefix(160), channels: 0..<160, refining: [32], damping: 0.01, backend: backend)
    let scheme = IntegerScheme(bits: 4, groupSize: 32, isSymmetric: name == "symmetric")
    let rounded = try scheme.round(
      weight, rows: 0..<48, dtype: .f32, by: .compensated(GramFactors([factor])))
    let ours = error(dequantized(rounded, group: 32), weight, gram)
    #expect(ours < 0.9 * error(try file.floats("result"), weight, gram))
  }

  // MARK: Its own account

  @Test(arguments: IntegerScheme.Preset.allCases, [1, 63, 64, 100])
  func errorsAreWhatTheCodesMake(preset: IntegerScheme.Preset, rows: Int) throws {
    let scheme = IntegerScheme(preset, groupSize: 32)
    var generator = SeededGenerator(seed: UInt64(rows))
    let weight = generator.matrix(rows, 288)
    let input = statistics(288, tokens: 500, seed: 5)
    let gram = try #require(input.grams().first).prefix(288)
    for dtype in [DType.f32, .bf16] {
      let plain = try scheme.round(weight, rows: 0..<rows, dtype: dtype)
      let again = statistics(288, tokens: 500, seed: 5)
      let rounded = try scheme.round(
        weight, rows: 0..<rows, dtype: dtype, by: rounding(again, group: 32))
      let (found, nearest) = (
        error(dequantized(rounded, group: 32), weight, gram),
        error(dequantized(plain, group: 32), weight, gram)
      )
      #expect(rounded.errors.rows == rows)
      #expect(abs(rounded.errors.nearest - nearest) < 1e-3 * nearest)
      #expect(abs(rounded.errors.chosen - found) < 1e-3 * nearest)
      #expect(found < (preset == .w8a16 ? 0.9 : 0.6) * nearest)
      #expect(rounded.scales.allSatisfy { $0 > 0 && $0.isFinite && dtype.rounded([$0]) == [$0] })
    }
  }

  @Test(.enabled(if: Engine.bf16.isAvailable), arguments: [32, 128])
  func productsInBF16CostNextToNothing(group: Int) throws {
    let scheme = IntegerScheme(.w4a16, groupSize: group)
    var generator = SeededGenerator(seed: 24)
    let weight = generator.matrix(70, 1152)
    let input = { self.statistics(1152, tokens: 2000, seed: 8) }
    let gram = try #require(input().grams().first)
    let found = try Engine.allCases.map { engine in
      let rounded = try scheme.round(
        weight, rows: 0..<70, dtype: .bf16, by: rounding(input(), group: group, engine: engine))
      let real = error(dequantized(rounded, group: group), weight, gram)
      #expect(abs(rounded.errors.chosen - real) < 1e-3 * rounded.errors.nearest)
      return (engine: engine, real: real, codes: rounded.codes, nearest: rounded.errors.nearest)
    }
    let bf16 = try #require(found.first { $0.engine == .bf16 })
    let f32 = try #require(found.first { $0.engine == .f32 })
    #expect(bf16.codes != f32.codes)
    #expect(abs(bf16.nearest - f32.nearest) < 1e-3 * f32.nearest)
    #expect(bf16.real < 1.01 * f32.real)
    // What a row becomes does not depend on those that are rounded beside it.
    let part = try scheme.round(
      weight, rows: 60..<70, dtype: .bf16, by: rounding(input(), group: group, engine: .bf16))
    #expect(Array(bf16.codes.suffix(10 * 1152)) == part.codes)
  }

  @Test func smoothingDividesTheInput() throws {
    var generator = SeededGenerator(seed: 21)
    let weight = generator.matrix(64, 96)
    let scale = generator.floats(96).map { 1.5 + $0 }
    let gram = try #require(statistics(96, tokens: 300, seed: 6).grams().first).prefix(96)
    for row in 0..<96 {
      for column in 0..<96 { unsafe gram.row(row)[column] /= scale[row] * scale[column] }
    }
    let rounded = try IntegerScheme(.w4a16, groupSize: 32).round(
      weight, rows: 0..<64, dtype: .f32,
      by: rounding(statistics(96, tokens: 300, seed: 6), group: 32, scale: scale))
    let found = error(dequantized(rounded, group: 32), weight, gram)
    #expect(abs(rounded.errors.chosen - found) < 1e-3 * found)
  }

  @Test func partsOfAWideInputAreRoundedEachForItself() throws {
    var generator = SeededGenerator(seed: 22)
    let weight = generator.matrix(40, 192)
    let parts = [0..<64, 64..<192]
    let grams = try parts.map {
      try #require(statistics($0.count, tokens: 300, seed: UInt64($0.count)).grams().first)
    }
    let factors = try zip(grams, parts).map { gram, channels in
      try GramFactor(
        gram.prefix(gram.rows), channels: channels, refining: [32], damping: 0.01,
        backend: backend)
    }
    let rounded = try IntegerScheme(.w4a16, groupSize: 32).round(
      weight, rows: 0..<40, dtype: .f32, by: .compensated(GramFactors(factors)))
    let values = dequantized(rounded, group: 32)
    let found = zip(grams, parts).reduce(0) { $0 + error(values, weight, $1.0, channels: $1.1) }
    #expect(abs(rounded.errors.chosen - found) < 1e-3 * found)
    #expect(found < 0.7 * rounded.errors.nearest)
  }

  @Test(arguments: [RoundingMethod.clip, .compensated])
  func noRowIsWorseThanToNearest(method: RoundingMethod) throws {
    var generator = SeededGenerator(seed: 23)
    let weight = generator.matrix(40, 64)
    // Rows that plain rounding keeps as they are.
    for row in 0..<10 {
      for column in 0..<64 {
        unsafe weight.row(row)[column] = column % 32 == 0 ? 7.5 : Float(column % 15 - 7)
      }
    }
    let input = statistics(64, tokens: 200, seed: 7)
    let scheme = IntegerScheme(.w4a16, groupSize: 32)
    let rounded = try scheme.round(
      weight, rows: 0..<40, dtype: .f32,
      by: method == .clip ? .clip(input.meanSquare) : rounding(input, group: 32))
    let plain = try scheme.round(weight, rows: 0..<40, dtype: .f32)
    #expect(rounded.errors.chosen <= rounded.errors.nearest)
    let kept = (0..<40).count {
      rounded.codes[$0 * 64..<($0 + 1) * 64] == plain.codes[$0 * 64..<($0 + 1) * 64]
    }
    #expect(kept >= rounded.errors.nearestRows)
  }

  // MARK: Inputs that go wrong

  @Test func aDeadChannelIsRoundedByItself() throws {
    var generator = SeededGenerator(seed: 24)
    let (weight, x) = (generator.matrix(70, 64), generator.matrix(90, 64))
    let input = ActivationStatistics(channels: 64, withGram: true)
    for row in 0..<90 { unsafe x.row(row)[9] = 0 }
    input.add(x, backend: backend)
    let rounded = try IntegerScheme(.w4a16, groupSize: 32).round(
      weight, rows: 0..<70, dtype: .bf16, by: rounding(input, group: 32))
    let values = dequantized(rounded, group: 32)
    for row in 0..<70 {
      let scale = rounded.scales[row * 2]
      let wanted = unsafe weight.row(row)[9]
      let clipped = min(max(wanted, -8 * scale), 7 * scale)
      #expect(abs(values[row * 64 + 9] - clipped) <= 0.5001 * scale)
    }
  }

  /// Three tokens, 64 channels: the Gram matrix alone has no factor.
  @Test func fewTokensAreEnough() throws {
    let input = statistics(64, tokens: 3, seed: 8)
    var generator = SeededGenerator(seed: 25)
    let weight = generator.matrix(64, 64)
    let rounded = try IntegerScheme(.w4a16, groupSize: 32).round(
      weight, rows: 0..<64, dtype: .bf16, by: rounding(input, group: 32))
    #expect(rounded.errors.chosen < 0.2 * rounded.errors.nearest)
  }

  @Test func theDiagonalIsRaisedUntilThereIsAFactor() throws {
    // An eigenvalue of -0.05 times the mean of the diagonal.
    let gram = Matrix(zeros: 32, 32)
    for index in 0..<32 { unsafe gram.row(index)[index] = 1 }
    unsafe gram.row(3)[20] = 1.05
    unsafe gram.row(20)[3] = 1.05
    let factor = try GramFactor(
      gram, channels: 0..<32, refining: [32], damping: 0.001, backend: backend)
    #expect(factor.damping == 0.1)
  }

  @Test func whatCannotBeFactoredIsSaid() {
    for bad in [Float(0), .nan, .infinity] {
      let gram = Matrix(zeros: 32, 32)
      for index in 0..<32 { unsafe gram.row(index)[index] = bad }
      #expect(throws: NotPositiveDefinite.self) {
        try GramFactor(gram, channels: 0..<32, refining: [32], damping: 0.01, backend: backend)
      }
    }
    let far = Matrix(zeros: 32, 32)
    for index in 0..<32 { unsafe far.row(index)[index] = 1 }
    unsafe far.row(1)[0] = 100
    unsafe far.row(0)[1] = 100
    #expect(throws: NotPositiveDefinite.self) {
      try GramFactor(far, channels: 0..<32, refining: [32], damping: 0.01, backend: backend)
    }
  }

  @Test func aNonFiniteWeightIsNamed() throws {
    var generator = SeededGenerator(seed: 26)
    let weight = generator.matrix(11, 64)
    unsafe weight.row(6)[40] = .nan
    let rounding = try rounding(statistics(64, tokens: 80, seed: 9), group: 32)
    #expect(throws: NonFiniteWeight(row: 6, column: 40)) {
      try IntegerScheme(.w4a16, groupSize: 32).round(
        weight, rows: 3..<11, dtype: .bf16, by: rounding)
    }
  }

  // MARK: Experts

  @Test func weightsOfTokensFollowTheRouter() {
    let routed = [(token: 1, weight: Float(0.5)), (token: 3, weight: 2)]
    #expect(ExpertWeighting.all.weights(tokens: 4, routed: routed, meanSquare: 1) == nil)
    #expect(
      ExpertWeighting.routed.weights(tokens: 4, routed: routed, meanSquare: 1) == [0, 0.25, 0, 4])
    #expect(
      ExpertWeighting.blend.weights(tokens: 4, routed: routed, meanSquare: 2.5)
        == [0.25, 0.5, 0.25, 4.25])
    #expect(ExpertWeighting.routed.weights(tokens: 4, routed: [], meanSquare: 0) == nil)
  }

  @Test func tokensOfASampleCountForThoseTheyStandFor() {
    let routed = [(token: 1, weight: Float(0.5)), (token: 3, weight: 2)]
    func weights(_ weighting: ExpertWeighting, meanSquare: Double = 2.5) -> [Float]? {
      weighting.weights(tokens: 4, routed: routed, meanSquare: meanSquare, others: 8)
    }
    #expect(weights(.all) == [8, 1, 8, 1])
    #expect(weights(.routed) == [0, 0.25, 0, 4])
    #expect(weights(.blend) == [2, 0.5, 2, 4.25])
    // An expert that nothing was routed to.
    #expect(
      ExpertWeighting.blend.weights(tokens: 2, routed: [], meanSquare: 0, others: 8) == [8, 8])
  }
}
