// From what the user named to token sequences: data set, column, tokenizer, chat template.

package import ChatTemplates
internal import Datasets
package import JSON
internal import Tokenization

/// Everything a user can say about calibration or evaluation data.
package struct CalibrationSource: Sendable {
  /// A file, folder or glob; nil for the built-in chats.
  package var path: String?
  package var selection: RowSelection
  /// The column with plain text, where it is not called `text`.
  package var textColumn: String?
  package var addsSpecialTokens: Bool?
  /// A template file to use instead of the model's own.
  package var chatTemplate: String?
  package var templateArguments: [(String, JSONValue)] = []
  package var templateDate = CalibrationSource.defaultDate

  package init(path: String?, selection: RowSelection) {
    self.path = path
    self.selection = selection
  }

  /// The day that templates take for today. Fixed: a run that goes on tomorrow must see the same prompts.
  package static let defaultDate: TemplateDate = {
    guard let date = TemplateDate(year: 2025, month: 1, day: 1) else { preconditionFailure() }
    return date
  }()

  /// What errors and notes call the data.
  package var name: String { path ?? "the built-in chats" }

  /// Reads, renders and tokenizes until there is enough.
  ///
  /// - Parameters:
  ///   - model: the folder with the tokenizer and the chat template.
  ///   - room: what reading data may take, by what the tokenizer takes, before that is read.
  ///   - used: sees every row that is used.
  package func load(
    model: String, vocabularySize: Int,
    room: (_ tokenizerBytes: Int) throws -> Int = { _ in Room.standard.bytes },
    used: (UsedRow) throws -> Void = { _ in }
  ) throws -> CalibrationData {
    let rows: CalibrationRows =
      try path.map { .dataset(try Dataset(path: $0, room: Room(bytes: room(0)))) } ?? .builtIn
    let column = try rows.column(path: name, named: textColumn)
    let tokenizerBytes =
      if case .inputIDs = column { 0 } else { try Tokenizer.memory(folder: model) }
    let left = Room(bytes: try room(tokenizerBytes))
    let encoder = try encoder(for: column, model: model, vocabularySize: vocabularySize)
    return try CalibrationData(
      rows.selecting(column), path: name, encoder: encoder, selection: selection, room: left,
      used: used)
  }

  private func encoder(
    for column: RowColumn, model: String, vocabularySize: Int
  ) throws -> RowEncoder {
    if case .inputIDs = column {
      return RowEncoder(
        column: column, vocabularySize: vocabularySize, tokenizer: nil, template: nil,
        addsSpecialTokens: nil)
    }
    let tokenizer = try Tokenizer(folder: model)
    if case .text = column {
      return RowEncoder(
        column: column, vocabularySize: vocabularySize, tokenizer: tokenizer, template: nil,
        addsSpecialTokens: addsSpecialTokens)
    }
    let template = try template(model: model, tokenizer)
    return RowEncoder(
      column: column, vocabularySize: vocabularySize, tokenizer: tokenizer, template: template,
      addsSpecialTokens: addsSpecialTokens)
  }

  private func template(model: String, _ tokenizer: Tokenizer) throws -> PromptTemplate {
    let files = try ChatTemplateFiles.find(folder: model)
    let own = tokenizer.namedTokens.sorted { $0.key < $1.key }
    let variables =
      own.map { ($0.key, JSONValue.string($0.value)) } + files.specialTokens + templateArguments
    if let chatTemplate {
      let template = try ChatTemplateFiles.template(file: chatTemplate)
      return PromptTemplate(
        template, forTools: template, variables: variables, date: templateDate)
    }
    return PromptTemplate(
      try files.template(), forTools: try files.template(hasTools: true), variables: variables,
      date: templateDate)
  }
}
