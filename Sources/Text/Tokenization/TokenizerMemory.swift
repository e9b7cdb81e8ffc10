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
      // Tokens of a unigram model are kept in a trie, byte by byte.
      return 230 * found.count + (found.hasWord ? 48 : 4) * found.byteCount + merges
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

/// How often a byte stands in a file, and whether a word does.
private struct Survey {
  private(set) var count = 0
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
      let wordEnd = min(end + wanted.count, byteCount)
      unsafe file.withBytes { bytes in
        for index in start..<end where unsafe bytes[index] == byte { count += 1 }
        hasWord = unsafe hasWord || !wanted.isEmpty && bytes[start..<wordEnd].contains(wanted)
      }
      file.release(start..<end)
    }
  }
}
