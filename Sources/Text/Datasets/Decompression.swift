// Bytes packed with gzip, zstd or snappy to what was packed, whole or as a stream.

internal import CSnappy
internal import CZlib
internal import CZstd

enum Packing: Sendable, Equatable {
  case none, gzip, snappy, zstd
}

/// Why a decompressor cannot unpack some bytes.
struct PackingError: Error {
  let problem: String
  /// Whether the bytes are sound, and need more memory than they may take.
  var isTooLarge = false
}

extension Packing {
  /// The `size` bytes that were packed into `bytes`; any other size is an error.
  ///
  /// Memory is touched only where something is put into it, so that a false `size` costs nothing.
  func unpack(_ bytes: UnsafeRawBufferPointer, size: Int) throws(PackingError) -> [UInt8] {
    if size == 0 { return [] }
    var problem: String?
    let result = unsafe [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      let target = UnsafeMutableRawBufferPointer(buffer)
      switch unsafe self.unpack(bytes, into: target) {
      case .success(size): count = size
      case .success(let found): problem = "unpacks to \(found) bytes instead of \(size)"
      case .failure(let error): problem = error.problem
      }
    }
    if let problem { throw PackingError(problem: problem) }
    return result
  }

  private func unpack(
    _ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) -> Result<Int, PackingError> {
    switch self {
    case .none:
      if bytes.count == target.count { unsafe target.copyMemory(from: bytes) }
      return .success(bytes.count)
    case .snappy:
      guard let source = unsafe bytes.assumingMemoryBound(to: CChar.self).baseAddress else {
        return .failure(PackingError(problem: "nothing to unpack"))
      }
      // The size inside must be asked first: snappy wants room for all of it.
      var inside = 0
      guard unsafe snappy_uncompressed_length(source, bytes.count, &inside) == SNAPPY_OK else {
        return .failure(PackingError(problem: "no snappy data"))
      }
      if inside != target.count { return .success(inside) }
      let status = unsafe snappy_uncompress(
        source, bytes.count, target.assumingMemoryBound(to: CChar.self).baseAddress, &inside)
      return status == SNAPPY_OK
        ? .success(inside) : .failure(PackingError(problem: "broken snappy data"))
    case .zstd:
      let size = unsafe ZSTD_decompress(
        target.baseAddress, target.count, bytes.baseAddress, bytes.count)
      return ZSTD_isError(size) == 0 ? .success(size) : .failure(zstdError(size))
    case .gzip:
      do throws(PackingError) {
        let stream = try GzipStream()
        var used = 0
        var done = 0
        while done < target.count {
          let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[used...])
          let room = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done...])
          let step = try unsafe stream.unpack(rest, into: room)
          if step.consumed == 0, step.produced == 0 { break }
          used += step.consumed
          done += step.produced
        }
        return .success(done)
      } catch {
        return .failure(error)
      }
    }
  }

  /// A decompressor for input that comes in parts; nil where there is nothing to unpack.
  ///
  /// - Parameter windowLog: how many bytes may be kept to look back at, as a power of two.
  func makeStream(windowLog: Int32) throws(PackingError) -> (any UnpackingStream)? {
    switch self {
    case .none: nil
    case .gzip: try GzipStream()
    case .zstd: try ZstdStream(windowLog: windowLog)
    case .snappy: preconditionFailure("snappy packs blocks, not files")
    }
  }
}

/// The check sum of a parquet page: CRC-32 as in gzip.
func checkSum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
  unsafe UInt32(
    truncatingIfNeeded: crc32_z(
      0, bytes.assumingMemoryBound(to: UInt8.self).baseAddress, bytes.count))
}

protocol UnpackingStream: AnyObject {
  /// Whether what came so far is complete: input may end here.
  var isComplete: Bool { get }

  /// Unpacks until `source` is used up or `target` is full.
  func unpack(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) throws(PackingError) -> (consumed: Int, produced: Int)
}

/// gzip, one member after another, or zlib.
@safe
private final class GzipStream: UnpackingStream {
  // zlib keeps the address of its stream: it must not move.
  private let stream: UnsafeMutablePointer<z_stream>
  private(set) var isComplete = false

  init() throws(PackingError) {
    unsafe stream = .allocate(capacity: 1)
    unsafe stream.initialize(to: z_stream())
    // 15: the largest window; 32: gzip and zlib, by their first bytes.
    let code = unsafe inflateInit2_(
      stream, 15 + 32, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    if code != Z_OK {
      unsafe stream.deallocate()
      throw PackingError(problem: "out of memory")
    }
  }

  deinit {
    unsafe inflateEnd(stream)
    unsafe stream.deallocate()
  }

  func unpack(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) throws(PackingError) -> (consumed: Int, produced: Int) {
    // zlib counts in 32 bits.
    let sourceCount = min(source.count, 1 << 30)
    let targetCount = min(target.count, 1 << 30)
    if sourceCount == 0 || targetCount == 0 { return (0, 0) }
    if isComplete {
      unsafe inflateReset(stream)
      isComplete = false
    }
    unsafe stream.pointee.next_in = UnsafeMutableRawPointer(mutating: source.baseAddress)?
      .assumingMemoryBound(to: UInt8.self)
    unsafe stream.pointee.avail_in = UInt32(sourceCount)
    unsafe stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
    unsafe stream.pointee.avail_out = UInt32(targetCount)
    let code = unsafe inflate(stream, Z_NO_FLUSH)
    isComplete = code == Z_STREAM_END
    guard isComplete || code == Z_OK || code == Z_BUF_ERROR else {
      throw PackingError(
        problem: unsafe stream.pointee.msg.map { unsafe String(cString: $0) } ?? "no gzip data")
    }
    return unsafe (
      sourceCount - Int(stream.pointee.avail_in), targetCount - Int(stream.pointee.avail_out)
    )
  }
}

/// zstd, one frame after another.
@safe
private final class ZstdStream: UnpackingStream {
  private let context: OpaquePointer
  private(set) var isComplete = false

  init(windowLog: Int32) throws(PackingError) {
    guard let context = unsafe ZSTD_createDCtx() else {
      throw PackingError(problem: "out of memory")
    }
    unsafe self.context = unsafe context
    _ = unsafe ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, windowLog)
  }

  deinit {
    unsafe ZSTD_freeDCtx(context)
  }

  func unpack(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) throws(PackingError) -> (consumed: Int, produced: Int) {
    var input = unsafe ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
    var output = unsafe ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
    let code = unsafe ZSTD_decompressStream(context, &output, &input)
    if ZSTD_isError(code) != 0 { throw zstdError(code) }
    let step = unsafe (consumed: input.pos, produced: output.pos)
    if step.consumed > 0 || step.produced > 0 { isComplete = code == 0 }
    return step
  }
}

private func zstdError(_ code: Int) -> PackingError {
  PackingError(
    problem: unsafe String(cString: ZSTD_getErrorName(code)),
    isTooLarge: ZSTD_getErrorCode(code) == ZSTD_error_frameParameter_windowTooLarge)
}
