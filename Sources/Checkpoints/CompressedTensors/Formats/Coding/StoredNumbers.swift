// The numbers of a stored tensor in float32: the first, or all of them, a window at a time.

internal import LinearAlgebra
package import Safetensors
internal import Tensors

extension StoredTensor {
  /// Of a weight type.
  var firstNumber: Float {
    guard dtype.isScale, byteCount >= dtype.byteWidth else { return .nan }
    var value: Float = 0
    unsafe withBytes { unsafe dtype.decode($0.baseAddress!, count: 1, into: &value) }
    return value
  }

  /// The elements of a weight or of scales in float32, a window at a time.
  package func forEachPart(windowBytes: Int, _ body: (_ start: Int, _ values: [Float]) -> Void) {
    let width = dtype.byteWidth
    for part in ranges(of: byteCount / width, by: max(1, windowBytes / width)) {
      let values = unsafe withBytes { bytes in
        unsafe [Float](unsafeUninitializedCapacity: part.count) { result, count in
          if let from = bytes.baseAddress, let to = result.baseAddress {
            unsafe dtype.decode(from + part.lowerBound * width, count: part.count, into: to)
          }
          count = part.count
        }
      }
      release(bytes: part.lowerBound * width..<part.upperBound * width)
      body(part.lowerBound, values)
    }
  }
}
