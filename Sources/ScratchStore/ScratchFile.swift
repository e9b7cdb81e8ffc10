// Matrices in a file, one compressed block after the other: written once, read in any order.
//
// A block is a 32-byte head (magic, index, rows, columns, bytes of an element, 8 of bytes of the frame, a checksum of all
// these; little-endian) and a zstd frame of its byte planes, with a checksum.

internal import CKernels
package import SystemIO
package import Tensors

/// A scratch file that does not hold what was written to it.
package enum ScratchError: Error, CustomStringConvertible, Equatable {
  case corrupt(path: String, block: Int, problem: String)

  package var description: String {
    switch self {
    case .corrupt(let path, let block, let problem):
      "\(path): block \(block) is damaged (\(problem)); start over with --restart"
    }
  }
}

private let magic: UInt32 = 0x3153_4c53  // "SLS1"
private let headBytes = 32

private func littleEndian(_ value: Int, bytes: Int) -> [UInt8] {
  (0..<bytes).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

/// FNV-1a of the head before the checksum: a damaged length would otherwise put the blame on the next block.
private func headChecksum(_ bytes: some Sequence<UInt8>) -> Int {
  Int(bytes.reduce(0x811c_9dc5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 })
}

/// Appends blocks to a new file.
package final class ScratchWriter {
  private let file: AppendedFile
  private let dtype: DType
  private var blocks = 0

  /// - Parameter dtype: the weight type that values are rounded to.
  package init(path: String, dtype: DType) throws(SystemError) {
    precondition(dtype.isWeight, "\(dtype.rawValue) in scratch")
    file = try AppendedFile(creating: path)
    self.dtype = dtype
  }

  package func append(_ block: Matrix) throws {
    let bytes = block.count * dtype.byteWidth
    let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * bytes, alignment: 64)
    defer { unsafe raw.deallocate() }
    let planes = unsafe UnsafeMutableRawBufferPointer(rebasing: raw[bytes...])
    if let values = raw.baseAddress, let to = planes.baseAddress {
      unsafe dtype.encode(block.base, count: block.count, into: values)
      unsafe sluice_split_planes(values, to, block.count, dtype.byteWidth)
    }
    let frame = try unsafe ZstdFrame.compress(UnsafeRawBufferPointer(planes))
    var head = [Int(magic), blocks, block.rows, block.columns, dtype.byteWidth].flatMap {
      littleEndian($0, bytes: 4)
    }
    head += littleEndian(frame.count, bytes: 8)
    head += littleEndian(headChecksum(head), bytes: 4)
    try file.append(head)
    try file.append(frame)
    blocks += 1
  }

  /// Makes everything appended so far durable.
  package func synchronize() throws(SystemError) { try file.synchronize() }
}

/// Reads the blocks of a finished file.
package final class ScratchReader {
  private struct Block {
    let rows: Int
    let columns: Int
    let frame: Range<Int>
  }

  private let file: MappedFile
  private let dtype: DType
  private let blocks: [Block]

  package init(path: String, dtype: DType) throws {
    let file = try MappedFile(path: path)
    var blocks: [Block] = []
    var offset = 0
    while offset < file.byteCount {
      func damaged(_ problem: String) -> ScratchError {
        .corrupt(path: path, block: blocks.count, problem: problem)
      }
      guard offset + headBytes <= file.byteCount else { throw damaged("cut short") }
      let head = unsafe file.withBytes { unsafe [UInt8]($0[offset..<offset + headBytes]) }
      func field(_ position: Int, bytes: Int) -> Int {
        head[position..<position + bytes].reversed().reduce(0) { $0 << 8 | Int($1) }
      }
      guard field(0, bytes: 4) == Int(magic), field(28, bytes: 4) == headChecksum(head.prefix(28)),
        field(4, bytes: 4) == blocks.count, field(16, bytes: 4) == dtype.byteWidth
      else { throw damaged("not the head of a block") }
      let (rows, columns) = (field(8, bytes: 4), field(12, bytes: 4))
      let length = field(20, bytes: 8)
      let start = offset + headBytes
      guard length >= 0, length <= file.byteCount - start else { throw damaged("cut short") }
      blocks.append(Block(rows: rows, columns: columns, frame: start..<start + length))
      offset = start + length
    }
    self.file = file
    self.dtype = dtype
    self.blocks = blocks
  }

  package var count: Int { blocks.count }

  /// The values of a block, which must have the given shape.
  package func read(_ index: Int, rows: Int, columns: Int) throws(ScratchError) -> Matrix {
    guard index < blocks.count else {
      throw .corrupt(path: file.path, block: index, problem: "missing")
    }
    let block = blocks[index]
    guard block.rows == rows, block.columns == columns else {
      throw .corrupt(
        path: file.path, block: index,
        problem: "\(block.rows) x \(block.columns) instead of \(rows) x \(columns)")
    }
    let result = Matrix(rows: rows, columns: columns)
    let bytes = result.count * dtype.byteWidth
    let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * bytes, alignment: 64)
    defer { unsafe raw.deallocate() }
    let planes = unsafe UnsafeMutableRawBufferPointer(rebasing: raw[bytes...])
    do {
      try unsafe file.withBytes { mapped in
        try unsafe ZstdFrame.decompress(
          UnsafeRawBufferPointer(rebasing: mapped[block.frame]), into: planes)
      }
    } catch {
      throw .corrupt(path: file.path, block: index, problem: "\(error)")
    }
    file.release(block.frame)
    if let values = raw.baseAddress, let from = planes.baseAddress {
      unsafe sluice_join_planes(from, values, result.count, dtype.byteWidth)
      unsafe dtype.decode(values, count: result.count, into: result.base)
    }
    return result
  }
}
