// What is gathered of an activation, and the blocks and bytes that it takes in a file.

internal import Quantization

/// What statistics of an activation hold.
struct StatisticsKind: Equatable {
  let channels: Int
  var withGram = false
  var withLargest = false
  var withMagnitudes = false
  /// Channels whose products with each other are kept; nil for as many as there is room for.
  var block: Int?

  private func blocks(_ rows: Int) -> Int {
    (rows + ActivationStatistics.storedRows - 1) / ActivationStatistics.storedRows
  }

  private var gramRanges: [Range<Int>] {
    if !withGram { return [] }
    return block.map { size in
      stride(from: 0, to: channels, by: size).map { $0..<min($0 + size, channels) }
    } ?? ActivationStatistics.gramRanges(channels)
  }

  /// How such statistics lie in a file.
  func entry(_ name: String) -> KeptEntry {
    KeptEntry(
      name: name, hasLargest: withLargest,
      gramBlocks: gramRanges.reduce(0) { $0 + blocks($1.count) },
      magnitudeBlocks: withMagnitudes ? blocks(channels) : 0)
  }

  /// Blocks of a file that they take.
  var storedBlocks: Int { entry("").blocks }

  /// Bytes of their numbers: of a Gram matrix on and above the diagonal, in strips.
  var byteCount: Int {
    let grams = gramRanges.reduce(0) {
      $0 + $1.count * ($1.count + ActivationStatistics.storedRows) / 2 * 4
    }
    return grams + 8 * (withLargest ? 3 : 2) * channels + (withMagnitudes ? channels * 512 : 0)
  }
}
