// What reading a tokenizer takes, told before it is read.

internal import SystemIO

extension Tokenizer {
  /// Bytes of memory that reading the tokenizer of a model folder takes at most; 0 where there is none.
  ///
  /// By how many tokens and merges its file can hold, and how long they can be. Measured on files made to be short to
  /// write and large in memory; published ones take a half of it or less.
  package static func memory(folder: String) throws(TokenizerError) -> Int {
    guard let file = TokenizerFile.find(in: folder) else { return 0 }
    let path = "\(folder)/\(file.rawValue)"
    switch file {
    case .json, .vocabulary:
      let found = try Survey(path, UInt8(ascii: ","), word: "\"Unigram\"")
      let merges = file == .vocabulary ? try mergesMemory(folder) : 0
      // Tokens of a unigram model are kept in a trie, byte by byte. A list in a list is a value without a comma.
      return 230 * found.count + 96 * max(0, found.brackets - found.count)
        + (found.hasWord ? 48 : 4) * found.byteCount + merges
    case .tekken:
      let found = try Survey(path, UInt8(ascii: "{"))
      return 640 * found.count + 4 * found.byteCount
    case .kimi, .hunyuan:
      let found = try Survey(path, UInt8(ascii: "\n"))
      return 400 * found.count + 4 * found.byteCount
    case .sentencePiece:
      // Every part of a piece may be one, and each cut a merge.
      return 56 * (try Survey(path, 0).byteCount)
    }
  }

  private static func mergesMemory(_ folder: String) throws(TokenizerError) -> Int {
    let path = "\(folder)/\(TokenizerFile.merges)"
    guard FileSystem.exists(path) else { return 0 }
    let found = try Survey(path, UInt8(ascii: "\n"))
    return 160 * found.count + 4 * found.byteCount
  }
}

/// How often a byte and opening brackets stand in a file, and whether a word does or may: its letters can be spelled
/// as escapes.
private struct Survey {
  private(set) var count = 0
  private(set) var brackets = 0
  private(set) var hasWord = false
  let byteCount: Int

  init(_ path: String, _ byte: UInt8, word: String = "") throws(TokenizerError) {
    let wanted = Array(word.utf8)
    let file: MappedFile
    do throws(SystemError) {
      file = try MappedFile(path: path)
    } catch {
      throw .unreadable(path: path, problem: "\(error)")
    }
    byteCount = file.byteCount
    let step = 1 << 20
    for start in stride(from: 0, to: byteCount, by: step) {
      let end = min(start + step, byteCount)
      // A word may lie across.
      let wordEnd = min(end + max(wanted.count, 6), byteCount)
      unsafe file.withBytes { bytes in
        for index in start..<end where unsafe bytes[index] == byte { count += 1 }
        for index in start..<end where unsafe Self.isBracket(bytes[index]) { brackets += 1 }
        if hasWord || wanted.isEmpty { return }
        let part = unsafe bytes[start..<wordEnd]
        hasWord = unsafe part.contains(wanted) || Self.hasEscape(of: wanted, in: part)
      }
      file.release(start..<end)
    }
  }

  private static func isBracket(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "[") || byte == UInt8(ascii: "{")
  }

  /// Whether a letter of the word is spelled as `\u00` and two digits.
  private static func hasEscape(
    of word: [UInt8], in bytes: Slice<UnsafeRawBufferPointer>
  ) -> Bool {
    let start = Array("\\u00".utf8)
    var index = unsafe bytes.startIndex
    let last = unsafe bytes.endIndex - 6
    while index <= last {
      if unsafe bytes[index] == start[0], unsafe bytes[index..<(index + 4)].elementsEqual(start),
        let high = unsafe digit(bytes[index + 4]), let low = unsafe digit(bytes[index + 5]),
        (4..<8).contains(high), word.contains(high << 4 | low)
      {
        return true
      }
      index += 1
    }
    return false
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
