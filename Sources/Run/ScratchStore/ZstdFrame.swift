// One zstd frame in, one out, with a content checksum.

internal import CZstd
internal import Glibc
internal import SystemIO

/// Why zstd did not do its work.
enum ZstdError: Error {
  case noMemory
  /// What it says of bytes it cannot take.
  case unusable(String)

  /// What is told of the file that the bytes are for, or from: too little memory is no damage.
  func told(of path: String, block: Int) -> ScratchError {
    switch self {
    case .noMemory: .system(SystemError(path: path, call: "zstd", code: ENOMEM))
    case .unusable(let problem): .corrupt(path: path, block: block, problem: problem)
    }
  }
}

enum ZstdFrame {
  /// Level 1: on byte planes of hidden states higher levels are slower and no smaller.
  private static let level: Int32 = 1

  /// Room that the frame of `bytes` never exceeds.
  static func bound(_ bytes: Int) -> Int { ZSTD_compressBound(bytes) }

  /// - Parameter frame: at least `bound(bytes.count)` long.
  /// - Returns: the length of the frame.
  static func compress(
    _ bytes: UnsafeRawBufferPointer, into frame: UnsafeMutableRawBufferPointer
  ) throws(ZstdError) -> Int {
    guard let context = unsafe ZSTD_createCCtx() else { throw .noMemory }
    defer { unsafe ZSTD_freeCCtx(context) }
    unsafe ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
    unsafe ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
    let length = unsafe ZSTD_compress2(
      context, frame.baseAddress, frame.count, bytes.baseAddress, bytes.count)
    try check(length)
    return length
  }

  /// Fills `result` to the last byte, or fails: on a wrong checksum, a wrong size, or bytes that are no frame.
  static func decompress(
    _ frame: UnsafeRawBufferPointer, into result: UnsafeMutableRawBufferPointer
  ) throws(ZstdError) {
    let size = unsafe ZSTD_decompress(
      result.baseAddress, result.count, frame.baseAddress, frame.count)
    try check(size)
    if size != result.count {
      throw .unusable("\(size) bytes inside instead of \(result.count)")
    }
  }

  private static func check(_ code: Int) throws(ZstdError) {
    if ZSTD_isError(code) == 0 { return }
    if ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation { throw .noMemory }
    throw .unusable(unsafe String(cString: ZSTD_getErrorName(code)))
  }
}
