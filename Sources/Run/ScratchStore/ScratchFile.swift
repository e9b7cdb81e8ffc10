// Numbers in a file, one compressed block after the other: appended in order, read in any.
//
// A block is a head and its strips. The head, little-endian 32-bit words: magic, index, rows, columns, bytes of an
// element, the lengths of the strips, and a checksum of all these. A strip is a zstd frame, with a checksum, of the byte
// planes of `stripElements` numbers (the last: of what is left): small enough to be worked on in the cache, and by
// several threads.

internal import CKernels
package import LinearAlgebra
package import SystemIO
package import Tensors

/// What stands between a scratch file and its reader.
package enum ScratchError: Error, CustomStringConvertible, Equatable {
  /// The system failed, and the file may well be whole.
  case system(SystemError)
  /// It does not hold what was written to it. What to do is for those to say who wrote it.
  case corrupt(path: String, block: Int, problem: String)

  package var description: String {
    switch self {
    case .system(let error): error.description
    case .corrupt(let path, let block, let problem):
      "\(path): block \(block) is damaged (\(problem))"
    }
  }
}

private enum Layout {
  static let magic: UInt32 = 0x3253_4c53  // "SLS2"
  static let stripElements = 1 << 18
  static let fixedWords = 5

  static func strips(_ elements: Int) -> [Range<Int>] { ranges(of: elements, by: stripElements) }

  /// Bytes of a head behind the fixed words, which no file can promise more of than it has.
  static func lengthBytes(_ elements: Int) -> Int { (elements / stripElements + 1) * 4 }

  /// Without it, a damaged length would put the blame on the next block.
  static func checksum(_ words: some Sequence<UInt32>) -> UInt32 {
    var sum = FNV1a<UInt32>()
    sum.add(words.flatMap(bytes))
    return sum.value
  }

  static func bytes(_ word: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) }
  }
}

/// What reading and writing a block takes.
private struct ScratchSizes {
  let stripBytes: Int
  let strips: Int

  init(elements: Int, width: Int) {
    stripBytes = min(elements, Layout.stripElements) * width
    strips = Layout.strips(elements).count
  }

  var slotBytes: Int { ZstdFrame.bound(stripBytes) }
  /// Numbers and their planes, for each thread.
  var writeStripBytes: Int { 2 * stripBytes }
  /// Planes, then the frame or the numbers, for each thread.
  var readStripBytes: Int { stripBytes + slotBytes }
  /// The frames of a block.
  var frameBytes: Int { strips * slotBytes }
}

