// One zstd frame in, one out, with a content checksum.

internal import CZstd

/// What zstd says of bytes it cannot take.
struct ZstdError: Error {
  let problem: String
}

enum ZstdFrame {
  /// Level 1: on byte planes of hidden states higher levels are slower and no smaller.
  private static let level: Int32 = 1

  static func compress(_ bytes: UnsafeRawBufferPointer) throws -> [UInt8] {
    guard let context = unsafe ZSTD_createCCtx() else { throw ZstdError(problem: "out of memory") }
    defer { unsafe ZSTD_freeCCtx(context) }
    unsafe ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
    unsafe ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
    var written = 0
    let result = unsafe [UInt8](unsafeUninitializedCapacity: ZSTD_compressBound(bytes.count)) {
      buffer, count in
      written = unsafe ZSTD_compress2(
        context, buffer.baseAddress, buffer.count, bytes.baseAddress, bytes.count)
      count = ZSTD_isError(written) == 0 ? written : 0
    }
    try check(written)
    return result
  }

  /// Fills `result` to the last byte, or fails: on a wrong checksum, a wrong size, or bytes that are no frame.
  static func decompress(
    _ frame: UnsafeRawBufferPointer, into result: UnsafeMutableRawBufferPointer
  ) throws {
    let size = unsafe ZSTD_decompress(
      result.baseAddress, result.count, frame.baseAddress, frame.count)
    try check(size)
    if size != result.count {
      throw ZstdError(problem: "\(size) bytes inside instead of \(result.count)")
    }
  }

  private static func check(_ code: Int) throws {
    if ZSTD_isError(code) != 0 {
      throw ZstdError(problem: unsafe String(cString: ZSTD_getErrorName(code)))
    }
  }
}
