// Everything that can keep a tokenizer from being used, worded for the owner of its file.

package enum TokenizerError: Error, CustomStringConvertible, Equatable {
  /// `at`: the place in the file as a JSON path, such as `$.pre_tokenizer.pretokenizers[1].type`.
  case unreadable(path: String, problem: String)
  case unsupported(path: String, at: String, found: String, supported: [String])
  case unexpected(path: String, at: String, expected: String, found: String)
  case inconsistent(path: String, at: String, problem: String)
  case badPattern(path: String, at: String, problem: String)
  case addedTokenID(path: String, at: String, content: String, declared: Int, computed: Int)
  case badLine(path: String, line: Int, problem: String)
  /// `at`: bytes from the start of the file.
  case badSentencePiece(path: String, at: Int, problem: String)
  /// `name`: nil where no class is named.
  case unsupportedClass(path: String, name: String?)
  // A path that is nil is not known where the error is thrown; `naming` adds it where it is.
  case emptyToken(path: String?, content: [UInt8])
  case unmatchable(path: String?, expression: String, problem: String)
  /// A text that the expression could match but for its length.
  case longRun(path: String?, expression: String, problem: String)
  /// Beyond `Bounds`.
  case tooLarge(path: String?, problem: String)
  case noTokenizer(folder: String, problem: String)

  package var description: String {
    switch self {
    case .unreadable(let path, let problem): "\(path): \(problem)"
    case .unsupported(let path, let at, let found, let supported):
      "\(path): \(at) is \(found), which is not supported; supported: "
        + supported.joined(separator: ", ")
    case .unexpected(let path, let at, let expected, let found):
      "\(path): \(at): expected \(expected), found \(found)"
    case .inconsistent(let path, let at, let problem): "\(path): \(at): \(problem)"
    case .badPattern(let path, let at, let problem):
      "\(path): \(at): the regular expression cannot be used: \(problem)"
    case .addedTokenID(let path, let at, let content, let declared, let computed):
      "\(path): \(at): `\(content)` declares id \(declared), but the tokenizers package gives it "
        + "\(computed); ids in this file mean nothing until they agree; save the tokenizer again with "
        + "`AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)`"
    case .badLine(let path, let line, let problem): "\(path): line \(line): \(problem)"
    case .badSentencePiece(let path, let at, let problem):
      "\(path): at byte \(at): \(problem); it is no SentencePiece model, or damaged"
    case .unsupportedClass(let path, let name):
      "\(path): "
        + (name.map { "reading it as transformers' `\($0)` does is not supported; " }
          ?? "no `tokenizer_class` in tokenizer_config.json says how to read it; name it there, or ")
        + "convert it to tokenizer.json with `AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)`"
    case .emptyToken(let path, let content):
      Self.start(path)
        + "nothing is left of the added token \(quoted(content)) when it is normalized; save the "
        + "tokenizer again without it"
    case .noTokenizer(let folder, let problem): "\(folder): \(problem)"
    case .unmatchable(let path, let expression, let problem):
      Self.start(path)
        + "the tokenizer's regular expression `\(expression)` cannot be used on a text: \(problem)"
    case .longRun(let path, let expression, let problem):
      Self.start(path)
        + "the tokenizer's regular expression `\(expression)` cannot be used on this text: \(problem)"
    case .tooLarge(let path, let problem): Self.start(path) + problem
    }
  }

  private static func start(_ path: String?) -> String { path.map { "\($0): " } ?? "" }

  /// With the file that the tokenizer was read from, where none is named yet.
  func naming(_ path: String) -> TokenizerError {
    switch self {
    case .emptyToken(nil, let content): .emptyToken(path: path, content: content)
    case .unmatchable(nil, let expression, let problem):
      .unmatchable(path: path, expression: expression, problem: problem)
    case .longRun(nil, let expression, let problem):
      .longRun(path: path, expression: expression, problem: problem)
    case .tooLarge(nil, let problem): .tooLarge(path: path, problem: problem)
    default: self
    }
  }
}

/// A token's text for a message.
func quoted(_ text: some Collection<UInt8>) -> String {
  let longest = 80
  let start = String(decoding: text.prefix(longest), as: UTF8.self)
  return "`\(start)\(text.count > longest ? "…" : "")`"
}