/// Appends blocks to a file.
package final class ScratchWriter {
  /// nil where only shapes are known.
  private let file: AppendedFile?
  private let dtype: DType
  package private(set) var blocks: Int

  /// Creates or empties the file.
  ///
  /// - Parameter dtype: the weight type that matrices are rounded to.
  package init(path: String, dtype: DType) throws(SystemError) {
    precondition(dtype.isWeight, "\(dtype.rawValue) in scratch")
    file = try AppendedFile(creating: path)
    self.dtype = dtype
    blocks = 0
  }

  /// Goes on after the first `blocks` blocks, which take `byteCount` bytes; what came later was never committed.
  package init(continuing path: String, dtype: DType, blocks: Int, byteCount: Int)
    throws(SystemError)
  {
    file = try AppendedFile(continuing: path, at: byteCount)
    self.dtype = dtype
    self.blocks = blocks
  }

  /// A file that is not there, for what is done where only shapes are known.
  package init(ofShapes dtype: DType) {
    file = nil
    self.dtype = dtype
    blocks = 0
  }

  package var byteCount: Int { file?.byteCount ?? 0 }

  /// - Parameter rows: of the block; nil for all.
  package func append(_ block: Matrix, rows: Range<Int>? = nil, backend: Backend) throws {
    let dtype = dtype
    let rows = rows ?? 0..<block.rows
    let first = rows.lowerBound * block.columns
    try unsafe append(
      rows: rows.count, columns: block.columns, width: dtype.byteWidth, backend
    ) { strip, values in
      unsafe dtype.encode(block.base + first + strip.lowerBound, count: strip.count, into: values)
    }
  }

  /// One row of numbers that must come back as they are.
  package func append(_ numbers: [Double], backend: Backend) throws {
    try unsafe append(rows: 1, columns: numbers.count, width: 8, backend) { strip, values in
      unsafe numbers[strip].withUnsafeBytes {
        unsafe values.copyMemory(from: $0.baseAddress!, byteCount: $0.count)
      }
    }
  }

  private func append(
    rows: Int, columns: Int, width: Int, _ backend: Backend,
    encode: @Sendable (Range<Int>, UnsafeMutableRawPointer) -> Void
  ) throws {
    let strips = Layout.strips(rows * columns)
    let sizes = ScratchSizes(elements: rows * columns, width: width)
    let slot = sizes.slotBytes
    let frames = backend.buffer("a block to scratch", byteCount: sizes.frameBytes)
    backend.ledger.note(.scratchWritten, bytes: rows * columns * width)
    backend.ledger.note(Operation(.strips, [rows * columns, width]))
    let strip = TaskBuffer("strips of scratch", byteCount: sizes.writeStripBytes)
    let (path, block) = (file?.path ?? "", blocks)
    let lengths = backend.map(strips.count, each: [strip]) { index -> Result<Int, ScratchError> in
      let bytes = strips[index].count * width
      let buffer = Buffer(
        "strips of scratch", byteCount: sizes.writeStripBytes, from: backend.memory)
      return Result { () throws(ZstdError) -> Int in
        let values = unsafe buffer.bytes.baseAddress!
        let planes = unsafe values + bytes
        unsafe encode(strips[index], values)
        unsafe sluice_split_planes(values, planes, strips[index].count, width)
        return try unsafe ZstdFrame.compress(
          UnsafeRawBufferPointer(start: planes, count: bytes),
          into: UnsafeMutableRawBufferPointer(
            rebasing: frames.bytes[index * slot..<(index + 1) * slot]))
      }.mapError { $0.told(of: path, block: block) }
    }
    guard let file else {
      blocks += 1
      return
    }
    var words = [Layout.magic] + [blocks, rows, columns, width].map { UInt32($0) }
    for length in lengths { words.append(UInt32(try length.get())) }
    words.append(Layout.checksum(words))
    let start = file.byteCount
    try file.append(words.flatMap(Layout.bytes))
    for (index, length) in lengths.enumerated() {
      let from = index * slot
      try unsafe file.append(
        UnsafeRawBufferPointer(rebasing: frames.bytes[from..<from + (try length.get())]))
    }
    // The disk works while the next block is computed.
    file.startWriting(from: start)
    blocks += 1
  }

  /// Writes down that there is room for a block of so many numbers to be written and read, as what a commit or a resumed
  /// run may do at any time.
  package static func noteRoom(elements: Int, width: Int, backend: Backend) {
    let sizes = ScratchSizes(elements: elements, width: width)
    let tasks = min(backend.threads, sizes.strips)
    func note(_ uses: [(String, Int)]) {
      for (name, bytes) in uses { backend.ledger.take(name, bytes, from: .buffers) }
      for (name, bytes) in uses { backend.ledger.giveBack(name, bytes, to: .buffers) }
    }
    note([
      ("a block to scratch", MemoryBudget.footprint(sizes.frameBytes)),
      ("strips of scratch", tasks * MemoryBudget.footprint(sizes.writeStripBytes)),
    ])
    note([("strips of scratch", tasks * MemoryBudget.footprint(sizes.readStripBytes))])
  }

  /// Makes everything appended so far durable.
  package func synchronize() throws(SystemError) { try file?.synchronize() }
}

