// Rounding of a range of rows; its bits are judged in CKernelsTests and against the peer in CompressedTensorsTests.

import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport

@Suite struct RoundingTests {
  @Test(arguments: IntegerScheme.Preset.allCases)
  func weightsThatAreCodesTimesAScaleAreKept(preset: IntegerScheme.Preset) throws {
    let scheme = IntegerScheme(preset, groupSize: 32)
    let high: Float = preset == .w8a16 ? 127 : 7
    // Symmetric scales are the largest magnitude over 7.5 or 127.5; asymmetric ones span the range.
    let (lowest, highest): (Float, Float) =
      scheme.isSymmetric ? (-high - 0.5, high + 0.5) : (-high - 1, high)
    let group = [highest, lowest] + (2..<32).map { Float($0 % 13 - 6) }
    let values = group + group
    let rounded = try scheme.round(
      Matrix(rows: 1, columns: 64, values: values), rows: 0..<1, dtype: .bf16)
    #expect(rounded.scales == [1, 1])
    #expect(rounded.zeroPoints == [0, 0])
    for (code, value) in zip(rounded.codes, values) where abs(value) < high {
      #expect(Float(code) == value)
    }
  }

  @Test func aRangeOfRowsIsThatPartOfTheWhole() throws {
    var generator = SeededGenerator(seed: 42)
    let weight = generator.matrix(11, 64)
    let scheme = IntegerScheme(.w4a16Asymmetric, groupSize: 32)
    let whole = try scheme.round(weight, rows: 0..<11, dtype: .bf16)
    let part = try scheme.round(weight, rows: 3..<7, dtype: .bf16)
    #expect(part.rows == 4 && part.columns == 64)
    #expect(part.codes == Array(whole.codes[3 * 64..<7 * 64]))
    #expect(part.scales == Array(whole.scales[6..<14]))
    #expect(part.zeroPoints == Array(whole.zeroPoints[6..<14]))
  }

  @Test func aNonFiniteWeightIsNamedByItsRowInTheWholeWeight() {
    var generator = SeededGenerator(seed: 43)
    let weight = generator.matrix(11, 64)
    unsafe weight.row(6)[40] = -.infinity
    unsafe weight.row(8)[1] = .nan
    let scheme = IntegerScheme(.w4a16, groupSize: 32)
    #expect(throws: NonFiniteWeight(row: 6, column: 40)) {
      try scheme.round(weight, rows: 3..<11, dtype: .bf16)
    }
    #expect(throws: NonFiniteWeight(row: 8, column: 1)) {
      try scheme.round(weight, rows: 7..<11, dtype: .bf16)
    }
  }
}
