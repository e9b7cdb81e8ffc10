// One row of a data set to token ids, as Hugging Face's libraries give them.

package import ChatTemplates
package import JSON
package import Tokenization

/// Which column of a row is read, and as what.
package enum RowColumn: Sendable, Equatable {
  /// A chat: a list of objects with `role` and `content`.
  case messages(String)
  /// A chat in ShareGPT's form: a list of objects with `from` and `value`.
  case conversations(String)
  case text(String)
  case inputIDs(String)

  package var name: String {
    switch self {
    case .messages(let name), .conversations(let name), .text(let name), .inputIDs(let name): name
    }
  }

  /// What a chat may have beside it.
  static let tools = "tools"

  /// Whether rows come as token ids.
  var isIDs: Bool { if case .inputIDs = self { true } else { false } }

  var isChat: Bool {
    switch self {
    case .messages, .conversations: true
    case .text, .inputIDs: false
    }
  }

  /// The first column that is known by its name, or the one that the user named.
  package static func find(in columns: [String], named text: String?) -> RowColumn? {
    if let text { return columns.contains(text) ? .text(text) : nil }
    let known: [RowColumn] = [
      .inputIDs("input_ids"), .messages("messages"), .conversations("conversations"), .text("text"),
    ]
    return known.first { columns.contains($0.name) }
  }
}

/// Why a row gives no tokens. The rows around it may.
package struct UnusableRow: Error, CustomStringConvertible, Equatable {
  package let problem: String
  /// Whether rendering it came to a limit: many such rows would take for ever to fail.
  package var isCostly = false
  package var description: String { problem }
}

/// A row as the model will see it.
package struct EncodedRow: Sendable, Equatable {
  /// The rendered chat or the plain text; nil for rows that come as ids.
  package let text: String?
  package let ids: [Int32]
  /// Whether these are the ids of the beginning of a long text, and more might follow.
  package let isBeginning: Bool

  init(text: String?, ids: [Int32], isBeginning: Bool = false) {
    self.text = text
    self.ids = ids
    self.isBeginning = isBeginning
  }
}

