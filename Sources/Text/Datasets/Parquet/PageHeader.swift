// What stands before each page of a column chunk.
// Source: apache/parquet-format src/main/thrift/parquet.thrift, PageHeader.

struct PageHeader {
  enum Kind: Int {
    case data, index, dictionary, dataV2
  }

  private(set) var kind: Kind?
  /// Bytes of the page in the file, and unpacked.
  private(set) var packedSize = 0
  private(set) var size = 0
  private(set) var checkSum: UInt32?
  /// Values of the page, nulls included.
  private(set) var values = 0
  private(set) var encoding = 0
  private(set) var definitionEncoding = Encoding.rle.rawValue
  private(set) var repetitionEncoding = Encoding.rle.rawValue
  // Version 2 pages say how many bytes the levels take, which are never packed, and whether the rest is packed.
  private(set) var definitionSize = 0
  private(set) var repetitionSize = 0
  private(set) var isPacked = true
  /// Bytes of the header itself.
  private(set) var headerSize = 0

  /// - Parameter bytes: from the header to the end of the column chunk.
  init(_ bytes: Span<UInt8>) throws(FileProblem) {
    var header = Self()
    var reader = ThriftReader(bytes)
    try reader.structure { reader, field throws(FileProblem) in
      switch field.id {
      case 1: header.kind = Kind(rawValue: try reader.int(field))
      case 2: header.size = try reader.int(field)
      case 3: header.packedSize = try reader.int(field)
      case 4: header.checkSum = UInt32(truncatingIfNeeded: try reader.int(field))
      case 5, 7:
        try reader.structure(of: field) { reader, field throws(FileProblem) in
          switch field.id {
          case 1: header.values = try reader.int(field)
          case 2: header.encoding = try reader.int(field)
          case 3 where field.kind == .int32: header.definitionEncoding = try reader.int(field)
          case 4: header.repetitionEncoding = try reader.int(field)
          default: try reader.skip(field)
          }
        }
      case 8:
        try reader.structure(of: field) { reader, field throws(FileProblem) in
          switch field.id {
          case 1: header.values = try reader.int(field)
          case 4: header.encoding = try reader.int(field)
          case 5: header.definitionSize = try reader.int(field)
          case 6: header.repetitionSize = try reader.int(field)
          case 7: header.isPacked = try reader.bool(field)
          default: try reader.skip(field)
          }
        }
      default: try reader.skip(field)
      }
    }
    header.headerSize = reader.position
    guard header.packedSize >= 0, header.packedSize <= bytes.count - header.headerSize,
      header.size >= 0, header.values >= 0, header.definitionSize >= 0, header.repetitionSize >= 0,
      header.definitionSize <= header.packedSize,
      header.repetitionSize <= header.packedSize - header.definitionSize,
      header.definitionSize + header.repetitionSize <= header.size
    else {
      throw .damaged(
        "a page of \(header.packedSize) bytes, \(header.size) unpacked, with \(header.values) values, where "
          + "\(bytes.count - header.headerSize) bytes are left")
    }
    self = header
  }

  private init() {}
}
