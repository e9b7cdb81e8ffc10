// How much of a data set may be in memory at once.

/// Shares of the memory for rows. A row is in memory about four times while it is read and parsed.
package struct Room: Sendable, Equatable {
  package let bytes: Int

  package init(bytes: Int) { self.bytes = max(bytes, 8 << 20) }

  /// The room where no budget is named.
  package static let standard = Room(bytes: 1 << 30)

  /// A line, an element or a document must fit in this.
  var rowBytes: Int { min(bytes / 5, 256 << 20) }
  /// What the values of a parsed row may take.
  var valueBytes: Int { bytes / 2 }
  /// A parquet page. Writers aim at 1 MiB, but do not cut long texts.
  var pageBytes: Int { min(bytes / 4, 1 << 30) }
  /// A dictionary of a parquet column. Writers give up on one that grows past 1 MiB.
  var dictionaryBytes: Int { min(bytes / 8, 64 << 20) }
  /// What the metadata at a parquet file's end may take.
  var footerBytes: Int { bytes / 4 }
  /// How many bytes zstd may look back, as a power of two. Its best level takes 8 MiB; by default it allows 2^27 at most.
  var windowLog: Int32 {
    Int32(min(max(Int.bitWidth - 1 - (bytes / 4).leadingZeroBitCount, 20), 27))
  }
}
