// Element types, shapes and the matrix.

import Tensors
import Testing
import TestSupport

@Suite struct TensorsTests {
  @Test func sizesAreCheckedForOverflow() {
    #expect(elementCount([]) == 1)
    #expect(elementCount([3, 0, 5]) == 0)
    #expect(elementCount([3, 4]) == 12)
    #expect(elementCount([-1]) == nil)
    #expect(elementCount([1 << 32, 1 << 32]) == nil)
    #expect(byteCount(.f64, [3, 4]) == 96)
    #expect(byteCount(.bf16, [5]) == 10)
    #expect(byteCount(.f8E4M3, [5]) == 5)
    #expect(byteCount(.f64, [1 << 61]) == nil)
  }

  @Test func onlyFloatsOfTwoAndFourBytesAreWeights() {
    #expect(DType.allCases.filter(\.isWeight) == [.f16, .bf16, .f32])
  }

  @Test(arguments: [DType.f16, .bf16, .f32])
  func valuesOfATypeSurviveEncodingAndDecoding(dtype: DType) {
    var generator = SeededGenerator(seed: 71)
    let values = dtype.rounded(generator.floats(100))
    #expect(dtype.encoded(values).count == 100 * dtype.byteWidth)
    #expect(dtype.rounded(values) == values)
    #expect(dtype.rounded([]) == [] && dtype.encoded([]) == [])
  }

  @Test func encodingIsLittleEndianAndRoundsTiesToEven() {
    #expect(DType.f32.encoded([1]) == [0, 0, 0x80, 0x3f])
    #expect(
      DType.bf16.encoded([1, 1 + 0x1p-8, 1 + 0x3p-8]) == [0x80, 0x3f, 0x80, 0x3f, 0x82, 0x3f])
    #expect(DType.f16.encoded([1, 1 + 0x1p-11, 1 + 0x3p-11]) == [0, 0x3c, 0, 0x3c, 2, 0x3c])
  }

  @Test func aMatrixIsAlignedAndRowMajor() {
    let matrix = Matrix(rows: 2, columns: 3, values: [1, 2, 3, 4, 5, 6])
    #expect(unsafe UInt(bitPattern: matrix.base) % 64 == 0)
    #expect(unsafe matrix.row(1)[0] == 4)
    #expect(matrix.prefix(1).values == [1, 2, 3])
    #expect(matrix.count == 6)
    matrix.fill(7)
    #expect(matrix.values == [Float](repeating: 7, count: 6))
    #expect(Matrix(zeros: 2, 2).values == [0, 0, 0, 0])
    #expect(Matrix(rows: 0, columns: 5).values.isEmpty)
  }
}
