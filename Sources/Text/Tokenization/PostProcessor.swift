// The special tokens around a text, such as a beginning-of-sequence token.

struct PostProcessor: Sendable {
  let before: [Int32]
  let after: [Int32]

  func process(_ ids: [Int32]) -> [Int32] {
    before + ids + after
  }
}
