// Stored numbers of the weight types to float32 and back.

internal import CKernels

extension DType {
  /// Reads `count` elements as float32. The type must be a weight type (`isWeight`).
  package func decode(
    _ source: UnsafeRawPointer, count: Int, into result: UnsafeMutablePointer<Float>
  ) {
    switch self {
    case .bf16:
      unsafe sluice_bf16_to_f32(source.assumingMemoryBound(to: UInt16.self), result, count)
    case .f16:
      unsafe sluice_f16_to_f32(source.assumingMemoryBound(to: UInt16.self), result, count)
    case .f32:
      unsafe UnsafeMutableRawPointer(result).copyMemory(from: source, byteCount: count * 4)
    default: preconditionFailure("\(rawValue) is no weight type")
    }
  }

  /// Writes float32 values as elements of this weight type, rounding to nearest, ties to even.
  package func encode(
    _ source: UnsafePointer<Float>, count: Int, into result: UnsafeMutableRawPointer
  ) {
    switch self {
    case .bf16:
      unsafe sluice_f32_to_bf16(source, result.assumingMemoryBound(to: UInt16.self), count)
    case .f16:
      unsafe sluice_f32_to_f16(source, result.assumingMemoryBound(to: UInt16.self), count)
    case .f32: unsafe result.copyMemory(from: source, byteCount: count * 4)
    default: preconditionFailure("\(rawValue) is no weight type")
    }
  }

  /// Values after a round trip through this type.
  package func rounded(_ values: [Float]) -> [Float] {
    let bytes = encoded(values)
    return unsafe bytes.withUnsafeBytes { stored in
      unsafe [Float](unsafeUninitializedCapacity: values.count) { result, initialized in
        if let from = stored.baseAddress, let to = result.baseAddress {
          unsafe decode(from, count: values.count, into: to)
        }
        initialized = values.count
      }
    }
  }

  /// The bytes of values stored in this type.
  package func encoded(_ values: [Float]) -> [UInt8] {
    unsafe [UInt8](unsafeUninitializedCapacity: values.count * byteWidth) { bytes, initialized in
      unsafe values.withUnsafeBufferPointer { source in
        if let from = source.baseAddress, let to = bytes.baseAddress {
          unsafe encode(from, count: values.count, into: UnsafeMutableRawPointer(to))
        }
      }
      initialized = values.count * byteWidth
    }
  }
}
