// Token texts back to text.

enum Decoder: Sendable {
  case byteLevel
  case byteFallback
  case fuse
  case metaspace(replacement: [UInt8], dropsFirst: Bool)
  case replace(Delimiter, with: [UInt8])
  case strip(content: [UInt8], start: Int, stop: Int)

  func decode(_ tokens: [[UInt8]]) throws(TokenizerError) -> [[UInt8]] {
    switch self {
    case .byteLevel:
      var bytes: [UInt8] = []
      // A token that spells no bytes is text of its own.
      for token in tokens { bytes += ByteAlphabet.bytes(spelledBy: token) ?? token }
      return [bytes]
    case .fuse:
      return [Array(tokens.joined())]
    case .byteFallback:
      return Self.joinBytes(tokens)
    case .metaspace(let replacement, let dropsFirst):
      return tokens.enumerated().map { index, token in
        Self.replacing(
          replacement, with: index == 0 && dropsFirst ? [] : [UInt8(ascii: " ")], in: token)
      }
    case .replace(let delimiter, let replacement):
      let scratch = SplitScratch()
      var result: [[UInt8]] = []
      for token in tokens {
        var pieces = Pieces(token)
        try Normalizer.replace(delimiter, with: replacement).normalize(&pieces, scratch)
        result.append(pieces.text)
      }
      return result
    case .strip(let content, let start, let stop):
      return tokens.map { Self.strip($0, content, start, stop) }
    }
  }

  /// Runs of tokens like `<0xE2>` to the text they spell; every byte of a run that is not UTF-8
  /// becomes U+FFFD.
  private static func joinBytes(_ tokens: [[UInt8]]) -> [[UInt8]] {
    var result: [[UInt8]] = []
    var run: [UInt8] = []
    func endRun() {
      if run.isEmpty { return }
      if (try? UTF8Span(validating: run.span)) != nil {
        result.append(run)
      } else {
        result += Array(repeating: Array("\u{FFFD}".utf8), count: run.count)
      }
      run = []
    }
    for token in tokens {
      if let byte = byteSpelled(by: token) {
        run.append(byte)
      } else {
        endRun()
        result.append(token)
      }
    }
    endRun()
    return result
  }

  private static func byteSpelled(by token: [UInt8]) -> UInt8? {
    guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">") else {
      return nil
    }
    return UInt8(String(decoding: token[3..<5], as: UTF8.self), radix: 16)
  }

  private static func replacing(
    _ old: [UInt8], with new: [UInt8], in token: [UInt8]
  ) -> [UInt8] {
    var result: [UInt8] = []
    var position = 0
    while position < token.count {
      if token[position...].starts(with: old) {
        result += new
        position += old.count
      } else {
        result.append(token[position])
        position += 1
      }
    }
    return result
  }

  private static func strip(
    _ token: [UInt8], _ content: [UInt8], _ start: Int, _ stop: Int
  ) -> [UInt8] {
    var token = token[...]
    var (starts, ends) = (start, stop)
    while starts > 0, token.starts(with: content) {
      token = token.dropFirst(content.count)
      starts -= 1
    }
    while ends > 0, token.suffix(content.count).elementsEqual(content) {
      token = token.dropLast(content.count)
      ends -= 1
    }
    return Array(token)
  }
}
