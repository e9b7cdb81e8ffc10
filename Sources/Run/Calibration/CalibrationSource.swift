// From what the user named to token sequences: data set, column, tokenizer, chat template.

package import ChatTemplates
internal import Datasets
package import JSON
internal import SystemIO
internal import Tokenization

/// A data set, which rows of it, and how much of it.
package struct NamedRows: Sendable, Equatable {
  /// A file, folder or glob, or `-` for stdin.
  package var path: String
  /// As the user named it, without rows and share.
  package var name: String
  /// Rows to choose among, from 0; nil for all.
  package var rows: Range<Int>?
  /// Its share of the samples, above 0 and at most 1.
  package var share: Double

  package init(path: String, name: String? = nil, rows: Range<Int>? = nil, share: Double = 1) {
    self.path = path
    self.name = name ?? path
    self.rows = rows
    self.share = share
  }

  /// As it can be given again.
  package func text(_ name: String) -> String {
    let rows = rows.map { rows in
      let end = rows.upperBound == .max ? "" : "\(rows.upperBound)"
      return "[\(rows.lowerBound > 0 ? "\(rows.lowerBound)" : ""):\(end)]"
    }
    return name + (rows ?? "") + (share < 1 ? ":\(share)" : "")
  }
}

/// Everything a user can say about calibration or evaluation data.
package struct CalibrationSource: Sendable {
  /// None for the built-in chats.
  package var sets: [NamedRows]
  package var selection: RowSelection
  /// The column with plain text, where it is not called `text`.
  package var textColumn: String?
  package var addsSpecialTokens: Bool?
  /// A template file to use instead of the model's own.
  package var chatTemplate: String?
  package var templateArguments: [(String, JSONValue)] = []
  package var templateDate = CalibrationSource.defaultDate

  /// A file that the token ids are written to, so that they can be given again.
  package var savedTokens: String?

  package init(path: String?, selection: RowSelection) {
    self.init(sets: [], selection: selection)
    self.path = path
  }

  package init(sets: [NamedRows], selection: RowSelection) {
    self.sets = sets
    self.selection = selection
  }

  /// The day that templates take for today. Fixed: a run that goes on tomorrow must see the same prompts.
  package static let defaultDate: TemplateDate = {
    guard let date = TemplateDate(year: 2025, month: 1, day: 1) else { preconditionFailure() }
    return date
  }()

  /// What errors and notes call the data.
  package var name: String {
    sets.isEmpty ? "the built-in chats" : sets.map { $0.text($0.name) }.joined(separator: ",")
  }

  /// Where they lie; nil for the built-in chats. Set, it is one data set as a whole.
  package var path: String? {
    get { sets.isEmpty ? nil : sets.map { $0.text($0.path) }.joined(separator: ",") }
    set { sets = newValue.map { [NamedRows(path: $0)] } ?? [] }
  }

  /// Refuses data that is not there, or without a column that is known.
  package func check() throws {
    try checkSavedTokens()
    for set in sets {
      _ = try CalibrationRows.dataset(Dataset(path: set.path))
        .column(path: set.name, named: textColumn)
    }
  }

  private func checkSavedTokens() throws {
    guard let savedTokens else { return }
    try checkApart(savedTokens, flag: "--save-tokens")
    try checkReplaceable(savedTokens)
  }

  /// Refuses to write to a file that this is read from.
  package func checkApart(_ path: String, flag: String) throws {
    let read =
      try sets.flatMap { try Dataset(path: $0.path).paths }
      + (chatTemplate.map { [$0] } ?? [])
    if read.contains(where: { FileSystem.isSame($0, path) }) {
      throw CalibrationError.wouldReplace(path: path, flag: flag)
    }
  }

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
    try checkSavedTokens()
    var tokenizer: Tokenizer?
    var data: CalibrationData?
    let all: [NamedRows?] = sets.isEmpty ? [nil] : sets
    for (set, samples) in zip(all, try samples) {
      let name = set?.name ?? name
      let rows: CalibrationRows =
        try set.map { .dataset(try Dataset(path: $0.path, room: Room(bytes: room(0)))) } ?? .builtIn
      let column = try rows.column(path: name, named: textColumn)
      var left = Room(bytes: try room(0))
      if !column.isIDs {
        left = Room(bytes: try room(Tokenizer.memory(folder: model)))
        if tokenizer == nil { tokenizer = try Tokenizer(folder: model) }
      }
      let encoder = try encoder(
        for: column, model: model, vocabularySize: vocabularySize, tokenizer)
      var selection = selection
      selection.samples = samples
      selection.rows = set?.rows
      let read = try CalibrationData(
        rows.selecting(column), path: name, encoder: encoder, selection: selection, room: left,
        used: used)
      data = try data?.joined(with: read, path: self.name, room: left) ?? read
    }
    guard let data else { preconditionFailure("no data set and no built-in chats") }
    if let savedTokens { try data.write(to: savedTokens) }
    return data
  }

  /// The samples that each set gives, by their shares; what is left over goes to those with the largest remainders.
  private var samples: [Int] {
    get throws(CalibrationError) {
      if sets.count < 2 { return [selection.samples] }
      let exact = sets.map { $0.share * Double(selection.samples) }
      var counts = exact.map { Int(saturating: $0.rounded(.down)) }
      let order = exact.indices.sorted { one, other in
        (-exact[one] + exact[one].rounded(.down), one)
          < (-exact[other] + exact[other].rounded(.down), other)
      }
      for place in order.prefix(max(0, selection.samples - counts.reduce(0, +))) {
        counts[place] += 1
      }
      if let none = counts.firstIndex(of: 0) {
        throw .noSamples(set: sets[none].name, share: sets[none].share, of: selection.samples)
      }
      return counts
    }
  }

  private func encoder(
    for column: RowColumn, model: String, vocabularySize: Int, _ tokenizer: Tokenizer?
  ) throws -> RowEncoder {
    guard let tokenizer, !column.isIDs else {
      return RowEncoder(
        column: column, vocabularySize: vocabularySize, tokenizer: nil, template: nil,
        addsSpecialTokens: nil)
    }
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
