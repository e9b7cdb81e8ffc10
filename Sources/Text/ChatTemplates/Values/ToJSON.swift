// The filter `tojson` as transformers overrides it: Python's json.dumps, nothing escaped for HTML.

struct JSONText {
  private let ensuresASCII: Bool
  private let indent: String?
  private let itemSeparator: String
  private let keySeparator: String
  private let sortsKeys: Bool
  private var output = ""
  private var depth = 0

  static func text(of value: Value, _ arguments: CallArguments) throws(Fault) -> String {
    let bound = try arguments.bound(
      to: ["ensure_ascii", "indent", "separators", "sort_keys"], of: "tojson")
    var writer = try JSONText(
      ensuresASCII: try bound[0]?.isTrue() ?? false, indent: bound[1] ?? .none,
      separators: bound[2] ?? .none, sortsKeys: try bound[3]?.isTrue() ?? false)
    try writer.write(value)
    return writer.output
  }

  private init(
    ensuresASCII: Bool, indent: Value, separators: Value, sortsKeys: Bool
  ) throws(Fault) {
    self.ensuresASCII = ensuresASCII
    self.sortsKeys = sortsKeys
    if indent.isNone {
      self.indent = nil
    } else if let text = indent.text {
      self.indent = text
    } else if let width = indent.integer {
      guard let width = width.int, width <= 10_000 else {
        throw Fault(.tooLarge, "`tojson` with an indent of \(width)")
      }
      self.indent = String(repeating: " ", count: max(0, width))
    } else {
      throw .failed("`tojson` takes an indent of type int or str, not \(indent.typeName)")
    }
    if separators.isNone {
      itemSeparator = self.indent == nil ? ", " : ","
      keySeparator = ": "
    } else {
      let pair = try unpacked(separators, count: 2)
      guard let item = pair[0].text, let key = pair[1].text else {
        throw .failed("`tojson` takes two strings as separators")
      }
      itemSeparator = item
      keySeparator = key
    }
  }

  private mutating func write(_ value: Value) throws(Fault) {
    switch value {
    case .none: output += "null"
    case .bool(let value): output += value ? "true" : "false"
    case .integer(let value): output += value.description
    case .float(let value): output += jsonFloat(value)
    case .string(let text), .markup(let text): quote(text)
    case .list(let elements), .tuple(let elements):
      try list("[", "]", count: elements.count) { writer, index throws(Fault) in
        try writer.write(elements[index])
      }
    case .dict(let mapping):
      let order = try order(of: mapping)
      try list("{", "}", count: order.count) { writer, index throws(Fault) in
        writer.quote(try jsonKey(mapping.keys[order[index]]))
        writer.output += writer.keySeparator
        try writer.write(mapping.values[order[index]])
      }
    default:
      throw .failed("object of type \(value.typeName) is not JSON serializable")
    }
    try checkText(output.utf8.count)
  }

  private func order(of mapping: Mapping) throws(Fault) -> [Int] {
    let indices = Array(mapping.keys.indices)
    guard sortsKeys else { return indices }
    return try sorted(indices.map { .int($0) }, keys: mapping.keys, descending: false)
      .compactMap { $0.integer?.int }
  }

  private mutating func list(
    _ open: String, _ close: String, count: Int,
    element: (inout JSONText, Int) throws(Fault) -> Void
  ) throws(Fault) {
    guard depth < Limits.valueDepth else { throw Fault(.tooLarge, "values nested too deep") }
    output += open
    depth += 1
    for index in 0..<count {
      if index > 0 { output += itemSeparator }
      breakLine()
      try element(&self, index)
    }
    depth -= 1
    if count > 0 { breakLine() }
    output += close
  }

  private mutating func breakLine() {
    guard let indent else { return }
    output += "\n"
    for _ in 0..<depth { output += indent }
  }

  private mutating func quote(_ text: String) {
    output += "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": output += "\\\""
      case "\\": output += "\\\\"
      case "\n": output += "\\n"
      case "\r": output += "\\r"
      case "\t": output += "\\t"
      case "\u{8}": output += "\\b"
      case "\u{C}": output += "\\f"
      case "\0"..<" ": unicodeEscape(UInt16(scalar.value))
      default:
        if scalar.isASCII || !ensuresASCII {
          output.unicodeScalars.append(scalar)
        } else {
          for unit in UTF16.encode(scalar)! { unicodeEscape(unit) }
        }
      }
    }
    output += "\""
  }

  private mutating func unicodeEscape(_ unit: UInt16) {
    let digits = String(unit, radix: 16)
    output += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
  }
}

private func jsonFloat(_ value: Double) -> String {
  if value.isNaN { return "NaN" }
  if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
  return floatText(value)
}

private func jsonKey(_ key: Value) throws(Fault) -> String {
  switch key {
  case .string(let text), .markup(let text): return text
  case .none: return "null"
  case .bool(let value): return value ? "true" : "false"
  case .integer(let value): return value.description
  case .float(let value): return jsonFloat(value)
  default:
    throw .failed("keys must be str, int, float, bool or None, not \(key.typeName)")
  }
}