/// Reads the blocks of a file that was written to its end.
package final class ScratchReader {
  private struct Block {
    let rows: Int
    let columns: Int
    let width: Int
    let frames: [Range<Int>]
  }

  /// nil where only shapes are known.
  private let file: MappedFile?
  private let blocks: [Block]

  /// A file that is not there, for what is done where only shapes are known.
  package init() {
    file = nil
    blocks = []
  }

  private static func open(_ path: String) throws -> MappedFile {
    do {
      return try MappedFile(path: path)
    } catch let error where error.isMissing {
      throw ScratchError.corrupt(path: path, block: 0, problem: "the file is gone")
    }
  }

  package init(path: String) throws {
    let file = try Self.open(path)
    var blocks: [Block] = []
    var offset = 0
    while offset < file.byteCount {
      func damaged(_ problem: String) -> ScratchError {
        .corrupt(path: path, block: blocks.count, problem: problem)
      }
      func words(_ range: Range<Int>) throws -> [UInt32] {
        let bytes = offset + 4 * range.lowerBound..<offset + 4 * range.upperBound
        guard bytes.upperBound <= file.byteCount else { throw damaged("cut short") }
        var raw = [UInt8](repeating: 0, count: bytes.count)
        let isWhole = try unsafe raw.withUnsafeMutableBytes {
          try unsafe file.read(bytes, into: $0)
        }
        guard isWhole else { throw damaged("cut short") }
        return stride(from: 0, to: raw.count, by: 4).map { word in
          (0..<4).reduce(0) { $0 | UInt32(raw[word + $1]) << UInt32(8 * $1) }
        }
      }
      let fixed = try words(0..<Layout.fixedWords)
      let (rows, columns, width) = (Int(fixed[2]), Int(fixed[3]), Int(fixed[4]))
      let (elements, overflow) = rows.multipliedReportingOverflow(by: columns)
      guard fixed[0] == Layout.magic, Int(fixed[1]) == blocks.count, [2, 4, 8].contains(width),
        !overflow, Layout.lengthBytes(elements) <= file.byteCount - offset
      else { throw damaged("not the head of a block") }
      let strips = Layout.strips(elements).count
      let rest = try words(Layout.fixedWords..<Layout.fixedWords + strips + 1)
      guard rest.last == Layout.checksum(fixed + rest.dropLast()) else {
        throw damaged("not the head of a block")
      }
      offset += 4 * (Layout.fixedWords + strips + 1)
      var frames: [Range<Int>] = []
      for length in rest.dropLast() {
        guard Int(length) <= file.byteCount - offset else { throw damaged("cut short") }
        frames.append(offset..<offset + Int(length))
        offset += Int(length)
      }
      blocks.append(Block(rows: rows, columns: columns, width: width, frames: frames))
    }
    self.file = file
    self.blocks = blocks
  }

  package var count: Int { blocks.count }

  /// The values of a block, which must have the given shape and have been written in `dtype`.
  package func read(
    _ index: Int, rows: Int, columns: Int, dtype: DType, backend: Backend, into name: String
  ) throws(ScratchError) -> Matrix {
    let result = backend.matrix(name, rows: rows, columns: columns)
    try read(index, into: result, rows: 0..<rows, dtype: dtype, backend: backend)
    return result
  }

  /// Reads a block into rows of a matrix that is there.
  package func read(
    _ index: Int, into result: Matrix, rows: Range<Int>, dtype: DType, backend: Backend
  ) throws(ScratchError) {
    let first = rows.lowerBound * result.columns
    try unsafe read(
      index, rows: rows.count, columns: result.columns, width: dtype.byteWidth, backend
    ) { strip, values in
      unsafe dtype.decode(values, count: strip.count, into: result.base + first + strip.lowerBound)
    }
  }

  /// A row of numbers, as they were.
  package func readNumbers(
    _ index: Int, count: Int, backend: Backend
  ) throws(ScratchError) -> [Double] {
    let result = Matrix(rows: 2, columns: count)
    if !backend.computes { result.fill(0) }
    try unsafe read(index, rows: 1, columns: count, width: 8, backend) { strip, values in
      let to = unsafe UnsafeMutableRawPointer(result.base + 2 * strip.lowerBound)
      unsafe to.copyMemory(from: values, byteCount: 8 * strip.count)
    }
    return unsafe result.base.withMemoryRebound(to: Double.self, capacity: count) {
      unsafe Array(UnsafeBufferPointer(start: $0, count: count))
    }
  }

  private func read(
    _ index: Int, rows: Int, columns: Int, width: Int, _ backend: Backend,
    decode: @Sendable (Range<Int>, UnsafeRawPointer) -> Void
  ) throws(ScratchError) {
    let strips = Layout.strips(rows * columns)
    let sizes = ScratchSizes(elements: rows * columns, width: width)
    let each = TaskBuffer("strips of scratch", byteCount: sizes.readStripBytes)
    backend.ledger.note(.scratchRead, bytes: rows * columns * width)
    backend.ledger.note(Operation(.strips, [rows * columns, width]))
    guard let file else {
      backend.forEach(strips.count, each: [each]) { _ in }
      return
    }
    func damaged(_ problem: String) -> ScratchError {
      .corrupt(path: file.path, block: index, problem: problem)
    }
    guard index < blocks.count else { throw damaged("missing") }
    let block = blocks[index]
    guard block.rows == rows, block.columns == columns, block.width == width else {
      throw damaged(
        "\(block.rows) x \(block.columns) of \(block.width) bytes instead of \(rows) x "
          + "\(columns) of \(width)")
    }
    // The disk works while this block is computed with.
    if index + 1 < blocks.count, let next = blocks[index + 1].frames.first {
      file.prefetch(next.lowerBound..<blocks[index + 1].frames.last!.upperBound)
    }
    let (bound, path) = (sizes.slotBytes, file.path)
    let problems = backend.map(strips.count, each: [each]) { strip -> ScratchError? in
      let frame = block.frames[strip]
      if frame.count > bound {
        return .corrupt(path: path, block: index, problem: "a frame of \(frame.count) bytes")
      }
      let bytes = strips[strip].count * width
      let buffer = Buffer(
        "strips of scratch", byteCount: sizes.readStripBytes, from: backend.memory)
      let planes = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<bytes])
      let compressed = unsafe UnsafeMutableRawBufferPointer(
        rebasing: buffer.bytes[
          buffer.bytes.count - bound..<buffer.bytes.count - bound + frame.count])
      if let problem = unsafe Self.fill(planes, from: frame, of: file, by: compressed, block: index)
      {
        return problem
      }
      // The compressed bytes have done their work.
      let values = unsafe buffer.bytes.baseAddress! + sizes.stripBytes
      unsafe sluice_join_planes(planes.baseAddress!, values, strips[strip].count, width)
      unsafe decode(strips[strip], values)
      return nil
    }
    if let problem = problems.compactMap({ $0 }).first { throw problem }
  }

  /// Reads a frame into `compressed`, and what it holds into `planes`.
  private static func fill(
    _ planes: UnsafeMutableRawBufferPointer, from frame: Range<Int>, of file: MappedFile,
    by compressed: UnsafeMutableRawBufferPointer, block: Int
  ) -> ScratchError? {
    let isWhole: Bool
    do {
      isWhole = try unsafe file.read(frame, into: compressed)
    } catch {
      return .system(error)
    }
    if !isWhole { return .corrupt(path: file.path, block: block, problem: "cut short") }
    do {
      try unsafe ZstdFrame.decompress(UnsafeRawBufferPointer(compressed), into: planes)
    } catch {
      return error.told(of: file.path, block: block)
    }
    return nil
  }
}
