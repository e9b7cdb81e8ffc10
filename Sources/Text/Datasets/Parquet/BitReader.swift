// Numbers of any bit width from the bytes of a page.
// Source: apache/parquet-format Encodings.md.

/// A cursor over a range of a page. The page is untrusted: every read is checked.
struct BitReader: VarintReader {
  let bytes: [UInt8]
  private(set) var position: Int
  let end: Int
  // Bits taken from `bytes` and not yet handed out, lowest first.
  private var pending: UInt64 = 0
  private var pendingCount = 0

  init(_ bytes: [UInt8], _ range: Range<Int>) {
    self.bytes = bytes
    position = range.lowerBound
    end = range.upperBound
  }

  var left: Int { end - position }

  /// The next `width` bits, lowest first; at most 64.
  mutating func bits(_ width: Int) throws(FileProblem) -> UInt64 {
    if width > 32 {
      let low = try bits(32)
      return try low | bits(width - 32) << 32
    }
    while pendingCount < width {
      pending |= UInt64(try byte()) << UInt64(pendingCount)
      pendingCount += 8
    }
    let value = pending & (1 << UInt64(width) - 1)
    pending >>= UInt64(width)
    pendingCount -= width
    return value
  }

  /// Forgets the rest of the byte that `bits` stopped in.
  mutating func align() {
    pending = 0
    pendingCount = 0
  }

  mutating func byte() throws(FileProblem) -> UInt8 {
    guard position < end else { throw .damaged("a page ends too early") }
    defer { position += 1 }
    return bytes[position]
  }

  /// The next `count` bytes, at most 8, as one number, lowest byte first.
  mutating func littleEndian(_ count: Int) throws(FileProblem) -> UInt64 {
    guard count <= left else { throw .damaged("a page ends too early") }
    var value: UInt64 = 0
    for index in 0..<count { value |= UInt64(bytes[position + index]) << UInt64(8 * index) }
    position += count
    return value
  }

  /// Where the next `count` bytes are.
  mutating func range(_ count: Int) throws(FileProblem) -> Range<Int> {
    guard count >= 0, count <= left else {
      throw .damaged("\(count) bytes wanted where a page has \(left) left")
    }
    defer { position += count }
    return position..<position + count
  }

}

/// Runs of one value and runs of packed values, mixed: levels, dictionary indices, booleans.
struct RunReader {
  private var input: BitReader
  private let width: Int
  private var left = 0
  /// The value of the run, or nil in a packed one.
  private var repeated: Int?

  /// - Parameter width: bits a value takes.
  init(_ bytes: [UInt8], _ range: Range<Int>, width: Int) throws(FileProblem) {
    guard width >= 0, width <= 32 else { throw .damaged("values of \(width) bits") }
    input = BitReader(bytes, range)
    self.width = width
  }

  mutating func next() throws(FileProblem) -> Int {
    if left == 0 { try nextRun() }
    left -= 1
    if let repeated { return repeated }
    return Int(try input.bits(width))
  }

  private mutating func nextRun() throws(FileProblem) {
    input.align()
    let header = try input.unsigned()
    let count = header >> 1
    guard count > 0, count < 1 << 32 else { throw .damaged("a run of \(count) values") }
    if header & 1 == 0 {
      repeated = Int(try input.littleEndian((width + 7) / 8))
      left = Int(count)
    } else {
      repeated = nil
      left = Int(count) * 8
    }
  }
}

/// DELTA_BINARY_PACKED: a first value and blocks of packed differences.
struct DeltaReader {
  private var input: BitReader
  private let valuesPerMiniblock: Int
  private let miniblocks: Int
  private(set) var left: Int
  private var value: Int64
  private var isFirst = true
  private var minimum: Int64 = 0
  private var widths: [UInt8] = []
  private var miniblock = 0
  private var leftInMiniblock = 0

  init(_ bytes: [UInt8], _ range: Range<Int>) throws(FileProblem) {
    input = BitReader(bytes, range)
    let blockSize = try input.unsigned()
    let miniblocks = try input.unsigned()
    let count = try input.unsigned()
    guard blockSize > 0, blockSize <= 1 << 20, blockSize % 128 == 0, miniblocks > 0,
      blockSize % miniblocks == 0, (blockSize / miniblocks) % 32 == 0, count <= 1 << 32
    else {
      throw .damaged("a delta page of \(count) values in blocks of \(blockSize) by \(miniblocks)")
    }
    self.miniblocks = Int(miniblocks)
    valuesPerMiniblock = Int(blockSize / miniblocks)
    left = Int(count)
    value = try input.zigzag()
  }

  mutating func next() throws(FileProblem) -> Int64 {
    guard left > 0 else { throw .damaged("a delta page holds too few values") }
    left -= 1
    if isFirst {
      isFirst = false
      return value
    }
    if leftInMiniblock == 0 { try nextMiniblock() }
    leftInMiniblock -= 1
    let difference = try input.bits(Int(widths[miniblock]))
    // Differences wrap around, as the writer's did.
    value = value &+ minimum &+ Int64(bitPattern: difference)
    return value
  }

  /// The position behind the last block. The values are not read, only passed over.
  func end() throws(FileProblem) -> Int {
    var copy = self
    // The first value stands in the header.
    copy.left -= 1
    while copy.left > 0 {
      try copy.nextMiniblock()
      _ = try copy.input.range(valuesPerMiniblock / 8 * Int(copy.widths[copy.miniblock]))
      copy.left -= valuesPerMiniblock
    }
    return copy.input.position
  }

  private mutating func nextMiniblock() throws(FileProblem) {
    miniblock += 1
    if miniblock >= widths.count {
      minimum = try input.zigzag()
      let range = try input.range(miniblocks)
      widths = Array(input.bytes[range])
      miniblock = 0
    }
    guard widths[miniblock] <= 64 else {
      throw .damaged("differences of \(widths[miniblock]) bits")
    }
    input.align()
    leftInMiniblock = valuesPerMiniblock
  }
}
