// Commands to be given again.

/// Words as a shell takes them.
package func shellText(_ words: [String]) -> String {
  let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,@%+")
  return words.map { word in
    !word.isEmpty && word.allSatisfy(plain.contains)
      ? word
      : "'"
        + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''")
        + "'"
  }.joined(separator: " ")
}
