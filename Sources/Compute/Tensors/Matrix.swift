// An owned, 64-byte-aligned float32 [rows, columns] buffer.

internal import CKernels

/// A row-major float32 matrix, freed with its last reference.
///
/// A class, so that one buffer can be filled by several threads and kept in arrays. The invariant that makes it
/// `Sendable`: tasks that run at the same time write disjoint rows or columns, and nobody reads what is being
/// written.
@safe package final class Matrix: @unchecked Sendable {
  package let rows: Int
  package let columns: Int
  /// `rows * columns` floats; valid as long as the matrix lives.
  package let base: UnsafeMutablePointer<Float>
  private let buffer: Buffer

  /// A matrix whose contents are undefined until written.
  ///
  /// - Parameters:
  ///   - name: what the budget calls it.
  ///   - budget: of the run; the default one has no limit.
  ///   - ledger: where it is written down.
  package init(
    _ name: String = "matrix", rows: Int, columns: Int,
    from budget: MemoryBudget = Matrix.unlimited, in ledger: Ledger? = nil
  ) {
    precondition(rows >= 0 && columns >= 0, "a matrix of \(rows) x \(columns)")
    self.rows = rows
    self.columns = columns
    let count = rows * columns
    buffer = Buffer(
      name, byteCount: count * MemoryLayout<Float>.stride, from: budget, in: ledger)
    // A matrix of shapes alone has no address; who reads it ends the process.
    unsafe base =
      buffer.bytes.baseAddress?.bindMemory(to: Float.self, capacity: count)
      ?? UnsafeMutablePointer(bitPattern: MemoryLayout<Float>.stride)!
  }

  /// For matrices outside a run.
  package static let unlimited = MemoryBudget()

  package convenience init(zeros rows: Int, _ columns: Int) {
    self.init(rows: rows, columns: columns)
    fill(0)
  }

  package convenience init(rows: Int, columns: Int, values: [Float]) {
    precondition(values.count == rows * columns, "\(values.count) values for \(rows) x \(columns)")
    self.init(rows: rows, columns: columns)
    for (index, value) in values.enumerated() { unsafe base[index] = value }
  }

  package var count: Int { rows * columns }

  package func row(_ index: Int) -> UnsafeMutablePointer<Float> {
    precondition(index >= 0 && index < rows, "row \(index) of \(rows)")
    return unsafe base + index * columns
  }

  package func fill(_ value: Float) {
    unsafe base.update(repeating: value, count: count)
  }

  /// The first `count` rows, copied.
  package func prefix(_ count: Int) -> Matrix {
    let result = Matrix(rows: count, columns: columns)
    unsafe result.base.update(from: base, count: count * columns)
    return result
  }

  /// The place of the first NaN or infinity, row by row.
  package var firstNonFinite: Int? {
    let index = unsafe sluice_first_nonfinite(base, count)
    return index < count ? index : nil
  }

  /// The bytes of the values stored in a weight type, row by row.
  package func encoded(as dtype: DType) -> [UInt8] {
    unsafe [UInt8](unsafeUninitializedCapacity: count * dtype.byteWidth) { bytes, initialized in
      if let start = bytes.baseAddress {
        unsafe dtype.encode(base, count: count, into: UnsafeMutableRawPointer(start))
      }
      initialized = count * dtype.byteWidth
    }
  }

  /// The values, row by row.
  package var values: [Float] { unsafe Array(UnsafeBufferPointer(start: base, count: count)) }
}
