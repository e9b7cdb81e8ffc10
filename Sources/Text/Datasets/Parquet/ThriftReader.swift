// Thrift's compact protocol, as far as parquet uses it.
// Source: apache/thrift doc/specs/thrift-compact-protocol.md.

/// Reads untrusted bytes: every length is checked against what is left before anything is made of it.
struct ThriftReader: VarintReader, ~Escapable {
  enum Kind: UInt8 {
    case yes = 1
    case no = 2
    case byte, int16, int32, int64, double, binary, list, set, map, structure
  }

  struct Field {
    let id: Int
    let kind: Kind
  }

  /// Deeper nesting is refused before it can exhaust the stack.
  private static let maximumDepth = 24

  private let bytes: Span<UInt8>
  private(set) var position = 0
  private var depth = 0

  @_lifetime(copy bytes)
  init(_ bytes: Span<UInt8>) {
    self.bytes = bytes
  }

  /// Calls `body` for each field of a structure; it must read or `skip` the field's value.
  mutating func structure(
    _ body: (inout ThriftReader, Field) throws(FileProblem) -> Void
  ) throws(FileProblem) {
    try enter()
    var id = 0
    while true {
      let header = try byte()
      if header == 0 { break }
      let kind = try kind(header & 0x0F)
      if header >> 4 == 0 {
        id = try integer()
      } else {
        id &+= Int(header >> 4)
      }
      try body(&self, Field(id: id, kind: kind))
    }
    depth -= 1
  }

  /// Calls `body` for each field of a field that is a structure.
  mutating func structure(
    of field: Field, _ body: (inout ThriftReader, Field) throws(FileProblem) -> Void
  ) throws(FileProblem) {
    guard field.kind == .structure else { throw mismatch(field) }
    try structure(body)
  }

  /// Calls `body` for each element of a list of structures.
  mutating func structures(
    of field: Field, _ body: (inout ThriftReader) throws(FileProblem) -> Void
  ) throws(FileProblem) {
    guard field.kind == .list else { throw mismatch(field) }
    let list = try listHeader()
    guard list.kind == .structure || list.count == 0 else { throw mismatch(field) }
    for _ in 0..<list.count { try body(&self) }
  }

  mutating func int(_ field: Field) throws(FileProblem) -> Int {
    switch field.kind {
    case .byte: return Int(Int8(bitPattern: try byte()))
    case .int16, .int32, .int64: return try integer()
    default: throw mismatch(field)
    }
  }

  func bool(_ field: Field) throws(FileProblem) -> Bool {
    guard field.kind == .yes || field.kind == .no else { throw mismatch(field) }
    return field.kind == .yes
  }

  mutating func string(_ field: Field) throws(FileProblem) -> String {
    guard field.kind == .binary else { throw mismatch(field) }
    let range = try binary()
    do {
      return String(copying: try UTF8Span(validating: bytes.extracting(range)))
    } catch {
      throw .damaged("a name is not UTF-8")
    }
  }

  mutating func skip(_ field: Field) throws(FileProblem) {
    // A field's kind is its value where it is a boolean.
    if field.kind != .yes, field.kind != .no { try skip(field.kind) }
  }

  private mutating func skip(_ kind: Kind) throws(FileProblem) {
    switch kind {
    case .yes, .no, .byte: _ = try byte()
    case .int16, .int32, .int64: _ = try unsigned()
    case .double: try advance(8)
    case .binary: _ = try binary()
    case .list, .set:
      try enter()
      let list = try listHeader()
      for _ in 0..<list.count { try skip(list.kind) }
      depth -= 1
    case .map:
      try enter()
      let count = try boundedCount()
      if count > 0 {
        let kinds = try byte()
        let (key, value) = (try self.kind(kinds >> 4), try self.kind(kinds & 0x0F))
        for _ in 0..<count {
          try skip(key)
          try skip(value)
        }
      }
      depth -= 1
    case .structure:
      try structure { reader, field throws(FileProblem) in try reader.skip(field) }
    }
  }

  private mutating func enter() throws(FileProblem) {
    depth += 1
    if depth > Self.maximumDepth { throw .damaged("nested more than \(Self.maximumDepth) deep") }
  }

  private mutating func listHeader() throws(FileProblem) -> (kind: Kind, count: Int) {
    let header = try byte()
    if header >> 4 < 15 {
      let count = Int(header >> 4)
      // The element type of an empty list may be anything.
      return (count == 0 ? .byte : try kind(header & 0x0F), count)
    }
    return (try kind(header & 0x0F), try boundedCount())
  }

  /// How many elements follow; each takes a byte at least.
  private mutating func boundedCount() throws(FileProblem) -> Int {
    let count = try unsigned()
    guard count <= UInt64(bytes.count - position) else {
      throw .damaged("a list of \(count) elements in \(bytes.count - position) bytes")
    }
    return Int(count)
  }

  private func kind(_ code: UInt8) throws(FileProblem) -> Kind {
    guard let kind = Kind(rawValue: code) else { throw .damaged("unknown thrift type \(code)") }
    return kind
  }

  private func mismatch(_ field: Field) -> FileProblem {
    .damaged("field \(field.id) has the wrong type")
  }

  private mutating func binary() throws(FileProblem) -> Range<Int> {
    let count = try boundedCount()
    let start = position
    position += count
    return start..<position
  }

  private mutating func advance(_ count: Int) throws(FileProblem) {
    guard count <= bytes.count - position else { throw .damaged("ends too early") }
    position += count
  }

  mutating func byte() throws(FileProblem) -> UInt8 {
    guard position < bytes.count else { throw .damaged("ends too early") }
    defer { position += 1 }
    return bytes[position]
  }

  private mutating func integer() throws(FileProblem) -> Int { Int(try zigzag()) }
}
