// The rows of a mapped quantized weight: its numbers, and the scales and zero points that they are made of.

internal import LinearAlgebra
internal import Quantization
internal import Safetensors
internal import Tensors

/// A mapped quantized weight.
struct CodedRows: CodedWeight {
  let module: String
  let quantizer: WeightQuantizer
  let layout: CodeLayout
  let rows: Int
  let columns: Int
  let codes: StoredTensor
  let scales: StoredTensor
  let zeroPoints: StoredTensor?
  let globalScale: Float

  private var groups: Int { quantizer.groups(of: columns) }

  func noteReading(_ count: Int, tileRows: Int, backend: Backend) {
    let all = [codes, scales] + (zeroPoints.map { [$0] } ?? [])
    WeightPages(
      key: module, bytes: all.reduce(0) { $0 + $1.byteCount }, rows: rows,
      tileBytes: { $0 * codes.byteCount / max(1, rows) }, isHeld: false
    ).noteReading(count, tileRows: tileRows, backend: backend)
  }

  func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    let rowBytes = layout.byteCount(columns)
    let scales = scales(of: range)
    let zeros = zeroPoints(of: range)
    unsafe withUnsafeTemporaryAllocation(of: Int8.self, capacity: columns) { row in
      guard let row = row.baseAddress else { return }
      unsafe codes.withBytes { bytes in
        for (offset, index) in range.enumerated() {
          unsafe layout.decode(
            UnsafeRawBufferPointer(rebasing: bytes[index * rowBytes..<(index + 1) * rowBytes]),
            count: columns, into: row)
          let own = offset * groups..<(offset + 1) * groups
          unsafe quantizer.decode(
            row, scales: Array(scales[own]), zeroPoints: zeros.map { Array($0[own]) },
            columns: columns, into: result + offset * columns)
        }
      }
    }
    codes.releaseTile(bytes: range.lowerBound * rowBytes..<range.upperBound * rowBytes)
  }

  func scales(of rows: Range<Int>) -> [Float] {
    let layout = ScaleLayout(quantizer.scales)
    if !quantizer.sharesScales {
      return layout.decoded(
        scales, rows.lowerBound * groups..<rows.upperBound * groups, globalScale: globalScale)
    }
    return rows.flatMap { row in
      let first = row / quantizer.rowsTogether * groups
      return layout.decoded(scales, first..<first + groups, globalScale: globalScale)
    }
  }

  /// They are packed along rows; 32 of them fill whole elements at any number of bits.
  func zeroPoints(of rows: Range<Int>) -> [Int8]? {
    guard let zeroPoints else { return nil }
    let first = rows.lowerBound / 32 * 32
    let (start, width) = (layout.elements(first), layout.dtype.byteWidth)
    let elements = layout.elements(rows.upperBound - first)
    var result = [Int8](repeating: 0, count: rows.count * groups)
    let count = rows.upperBound - first
    var column = [Int8](repeating: 0, count: count)
    var packed = [UInt8](repeating: 0, count: elements * width)
    unsafe zeroPoints.withBytes { bytes in
      for group in 0..<groups {
        for element in 0..<elements {
          let place = ((start + element) * groups + group) * width
          for byte in 0..<width { packed[element * width + byte] = unsafe bytes[place + byte] }
        }
        unsafe packed.withUnsafeBytes {
          unsafe layout.decode($0, count: count, into: &column)
        }
        for (offset, row) in rows.enumerated() {
          result[offset * groups + group] = column[row - first]
        }
      }
    }
    return result
  }
}
