// A parameter of a model where a checkpoint holds it, and the rows of one whose numbers lie apart.

internal import CKernels
internal import LinearAlgebra
internal import Models
package import Safetensors
package import SystemIO
package import Tensors

/// A weight, a bias or any other tensor of a model, by its name in the model: all of a stored tensor, or its share of one.
package struct StoredParameter: Sendable {
  package let name: String
  package let shape: [Int]
  /// The bytes from its first number to its last; others may lie between them.
  package let extent: StoredTensor
  /// The stored tensor that holds it, or the slice of one for an expert: what a checksum is kept of.
  package let piece: StoredTensor
  /// nil for all of a stored tensor.
  private let place: StoredPlace?
  /// Where it is a weight that is stored as codes.
  let coded: CodedParameter?

  /// A stored tensor by itself.
  init(_ tensor: StoredTensor) {
    name = tensor.name
    shape = tensor.shape
    extent = tensor
    piece = tensor
    place = nil
    coded = nil
  }

  /// A weight that is stored as codes.
  init(_ name: String, _ coded: CodedParameter) {
    self.name = name
    shape = coded.shape
    extent = coded.pieces[0]
    piece = coded.pieces[0]
    place = nil
    self.coded = coded
  }

  /// - Parameter piece: what `place` names.
  init(_ name: String, at place: StoredPlace, in piece: StoredTensor) {
    self.name = name
    shape = place.shape
    self.piece = piece
    self.place = place
    coded = nil
    extent = piece.part(
      place.extent, named: name, shape: place.isInOnePiece ? shape : [place.extent.count])
  }

  /// Of a weight that is stored as codes: what it is where it is written without them.
  package var dtype: DType { coded?.dtype ?? piece.dtype }
  /// Whether a scheme says what its numbers are made of.
  package var isCoded: Bool { coded != nil }
  package var file: MappedFile { piece.file }

  /// Bytes of its own numbers.
  package var byteCount: Int { coded?.bytes ?? shape.reduce(dtype.byteWidth, *) }

  /// The parameter as a tensor by itself; nil where its numbers lie apart.
  package var tensor: StoredTensor? { coded == nil && extent.shape == shape ? extent : nil }

  /// Where a number of a weight lies in what is stored.
  package func origin(row: Int, column: Int) -> (tensor: StoredTensor, row: Int, column: Int) {
    guard let place else { return (piece, row, column) }
    let offset = place.start + row * place.rowStride + column * place.columnStride
    let width = max(1, piece.shape.last ?? 1)
    return (piece, offset / width, offset % width)
  }

  /// Where a number of a vector lies in what is stored, of which it is row 0.
  func origin(element: Int) -> (tensor: StoredTensor, row: Int, column: Int) {
    (piece, 0, place.map { $0.start + element * $0.rowStride } ?? element)
  }

  /// Its numbers as a weight; nil where it is a tensor by itself.
  func scatteredRows(isHeld: Bool) -> ScatteredWeight? {
    guard tensor == nil, let place else { return nil }
    return ScatteredWeight(extent, place, isHeld: isHeld)
  }

  /// The numbers of a norm or a bias.
  func vector() -> [Float] {
    let count = shape.reduce(1, *)
    return unsafe [Float](unsafeUninitializedCapacity: count) { result, initialized in
      if let to = result.baseAddress {
        if let rows = scatteredRows(isHeld: true) {
          unsafe rows.decode(0..<rows.rows, into: to)
        } else {
          unsafe extent.withBytes { bytes in
            if let from = bytes.baseAddress {
              unsafe dtype.decode(from, count: count, into: to)
            }
          }
        }
      }
      initialized = count
    }
  }
}

/// What a weight that is stored as codes is made of.
struct CodedParameter: Sendable {
  let codec: any WeightCodec
  let shape: [Int]
  let dtype: DType
  /// Every tensor of it, codes first.
  let pieces: [StoredTensor]

  /// Of all that a product reads.
  var bytes: Int { codec.pages.bytes }
  /// Of the codes of a row.
  var rowBytes: Int { codec.pages.rowBytes }

  var rows: any WeightRows {
    let named = Dictionary(uniqueKeysWithValues: pieces.map { ($0.name, $0) })
    guard let rows = codec.decode({ named[$0] }) else {
      preconditionFailure("\(pieces[0].name) was not checked when the checkpoint was opened")
    }
    return rows
  }
}

