// The model's own tokens: text to id and id to text.

struct Vocabulary: Sendable {
  private let table: ByteTable
  private let ids: [Int32]
  /// Entry of `table` by id, -1 where there is a hole.
  private let entries: [Int32]

  /// - Parameter tokens: no text and no id twice, ids at least 0.
  init(_ tokens: [(text: [UInt8], id: Int32)]) {
    var table = ByteTable(reserving: tokens.count)
    var ids: [Int32] = []
    ids.reserveCapacity(tokens.count)
    var entries = [Int32](repeating: -1, count: Int(tokens.map(\.id).max() ?? -1) + 1)
    for (text, id) in tokens {
      entries[Int(id)] = Int32(table.add(text.span))
      ids.append(id)
    }
    self.table = table
    self.ids = ids
    self.entries = entries
  }

  /// How many tokens there are; with holes in the ids this is less than the largest id plus one.
  var count: Int { table.count }

  @inline(__always)
  func id(of text: Span<UInt8>) -> Int32? {
    table.find(text).map { ids[$0] }
  }

  func id(of text: [UInt8]) -> Int32? {
    id(of: text.span)
  }

  func text(of id: Int32) -> ArraySlice<UInt8>? {
    guard id >= 0, id < entries.count, entries[Int(id)] >= 0 else { return nil }
    return table.key(Int(entries[Int(id)]))
  }

  var tokens: some Sequence<(text: ArraySlice<UInt8>, id: Int32)> {
    (0..<table.count).lazy.map { (text: table.key($0), id: ids[$0]) }
  }
}
