// JSONValue to text, compact or indented.

extension JSONValue {
  /// The value as JSON text.
  ///
  /// - Parameter indent: nil for no white space at all; else the layout of Python's
  ///   `json.dumps(value, indent: indent, ensure_ascii=False)`, which is how model folders look.
  package func serialized(indent: Int? = nil) -> String {
    var writer = Writer(indent: indent)
    writer.write(self)
    return String(decoding: writer.output, as: UTF8.self)
  }

  /// The value as it stands in a message: of a long one the beginning.
  package var shortText: String { JSONValue.shortened(serialized()) }

  /// `text`, or the beginning of it where it is longer than a line of a message should be.
  package static func shortened(_ text: String) -> String {
    text.count > 120 ? text.prefix(117) + "..." : text
  }
}

private struct Writer {
  let indent: Int?
  var output: [UInt8] = []
  var depth = 0

  init(indent: Int?) {
    self.indent = indent
  }

  mutating func write(_ value: JSONValue) {
    switch value {
    case .null: put("null")
    case .bool(let value): put(value ? "true" : "false")
    case .number(let number): put(number.literal)
    case .string(let string): quote(string)
    case .array(let elements):
      list("[", "]", count: elements.count) { writer, index in
        writer.write(elements[index])
      }
    case .object(let object):
      let entries = object.entries
      list("{", "}", count: entries.count) { writer, index in
        writer.quote(entries[index].key)
        writer.put(writer.indent == nil ? ":" : ": ")
        writer.write(entries[index].value)
      }
    }
  }

  private mutating func list(
    _ open: String, _ close: String, count: Int, element: (inout Writer, Int) -> Void
  ) {
    put(open)
    depth += 1
    for index in 0..<count {
      if index > 0 { put(",") }
      breakLine()
      element(&self, index)
    }
    depth -= 1
    if count > 0 { breakLine() }
    put(close)
  }

  private mutating func breakLine() {
    guard let indent else { return }
    output.append(UInt8(ascii: "\n"))
    output.append(contentsOf: repeatElement(UInt8(ascii: " "), count: depth * indent))
  }

  private mutating func quote(_ string: String) {
    put("\"")
    for byte in string.utf8 {
      switch byte {
      case UInt8(ascii: "\""): put("\\\"")
      case UInt8(ascii: "\\"): put("\\\\")
      case UInt8(ascii: "\n"): put("\\n")
      case UInt8(ascii: "\r"): put("\\r")
      case UInt8(ascii: "\t"): put("\\t")
      case 0x08: put("\\b")
      case 0x0C: put("\\f")
      case 0..<0x20:
        let digits = String(byte, radix: 16)
        put("\\u00" + (byte < 0x10 ? "0" : "") + digits)
      default: output.append(byte)
      }
    }
    put("\"")
  }

  private mutating func put(_ text: String) {
    output.append(contentsOf: text.utf8)
  }
}
