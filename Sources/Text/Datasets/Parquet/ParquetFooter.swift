// The metadata at a parquet file's end: schema elements, row groups, column chunks.
// Source: apache/parquet-format src/main/thrift/parquet.thrift; field numbers are from there.

enum PhysicalType: Int {
  case boolean, int32, int64, int96, float, double, byteArray, fixedLengthByteArray

  var name: String {
    [
      "BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY",
    ][rawValue]
  }
}

/// One line of the schema, which is a tree written from the root on.
struct SchemaElement {
  enum Repetition: Int {
    case required, optional, `repeated`
  }

  var name: String?
  /// Nil for groups.
  var type: PhysicalType?
  var repetition = Repetition.required
  var children = 0
  var isList = false
  var isUnsigned = false
  /// A meaning of the bytes that is not read here, such as `DECIMAL`.
  var foreignMeaning: String?
}

struct ColumnChunk {
  var type: PhysicalType?
  var codec = 0
  var values = 0
  /// Where pages are in the file, dictionary first.
  var bytes = 0..<0
  /// Why the column cannot be read; it matters only where the column is asked for.
  var problem: FileProblem?
}

struct RowGroup {
  var columns: [ColumnChunk] = []
  var rows = 0
}

/// Memory for lists that grow while they are read. What a list leaves behind as it grows counts, too.
private struct Allowance {
  private let limit: Int
  private var left: Int

  init(_ limit: Int) {
    self.limit = limit
    left = limit
  }

  mutating func take(_ bytes: Int) throws(FileProblem) {
    left -= 3 * bytes
    if left < 0 { throw .tooLarge("metadata", limit) }
  }
}

struct ParquetFooter {
  private(set) var schema: [SchemaElement] = []
  private(set) var rowGroups: [RowGroup] = []
  private(set) var rows = 0

  /// - Parameters:
  ///   - bytes: the footer alone.
  ///   - dataEnd: where it begins in the file, behind the last page.
  ///   - limit: bytes that what is read may take.
  init(_ bytes: Span<UInt8>, dataEnd: Int, limit: Int) throws(FileProblem) {
    var left = Allowance(limit)
    var reader = ThriftReader(bytes)
    var schema: [SchemaElement] = []
    var rowGroups: [RowGroup] = []
    var rows = 0
    var isEncrypted = false
    try reader.structure { reader, field throws(FileProblem) in
      switch field.id {
      case 2:
        try reader.structures(of: field) { reader throws(FileProblem) in
          try left.take(MemoryLayout<SchemaElement>.stride)
          schema.append(try Self.schemaElement(&reader))
        }
      case 3: rows = try reader.int(field)
      case 4:
        try reader.structures(of: field) { reader throws(FileProblem) in
          try left.take(MemoryLayout<RowGroup>.stride)
          rowGroups.append(try Self.rowGroup(&reader, dataEnd: dataEnd, &left))
        }
      case 8:
        isEncrypted = true
        try reader.skip(field)
      default: try reader.skip(field)
      }
    }
    if isEncrypted { throw Self.encrypted }
    var sum = 0
    for group in rowGroups {
      let (next, overflowed) = sum.addingReportingOverflow(group.rows)
      guard group.rows >= 0, !overflowed else {
        throw .damaged("a row group of \(group.rows) rows")
      }
      sum = next
    }
    guard sum == rows, rows <= 1 << 40 else {
      throw .damaged("it promises \(rows) rows, its row groups \(sum)")
    }
    self.schema = schema
    self.rowGroups = rowGroups
    self.rows = rows
  }

  static let encrypted = FileProblem.unsupported(
    expected: "plain data", found: "encryption", wayOut: "decrypt it with the library that wrote it"
  )

  private static func schemaElement(_ reader: inout ThriftReader) throws(FileProblem)
    -> SchemaElement
  {
    var element = SchemaElement()
    try reader.structure { reader, field throws(FileProblem) in
      switch field.id {
      case 1:
        element.type = PhysicalType(rawValue: try reader.int(field))
        if element.type == nil { throw .damaged("an unknown physical type in the schema") }
      case 3:
        guard let repetition = SchemaElement.Repetition(rawValue: try reader.int(field)) else {
          throw .damaged("an unknown repetition in the schema")
        }
        element.repetition = repetition
      case 4: element.name = try reader.string(field)
      case 5: element.children = try reader.int(field)
      case 6: element.setConvertedType(try reader.int(field))
      case 10:
        try reader.structure(of: field) { reader, kind throws(FileProblem) in
          try element.setLogicalType(kind, &reader)
        }
      default: try reader.skip(field)
      }
    }
    return element
  }

