// Strings as Python has them: sequences of code points, compared and searched scalar by scalar.

typealias Scalars = [Unicode.Scalar]

extension String {
  init(_ scalars: some Sequence<Unicode.Scalar>) {
    var view = UnicodeScalarView()
    view.append(contentsOf: scalars)
    self.init(view)
  }
}

/// Equality by code points; `==` takes the two spellings of an accented letter for equal.
func sameText(_ left: String, _ right: String) -> Bool {
  left.utf8.count == right.utf8.count && left.utf8.elementsEqual(right.utf8)
}

/// Order by code points, which is that of the UTF-8 bytes.
func textPrecedes(_ left: String, _ right: String) -> Bool {
  left.utf8.lexicographicallyPrecedes(right.utf8)
}

/// A string as a key of Swift's dictionaries.
struct TextKey: Hashable {
  let text: String

  static func == (left: TextKey, right: TextKey) -> Bool { sameText(left.text, right.text) }

  func hash(into hasher: inout Hasher) { text.hash(into: &hasher) }
}

/// CR LF and CR become LF.
func normalizedNewlines(_ scalars: some Sequence<Unicode.Scalar>) -> Scalars {
  var result: Scalars = []
  result.reserveCapacity(scalars.underestimatedCount)
  var afterReturn = false
  for scalar in scalars {
    if scalar == "\r" {
      result.append("\n")
    } else if scalar != "\n" || !afterReturn {
      result.append(scalar)
    }
    afterReturn = scalar == "\r"
  }
  return result
}

// MARK: Classes of characters

/// `str.isspace`, and `\s` of Python's regular expressions.
func isPythonSpace(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F,
    0x205F, 0x3000:
    true
  default: false
  }
}

/// Where `str.splitlines` breaks.
func isPythonLineBreak(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029: true
  default: false
  }
}

func isPythonPrintable(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.properties.generalCategory {
  case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
    .paragraphSeparator:
    false
  case .spaceSeparator: scalar == " "
  default: true
  }
}

func isPythonAlphabetic(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.properties.generalCategory {
  case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
  default: false
  }
}

func isPythonDecimal(_ scalar: Unicode.Scalar) -> Bool {
  scalar.properties.numericType == .decimal
}

func isPythonDigit(_ scalar: Unicode.Scalar) -> Bool {
  scalar.properties.numericType == .decimal || scalar.properties.numericType == .digit
}

func isPythonNumeric(_ scalar: Unicode.Scalar) -> Bool {
  scalar.properties.numericType != nil
}

// MARK: Case

// Mappings are appended as strings: `append(contentsOf:)` of a view of scalars copies all that is there.

func uppercased(_ text: String) -> String {
  String(text.unicodeScalars.flatMap { $0.properties.uppercaseMapping.unicodeScalars })
}

func lowercased(_ text: String) -> String {
  let scalars = Scalars(text.unicodeScalars)
  var result = ""
  for index in scalars.indices { result += lowercase(scalars, index) }
  return result
}

/// The first letter as in a title, the rest small: `str.capitalize`.
func capitalized(_ text: String) -> String {
  let scalars = Scalars(text.unicodeScalars)
  guard let first = scalars.first else { return text }
  var result = ""
  result += first.properties.titlecaseMapping
  for index in scalars.indices.dropFirst() {
    result += lowercase(scalars, index)
  }
  return result
}

/// `str.title`: a letter is large after anything that has no case, apostrophes included.
func titlecased(_ text: String) -> String {
  let scalars = Scalars(text.unicodeScalars)
  var result = ""
  var afterCased = false
  for (index, scalar) in scalars.enumerated() {
    if afterCased {
      result += lowercase(scalars, index)
    } else {
      result += scalar.properties.titlecaseMapping
    }
    afterCased = scalar.properties.isCased
  }
  return result
}

func swappedCase(_ text: String) -> String {
  let scalars = Scalars(text.unicodeScalars)
  var result = ""
  for (index, scalar) in scalars.enumerated() {
    if scalar.properties.isUppercase {
      result += lowercase(scalars, index)
    } else if scalar.properties.isLowercase {
      result += scalar.properties.uppercaseMapping
    } else {
      result.unicodeScalars.append(scalar)
    }
  }
  return result
}

