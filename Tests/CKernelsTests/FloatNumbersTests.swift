// Floats of few bits: nearest numbers, their codes and their scales, against tables and formulas written down once more.

import CKernels
import Glibc
import Testing
import TestSupport

private struct Floats: CustomTestStringConvertible, Sendable {
  let name: String
  let kind: Int
  let bits: Int
  /// Those from 0 on, by their codes.
  let magnitudes: [Double]

  static let e2m1 = Floats(
    name: "E2M1", kind: Int(SLUICE_E2M1), bits: 4, magnitudes: [0, 0.5, 1, 1.5, 2, 3, 4, 6])
  static let e2m3 = Floats(
    name: "E2M3", kind: Int(SLUICE_E2M3), bits: 6,
    magnitudes: (0..<8).map { Double($0) / 8 }
      + (0..<3).flatMap { e in (0..<8).map { (1 + Double($0) / 8) * Double(1 << e) } })
  static let e4m3 = Floats(
    name: "E4M3", kind: Int(SLUICE_E4M3), bits: 8,
    magnitudes: (0..<127).map { Double(valueOfE4M3(UInt8($0))) })
  static let all = [e2m1, e2m3, e4m3]

  var testDescription: String { name }

  func kernel(
    group: Int = 32, scale: Int = Int(SLUICE_SCALE_F32), globalScale: Float = 0
  ) -> sluice_rounding {
    sluice_rounding(
      numbers: Int32(kind), bits: 0, group: Int32(group), before: 0, symmetric: 1,
      scale_type: Int32(scale),
      weight_type: Int32(SLUICE_SCALE_BF16), global_scale: globalScale)
  }

  /// To the nearest, ties to the even code, at most the largest. What is below zero keeps its sign, and so does -0 but
  /// in 4 bits.
  func code(_ value: Double) -> UInt8 {
    let magnitude = min(abs(value), magnitudes.last!)
    let best = magnitudes.indices.min { first, second in
      let (a, b) = (abs(magnitudes[first] - magnitude), abs(magnitudes[second] - magnitude))
      return a != b ? a < b : first % 2 < second % 2
    }!
    let isNegative = bits == 4 ? value < 0 : value.sign == .minus
    return UInt8(best) | (isNegative ? UInt8(1 << (bits - 1)) : 0)
  }

  func value(_ code: UInt8) -> Double {
    let sign = UInt8(1 << (bits - 1))
    return magnitudes[Int(code & (sign - 1))] * (code & sign == 0 ? 1 : -1)
  }
}

@Suite struct FloatNumbersTests {
  /// Every number, every place halfway between two, and what lies beside; beyond the ends as well.
  @Test(arguments: Floats.all)
  private func `every tie goes to the even code, and the ends hold`(floats: Floats) {
    let m = floats.magnitudes
    let ties = zip(m, m.dropFirst()).map { ($0 + $1) / 2 }
    let around: [Double] = (m + ties).flatMap { [$0, $0 * (1 + 0x1p-20), $0 * (1 - 0x1p-20)] }
    let values = (around + [m.last! * 1.1, m.last! * 1e6, 1e-12]).flatMap {
      [Float($0), -Float($0)]
    }
    let expected = values.map { floats.code(Double($0)) }
    forEachInstructionSet { name in
      var codes = [Int8](repeating: 0, count: values.count)
      var error = [Float](repeating: 0, count: values.count)
      let scales = [Float](repeating: 1, count: values.count)
      let zeros = [Float](repeating: 0, count: values.count)
      unsafe sluice_round_within(
        values, values.count, floats.kernel(group: 1), scales, zeros, &codes, &error)
      #expect(codes.map { UInt8(bitPattern: $0) } == expected, "\(name)")
      for (index, value) in values.enumerated() {
        #expect(error[index] == value - Float(floats.value(expected[index])), "\(name) \(value)")
      }
      var back = error
      unsafe sluice_values_of_codes(
        codes, scales, nil, codes.count, floats.kernel(group: 1), &back)
      #expect(back == expected.map { Float(floats.value($0)) }, "\(name)")
    }
  }

