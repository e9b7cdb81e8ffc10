// Functions that a template calls, and what it calls them with.

/// A function of the environment or a method bound to its object.
final class Function {
  let name: String
  /// `dict`, `range`, `namespace`…: classes, which print differently.
  let isType: Bool
  let depth: Int
  let call: (CallArguments) throws(Fault) -> Value

  init(
    _ name: String, isType: Bool = false, of owner: Value? = nil,
    _ call: @escaping (CallArguments) throws(Fault) -> Value
  ) {
    self.name = name
    self.isType = isType
    depth = 1 + (owner?.depth ?? 0)
    self.call = call
  }
}

/// The values a call was made with.
struct CallArguments {
  var positional: [Value] = []
  var keywords: [(name: String, value: Value)] = []

  /// All of them, in the order of the call.
  var values: [Value] { positional + keywords.map { $0.value } }

  /// One value, or nil, for each parameter in order.
  ///
  /// - Parameters:
  ///   - required: how many of the parameters must be given.
  ///   - positionalOnly: whether, as in many of Python's methods, names are not accepted.
  func bound(
    to parameters: [String], required: Int = 0, positionalOnly: Bool = false, of function: String
  ) throws(Fault) -> [Value?] {
    guard positional.count <= parameters.count else {
      throw .failed(
        "`\(function)` takes at most \(parameters.count) arguments (\(positional.count) given)")
    }
    var values = positional.map { Optional($0) }
    values += Array(repeating: nil, count: parameters.count - positional.count)
    for (name, value) in keywords {
      guard !positionalOnly, let index = parameters.firstIndex(where: { sameText($0, name) })
      else { throw .failed("`\(function)` has no argument named `\(name)`") }
      guard values[index] == nil else {
        throw .failed("`\(function)` got more than one value for `\(name)`")
      }
      values[index] = value
    }
    for index in 0..<required where values[index] == nil {
      throw .failed("`\(function)` lacks its argument `\(parameters[index])`")
    }
    return values
  }
}
