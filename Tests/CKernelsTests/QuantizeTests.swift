// Rounding and packing, bit for bit, against the formulas written down once more.

import CKernels
import Glibc
import Testing
import TestSupport

private struct Rounding: CustomTestStringConvertible, Sendable {
  let bits: Int
  let group: Int
  let isSymmetric: Bool
  let type: Int

  static let all = [2, 3, 4, 8].flatMap { bits in
    [1, 2, 7, 16, 32, 67].flatMap { group in
      [true, false].flatMap { isSymmetric in
        [SLUICE_SCALE_F32, SLUICE_SCALE_BF16, SLUICE_SCALE_F16].map {
          Rounding(bits: bits, group: group, isSymmetric: isSymmetric, type: Int($0))
        }
      }
    }
  }

  var testDescription: String { "\(bits) bits, groups of \(group), \(isSymmetric), type \(type)" }

  var kernel: sluice_rounding {
    sluice_rounding(
      numbers: Int32(SLUICE_INTEGERS), bits: Int32(bits), group: Int32(group), before: 0,
      symmetric: isSymmetric ? 1 : 0, scale_type: Int32(type), weight_type: Int32(type),
      global_scale: 0)
  }

  func rounded(_ value: Float) -> Float {
    switch type {
    case Int(SLUICE_SCALE_BF16): Float(bitPattern: UInt32(nearestBFloat16(value)) << 16)
    case Int(SLUICE_SCALE_F16): Float(Float16(value))
    default: value
    }
  }

  var epsilon: Float {
    switch type {
    case Int(SLUICE_SCALE_BF16): 0x1p-7
    case Int(SLUICE_SCALE_F16): 0x1p-10
    default: 0x1p-23
    }
  }

  var low: Float { -Float(1 << (bits - 1)) }
  var high: Float { -low - 1 }

  func code(_ value: Float, scale: Float, zero: Float) -> Float {
    max(low, min(high, value / scale + zero)).rounded(.toNearestOrEven)
  }

  /// Source: compressed-tensors `calculate_qparams`: every step in the type of the weight.
  func parameters(_ group: ArraySlice<Float>) -> (scale: Float, zero: Float) {
    let (smallest, largest) = (min(0, group.min()!), max(0, group.max()!))
    var scale: Float
    var zero: Float = 0
    if isSymmetric {
      scale = rounded(max(-smallest, largest) / ((high - low) / 2))
    } else {
      scale = rounded(rounded(largest - smallest) / (high - low))
      if scale != 0 {
        let start = rounded(low - rounded(rounded(smallest) / scale))
        zero = max(low, min(high, start)).rounded(.toNearestOrEven)
      }
    }
    if scale == 0 { scale = epsilon }
    return (scale, zero)
  }
}

@Suite struct QuantizeTests {
  /// Rows of several groups, among them one of zeros, one of one sign, one with an outlier, one of tiny values.
  private func row(_ rounding: Rounding) -> [Float] {
    var generator = SeededGenerator(seed: UInt64(rounding.group))
    return (0..<6).flatMap { kind -> [Float] in
      var group = generator.floats(rounding.group).map(rounding.rounded)
      switch kind {
      case 1: group = group.map { _ in 0 }
      case 2: group = group.map { -abs($0) }
      case 3: group = group.map { abs($0) }
      case 4: group[group.count / 2] = 100
      case 5: group = group.map { rounding.rounded($0 * 1e-6) }
      default: break
      }
      return group
    }
  }

