// bf16 and f16 against Swift's own Float16 and a bf16 computed by comparing distances; e4m3 against its definition.

import CKernels
import Testing
import TestSupport

/// The nearest bf16, by its distance to the two neighbours; ties go to the even one.
func nearestBFloat16(_ value: Float) -> UInt16 {
  let below = UInt16(value.bitPattern >> 16)
  if value.isNaN { return below | 0x40 }
  if value.isInfinite { return below }
  func magnitude(_ pattern: UInt16) -> Double {
    let float = Float(bitPattern: UInt32(pattern & 0x7fff) << 16)
    return float.isInfinite ? 0x1p128 : Double(float)
  }
  let exact = Double(value.magnitude)
  let (down, up) = (exact - magnitude(below), magnitude(below + 1) - exact)
  if down != up { return down < up ? below : below + 1 }
  return below % 2 == 0 ? below : below + 1
}

@Suite struct ConversionTests {
  private let patterns = (0...UInt32(UInt16.max)).map { UInt16($0) }

  /// Floats of every exponent, among them the ties of both types and their neighbours.
  private static let floats: [Float] = {
    var generator = SeededGenerator(seed: 1)
    let patterns = (0...UInt32(UInt16.max)).map { UInt16($0) }
    let random = (0..<100_000).map { _ in
      Float(bitPattern: UInt32(truncatingIfNeeded: generator.next()))
    }
    let ties = patterns.flatMap { pattern -> [Float] in
      let tie = UInt32(pattern) << 16 | 0x8000
      let half = Float(Float16(bitPattern: pattern))
      let next = Float(Float16(bitPattern: pattern &+ 1))
      return [tie - 1, tie, tie + 1].map { Float(bitPattern: $0) } + [(half + next) / 2]
    }
    return random + ties + [.greatestFiniteMagnitude, 65504, 65519.996, 65520, -65520, .nan]
  }()