  private static func rowGroup(
    _ reader: inout ThriftReader, dataEnd: Int, _ left: inout Allowance
  ) throws(FileProblem) -> RowGroup {
    var group = RowGroup()
    try reader.structure { reader, field throws(FileProblem) in
      switch field.id {
      case 1:
        try reader.structures(of: field) { reader throws(FileProblem) in
          try left.take(MemoryLayout<ColumnChunk>.stride)
          group.columns.append(try Self.columnChunk(&reader, dataEnd: dataEnd))
        }
      case 3: group.rows = try reader.int(field)
      default: try reader.skip(field)
      }
    }
    return group
  }

  private static func columnChunk(
    _ reader: inout ThriftReader, dataEnd: Int
  ) throws(FileProblem) -> ColumnChunk {
    var chunk = ColumnChunk()
    var size = 0
    var firstPage = 0
    var dictionaryPage = 0
    var isEncrypted = false
    var isElsewhere = false
    try reader.structure { reader, field throws(FileProblem) in
      switch field.id {
      case 1:
        isElsewhere = true
        try reader.skip(field)
      case 3:
        try reader.structure(of: field) { reader, field throws(FileProblem) in
          switch field.id {
          case 1: chunk.type = PhysicalType(rawValue: try reader.int(field))
          case 4: chunk.codec = try reader.int(field)
          case 5: chunk.values = try reader.int(field)
          case 7: size = try reader.int(field)
          case 9: firstPage = try reader.int(field)
          case 11: dictionaryPage = try reader.int(field)
          default: try reader.skip(field)
          }
        }
      case 8, 9:
        isEncrypted = true
        try reader.skip(field)
      default: try reader.skip(field)
      }
    }
    // Writers without a dictionary leave its offset out or set it to 0.
    let start = dictionaryPage > 0 && dictionaryPage < firstPage ? dictionaryPage : firstPage
    if isEncrypted {
      chunk.problem = encrypted
    } else if isElsewhere {
      chunk.problem = .unsupported(
        expected: "columns in the file itself", found: "a column in another file")
    } else if start >= 4, size >= 0, start <= dataEnd, size <= dataEnd - start, chunk.values >= 0 {
      chunk.bytes = start..<start + size
    } else {
      chunk.problem = .damaged(
        "a column chunk of \(size) bytes at \(start) in \(dataEnd) bytes of data")
    }
    return chunk
  }
}

extension SchemaElement {
  fileprivate mutating func setConvertedType(_ code: Int) {
    switch code {
    // UTF8, ENUM, JSON; INT_8 to INT_64
    case 0, 4, 15...19: break
    case 1, 2: foreignMeaning = "MAP"
    case 3: isList = true
    case 5: foreignMeaning = "DECIMAL"
    case 6: foreignMeaning = "DATE"
    case 7, 8: foreignMeaning = "TIME"
    case 9, 10: foreignMeaning = "TIMESTAMP"
    case 11...14: isUnsigned = true
    case 20: foreignMeaning = "BSON"
    default: foreignMeaning = "converted type \(code)"
    }
  }

  /// - Parameter kind: which member of the union is set; its value is read here.
  fileprivate mutating func setLogicalType(
    _ kind: ThriftReader.Field, _ reader: inout ThriftReader
  ) throws(FileProblem) {
    switch kind.id {
    // STRING, ENUM, UNKNOWN (always null), JSON
    case 1, 4, 11, 12: break
    case 2: foreignMeaning = "MAP"
    case 3: isList = true
    case 5: foreignMeaning = "DECIMAL"
    case 6: foreignMeaning = "DATE"
    case 7: foreignMeaning = "TIME"
    case 8: foreignMeaning = "TIMESTAMP"
    case 10:
      var isSigned = true
      try reader.structure(of: kind) { reader, field throws(FileProblem) in
        if field.id == 2 { isSigned = try reader.bool(field) } else { try reader.skip(field) }
      }
      isUnsigned = !isSigned
      return
    case 13: foreignMeaning = "BSON"
    case 14: foreignMeaning = "UUID"
    case 15: foreignMeaning = "FLOAT16"
    case 16: foreignMeaning = "VARIANT"
    default: foreignMeaning = "logical type \(kind.id)"
    }
    try reader.skip(kind)
  }
}
