// Python's `str` and `repr`.

extension Value {
  /// What printing the value gives.
  func str() throws(Fault) -> String {
    switch self {
    case .undefined: ""
    case .string(let text), .markup(let text): text
    default: try repr()
    }
  }

  func repr() throws(Fault) -> String {
    var writer = RepresentationWriter()
    try writer.write(self)
    return writer.output
  }
}

private struct RepresentationWriter {
  var output = ""
  var depth = 0

  mutating func write(_ value: Value) throws(Fault) {
    guard depth < Limits.valueDepth else { throw Fault(.tooLarge, "values nested too deep") }
    depth += 1
    defer { depth -= 1 }
    switch value {
    case .undefined: output += "Undefined"
    case .none: output += "None"
    case .bool(let value): output += value ? "True" : "False"
    case .integer(let value): output += value.description
    case .float(let value): output += floatText(value)
    case .string(let text): output += quoted(text)
    case .markup(let text): output += "Markup(\(quoted(text)))"
    case .list(let elements): try write(elements.values, "[", "]")
    case .tuple(let elements): try write(elements.values, "(", elements.count == 1 ? ",)" : ")")
    case .dict(let mapping): try write(mapping)
    case .range(let range):
      output += "range(\(range.start), \(range.stop)\(range.step == 1 ? "" : ", \(range.step)"))"
    case .view(let view):
      output += "dict_\(view.part.rawValue)("
      try write((0..<view.mapping.count).map { view.element($0) }, "[", "])")
    case .namespace(let namespace):
      output += "<Namespace "
      try write(namespace.attributes)
      output += ">"
    case .macro(let macro): output += "<Macro \(macro.name.map { quoted($0) } ?? "None")>"
    case .loop(let loop): output += "<LoopContext \(loop.index0 + 1)/\(try loop.length())>"
    // Python prints addresses here.
    case .iterator: output += "<generator object>"
    case .function(let function):
      output += function.isType ? "<class '\(function.name)'>" : "<function \(function.name)>"
    case .cycler: output += "<jinja2.utils.Cycler object>"
    }
    try checkText(output.utf8.count)
  }

  private mutating func write(
    _ elements: [Value], _ open: String, _ close: String
  ) throws(Fault) {
    output += open
    for (index, element) in elements.enumerated() {
      if index > 0 { output += ", " }
      try write(element)
    }
    output += close
  }

  private mutating func write(_ mapping: Mapping) throws(Fault) {
    output += "{"
    for (index, (key, value)) in zip(mapping.keys, mapping.values).enumerated() {
      if index > 0 { output += ", " }
      try write(key)
      output += ": "
      try write(value)
    }
    output += "}"
  }
}
