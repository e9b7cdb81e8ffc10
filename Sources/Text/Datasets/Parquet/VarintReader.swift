// Whole numbers of any length, seven bits a byte, as Thrift and the pages of parquet have them.

/// What hands out one byte after the other.
protocol VarintReader: ~Escapable {
  mutating func byte() throws(FileProblem) -> UInt8
}

extension VarintReader where Self: ~Escapable {
  mutating func unsigned() throws(FileProblem) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      let byte = try byte()
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw .damaged("a number of more than ten bytes")
  }

  /// Positive and negative numbers in turn: 0, -1, 1, -2.
  mutating func zigzag() throws(FileProblem) -> Int64 {
    let value = try unsigned()
    return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
  }
}
