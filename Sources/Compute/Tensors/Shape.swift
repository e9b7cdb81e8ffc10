// Dimensions with overflow-checked element and byte counts.

/// The number of elements of a tensor, or nil where the product leaves `Int` or a dimension is negative.
package func elementCount(_ shape: [Int]) -> Int? {
  var count = 1
  for dimension in shape {
    guard dimension >= 0 else { return nil }
    let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
    if overflow { return nil }
    count = product
  }
  return count
}

/// The number of bytes of a tensor, or nil where it leaves `Int`.
package func byteCount(_ dtype: DType, _ shape: [Int]) -> Int? {
  guard let count = elementCount(shape) else { return nil }
  let (bytes, overflow) = count.multipliedReportingOverflow(by: dtype.byteWidth)
  return overflow ? nil : bytes
}
