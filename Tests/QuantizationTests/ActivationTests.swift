// Quantized activations against compressed-tensors.

import LinearAlgebra
import Quantization
import Safetensors
import Tensors
import Testing
import TestSupport

@Suite struct ActivationTests {
  private static let cases: [(name: String, arguments: QuantizationArguments)] = [
    ("int8-token", QuantizationArguments(bits: 8, strategy: .token, dynamic: .always)),
    (
      "int8-token-asymmetric",
      QuantizationArguments(bits: 8, isSymmetric: false, strategy: .token, dynamic: .always)
    ),
    ("int4-token", QuantizationArguments(bits: 4, strategy: .token, dynamic: .always)),
    (
      "fp8-token", QuantizationArguments(bits: 8, type: .float, strategy: .token, dynamic: .always)
    ),
    (
      "fp8-group",
      QuantizationArguments(
        bits: 8, type: .float, strategy: .group, groupSize: 128, dynamic: .always)
    ),
    (
      "mxfp4",
      QuantizationArguments(
        bits: 4, type: .float, strategy: .group, groupSize: 32, dynamic: .always, scaleType: .uint8)
    ),
    (
      "mxfp8",
      QuantizationArguments(
        bits: 8, type: .float, strategy: .group, groupSize: 32, dynamic: .always, scaleType: .uint8)
    ),
    (
      "nvfp4-local",
      QuantizationArguments(
        bits: 4, type: .float, strategy: .tensorGroup, groupSize: 16, dynamic: .local,
        scaleType: .e4m3)
    ),
    ("fp8-tensor", QuantizationArguments(bits: 8, type: .float, strategy: .tensor)),
    ("int8-tensor", QuantizationArguments(bits: 8, strategy: .tensor)),
  ]

  private let file: SafetensorsFile

  init() throws { file = try SafetensorsFile(path: fixturePath("schemes/activations.safetensors")) }

  private func matrix(_ name: String) throws -> Matrix { try file.matrix(name, columns: 256) }

  private func stored(_ name: String) throws -> Float { try file.floats(name + ".stored")[0] }

  @Test(arguments: cases.indices)
  func `activations become what compressed-tensors makes of them`(index: Int) throws {
    let (name, arguments) = Self.cases[index]
    let (x, expected) = (try matrix("x"), try matrix(name))
    let stored = try stored(name)
    let found = ActivationQuantizer(arguments, columns: x.columns, stored: stored)
      .rounded(x, backend: Backend(threads: 2))
    var largest: Float = 0
    for (one, other) in zip(found.values, expected.values) {
      largest = max(largest, abs(one - other) / max(abs(other), 1e-6))
    }
    #expect(largest <= 2e-6, "\(name): off by \(largest)")
  }

  @Test func `a stored number is that of the largest magnitude`() throws {
    let x = try matrix("x")
    let statistics = ActivationStatistics(
      channels: x.columns, withGram: false, withLargest: true)
    statistics.add(x, backend: Backend(threads: 1))
    let largest = statistics.largest(smoothedBy: nil)
    for (name, arguments) in Self.cases where arguments.dynamic != .always {
      let stored = try stored(name)
      let found = ActivationQuantizer.stored(arguments, largest: largest, as: .f32)
      #expect(abs(found / stored - 1) < 1e-6, "\(name)")
    }
    // Smoothed, and gone on from.
    let scale = (0..<x.columns).map { $0 == 3 || $0 == 200 ? Float(30) : 1 }
    let smoothed = statistics.largest(smoothedBy: scale)
    #expect(smoothed < largest / 5 && smoothed > 2)
    let again = ActivationStatistics(channels: x.columns, withGram: false, withLargest: true)
    again.restore(sums: statistics.sums)
    #expect(again.largest(smoothedBy: scale) == smoothed)
  }

