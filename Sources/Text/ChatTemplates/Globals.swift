// The functions every template finds: Jinja2's own and those transformers adds.

extension Interpreter {
  func defineGlobals(date: TemplateDate) {
    function("raise_exception") { arguments throws(Fault) in
      let bound = try arguments.bound(to: ["message"], required: 1, of: "raise_exception")
      throw Fault(.raised, try bound[0]!.str())
    }
    function("strftime_now") { arguments throws(Fault) in
      let bound = try arguments.bound(to: ["format"], required: 1, of: "strftime_now")
      guard let format = bound[0]!.text else {
        throw .failed("`strftime_now` takes a str, not \(bound[0]!.typeName)")
      }
      return .string(try date.formatted(format))
    }
    function("range", isType: true, safeRange)
    function("dict", isType: true) { arguments throws(Fault) in
      .dict(try mapping(from: arguments, of: "dict"))
    }
    function("namespace", isType: true) { [unowned self] arguments throws(Fault) in
      .namespace(try makeNamespace(mapping(from: arguments, of: "namespace")))
    }
    function("joiner", isType: true) { arguments throws(Fault) in
      let bound = try arguments.bound(to: ["sep"], of: "joiner")
      var isUsed = false
      return method("joiner", of: bound[0]) { arguments throws(Fault) in
        _ = try arguments.bound(to: [], of: "joiner")
        defer { isUsed = true }
        return isUsed ? bound[0] ?? .string(", ") : .string("")
      }
    }
    function("cycler", isType: true) { arguments throws(Fault) in
      guard !arguments.positional.isEmpty, arguments.keywords.isEmpty else {
        throw .failed("at least one item has to be provided")
      }
      return .cycler(Cycler(arguments.positional))
    }
    function("lipsum") { _ throws(Fault) in
      throw .failed("the function `lipsum` is not supported")
    }
  }

  private func function(
    _ name: String, isType: Bool = false,
    _ body: @escaping (CallArguments) throws(Fault) -> Value
  ) {
    define(name, .function(Function(name, isType: isType, body)))
  }
}

private func safeRange(_ arguments: CallArguments) throws(Fault) -> Value {
  guard arguments.keywords.isEmpty, (1...3).contains(arguments.positional.count) else {
    throw .failed("`range` takes 1 to 3 arguments")
  }
  var bounds: [Int] = []
  for value in arguments.positional {
    guard let integer = value.integer else {
      throw .failed("'\(value.typeName)' object cannot be interpreted as an integer")
    }
    bounds.append(integer.int ?? (integer.isNegative ? .min : .max))
  }
  let step = bounds.count == 3 ? bounds[2] : 1
  guard step != 0 else { throw .failed("range() arg 3 must not be zero") }
  let range = PythonRange(
    start: bounds.count == 1 ? 0 : bounds[0], stop: bounds.count == 1 ? bounds[0] : bounds[1],
    step: step)
  guard range.count <= Limits.rangeLength else {
    throw .failed("range of more than \(Limits.rangeLength) numbers")
  }
  return .range(range)
}
