// Where a parameter of a model lies among the tensors of a checkpoint, as a value.

/// The place of a weight or bias that is no tensor by itself: the tensor that holds it, and how its numbers lie there.
///
/// What is not said to lie elsewhere is a tensor of its own name.
package struct StoredPlace: Sendable, Hashable {
  /// By the name that the checkpoint has for it.
  package let tensor: String
  /// Where the tensor's first dimension counts experts: which of them.
  package let index: Int?
  /// The shape of what lies here: `[rows, columns]` of a weight, `[rows]` of a bias.
  package let shape: [Int]
  /// The first number, counted from the first of the tensor, or of that expert.
  package let start: Int
  /// From a number to the one in the next row.
  package let rowStride: Int
  /// From a number to the one in the next column.
  package let columnStride: Int
  /// Set for a weight that is stored as codes in blocks of 32: the tensor with their scales, which has the same experts.
  package let scales: String?

  package init(
    tensor: String, index: Int?, shape: [Int], start: Int, rowStride: Int, columnStride: Int,
    scales: String? = nil
  ) {
    self.tensor = tensor
    self.index = index
    self.shape = shape
    self.start = start
    self.rowStride = rowStride
    self.columnStride = columnStride
    self.scales = scales
  }

  /// The tensor, or the slice of it for one expert.
  package var piece: String { index.map { Self.piece($0, of: tensor) } ?? tensor }

  /// The tensor with the scales, or the slice of it for one expert.
  package var scalesPiece: String? {
    scales.map { scales in index.map { Self.piece($0, of: scales) } ?? scales }
  }

  /// Everything that it is read from.
  package var tensors: [String] { [tensor] + (scales.map { [$0] } ?? []) }

  /// What the slice of a tensor for one expert is called.
  package static func piece(_ index: Int, of tensor: String) -> String { "\(tensor)[\(index)]" }

  package var rows: Int { shape[0] }
  package var columns: Int { shape.count > 1 ? shape[1] : 1 }

  /// Whether the numbers of a row lie side by side.
  package var isByRows: Bool { columnStride == 1 || columns == 1 }

  /// Whether the numbers lie one after the other, as in a tensor of their own.
  package var isInOnePiece: Bool { isByRows && extent.count == rows * columns }

  /// From the first number to the last, counted as `start`: what lies between them may be others'.
  package var extent: Range<Int> { start..<start + span(rows: rows) }

  /// From the first number of some rows that follow each other to their last.
  package func span(rows count: Int) -> Int {
    count == 0 || columns == 0
      ? 0 : (count - 1) * rowStride + (columns - 1) * columnStride + 1
  }
}

extension StoredPlace {
  /// Bytes that are mapped where all of some places are read: what lies between the numbers of one may be another's, and
  /// is there once.
  ///
  /// - Parameter places: each with the bytes of a number there.
  package static func mappedBytes(_ places: [(place: StoredPlace, width: Int)]) -> Int {
    Dictionary(grouping: places, by: \.place.piece).values.reduce(0) { sum, places in
      let extents = places.map(\.place.extent).sorted { $0.lowerBound < $1.lowerBound }
      var (count, end) = (0, 0)
      for extent in extents {
        count += max(0, extent.upperBound - max(end, extent.lowerBound))
        end = max(end, extent.upperBound)
      }
      return sum + count * places[0].width
    }
  }
}
