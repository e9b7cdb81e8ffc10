// Products of bf16 numbers with sums in float32, on kernels of our own: weights are packed straight from where they are
// stored, a tile at a time.
//
// An element of a result is summed in an order that depends on the depth of the product alone (products.c): the cuts
// below change no bit, and may follow the number of threads.

internal import CKernels
internal import Tensors

/// Letters: T tokens, N outputs, C channels, D the depth that is summed over.
package enum BF16Products {
  /// Tokens that are packed at a time.
  private static let tokens = 1024
  /// Rows of a weight in a tile: a thread packs them once for all tokens, and they fit its cache.
  package static let tileRows = 128
  /// Channels of the strips that a tile of a Gram matrix meets.
  private static let gramRows = 1024

  /// Channels of a tile: many for the cache's sake, few where there are not many, since half of what lies on the
  /// diagonal is for nothing.
  private static func gramColumns(_ channels: Int) -> Int { channels < 1024 ? 64 : 256 }
  /// Fewer rows are not worth packing a tile once more for another thread.
  private static let fewestRows = 8 * Int(SLUICE_TILE_ROWS)
  private static let depth = Int(SLUICE_DEPTH)

  // MARK: Products

  /// result `[T, N]` = x `[T, D]` times the transpose of `weight` `[N, D]`; added to what is there where `adds`.
  static func multiply(
    _ x: Matrix, by weight: any WeightRows, adds: Bool, into result: Matrix, backend: Backend
  ) {
    let blocks = ranges(of: x.columns, by: depth)
    let tiles = ranges(of: weight.rows, by: tileRows)
    let panel = TaskBuffer("packed weights", byteCount: panelBytes(min(weight.rows, tileRows)))
    weight.noteReading(weight.rows, tileRows: tileRows, backend: backend)
    for chunk in ranges(of: x.rows, by: tokens) {
      let packed = PackedRows(count: chunk.count, depth: x.columns, backend)
      let strips = ranges(of: chunk.count, by: 8)
      backend.forEach(strips.count) { packed.fill(strips[$0], from: x, at: chunk.lowerBound) }
      let parts = parts(of: chunk.count, tiles: tiles.count, threads: backend.threads)
      backend.forEach(tiles.count * parts.count, each: [panel]) { index in
        let (tile, rows) = (tiles[index / parts.count], parts[index % parts.count])
        let panels = panels(tile.count, from: backend.memory)
        for (index, block) in blocks.enumerated() {
          unsafe weight.withBF16(tile, columns: block) { stored, stride in
            unsafe sluice_pack_panels(stored, tile.count, block.count, stride, panels.elements)
          }
          unsafe sluice_multiply_packed(
            packed.row(rows.lowerBound, block: index), panels.elements, rows.count, tile.count,
            block.count, adds || index > 0 ? 1 : 0,
            result.row(chunk.lowerBound + rows.lowerBound) + tile.lowerBound, result.columns)
        }
      }
    }
  }

  /// Rows cut so that there are two tasks for each thread, where the tiles are too few.
  private static func parts(of rows: Int, tiles: Int, threads: Int) -> [Range<Int>] {
    if tiles >= 2 * threads { return [0..<rows] }
    let wanted = (2 * threads + tiles - 1) / tiles
    return ranges(of: rows, by: max(fewestRows, (rows + wanted - 1) / wanted))
  }

  // MARK: Gram matrices

  /// gram `[C, C]` += xᵀ x for C columns of x `[T, ...]`, on and above the diagonal.
  static func addGram(of x: Matrix, columns channels: Range<Int>, to gram: Matrix, backend: Backend)
  {
    let tasks = gramTasks(channels.count)
    let panel = TaskBuffer(
      "packed weights",
      byteCount: panelBytes(min(channels.count, gramColumns(channels.count))))
    for chunk in ranges(of: x.rows, by: tokens) {
      let packed = PackedRows(count: channels.count, depth: chunk.count, backend)
      let strips = ranges(of: channels.count, by: 64)
      backend.forEach(strips.count) {
        packed.fill(
          strips[$0], fromColumnsOf: x, from: channels.lowerBound, tokens: chunk.lowerBound)
      }
      backend.forEach(tasks.count, each: [panel]) { index in
        let (rows, columns) = tasks[index]
        let panels = panels(columns.count, from: backend.memory)
        for (index, block) in packed.blocks.enumerated() {
          unsafe sluice_pack_column_panels(
            x.row(chunk.lowerBound + block.lowerBound) + channels.lowerBound + columns.lowerBound,
            columns.count, block.count, x.columns, panels.elements)
          unsafe sluice_multiply_packed(
            packed.row(rows.lowerBound, block: index), panels.elements, rows.count, columns.count,
            block.count, 1, gram.row(rows.lowerBound) + columns.lowerBound, gram.columns)
        }
      }
    }
  }

  /// Strips of rows by tiles of columns, down to the diagonal; large ones first, so that no thread begins one last.
  private static func gramTasks(_ channels: Int) -> [(rows: Range<Int>, columns: Range<Int>)] {
    let tasks = ranges(of: channels, by: gramColumns(channels)).flatMap { columns in
      ranges(of: columns.upperBound, by: gramRows).map { ($0, columns) }
    }
    return tasks.sorted { $0.0.count * $0.1.count > $1.0.count * $1.1.count }
  }

  // MARK: Panels

  private static func panelBytes(_ columns: Int) -> Int {
    let panel = Int(SLUICE_PANEL)
    return (columns + panel - 1) / panel * panel * depth * 2
  }

  private static func panels(_ columns: Int, from memory: MemoryBudget) -> Buffer {
    Buffer("packed weights", byteCount: panelBytes(columns), from: memory)
  }
}