  /// A few channels are much louder in one token: all sizes are tried on the numbers themselves.
  @Test(arguments: [1, 7], [nil, Float(4)])
  func `the range of static integers has the least mean square of errors`(
    threads: Int, louder: Float?
  ) throws {
    let integers = QuantizationArguments(bits: 8, strategy: .tensor)
    var generator = SeededGenerator(seed: 71)
    let x = generator.matrix(2000, 96)
    for row in 0..<x.rows {
      for channel in 0..<96 {
        let gain: Float = channel % 20 == 3 ? 8 : 1
        unsafe x.row(row)[channel] *= row == 7 && channel % 10 == 3 ? 3 * gain : gain
      }
    }
    let scale = louder.map { by in (0..<96).map { $0 % 20 == 3 ? by : 1 } }
    // In two blocks, and gone on from between them.
    let backend = Backend(threads: threads)
    func empty() -> ActivationStatistics {
      ActivationStatistics(
        channels: 96, withGram: false, withLargest: true, withMagnitudes: true, backend: backend)
    }
    let (first, statistics) = (empty(), empty())
    first.add(
      Matrix(rows: 200, columns: 96, values: Array(x.values[..<(200 * 96)])), backend: backend)
    statistics.restore(sums: first.sums)
    unsafe statistics.matricesSoFar[0].base.update(
      from: first.matricesSoFar[0].base, count: first.matricesSoFar[0].count)
    statistics.add(
      Matrix(rows: 1800, columns: 96, values: Array(x.values[(200 * 96)...])), backend: backend)
    let largest = statistics.largest(smoothedBy: scale)
    let found = statistics.range(for: integers, smoothedBy: scale)
    func error(_ range: Float) -> Double {
      let step = Double(range) / 127.5
      return x.values.enumerated().reduce(0) { sum, each in
        let value = Double(each.element / (scale?[each.offset % 96] ?? 1))
        let code = min(max((value / step).rounded(), -128), 127)
        return sum + (value - code * step) * (value - code * step)
      }
    }
    let least = (8...40).map { error(largest * Float($0) / 40) }.min() ?? 0
    #expect(found < 0.9 * largest && error(found) < 0.7 * error(largest))
    #expect(error(found) < 1.05 * least, "\(error(found) / least)")
    // Floats, and whoever names the other observer, take the largest.
    let floats = QuantizationArguments(bits: 8, type: .float, strategy: .tensor)
    let named = QuantizationArguments(bits: 8, strategy: .tensor, observer: "static_minmax")
    for other in [floats, named, nil] {
      #expect(statistics.range(for: other, smoothedBy: scale) == largest)
    }
  }

  /// What the peer stores then: torch.finfo(dtype).eps.
  @Test(arguments: [(DType.f32, Float(0x1p-23)), (.bf16, 0x1p-7), (.f16, 0x1p-10)])
  func `a scale that would be 0 in its type is the step above 1`(dtype: DType, step: Float) {
    let arguments = QuantizationArguments(bits: 8, type: .float, strategy: .tensor)
    #expect(ActivationQuantizer.stored(arguments, largest: 0, as: dtype) == step)
    // Not 0 before it is rounded to half the range of float16.
    let tiny = ActivationQuantizer.stored(arguments, largest: 1e-6, as: dtype)
    #expect(dtype == .f16 ? tiny == step : tiny > 0 && tiny < 1e-8)
  }

  /// Each head with its own scale, in place.
  @Test func `keys and values are rounded under the scales of their heads`() {
    let values: [Float] = [1, -2, 3, 500, 0.1, 7, -0.3, 448]
    let x = Matrix(rows: 1, columns: 8, values: values)
    ActivationQuantizer(.fp8OfHeads, columns: 8, stored: [1, 0.5])
      .round(x, into: x, backend: Backend(threads: 1))
    // E4M3 of 0.2 is 0.203125, of -0.6 is -0.625; 500 and 896 are cut to 448.
    #expect(x.values == [1, -2, 3, 448, 0.1015625, 7, -0.3125, 224])
  }

  @Test func `a NaN in an activation stays one`() throws {
    let x = try matrix("x")
    unsafe x.row(2)[7] = .nan
    for (name, arguments) in Self.cases {
      let found = ActivationQuantizer(arguments, columns: x.columns, stored: 1)
        .rounded(x, backend: Backend(threads: 1))
      #expect(unsafe found.row(2)[7].isNaN, "\(name)")
      #expect(unsafe found.row(1)[7].isFinite, "\(name)")
    }
  }
}
