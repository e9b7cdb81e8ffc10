// The flags that say which rows of a data set are used, and how they become tokens.

import ArgumentParser
internal import Calibration
internal import ChatTemplates
internal import JSON

enum YesOrNo: String, Choice {
  case yes
  case no
}

struct DataArguments: ParsableArguments {
  private static let usualSamples = 512
  private static let usualLength = 2048

  @Option(help: ArgumentHelp("Rows to use, from the first.", valueName: "n"))
  var samples = DataArguments.usualSamples

  @Option(
    name: .customLong("sequence-length"),
    help: ArgumentHelp("Tokens of a row to use, from the first.", valueName: "n"))
  var sequenceLength = DataArguments.usualLength

  @Option(
    name: .customLong("text-column"),
    help: ArgumentHelp(
      "The column with plain text. Found without this: messages, conversations, text, input_ids.",
      valueName: "name"))
  var textColumn: String?

  @Flag(help: "Join rows and cut them into full sequences.")
  var pack = false

  @Option(
    name: .customLong("shuffle-seed"),
    help: ArgumentHelp("Choose rows at random with this seed.", valueName: "n"))
  var shuffleSeed: UInt64?

  @Option(
    name: .customLong("chat-template"),
    help: ArgumentHelp("A Jinja template to use instead of the model's own.", valueName: "file"),
    completion: .file())
  var chatTemplate: String?

  @Option(
    name: .customLong("template-arg"),
    help: ArgumentHelp(
      "A variable for the chat template, e.g. enable_thinking=false (repeatable). Values are JSON, or strings.",
      valueName: "key=value"))
  var templateArguments: [String] = []

  @Option(
    name: .customLong("template-date"),
    help: ArgumentHelp(
      "The day that chat templates take for today. Default: 2025-01-01, so that runs can be repeated.",
      valueName: "date"))
  var templateDate: String?

  @Option(
    name: .customLong("add-special-tokens"),
    help: ArgumentHelp(
      "Whether the tokenizer adds its own, yes or no. Default: to text yes, to chats no.",
      valueName: "yes|no"))
  var addSpecialTokens: YesOrNo?

  @Option(
    name: .customLong("save-tokens"),
    help: ArgumentHelp(
      "Write the token ids that are used to this file, as data that can be given again.",
      valueName: "file"), completion: .file(extensions: ["jsonl"]))
  var savedTokens: String?

  /// The first flag that does not say the default, for commands that may have no data; nil for none.
  var firstFlag: String? {
    let flags = [
      ("--samples", samples != Self.usualSamples),
      ("--sequence-length", sequenceLength != Self.usualLength),
      ("--text-column", textColumn != nil),
      ("--pack", pack),
      ("--shuffle-seed", shuffleSeed != nil),
      ("--chat-template", chatTemplate != nil),
      ("--template-arg", !templateArguments.isEmpty),
      ("--template-date", templateDate != nil),
      ("--add-special-tokens", addSpecialTokens != nil),
      ("--save-tokens", savedTokens != nil),
    ]
    return flags.first { $0.1 }?.0
  }

  /// More than anyone has; sums and products of such numbers do not overflow.
  private static let most = 1_000_000_000

  func validate() throws {
    if let savedTokens, !savedTokens.hasSuffix(".jsonl") {
      throw ValidationError(
        "--save-tokens '\(savedTokens)' does not end in .jsonl, by which it is known as data again")
    }
    for (flag, number) in [("--samples", samples), ("--sequence-length", sequenceLength)]
    where number < 1 || number > Self.most {
      throw ValidationError("\(flag) is 1 to \(Self.most) (found \(number))")
    }
    for argument in templateArguments where !argument.dropFirst().contains("=") {
      throw ValidationError("--template-arg '\(argument)' is not of the form key=value")
    }
    if let templateDate, TemplateDate(templateDate) == nil {
      throw ValidationError("--template-date '\(templateDate)' is not a date such as 2025-07-31")
    }
  }

  /// - Parameter data: as the user names it; nil for the built-in chats.
  func source(_ data: String?) throws -> CalibrationSource {
    var source = CalibrationSource(
      sets: try data.map(namedRows) ?? [],
      selection: RowSelection(
        samples: samples, sequenceLength: sequenceLength, shuffleSeed: shuffleSeed, packs: pack))
    source.textColumn = textColumn
    source.savedTokens = savedTokens
    source.addsSpecialTokens = addSpecialTokens.map { $0 == .yes }
    source.chatTemplate = chatTemplate
    source.templateArguments = templateArguments.map { argument in
      let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let value = (try? JSONValue.parse(Array(parts[1].utf8))) ?? .string(String(parts[1]))
      return (String(parts[0]), value)
    }
    if let date = templateDate.flatMap({ TemplateDate($0) }) { source.templateDate = date }
    return source
  }
}