/// The operand whose rows the kernel reads one by one, in bf16: all rows of the first block of the depth, then all of
/// the next.
private struct PackedRows: Sendable {
  let count: Int
  let blocks: [Range<Int>]
  private let buffer: Buffer

  init(count: Int, depth: Int, _ backend: Backend) {
    self.count = count
    blocks = ranges(of: depth, by: Int(SLUICE_DEPTH))
    buffer = backend.buffer("packed activations", byteCount: Self.byteCount(count, depth: depth))
  }

  private static func byteCount(_ rows: Int, depth: Int) -> Int {
    let blocks = (depth + Int(SLUICE_DEPTH) - 1) / Int(SLUICE_DEPTH)
    return blocks * rows * Int(SLUICE_ROW_STRIDE) * 2
  }

  func row(_ row: Int, block: Int) -> UnsafeMutablePointer<UInt16> {
    unsafe buffer.elements + (block * count + row) * Int(SLUICE_ROW_STRIDE)
  }

  /// Rows of x, counted from `start`.
  func fill(_ rows: Range<Int>, from x: Matrix, at start: Int) {
    for (index, block) in blocks.enumerated() {
      unsafe sluice_pack_rows(
        x.row(start + rows.lowerBound) + block.lowerBound, rows.count, block.count, x.columns,
        row(rows.lowerBound, block: index))
    }
  }

  /// Columns of x, counted from `first`, of the tokens from `start` on.
  func fill(
    _ columns: Range<Int>, fromColumnsOf x: Matrix, from first: Int, tokens start: Int
  ) {
    for (index, block) in blocks.enumerated() {
      unsafe sluice_pack_columns(
        x.row(start + block.lowerBound) + first + columns.lowerBound, columns.count, block.count,
        x.columns, row(columns.lowerBound, block: index))
    }
  }
}

extension Buffer {
  /// 64-byte aligned, as all buffers are.
  fileprivate var elements: UnsafeMutablePointer<UInt16> {
    unsafe bytes.baseAddress!.assumingMemoryBound(to: UInt16.self)
  }
}