/// A sigma that ends a word has a small form of its own.
/// Source: Unicode 3.13, Final_Sigma, as CPython's `handle_capital_sigma`.
private func lowercase(_ scalars: Scalars, _ index: Int) -> String {
  let scalar = scalars[index]
  guard scalar == "\u{3A3}" else { return scalar.properties.lowercaseMapping }
  let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
  let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
  let isFinal = before?.properties.isCased == true && after?.properties.isCased != true
  return isFinal ? "\u{3C2}" : "\u{3C3}"
}

// MARK: Strip, split, search

enum StripSide {
  case left, right, both
}

/// - Parameter characters: any of these go; nil for white space.
func stripped(_ text: String, _ side: StripSide, _ characters: String? = nil) -> String {
  let scalars = text.unicodeScalars
  let set = characters.map { Set($0.unicodeScalars) }
  func goes(_ scalar: Unicode.Scalar) -> Bool {
    set.map { $0.contains(scalar) } ?? isPythonSpace(scalar)
  }
  var start = scalars.startIndex
  var end = scalars.endIndex
  if side != .right {
    while start < end, goes(scalars[start]) { start = scalars.index(after: start) }
  }
  if side != .left {
    while start < end {
      let last = scalars.index(before: end)
      guard goes(scalars[last]) else { break }
      end = last
    }
  }
  return String(scalars[start..<end])
}

/// Fields between runs of white space; the rest after `limit` cuts keeps its space.
func splitAtSpace(_ text: String, limit: Int) -> [String] {
  let scalars = Scalars(text.unicodeScalars)
  var fields: [String] = []
  var index = 0
  while true {
    while index < scalars.count, isPythonSpace(scalars[index]) { index += 1 }
    guard index < scalars.count else { return fields }
    if limit >= 0, fields.count == limit { return fields + [String(scalars[index...])] }
    let start = index
    while index < scalars.count, !isPythonSpace(scalars[index]) { index += 1 }
    fields.append(String(scalars[start..<index]))
  }
}

/// As `splitAtSpace`, with the cuts counted from the end.
func splitAtSpaceFromEnd(_ text: String, limit: Int) -> [String] {
  let reversed = String(text.unicodeScalars.reversed())
  return splitAtSpace(reversed, limit: limit).reversed().map {
    String($0.unicodeScalars.reversed())
  }
}

/// - Parameter separator: not empty.
func split(_ text: String, at separator: String, limit: Int) -> [String] {
  let bytes = Array(text.utf8)
  var fields: [String] = []
  var start = 0
  for match in matches(of: Array(separator.utf8), in: bytes, limit: limit) {
    fields.append(String(decoding: bytes[start..<match], as: UTF8.self))
    start = match + separator.utf8.count
  }
  fields.append(String(decoding: bytes[start...], as: UTF8.self))
  return fields
}

func splitFromEnd(_ text: String, at separator: String, limit: Int) -> [String] {
  let bytes = Array(text.utf8)
  let wanted = Array(separator.utf8)
  var fields: [String] = []
  var end = bytes.count
  for match in matchesFromEnd(of: wanted, in: bytes, limit: limit) {
    fields.append(String(decoding: bytes[(match + wanted.count)..<end], as: UTF8.self))
    end = match
  }
  fields.append(String(decoding: bytes[..<end], as: UTF8.self))
  return fields.reversed()
}

/// Where `wanted` stands in `bytes`, without overlaps, at most `limit` times (negative: all).
///
/// UTF-8 never matches inside a character, so bytes do for code points.
func matches(of wanted: [UInt8], in bytes: [UInt8], limit: Int = -1) -> [Int] {
  guard !wanted.isEmpty, wanted.count <= bytes.count else { return [] }
  // Knuth, Morris and Pratt: how much of `wanted` still fits where its next byte does not. So no text takes longer than
  // its length.
  var shorter = [0]
  var fitting = 0
  func advance(_ byte: UInt8) {
    while fitting > 0, byte != wanted[fitting] { fitting = shorter[fitting - 1] }
    if byte == wanted[fitting] { fitting += 1 }
  }
  for byte in wanted.dropFirst() {
    advance(byte)
    shorter.append(fitting)
  }
  fitting = 0
  var found: [Int] = []
  for (index, byte) in bytes.enumerated() {
    if found.count == limit { break }
    advance(byte)
    if fitting == wanted.count {
      found.append(index + 1 - wanted.count)
      fitting = 0
    }
  }
  return found
}