  @Test func everyBFloat16WidensToTheFloatWithTheSameUpperHalf() {
    forEachInstructionSet { name in
      let result = KernelMemory([Float](repeating: 0, count: patterns.count))
      unsafe sluice_bf16_to_f32(patterns, result.start, patterns.count)
      #expect(
        result.values.map(\.bitPattern) == patterns.map { UInt32($0) << 16 }, "\(name)")
    }
  }

  @Test func everyFloat16WidensAsSwiftWidensIt() {
    forEachInstructionSet { name in
      let result = KernelMemory([Float](repeating: 0, count: patterns.count))
      unsafe sluice_f16_to_f32(patterns, result.start, patterns.count)
      let wrong = zip(patterns, result.values).filter { pattern, value in
        let expected = Float(Float16(bitPattern: pattern))
        return expected.isNaN ? !value.isNaN : value.bitPattern != expected.bitPattern
      }
      #expect(wrong.isEmpty, "\(name)")
    }
  }

  @Test func everyPatternButSignallingNaNsSurvivesTheRoundTrip() {
    forEachInstructionSet { name in
      let wide = KernelMemory([Float](repeating: 0, count: patterns.count))
      let back = KernelMemory([UInt16](repeating: 0, count: patterns.count))
      unsafe sluice_bf16_to_f32(patterns, wide.start, patterns.count)
      unsafe sluice_f32_to_bf16(wide.start, back.start, patterns.count)
      let bfloat = patterns.map { $0 & 0x7fff > 0x7f80 ? $0 | 0x40 : $0 }
      #expect(back.values == bfloat, "\(name)")
      unsafe sluice_f16_to_f32(patterns, wide.start, patterns.count)
      unsafe sluice_f32_to_f16(wide.start, back.start, patterns.count)
      let half = patterns.map { $0 & 0x7fff > 0x7c00 ? $0 | 0x200 : $0 }
      #expect(back.values == half, "\(name)")
    }
  }

  @Test func narrowingRoundsToNearestAndTiesToEven() {
    let floats = Self.floats
    forEachInstructionSet { name in
      let result = KernelMemory([UInt16](repeating: 0, count: floats.count))
      unsafe sluice_f32_to_bf16(floats, result.start, floats.count)
      #expect(result.values == floats.map(nearestBFloat16), "\(name)")
      unsafe sluice_f32_to_f16(floats, result.start, floats.count)
      let wrong = zip(floats, result.values).filter { value, half in
        value.isNaN
          ? !Float16(bitPattern: half).isNaN : half != Float16(value).bitPattern
      }
      #expect(wrong.isEmpty, "\(name): \(wrong.prefix(3))")
    }
  }

  @Test func conversionsTouchTheirElementsOnly() {
    for (count, offset) in lengthsAndOffsets {
      let floats = Array(Self.floats[1000..<1000 + count])
      forEachInstructionSet { name in
        let source = KernelMemory(floats, offset: offset)
        let narrow = KernelMemory([UInt16](repeating: 0, count: count), offset: offset)
        let wide = KernelMemory([Float](repeating: 0, count: count), offset: offset)
        unsafe sluice_f32_to_bf16(source.start, narrow.start, count)
        unsafe sluice_bf16_to_f32(narrow.start, wide.start, count)
        #expect(narrow.values == floats.map(nearestBFloat16))
        #expect(wide.values.map { UInt16($0.bitPattern >> 16) } == narrow.values)
        unsafe sluice_f32_to_f16(source.start, narrow.start, count)
        unsafe sluice_f16_to_f32(narrow.start, wide.start, count)
        #expect(
          zip(wide.values, floats).allSatisfy { $0 == Float(Float16($1)) || $1.isNaN }, "\(name)")
        #expect(narrow.guardsStand && wide.guardsStand, "\(name) \(count) \(offset)")
      }
    }
  }

  @Test func everyE4M3IsWhatItsDefinitionSays() {
    let codes = (0...UInt8.max).map { $0 }
    for scale in [Float(1), -0.375, 0x1p-120, 3.1e-5] {
      let expected = codes.map { valueOfE4M3($0) * scale }
      forEachInstructionSet { name in
        let wide = KernelMemory([Float](repeating: 0, count: codes.count))
        let narrow = KernelMemory([UInt16](repeating: 0, count: codes.count))
        unsafe sluice_e4m3_to_f32(codes, [scale], 0, codes.count, codes.count, wide.start)
        unsafe sluice_e4m3_to_bf16(codes, [scale], 0, codes.count, codes.count, narrow.start)
        for (code, want) in zip(codes, expected) {
          let found = wide.element(Int(code))
          let half = Float(bitPattern: UInt32(narrow.element(Int(code))) << 16)
          if want.isNaN {
            #expect(found.isNaN && half.isNaN && code & 0x7f == 0x7f, "\(name) \(code)")
          } else {
            #expect(found.bitPattern == want.bitPattern, "\(name) \(code)")
            #expect(narrow.element(Int(code)) == nearestBFloat16(want), "\(name) \(code)")
          }
        }
      }
    }
  }

  /// Whole rows and parts of them, blocks that divide nothing.
  @Test(arguments: [1, 5, 32, 67, 100])
  func everyBlockOfARowHasItsOwnScale(block: Int) {
    var generator = SeededGenerator(seed: 72)
    let scales = generator.floats(140 / block + 1)
    for (count, offset) in lengthsAndOffsets {
      let codes = (0..<count).map { _ in UInt8.random(in: 0..<0x7f, using: &generator) }
      for first in [0, 3, 64] {
        let expected = codes.enumerated().map { valueOfE4M3($1) * scales[(first + $0) / block] }
        forEachInstructionSet { name in
          let source = KernelMemory(codes, offset: offset)
          let wide = KernelMemory([Float](repeating: 0, count: count), offset: offset)
          let narrow = KernelMemory([UInt16](repeating: 0, count: count), offset: offset)
          unsafe sluice_e4m3_to_f32(source.start, scales, first, block, count, wide.start)
          unsafe sluice_e4m3_to_bf16(source.start, scales, first, block, count, narrow.start)
          #expect(wide.values == expected, "\(name) \(count) \(first)")
          #expect(narrow.values == expected.map(nearestBFloat16), "\(name) \(count) \(first)")
          #expect(wide.guardsStand && narrow.guardsStand, "\(name) \(count) \(offset)")
        }
      }
    }
  }

  @Test(arguments: [1, 2, 4])
  func planesHoldOneByteOfEveryElementAndJoinAgain(width: Int) {
    for (count, offset) in lengthsAndOffsets {
      let bytes = (0..<count * width).map { UInt8(truncatingIfNeeded: $0 &* 151 &+ 7) }
      let planes = (0..<width).flatMap { plane in (0..<count).map { bytes[$0 * width + plane] } }
      forEachInstructionSet { name in
        let source = KernelMemory(bytes, offset: offset)
        let split = KernelMemory([UInt8](repeating: 0, count: bytes.count), offset: offset)
        let joined = KernelMemory([UInt8](repeating: 0, count: bytes.count), offset: offset)
        unsafe sluice_split_planes(source.start, split.start, count, width)
        unsafe sluice_join_planes(split.start, joined.start, count, width)
        #expect(split.values == planes, "\(name)")
        #expect(joined.values == bytes, "\(name)")
        #expect(split.guardsStand && joined.guardsStand, "\(name) \(count) \(offset)")
      }
    }
  }

  @Test func anInstructionSetThatTheCPULacksIsRefused() {
    let best = unsafe String(cString: sluice_instruction_set())
    #expect(unsafe sluice_use_instruction_set("avx1024") == 0)
    #expect(unsafe String(cString: sluice_instruction_set()) == best)
    #expect(unsafe sluice_use_instruction_set("portable") == 1)
    #expect(unsafe String(cString: sluice_instruction_set()) == "portable")
    #expect(sluice_use_instruction_set(nil) == 1)
    #expect(unsafe String(cString: sluice_instruction_set()) == best)
  }

  /// Rows as they lie, every other row, and columns that are stored as rows.
  @Test(arguments: [(37, 1), (74, 1), (1, 41), (2, 82)], [2, 4])
  func elementsThatLieApartAreGathered(strides: (row: Int, column: Int), width: Int) {
    let (rows, columns) = (41, 37)
    let count = (rows - 1) * strides.row + (columns - 1) * strides.column + 1
    func gathered<Element: FixedWidthInteger & BitwiseCopyable>(_ zero: Element, _ offset: Int) {
      forEachInstructionSet { name in
        let source = KernelMemory(
          (0..<count).map { Element(truncatingIfNeeded: $0 &* 40503) }, offset: offset)
        let result = KernelMemory([Element](repeating: zero, count: rows * columns), offset: offset)
        unsafe sluice_gather(
          source.start, width, rows, columns, strides.row, strides.column, result.start)
        let expected = (0..<rows).flatMap { row in
          (0..<columns).map { source.element(row * strides.row + $0 * strides.column) }
        }
        #expect(result.values == expected && result.guardsStand, "\(name)")
      }
    }
    for offset in [0, 3] {
      if width == 2 { gathered(UInt16(0), offset) } else { gathered(UInt32(0), offset) }
    }
  }
}