  @Test(arguments: Rounding.all)
  private func codesScalesAndZeroPointsAreTheFormulas(rounding: Rounding) {
    let w = row(rounding)
    let groups = w.count / rounding.group
    var codes: [Int8] = []
    var scales: [Float] = []
    var zeros: [Int8] = []
    for index in 0..<groups {
      let group = w[index * rounding.group..<(index + 1) * rounding.group]
      let (scale, zero) = rounding.parameters(group)
      codes += group.map { Int8(rounding.code($0, scale: scale, zero: zero)) }
      scales.append(scale)
      zeros.append(Int8(zero))
    }
    forEachInstructionSet { name in
      let source = KernelMemory(w, offset: 3)
      let foundCodes = KernelMemory([Int8](repeating: 99, count: w.count), offset: 3)
      let foundScales = KernelMemory([Float](repeating: 99, count: groups), offset: 3)
      let foundZeros = KernelMemory([Int8](repeating: 99, count: groups), offset: 3)
      let result = unsafe sluice_quantize_row(
        source.start, w.count, rounding.kernel, foundCodes.start, foundScales.start,
        foundZeros.start)
      #expect(result == w.count)
      #expect(foundCodes.values == codes, "\(name)")
      #expect(foundScales.values == scales, "\(name)")
      #expect(foundZeros.values == zeros, "\(name)")
      #expect(foundCodes.guardsStand && foundScales.guardsStand && foundZeros.guardsStand)
    }
  }

  @Test(arguments: Rounding.all)
  private func theErrorIsWhatRoundingUnderAScaleChanges(rounding: Rounding) {
    let w = row(rounding)
    var generator = SeededGenerator(seed: 11)
    let scale = generator.floats(w.count).map { exp2($0) }
    let inverse = scale.map { 1 / $0 }
    let scaled = zip(w, scale).map { $0 * $1 }
    let expected = w.indices.map { index -> Float in
      let start = index / rounding.group * rounding.group
      let (step, zero) = rounding.parameters(scaled[start..<start + rounding.group])
      let code = rounding.code(scaled[index], scale: step, zero: zero)
      return (code - zero) * step * inverse[index] - w[index]
    }
    forEachInstructionSet { name in
      let source = KernelMemory(w, offset: 3)
      let error = KernelMemory([Float](repeating: 0, count: w.count), offset: 3)
      unsafe sluice_rounding_error(
        source.start, scale, inverse, w.count, rounding.kernel, error.start)
      #expect(error.values == expected, "\(name)")
      #expect(error.guardsStand && source.values == w)
    }
  }

  @Test func aNonFiniteWeightIsNamedAndNothingIsWritten() {
    forEachInstructionSet { name in
      for position in [0, 5, 63] {
        for bad in [Float.nan, .infinity, -.infinity] {
          var w = [Float](repeating: 1, count: 64)
          w[position] = bad
          var (codes, zeros) = ([Int8](repeating: 99, count: 64), [Int8](repeating: 99, count: 2))
          var scales: [Float] = [99, 99]
          let rounding = sluice_rounding(
            numbers: Int32(SLUICE_INTEGERS), bits: 4, group: 32, before: 0, symmetric: 0,
            scale_type: 0,
            weight_type: 0, global_scale: 0)
          let found = unsafe sluice_quantize_row(w, 64, rounding, &codes, &scales, &zeros)
          #expect(found == position, "\(name)")
          #expect(codes.allSatisfy { $0 == 99 } && zeros == [99, 99] && scales == [99, 99])
        }
      }
    }
  }

  @Test func codesInOrderPackToTheKnownWords() {
    forEachInstructionSet { name in
      let codes = (-8...7).map { Int8($0) }
      var words: [Int32] = [0, 0]
      unsafe sluice_pack_row(codes, 16, 4, &words)
      #expect(words.map { UInt32(bitPattern: $0) } == [0x7654_3210, 0xfedc_ba98], "\(name)")
    }
  }