/// As `matches`, from the last one on.
func matchesFromEnd(of wanted: [UInt8], in bytes: [UInt8], limit: Int = -1) -> [Int] {
  matches(of: wanted.reversed(), in: bytes.reversed(), limit: limit).map {
    bytes.count - $0 - wanted.count
  }
}

func contains(_ text: String, _ part: String) -> Bool {
  part.isEmpty || !matches(of: Array(part.utf8), in: Array(text.utf8), limit: 1).isEmpty
}

/// An empty `old` stands before every character and at the end, as in Python.
func replaced(
  _ text: String, _ old: String, _ new: String, limit: Int
) throws(Fault) -> String {
  let count: Int
  var result = ""
  if old.utf8.isEmpty {
    let scalars = text.unicodeScalars
    count = limit < 0 ? scalars.count + 1 : min(limit, scalars.count + 1)
    try checkText(text.utf8.count + count * new.utf8.count)
    var left = count
    for scalar in scalars {
      if left > 0 {
        result += new
        left -= 1
      }
      result.unicodeScalars.append(scalar)
    }
    if left > 0 { result += new }
    return result
  }
  let fields = split(text, at: old, limit: limit)
  try checkText(text.utf8.count + (fields.count - 1) * max(0, new.utf8.count - old.utf8.count))
  for (index, field) in fields.enumerated() {
    if index > 0 { result += new }
    result += field
  }
  return result
}

func splitLines(_ text: String, keepingEnds: Bool) -> [String] {
  let scalars = Scalars(text.unicodeScalars)
  var lines: [String] = []
  var start = 0
  var index = 0
  while index < scalars.count {
    guard isPythonLineBreak(scalars[index]) else {
      index += 1
      continue
    }
    let end = index
    let isPair = scalars[index] == "\r" && index + 1 < scalars.count && scalars[index + 1] == "\n"
    index += isPair ? 2 : 1
    lines.append(String(scalars[start..<(keepingEnds ? index : end)]))
    start = index
  }
  if start < scalars.count { lines.append(String(scalars[start...])) }
  return lines
}

func checkText(_ bytes: Int) throws(Fault) {
  guard bytes <= Limits.textBytes else {
    throw Fault(.tooLarge, "more than \(Limits.textBytes) bytes of text")
  }
}

// MARK: Escapes

/// `\xe9`, `\u20ac` or `\U0001f600`, whichever is shortest.
func backslashEscape(_ scalar: Unicode.Scalar) -> String.UnicodeScalarView {
  let digits = String(scalar.value, radix: 16)
  let (letter, width) =
    scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
  let padding = String(repeating: "0", count: width - digits.utf8.count)
  return "\\\(letter)\(padding)\(digits)".unicodeScalars
}

/// Text in which all that is not ASCII is escaped.
func asciiOnly(_ text: String) -> String {
  String(
    text.unicodeScalars.flatMap { $0.isASCII ? String($0).unicodeScalars : backslashEscape($0) })
}

/// A string as Python's `repr` writes it.
func quoted(_ text: String) -> String {
  let quote: Unicode.Scalar =
    text.utf8.contains(UInt8(ascii: "'")) && !text.utf8.contains(UInt8(ascii: "\"")) ? "\"" : "'"
  var result = ""
  result.unicodeScalars.append(quote)
  for scalar in text.unicodeScalars {
    switch scalar {
    case quote, "\\":
      result += "\\"
      result.unicodeScalars.append(scalar)
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    case "\t": result += "\\t"
    default:
      if isPythonPrintable(scalar) {
        result.unicodeScalars.append(scalar)
      } else {
        result += String(backslashEscape(scalar))
      }
    }
  }
  result.unicodeScalars.append(quote)
  return result
}

/// MarkupSafe's `escape`.
func htmlEscaped(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "'": result += "&#39;"
    case "\"": result += "&#34;"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result
}
