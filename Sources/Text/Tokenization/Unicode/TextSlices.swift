// How the Kimi tokenizer cuts long texts before it does anything else.

/// Source: `tokenization_kimi.py` of moonshotai/Kimi-K2: slices of 400,000 characters, and in them
/// cuts so that no more than 25,000 characters in a row are white space, or are not. Ids change at
/// these cuts.
struct TextSlices: Sendable {
  var sliceLength = 400_000
  var runLength = 25_000

  func cut(_ text: Span<UInt8>) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var start = 0
    var position = 0
    var scalars = 0
    var run = 0
    var wasSpace = false
    while position < text.count {
      let (value, end) = scalar(in: text, at: position)
      if scalars == sliceLength {
        result.append(start..<position)
        start = position
        scalars = 0
        run = 0
      }
      let isSpace = Self.isPythonSpace(value)
      if run > 0, isSpace != wasSpace {
        run = 1
      } else {
        run += 1
        if run > runLength {
          result.append(start..<position)
          start = position
          run = 1
        }
      }
      wasSpace = isSpace
      scalars += 1
      position = end
    }
    if start < position { result.append(start..<position) }
    return result
  }

  /// `str.isspace`: White_Space and the four information separators.
  private static func isPythonSpace(_ scalar: UInt32) -> Bool {
    (0x1C...0x1F).contains(scalar) || UnicodeSets.space.contains(scalar)
  }
}