  /// Source: the specifications of the MX formats round the exponent of the largest weight down; compressed-tensors up
  /// where the largest number would be cut off by more than the last bit.
  @Test(arguments: Floats.all)
  private func `powers of two follow the largest magnitude`(floats: Floats) {
    let up = floats.kind == Int(SLUICE_E2M3) ? 1.9375 : 1.75
    let offset = floats.kind == Int(SLUICE_E4M3) ? 8 : 2
    for exponent in [-140, -120, -20, 0, 1, 7, 100] {
      for mantissa in [1, 1.25, up - 0x1p-7, up, 1.9921875] {
        let largest = Float(mantissa * pow(2, Double(exponent)))
        if largest == 0 { continue }
        let code =
          largest < .leastNormalMagnitude
          ? 0 : max(0, 127 + exponent + (mantissa >= up ? 1 : 0) - offset)
        var (scale, zero): ([Float], [Float]) = ([0], [0])
        unsafe sluice_group_ranges(
          [largest, 0], 2, floats.kernel(scale: Int(SLUICE_SCALE_E8M0)), &scale, &zero)
        #expect(scale[0] == Float(pow(2, Double(code - 127))), "\(largest)")
        var stored: [UInt8] = [0]
        unsafe sluice_scale_codes(scale, 1, Int32(SLUICE_SCALE_E8M0), 1, &stored)
        #expect(Int(stored[0]) == code)
        unsafe sluice_scales_of_codes(stored, 1, Int32(SLUICE_SCALE_E8M0), 1, &zero)
        #expect(zero == scale)
      }
    }
    var (scale, zero): ([Float], [Float]) = ([1], [0])
    unsafe sluice_group_ranges(
      [0, 0], 2, floats.kernel(scale: Int(SLUICE_SCALE_E8M0)), &scale, &zero)
    #expect(scale[0] == Float(pow(2.0, -127)))
  }

  @Test func `scales of two levels are E4M3 over the global scale`() {
    var generator = SeededGenerator(seed: 91)
    let global: Float = 768
    let rule = Floats.e2m1.kernel(group: 16, scale: Int(SLUICE_SCALE_E4M3), globalScale: global)
    for power in [-9, -4, 0] {
      let w = generator.floats(16).map { $0 * Float(pow(2, Double(power))) }
      let sixth = w.map(\.magnitude).max()! / 6
      let step = Float(bitPattern: UInt32(nearestBFloat16(sixth)) << 16)
      let code = nearestE4M3(step * global)
      var (scale, zero): ([Float], [Float]) = ([0], [0])
      unsafe sluice_group_ranges(w, 16, rule, &scale, &zero)
      #expect(scale[0] == valueOfE4M3(code) / global)
      var stored: [UInt8] = [0]
      unsafe sluice_scale_codes(scale, 1, Int32(SLUICE_SCALE_E4M3), global, &stored)
      #expect(stored == [code])
    }
    var (scale, zero): ([Float], [Float]) = ([0], [0])
    unsafe sluice_group_ranges([Float](repeating: 0, count: 16), 16, rule, &scale, &zero)
    #expect(scale[0] == 0.125 / global)
  }

  private static let kinds: [(Floats, Int, Float)] = [
    (.e4m3, Int(SLUICE_SCALE_BF16), 0), (.e4m3, Int(SLUICE_SCALE_E8M0), 0),
    (.e2m3, Int(SLUICE_SCALE_E8M0), 0), (.e2m1, Int(SLUICE_SCALE_E8M0), 0),
    (.e2m1, Int(SLUICE_SCALE_E4M3), 700),
  ]

  /// The whole range is one of those that are searched.
  @Test(arguments: kinds.indices)
  func `clipped ranges are never worse than the whole one, and sometimes better`(index: Int) {
    let (floats, scale, global) = Self.kinds[index]
    let rule = floats.kernel(group: 16, scale: scale, globalScale: global)
    var generator = SeededGenerator(seed: 92)
    let w = generator.floats(64 * 16)
    let weight = generator.floats(w.count).map { $0.magnitude }
    func errors(_ scales: [Float], _ zeros: [Float]) -> [Double] {
      var codes = [Int8](repeating: 0, count: w.count)
      var error = [Float](repeating: 0, count: w.count)
      unsafe sluice_round_within(w, w.count, rule, scales, zeros, &codes, &error)
      var sums = [Double](repeating: 0, count: 64)
      for (place, change) in error.enumerated() {
        sums[place / 16] += Double(change * change * weight[place])
      }
      return sums
    }
    forEachInstructionSet { name in
      var (whole, clipped) = ([Float](repeating: 0, count: 64), [Float](repeating: 0, count: 64))
      var zeros = whole
      unsafe sluice_group_ranges(w, w.count, rule, &whole, &zeros)
      unsafe sluice_clipped_ranges(w, weight, w.count, rule, &clipped, &zeros)
      let (plain, found) = (errors(whole, zeros), errors(clipped, zeros))
      #expect(zip(found, plain).allSatisfy { $0 <= $1 * 1.00001 }, "\(name)")
      // Between two powers of two the numbers of E4M3 lie alike.
      let isAlike = floats.kind == Int(SLUICE_E4M3) && scale == Int(SLUICE_SCALE_E8M0)
      let (sum, plainSum) = (found.reduce(0, +), plain.reduce(0, +))
      #expect(isAlike ? sum <= plainSum : sum < plainSum, "\(name)")
    }
  }
}