  /// Row lengths that fill no whole word, and codes that go on in the next one.
  @Test(arguments: 2...8)
  func packedWordsHoldEveryCodeAndZerosBehindTheLast(bits: Int) {
    let half = 1 << (bits - 1)
    for (count, offset) in lengthsAndOffsets {
      var generator = SeededGenerator(seed: 12)
      let codes = (0..<count).map { _ in
        Int8(Int.random(in: -half...half - 1, using: &generator))
      }
      var stream = [Bool](repeating: false, count: (count * bits + 31) / 32 * 32)
      for (index, code) in codes.enumerated() {
        for bit in 0..<bits { stream[index * bits + bit] = (Int(code) + half) >> bit & 1 == 1 }
      }
      let expected = stride(from: 0, to: stream.count, by: 32).map { start in
        (0..<32).reduce(UInt32(0)) { $0 | (stream[start + $1] ? 1 << UInt32($1) : 0) }
      }
      forEachInstructionSet { name in
        let source = KernelMemory(codes, offset: offset)
        let words = KernelMemory([Int32](repeating: 0, count: expected.count), offset: offset)
        unsafe sluice_pack_row(source.start, count, Int32(bits), words.start)
        #expect(words.values.map { UInt32(bitPattern: $0) } == expected, "\(name) \(count)")
        let back = KernelMemory([Int8](repeating: 0, count: count), offset: offset)
        unsafe sluice_unpack_row(words.start, count, Int32(bits), back.start)
        #expect(back.values == codes, "\(name) \(count)")
        #expect(words.guardsStand && back.guardsStand)
      }
    }
  }

  @Test(arguments: [4, 6, 8])
  func packedBytesHoldEveryCodeTheFirstLowest(bits: Int) {
    for (count, offset) in lengthsAndOffsets {
      var generator = SeededGenerator(seed: 14)
      let codes = (0..<count).map { _ in
        Int8(bitPattern: UInt8(Int.random(in: 0...(1 << bits) - 1, using: &generator)))
      }
      var expected = [UInt8](repeating: 0, count: (count * bits + 7) / 8)
      for (index, code) in codes.enumerated() {
        for bit in 0..<bits where UInt8(bitPattern: code) >> UInt8(bit) & 1 == 1 {
          expected[(index * bits + bit) / 8] |= 1 << UInt8((index * bits + bit) % 8)
        }
      }
      forEachInstructionSet { name in
        let source = KernelMemory(codes, offset: offset)
        let bytes = KernelMemory([UInt8](repeating: 0, count: expected.count), offset: offset)
        unsafe sluice_pack_bytes(source.start, count, Int32(bits), bytes.start)
        #expect(bytes.values == expected, "\(name) \(count)")
        let back = KernelMemory([Int8](repeating: 0, count: count), offset: offset)
        unsafe sluice_unpack_bytes(bytes.start, count, Int32(bits), back.start)
        #expect(back.values == codes, "\(name) \(count)")
        #expect(bytes.guardsStand && back.guardsStand)
      }
    }
  }

  @Test(arguments: [4, 8], [1, 7, 8, 32])
  func valuesAreCodesLessZeroPointsTimesScales(bits: Int, group: Int) {
    var generator = SeededGenerator(seed: 13)
    let range: ClosedRange<Int8> = bits == 4 ? -8...7 : -128...127
    // The last group is shorter.
    let codes = (0..<3 * group - group / 2).map { _ in Int8.random(in: range, using: &generator) }
    let zeros = (0..<3).map { _ in Int8.random(in: range, using: &generator) }
    let scales = generator.floats(3)
    let rounding = Rounding(bits: bits, group: group, isSymmetric: false, type: 0).kernel
    func expected(_ zeros: [Int8]) -> [Float] {
      codes.indices.map { Float(Int(codes[$0]) - Int(zeros[$0 / group])) * scales[$0 / group] }
    }
    forEachInstructionSet { name in
      let result = KernelMemory([Float](repeating: 0, count: codes.count), offset: 3)
      unsafe sluice_values_of_codes(codes, scales, zeros, codes.count, rounding, result.start)
      #expect(result.values == expected(zeros), "\(name)")
      unsafe sluice_values_of_codes(codes, scales, nil, codes.count, rounding, result.start)
      #expect(result.values == expected([0, 0, 0]), "\(name)")
      #expect(result.guardsStand)
    }
  }
}
