// Stored numbers of the weight types to float32 and back.

internal import CKernels

extension DType {
  /// Reads `count` elements as float32. The type must be one of weights or scales (`isScale`).
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
    case .f8E8M0:
      unsafe sluice_scales_of_codes(
        source.assumingMemoryBound(to: UInt8.self), count, Int32(SLUICE_SCALE_E8M0), 1, result)
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

  /// Replaces values by what is left of them in this type.
  package func round(_ values: UnsafeMutablePointer<Float>, count: Int) {
    unsafe withUnsafeTemporaryAllocation(byteCount: count * byteWidth, alignment: 64) { stored in
      guard let stored = stored.baseAddress else { return }
      unsafe encode(values, count: count, into: stored)
      unsafe decode(stored, count: count, into: values)
    }
  }

  /// Values after a round trip through this type.
  package func rounded(_ values: [Float]) -> [Float] {
    var result = values
    unsafe result.withUnsafeMutableBufferPointer { buffer in
      if let base = buffer.baseAddress { unsafe round(base, count: buffer.count) }
    }
    return result
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

  /// The place of the first NaN or infinity among stored elements; nil where there is none, as in types that have none.
  package func firstNonFinite(_ bytes: UnsafeRawBufferPointer) -> Int? {
    let count = bytes.count / byteWidth
    guard let base = bytes.baseAddress else { return nil }
    switch self {
    case .bf16, .f16, .f32: return unsafe firstNonFiniteWeight(base, count)
    case .f64:
      return (0..<count).first {
        unsafe !base.loadUnaligned(fromByteOffset: 8 * $0, as: Double.self).isFinite
      }
    // One code of each sign is NaN, and none is infinite.
    case .f8E4M3: return unsafe bytes.firstIndex { $0 & 0x7f == 0x7f }
    case .f8E8M0: return unsafe bytes.firstIndex { $0 == 0xff }
    case .f8E5M2: return unsafe bytes.firstIndex { $0 & 0x7c == 0x7c }
    case .bool, .u8, .i8, .i16, .u16, .i32, .u32, .i64, .u64: return nil
    }
  }

  /// A part that fits the cache at a time.
  private func firstNonFiniteWeight(_ base: UnsafeRawPointer, _ count: Int) -> Int? {
    let part = 2048
    return unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: part) { values in
      guard let values = values.baseAddress else { return nil }
      for start in stride(from: 0, to: count, by: part) {
        let length = min(part, count - start)
        unsafe decode(base + start * byteWidth, count: length, into: values)
        let found = unsafe sluice_first_nonfinite(values, length)
        if found < length { return start + found }
      }
      return nil
    }
  }
}
