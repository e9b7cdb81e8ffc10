// Everything that can be wrong with a recipe, worded for its owner.

package import SystemIO

package enum RecipeError: Error, CustomStringConvertible, Equatable {
  case system(SystemError)
  /// A line of 0 where the parser knows none.
  case invalidYAML(file: String, line: Int, problem: String)
  case noModifiers(file: String)
  case unknownModifier(file: String, line: Int, name: String)
  case unknownKey(file: String, line: Int, key: String, known: [String])
  case unsupported(file: String, line: Int, key: String, expected: String, found: String)
  /// A pattern of files where an expression is meant.
  case glob(file: String, line: Int, key: String, found: String, expression: String)
  case missing(file: String, line: Int, modifier: String, key: String)
  /// Two values that cannot both hold.
  case conflict(file: String, line: Int, key: String, first: String, second: String)
  case secondSmoother(file: String, line: Int, name: String, before: String, first: Int)
  case noQuantizer(file: String, line: Int, smoother: String)
  case quantizerFirst(file: String, line: Int, smoother: String, name: String)

  package var description: String {
    switch self {
    case .system(let error): error.description
    case .invalidYAML(let file, let line, let problem):
      (line > 0 ? "\(file):\(line)" : file) + ": neither YAML nor JSON (\(problem))"
    case .noModifiers(let file):
      "\(file): no modifiers; a recipe has an AWQModifier or SmoothQuantModifier and a QuantizationModifier or GPTQModifier, or one of the latter alone"
    case .unknownModifier(let file, let line, let name):
      "\(file):\(line): `\(name)` is not supported, only AWQModifier, SmoothQuantModifier, QuantizationModifier and GPTQModifier are; "
        + "leave it out, or use llm-compressor for this recipe"
    case .unknownKey(let file, let line, let key, let known):
      "\(file):\(line): unknown key `\(key)`; known here: \(known.joined(separator: ", "))"
    case .unsupported(let file, let line, let key, let expected, let found):
      "\(file):\(line): `\(key)` is \(found), but only \(expected) is supported"
    case .glob(let file, let line, let key, let found, let expression):
      "\(file):\(line): `\(key)` has \(found), which llm-compressor would take for the exact name of a module; "
        + "write '\(expression)'" + (key == "ignore" ? ", or give --ignore, which takes both" : "")
    case .missing(let file, let line, let modifier, let key):
      "\(file):\(line): \(modifier) has no `\(key)`"
    case .conflict(let file, let line, let key, let first, let second):
      "\(file):\(line): `\(key)` is \(second) here and \(first) before; a recipe has one for all Linears"
    case .secondSmoother(let file, let line, let name, let before, let first):
      (name == before
        ? "\(file):\(line): a second \(name), after the one in line \(first)"
        : "\(file):\(line): \(name) after the \(before) in line \(first), and both smooth")
        + "; leave one of them out"
    case .noQuantizer(let file, let line, let smoother):
      "\(file):\(line): \(smoother) only smooths; add a GPTQModifier or QuantizationModifier with `scheme: W4A16` after it"
    case .quantizerFirst(let file, let line, let smoother, let name):
      "\(file):\(line): \(smoother) comes after \(name); put it first"
    }
  }
}
