// What a pass that measures asks of rounding: what the weight itself puts out, and statistics that serve more than once.

import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport

@Suite struct MeasuringTests {
  private let backend = Backend(threads: 2)

  private func statistics(_ channels: Int) -> ActivationStatistics {
    var generator = SeededGenerator(seed: 21)
    let x = generator.matrix(3 * channels, channels)
    for row in 0..<x.rows {
      for channel in stride(from: 0, to: channels, by: 7) {
        unsafe x.row(row)[channel] = 3 * x.row(row)[channel] + x.row(row)[0]
      }
    }
    let result = ActivationStatistics(channels: channels, withGram: true)
    result.add(x, backend: backend)
    return result
  }

  /// tr(W G Wᵀ), in Double.
  private func form(_ weight: Matrix, _ gram: Matrix) -> Double {
    var sum = 0.0
    for row in 0..<weight.rows {
      for i in 0..<weight.columns {
        for j in 0..<weight.columns {
          sum +=
            unsafe Double(weight.row(row)[i]) * Double(weight.row(row)[j])
            * Double(gram.row(i)[j])
        }
      }
    }
    return sum
  }

  private func bits(_ rows: QuantizedRows) -> [[UInt32]] {
    [rows.codes.map { UInt32(bitPattern: Int32($0)) }, rows.scales.map(\.bitPattern)]
  }

  @Test(arguments: [Engine.f32, .bf16].filter(\.isAvailable), [128, 160])
  func `what a weight puts out is that of its products, and rounding stays the same`(
    engine: Engine, channels: Int
  ) throws {
    var generator = SeededGenerator(seed: 22)
    let weight = generator.matrix(70, channels)
    let gram = try #require(statistics(channels).grams().first)
    let rounding = Rounding.compensated(
      try statistics(channels).factors(
        smoothedBy: nil, refining: [32], damping: 0.005,
        backend: Backend(threads: 2, engine: engine)))
    let quantizer = IntegerScheme(.w4a16, groupSize: 32).quantizer(.bf16)
    let plain = try quantizer.round(weight, rows: 0..<70, by: rounding)
    let measured = try quantizer.round(weight, rows: 0..<70, by: rounding, measuring: true)
    #expect(bits(plain) == bits(measured))
    #expect(plain.errors.signal == 0 && plain.errors.chosen == measured.errors.chosen)
    let expected = form(weight, gram)
    #expect(abs(measured.errors.signal - expected) < (engine == .bf16 ? 1e-2 : 1e-4) * expected)
  }

  /// Groups of their own, and blocks of rows that share a scale.
  @Test(arguments: ["W4A16", "FP8_BLOCK"])
  func `clipped ranges are measured by second moments`(name: String) throws {
    var generator = SeededGenerator(seed: 23)
    let weight = generator.matrix(70, 256)
    let moments = (0..<256).map { Float(1 + $0 % 5) }
    let scheme = try #require(SchemePreset.named(name)?.scheme.weights)
    let quantizer = WeightQuantizer(scheme, columns: 256, dtype: .bf16)
    let whole = try quantizer.whole(weight, backend: backend)
    let measured = try quantizer.round(
      weight, rows: 0..<70, by: .clip(moments), knowing: whole, measuring: true)
    var signal = 0.0
    for row in 0..<70 {
      for column in 0..<256 {
        let value = unsafe Double(weight.row(row)[column])
        signal += value * value * Double(moments[column])
      }
    }
    #expect(abs(measured.errors.signal - signal) < 1e-5 * signal)
    #expect(measured.errors.chosen > 1e-5 * signal && measured.errors.chosen < 0.02 * signal)
    #expect(measured.errors.nearest >= measured.errors.chosen)
  }

  @Test func `statistics that are kept give the same factors again`() throws {
    var generator = SeededGenerator(seed: 24)
    let weight = generator.matrix(20, 128)
    let scale = (0..<128).map { Float(1 + $0 % 3) }
    let kept = statistics(128)
    func rounded(_ statistics: ActivationStatistics, keeping: Bool) throws -> [[UInt32]] {
      let rounding = Rounding.compensated(
        try statistics.factors(
          smoothedBy: scale, refining: [32], damping: 0.005, keeping: keeping, backend: backend))
      return bits(
        try IntegerScheme(.w4a16, groupSize: 32).round(
          weight, rows: 0..<20, dtype: .bf16, by: rounding))
    }
    let first = try rounded(kept, keeping: true)
    #expect(try rounded(kept, keeping: true) == first)
    #expect(try rounded(kept, keeping: false) == first)
    #expect(try rounded(statistics(128), keeping: false) == first)
    #expect(kept.grams().isEmpty)
  }
}
