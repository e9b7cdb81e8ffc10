// How the codes of a row lie in its tensor.

internal import CKernels
internal import Tensors

/// The way from the codes of a row to bytes and back.
enum CodeLayout: Sendable, Equatable {
  /// A code in a byte of its own.
  case bytes(DType)
  /// U8; code j in bits `bits * j` and on of the row, the lowest of a byte first.
  case packedBytes(bits: Int)
  /// I32; code j plus 2^(bits-1) in bits `bits * j` and on of the row. One that does not fit a word goes on in the next.
  case words(bits: Int)

  var dtype: DType {
    switch self {
    case .bytes(let dtype): dtype
    case .packedBytes: .u8
    case .words: .i32
    }
  }

  /// Elements of a tensor that hold some codes.
  func elements(_ codes: Int) -> Int {
    switch self {
    case .bytes: codes
    case .packedBytes(let bits): (codes * bits + 7) / 8
    case .words(let bits): (codes * bits + 31) / 32
    }
  }

  func byteCount(_ codes: Int) -> Int { elements(codes) * dtype.byteWidth }

  /// - Parameter result: `byteCount(count)` bytes.
  func encode(_ codes: UnsafePointer<Int8>, count: Int, into result: UnsafeMutableRawPointer) {
    switch self {
    case .bytes: unsafe result.copyMemory(from: codes, byteCount: count)
    case .packedBytes(let bits):
      unsafe sluice_pack_bytes(
        codes, count, Int32(bits), result.assumingMemoryBound(to: UInt8.self))
    case .words(let bits):
      unsafe sluice_pack_row(codes, count, Int32(bits), result.assumingMemoryBound(to: Int32.self))
    }
  }

  /// - Parameter bytes: `byteCount(count)` of them; a foreign shard may not align its words.
  func decode(_ bytes: UnsafeRawBufferPointer, count: Int, into codes: UnsafeMutablePointer<Int8>) {
    switch self {
    case .bytes:
      unsafe UnsafeMutableRawPointer(codes).copyMemory(from: bytes.baseAddress!, byteCount: count)
    case .packedBytes(let bits):
      unsafe sluice_unpack_bytes(
        bytes.baseAddress!.assumingMemoryBound(to: UInt8.self), count, Int32(bits), codes)
    case .words(let bits):
      unsafe withUnsafeTemporaryAllocation(byteCount: bytes.count, alignment: 4) { words in
        unsafe words.copyMemory(from: bytes)
        unsafe sluice_unpack_row(
          words.baseAddress!.assumingMemoryBound(to: Int32.self), count, Int32(bits), codes)
      }
    }
  }
}

extension CodeLayout {
  /// Of a code.
  var bits: Int {
    switch self {
    case .bytes: 8
    case .packedBytes(let bits), .words(let bits): bits
    }
  }
}