/// A mapped bf16, f16 or f32 weight whose numbers do not lie one after the other: others' rows are between its own, or
/// its columns are what is stored as rows.
struct ScatteredWeight: WeightRows {
  private let extent: StoredTensor
  private let place: StoredPlace
  /// Whether what was decoded stays mapped, for the next time.
  private let isHeld: Bool

  fileprivate init(_ extent: StoredTensor, _ place: StoredPlace, isHeld: Bool) {
    precondition(extent.dtype.isWeight, "\(extent.name) is no weight")
    self.extent = extent
    self.place = place
    self.isHeld = isHeld
  }

  var rows: Int { place.rows }
  var columns: Int { place.columns }

  func noteReading(_ count: Int, tileRows: Int, backend: Backend) {
    WeightPages(
      key: WeightPages.key(ofTensor: extent.name), bytes: extent.byteCount, rows: rows,
      tileBytes: { place.isByRows ? place.span(rows: $0) * extent.dtype.byteWidth : nil },
      isHeld: isHeld
    ).noteReading(count, tileRows: tileRows, backend: backend)
  }

  /// Rows and columns that are gathered at a time: they fit a core's first cache.
  private static let (gatheredRows, gatheredColumns) = (32, 256)

  func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    let dtype = extent.dtype
    if place.isByRows {
      unsafe extent.withBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        for (index, row) in range.enumerated() {
          unsafe dtype.decode(
            base + row * place.rowStride * dtype.byteWidth, count: columns,
            into: result + index * columns)
        }
      }
    } else {
      let most = Self.gatheredRows * Self.gatheredColumns * dtype.byteWidth
      unsafe withUnsafeTemporaryAllocation(byteCount: most, alignment: 64) { tile in
        guard let tile = tile.baseAddress else { return }
        for rows in ranges(of: range.count, by: Self.gatheredRows) {
          for part in ranges(of: columns, by: Self.gatheredColumns) {
            let first = range.lowerBound + rows.lowerBound
            unsafe gather(first..<first + rows.count, columns: part, into: tile)
            for (index, row) in rows.enumerated() {
              unsafe dtype.decode(
                tile + index * part.count * dtype.byteWidth, count: part.count,
                into: result + row * columns + part.lowerBound)
            }
          }
        }
      }
    }
    letGo(range)
  }

  var isBF16: Bool { extent.dtype == .bf16 }

  func withBF16(
    _ range: Range<Int>, columns part: Range<Int>,
    _ body: (UnsafePointer<UInt16>, _ stride: Int) -> Void
  ) {
    precondition(isBF16, "\(extent.name) is \(extent.dtype)")
    if place.isByRows {
      unsafe extent.withBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        let first = range.lowerBound * place.rowStride + part.lowerBound
        unsafe body(
          (base + first * 2).assumingMemoryBound(to: UInt16.self), place.rowStride)
      }
    } else {
      unsafe withUnsafeTemporaryAllocation(
        of: UInt16.self, capacity: range.count * part.count
      ) { tile in
        guard let tile = tile.baseAddress else { return }
        unsafe gather(range, columns: part, into: tile)
        unsafe body(tile, part.count)
      }
    }
    if part.upperBound == columns { letGo(range) }
  }

  /// Elements of some rows and columns, as they are stored, row by row.
  private func gather(
    _ rows: Range<Int>, columns part: Range<Int>, into result: UnsafeMutableRawPointer
  ) {
    let width = extent.dtype.byteWidth
    unsafe extent.withBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      let first = rows.lowerBound * place.rowStride + part.lowerBound * place.columnStride
      unsafe sluice_gather(
        base + first * width, width, rows.count, part.count, place.rowStride, place.columnStride,
        result)
    }
  }

  /// Lets go of rows that were just read. What every row spans stays until its Linear is released: each tile would map
  /// all of it again.
  private func letGo(_ range: Range<Int>) {
    if isHeld || !place.isByRows || range.isEmpty { return }
    let width = extent.dtype.byteWidth
    let start = range.lowerBound * place.rowStride * width
    extent.releaseTile(bytes: start..<start + place.span(rows: range.count) * width)
  }
}
