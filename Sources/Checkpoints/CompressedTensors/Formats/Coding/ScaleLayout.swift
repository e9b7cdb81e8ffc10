// How scales lie in their tensor.

internal import CKernels
internal import LinearAlgebra
internal import Quantization
internal import Safetensors
internal import Tensors

/// The way from scales to bytes and back.
struct ScaleLayout: Sendable {
  private let format: ScaleFormat

  init(_ format: ScaleFormat) { self.format = format }

  var dtype: DType {
    switch format {
    case .plain(let dtype): dtype
    case .powersOfTwo: .u8
    case .twoLevel: .f8E4M3
    }
  }

  /// - Parameter globalScale: of scales of two levels.
  func encoded(_ scales: [Float], globalScale: Float) -> [UInt8] {
    guard let type = kernelType else { return dtype.encoded(scales) }
    var codes = [UInt8](repeating: 0, count: scales.count)
    unsafe sluice_scale_codes(scales, scales.count, type, globalScale, &codes)
    return codes
  }

  /// Some elements of a tensor of scales.
  func decoded(_ tensor: StoredTensor, _ elements: Range<Int>, globalScale: Float) -> [Float] {
    var result = [Float](repeating: 0, count: elements.count)
    unsafe tensor.withBytes { bytes in
      let from = unsafe bytes.baseAddress! + elements.lowerBound * tensor.dtype.byteWidth
      if let type = kernelType {
        unsafe sluice_scales_of_codes(
          from.assumingMemoryBound(to: UInt8.self), elements.count, type, globalScale, &result)
      } else {
        unsafe tensor.dtype.decode(from, count: elements.count, into: &result)
      }
    }
    return result
  }

  private var kernelType: Int32? {
    switch format {
    case .plain: nil
    case .powersOfTwo: Int32(SLUICE_SCALE_E8M0)
    case .twoLevel: Int32(SLUICE_SCALE_E4M3)
    }
  }

  /// The first scale that is none, and how many there are: zero, not finite, or below zero where it may not be.
  func bad(
    _ tensor: StoredTensor, signed: Bool, windowBytes: Int
  ) -> (count: Int, place: Int, text: String)? {
    var bad: (count: Int, place: Int, text: String)?
    let width = tensor.dtype.byteWidth
    for part in ranges(of: tensor.byteCount / width, by: max(1, windowBytes / width)) {
      // What a global scale divides is told by itself.
      for (index, value) in decoded(tensor, part, globalScale: 1).enumerated()
      where !((signed ? abs(value) : value) > 0 && value.isFinite) {
        bad = (
          (bad?.count ?? 0) + 1, bad?.place ?? part.lowerBound + index, bad?.text ?? "\(value)"
        )
      }
      tensor.release(bytes: part.lowerBound * width..<part.upperBound * width)
    }
    return bad
  }
}
