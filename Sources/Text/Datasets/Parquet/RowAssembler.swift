// Values of several columns to nested rows.
// Source: Melnik et al., Dremel (VLDB 2010), section 4.3, by recursion over the schema instead of an automaton.

internal import JSON

/// The rows of one row group. Columns that contradict each other are an error: in a list of structures, say, every
/// column must tell the same number of items.
struct RowAssembler {
  private let fields: [SchemaNode]
  /// By number of the leaf; nil where it is not asked for.
  private let columns: [ColumnReader?]
  private let byteLimit: Int
  private var problem: RowProblem?
  /// What the values of the row take so far.
  private var bytes = 0

  /// - Parameter columns: those of `fields`.
  init(fields: [SchemaNode], columns: [ColumnReader?], _ room: Room) {
    byteLimit = room.valueBytes
    self.fields = fields
    self.columns = columns
  }

  mutating func next() throws(FileProblem) -> Result<JSONObject, RowProblem> {
    problem = nil
    bytes = 0
    for field in fields {
      for column in field.columns where self[column].isAtEnd {
        throw .damaged("ends before the last row", at: self[column].place)
      }
    }
    let row = try object(fields)
    for field in fields {
      for column in field.columns where self[column].repetition != 0 {
        throw .damaged("a row goes on where another must begin", at: self[column].place)
      }
    }
    if let problem { return .failure(problem) }
    return .success(row)
  }

  /// After the last row.
  func finish() throws(FileProblem) {
    for field in fields {
      for column in field.columns where !self[column].isAtEnd {
        throw .damaged("goes on after the last row", at: self[column].place)
      }
    }
  }

  private subscript(column: Int) -> ColumnReader {
    guard let reader = columns[column] else { preconditionFailure("column \(column) is not open") }
    return reader
  }

  private mutating func object(_ fields: [SchemaNode]) throws(FileProblem) -> JSONObject {
    var object = JSONObject()
    try take(Self.objectBytes + fields.count * Self.memberBytes)
    for field in fields { object[field.name] = try value(field) }
    return object
  }

  private mutating func value(_ node: SchemaNode) throws(FileProblem) -> JSONValue {
    if try !reaches(node.definition, node) {
      try pass(node)
      return .null
    }
    switch node.shape {
    case .leaf(let column, _):
      return try leaf(self[column])
    case .structure(let fields):
      return .object(try object(fields))
    case .list(let item, let itemDefinition, let repetition):
      var items: [JSONValue] = []
      try take(Self.objectBytes)
      if try !reaches(itemDefinition, node) {
        try pass(node)
        return .array(items)
      }
      repeat {
        items.append(try value(item))
      } while try goesOn(at: repetition, node)
      return .array(items)
    }
  }

  private mutating func leaf(_ column: ColumnReader) throws(FileProblem) -> JSONValue {
    do throws(FileProblem) {
      let value = try column.value()
      try count(value)
      try column.advance()
      return value ?? .null
    } catch {
      throw error.located(column.place)
    }
  }

  private mutating func count(_ value: JSONValue?) throws(FileProblem) {
    switch value {
    case .string(let text)?: bytes += text.utf8.count
    case nil: problem = problem ?? RowProblem(problem: "bytes that are not UTF-8")
    default: break
    }
    // A list that grows is there twice while it is copied.
    try take(2 * MemoryLayout<JSONValue>.stride)
  }

  /// What a structure or a list takes of its own, and each member's name and place.
  private static let objectBytes = 160
  private static let memberBytes = 2 * MemoryLayout<String>.stride + 32

  private mutating func take(_ count: Int) throws(FileProblem) {
    bytes += count
    if bytes > byteLimit { throw .tooLarge("rows", byteLimit) }
  }

  /// Whether all columns of `node` are defined to `level`.
  private func reaches(_ level: Int, _ node: SchemaNode) throws(FileProblem) -> Bool {
    let reaches = self[node.columns.lowerBound].definition >= level
    for column in node.columns {
      let definition = self[column].definition
      guard (definition >= level) == reaches, definition >= node.parentDefinition else {
        throw .damaged("does not fit the columns beside it", at: self[column].place)
      }
    }
    return reaches
  }

  /// Passes over the one entry in each column that stands for a missing `node`.
  private mutating func pass(_ node: SchemaNode) throws(FileProblem) {
    for number in node.columns {
      let column = self[number]
      do throws(FileProblem) {
        try count(.null)
        try column.advance()
      } catch {
        throw error.located(column.place)
      }
    }
  }

  /// Whether another item of the list follows.
  private func goesOn(at level: Int, _ node: SchemaNode) throws(FileProblem) -> Bool {
    let goesOn = self[node.columns.lowerBound].repetition == level
    for column in node.columns {
      let repetition = self[column].repetition
      guard (repetition == level) == goesOn, repetition <= level else {
        throw .damaged("does not fit the columns beside it", at: self[column].place)
      }
    }
    return goesOn
  }
}

extension ColumnReader {
  fileprivate var place: String { "column `\(type.path.text)`" }
}
