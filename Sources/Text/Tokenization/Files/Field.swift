// A value in a JSON file together with its place there, so that every refusal can name it.

internal import JSON
internal import SystemIO

struct Field {
  let file: String
  let at: String
  let value: JSONValue

  init(file: String, at: String, value: JSONValue) {
    self.file = file
    self.at = at
    self.value = value
  }

  /// A whole file.
  init(path: String, limit: Int = Bounds.fileBytes) throws(TokenizerError) {
    let bytes = try readFile(path, limit: limit)
    do throws(JSONError) {
      self.init(file: path, at: "$", value: try JSONValue.parse(bytes))
    } catch {
      throw .unreadable(path: path, problem: "not JSON: \(error)")
    }
  }

  /// A whole file of settings, nil where there is none.
  init?(ifThere path: String) throws(TokenizerError) {
    guard FileSystem.exists(path) else { return nil }
    try self.init(path: path, limit: FileSystem.smallFile)
  }

  func object() throws(TokenizerError) -> JSONObject {
    guard let object = value.object else { throw unexpected("an object") }
    return object
  }

  /// A member of an object, or nil where it is absent or null.
  func member(_ key: String) -> Field? {
    guard let value = value.object?[key], value != .null else { return nil }
    return Field(file: file, at: "\(at).\(key)", value: value)
  }

  /// The members of an object, which may have the keys named and no other.
  func members(_ known: [String]) throws(TokenizerError) -> Members {
    let object = try object()
    for key in object.keys where !known.contains(key) {
      throw .unsupported(file, "\(at).\(key)", "a key of this place", supported: known)
    }
    return Members(field: self, object: object)
  }

  func elements() throws(TokenizerError) -> [Field] {
    guard let array = value.array else { throw unexpected("a list") }
    return array.enumerated().map { Field(file: file, at: "\(at)[\($0)]", value: $1) }
  }

  func string() throws(TokenizerError) -> String {
    guard let string = value.string else { throw unexpected("a string") }
    return string
  }

  func bool() throws(TokenizerError) -> Bool {
    guard let bool = value.bool else { throw unexpected("true or false") }
    return bool
  }

  /// An id: no tokenizer has more than a few hundred thousand of them.
  func id() throws(TokenizerError) -> Int32 {
    guard let int = value.int, (0..<1 << 24).contains(int) else { throw unexpected("a token id") }
    return Int32(int)
  }

  func unexpected(_ expected: String) -> TokenizerError {
    .unexpected(path: file, at: at, expected: expected, found: found)
  }

  func inconsistent(_ problem: String) -> TokenizerError {
    .inconsistent(path: file, at: at, problem: problem)
  }

  func unsupported(_ supported: [String]) -> TokenizerError {
    .unsupported(file, at, found, supported: supported)
  }

  private var found: String {
    switch value {
    case .string(let text): "`\(text)`"
    case .number(let number): number.literal
    case .bool(let bool): "\(bool)"
    default: value.kind
    }
  }
}

extension TokenizerError {
  fileprivate static func unsupported(
    _ path: String, _ at: String, _ found: String, supported: [String]
  ) -> TokenizerError {
    .unsupported(
      path: path, at: at, found: found, supported: supported.map { "`\($0)`" })
  }
}

/// The members of an object whose keys have been checked.
struct Members {
  let field: Field
  let object: JSONObject

  /// The member, or nil where it is absent or null.
  subscript(key: String) -> Field? { field.member(key) }

  func required(_ key: String) throws(TokenizerError) -> Field {
    guard let value = object[key] else {
      throw .unexpected(
        path: field.file, at: field.at, expected: "a key `\(key)`", found: "none")
    }
    return Field(file: field.file, at: "\(field.at).\(key)", value: value)
  }

  func bool(_ key: String, default absent: Bool) throws(TokenizerError) -> Bool {
    try self[key]?.bool() ?? absent
  }

  /// A value of an enumeration that is spelled by its raw values.
  func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String, default absent: Choice? = nil
  ) throws(TokenizerError) -> Choice where Choice.RawValue == String {
    if object[key] == nil, let absent { return absent }
    let field = try required(key)
    guard let choice = Choice(rawValue: try field.string()) else {
      throw field.unsupported(Choice.allCases.map(\.rawValue))
    }
    return choice
  }
}

/// The bytes of a tokenizer's file.
func readFile(_ path: String, limit: Int = Bounds.fileBytes) throws(TokenizerError) -> [UInt8] {
  do throws(SystemError) {
    return try FileSystem.readFile(path, limit: limit)
  } catch {
    throw .unreadable(path: path, problem: "\(error)")
  }
}