/// How rows become token ids.
package struct RowEncoder: Sendable {
  private let column: RowColumn
  private let vocabularySize: Int
  private let tokenizer: Tokenizer?
  private let template: PromptTemplate?
  private let addsSpecialTokens: Bool

  /// - Parameters:
  ///   - tokenizer: not needed for `inputIDs`.
  ///   - template: needed for chats only.
  ///   - addsSpecialTokens: whether the tokenizer file's post-processor has its say; by default it has for text, and
  ///     not for chats, whose template writes what special tokens there are.
  package init(
    column: RowColumn, vocabularySize: Int, tokenizer: Tokenizer?, template: PromptTemplate?,
    addsSpecialTokens: Bool?
  ) {
    self.column = column
    // A config.json may say anything, and ids are of 32 bits.
    self.vocabularySize = min(vocabularySize, Int(Int32.max))
    self.tokenizer = tokenizer
    self.template = template
    if case .text = column {
      self.addsSpecialTokens = addsSpecialTokens ?? true
    } else {
      self.addsSpecialTokens = addsSpecialTokens ?? false
    }
  }

  /// - Parameters:
  ///   - isWhole: whether the text is all there is; else more may follow it.
  ///   - wanted: how many ids are wanted of a long text.
  ///   - room: bytes that tokenizing may take.
  /// - Returns: nil where more of the text is needed.
  /// - Throws: `UncutText` where tokenizing takes more; `UnusableRow` for this row alone; `TokenizerError` where no other
  ///   row would fare better.
  package func encode(
    _ row: JSONObject, isWhole: Bool = true, atLeast wanted: Int = .max, room: Int = .max
  ) throws -> EncodedRow? {
    func tokenized(_ text: String) throws -> EncodedRow? {
      try self.tokenized(text, isWhole: isWhole, atLeast: wanted, room: room)
    }
    guard let value = row[column.name], value != .null else {
      throw UnusableRow(problem: "no `\(column.name)`")
    }
    switch column {
    case .inputIDs: return EncodedRow(text: nil, ids: try ids(value))
    case .text:
      guard let text = value.string else {
        throw UnusableRow(problem: "`\(column.name)` is \(value.kind), not a string")
      }
      return try tokenized(text)
    case .messages: return try tokenized(render(value, tools: row[RowColumn.tools]))
    case .conversations: return try tokenized(render(messages(value), tools: row[RowColumn.tools]))
    }
  }

  /// Texts below this are tokenized whole, so that it is known how many tokens they have.
  private static let longText = 1 << 20

  private func tokenized(
    _ text: String, isWhole: Bool, atLeast wanted: Int, room: Int
  ) throws -> EncodedRow? {
    guard let tokenizer else { preconditionFailure("text without a tokenizer") }
    let isLong = !isWhole || text.utf8.count > Self.longText
    let beginning: [Int32]?
    do {
      beginning = try tokenizer.encodeBeginning(
        text, isWhole: isWhole, atLeast: isLong ? wanted : .max, room: room,
        addSpecialTokens: addsSpecialTokens)
    } catch let error as TokenizerError {
      // The text is at fault; others have no such run.
      if case .longRun = error { throw UnusableRow(problem: "\(error)") }
      throw error
    }
    guard let ids = beginning else { return nil }
    if let high = ids.first(where: { $0 >= vocabularySize }) {
      throw UnusableRow(
        problem:
          "token \(high), `\(try tokenizer.decode([high]))`, is beyond the model's vocabulary of "
          + "\(vocabularySize)")
    }
    return EncodedRow(text: text, ids: ids, isBeginning: isLong && ids.count >= wanted)
  }

  private func render(_ messages: JSONValue, tools: JSONValue?) throws -> String {
    guard let template else { preconditionFailure("a chat without a template") }
    guard let list = messages.array else {
      throw UnusableRow(problem: "`\(column.name)` is \(messages.kind), not a list")
    }
    if list.isEmpty { return "" }
    if let odd = list.first(where: { $0.object == nil }) {
      throw UnusableRow(problem: "a message is \(odd.kind), not an object")
    }
    do {
      return try template.render(messages, tools: tools?.array == nil ? nil : tools)
    } catch {
      // A template that is wrong for every chat does not parse, and has not come here.
      let verb = if case .raised = error { "refuses" } else { "fails on" }
      let isCostly = if case .tooLarge = error { true } else { false }
      throw UnusableRow(
        problem: "the chat template \(verb) it (line \(error.place.line)): \(error.message)",
        isCostly: isCostly)
    }
  }

  /// ShareGPT's `from` and `value` to `role` and `content`.
  private func messages(_ value: JSONValue) throws -> JSONValue {
    let roles = [
      "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
      "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
      "system": "system", "tool": "tool", "function": "tool", "observation": "tool",
    ]
    return .array(
      try (value.array ?? []).map { turn in
        guard let from = turn.object?["from"]?.string, let role = roles[from],
          let content = turn.object?["value"]
        else {
          throw UnusableRow(
            problem:
              "a turn of `\(column.name)` has no known `from` (\(roles.keys.sorted().joined(separator: ", "))) with a `value`"
          )
        }
        return ["role": .string(role), "content": content]
      })
  }

  private func ids(_ value: JSONValue) throws(UnusableRow) -> [Int32] {
    guard let values = value.array else {
      throw UnusableRow(problem: "`\(column.name)` is \(value.kind), not a list")
    }
    var ids: [Int32] = []
    ids.reserveCapacity(values.count)
    for (position, value) in values.enumerated() {
      guard let id = value.int, id >= 0, id < vocabularySize else {
        throw UnusableRow(
          problem: "token \(position) is \(value.serialized()), expected a whole number below "
            + "\(vocabularySize); the ids belong to another tokenizer")
      }
      ids.append(Int32(id))
    }
    return ids
  }
}

/// Chat templates with everything they are rendered with but the chat.
package struct PromptTemplate: Sendable {
  private let standard: ChatTemplate
  /// For chats with tools: some models have a template of their own for them.
  private let forTools: ChatTemplate
  private let variables: [(String, JSONValue)]
  private let date: TemplateDate

  /// - Parameter variables: special tokens and the user's own; a later one of the same name wins.
  package init(
    _ standard: ChatTemplate, forTools: ChatTemplate, variables: [(String, JSONValue)],
    date: TemplateDate
  ) {
    self.standard = standard
    self.forTools = forTools
    self.variables = variables
    self.date = date
  }

  package func render(_ messages: JSONValue, tools: JSONValue?) throws(TemplateError) -> String {
    let template = tools == nil ? standard : forTools
    return try template.render(messages: messages, tools: tools, variables: variables, date: date)
  }
}
