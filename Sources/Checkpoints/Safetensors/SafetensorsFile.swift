// One mapped file and its named tensors.

package import SystemIO
package import Tensors

/// A tensor in a mapped file: where it lies and what it is. Holding one keeps the file mapped.
package struct StoredTensor: Sendable {
  package let file: MappedFile
  package let name: String
  package let dtype: DType
  package let shape: [Int]
  /// Bytes from the start of the file.
  package let range: Range<Int>

  package var byteCount: Int { range.count }

  /// Some of the tensor's elements, which lie side by side, as a tensor by itself.
  package func part(_ elements: Range<Int>, named name: String, shape: [Int]) -> StoredTensor {
    let width = dtype.byteWidth
    precondition(
      elements.count == shape.reduce(1, *) && elements.lowerBound >= 0
        && elements.upperBound * width <= byteCount, "`\(name)` is no part of `\(self.name)`")
    let start = range.lowerBound
    return StoredTensor(
      file: file, name: name, dtype: dtype, shape: shape,
      range: start + elements.lowerBound * width..<start + elements.upperBound * width)
  }

  /// The tensor cut along its first dimension.
  fileprivate func slices(called naming: (Int, String) -> String) -> [StoredTensor] {
    let shape = Array(self.shape.dropFirst())
    let count = shape.reduce(1, *)
    return (0..<(self.shape.first ?? 0)).map {
      part($0 * count..<($0 + 1) * count, named: naming($0, name), shape: shape)
    }
  }

  /// - Parameter body: sees the tensor's bytes, row-major and little-endian, at any alignment; it
  ///   must not let the pointer escape.
  package func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try unsafe file.withBytes { bytes in
      try unsafe body(UnsafeRawBufferPointer(rebasing: bytes[range]))
    }
  }

  /// Reads part of the tensor, counted from its first byte, without mapping it.
  ///
  /// - Throws: `SafetensorsError.cut` where the file was cut since it was opened.
  package func read(
    bytes: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(SafetensorsError) {
    precondition(bytes.lowerBound >= 0 && bytes.upperBound <= byteCount, "range beyond the tensor")
    let place = range.lowerBound + bytes.lowerBound..<range.lowerBound + bytes.upperBound
    let found: Int? = try withSystemErrors { () throws(SystemError) in
      try unsafe file.read(place, into: buffer) ? nil : FileSystem.fileSize(file.path)
    }
    if let found { throw .cut(file: file.path, expected: file.byteCount, found: found) }
  }

  /// Where the bytes of this tensor and of another of its size begin to differ; nil where they are the same. Reads
  /// both, and maps neither.
  package func firstDifference(from other: StoredTensor) throws(SafetensorsError) -> Int? {
    precondition(byteCount == other.byteCount, "tensors of two sizes")
    let window = min(max(byteCount, 1), 1 << 20)
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * window, alignment: 64)
    defer { unsafe memory.deallocate() }
    for start in stride(from: 0, to: byteCount, by: window) {
      let part = start..<min(start + window, byteCount)
      let own = unsafe UnsafeMutableRawBufferPointer(rebasing: memory[..<part.count])
      let others = unsafe UnsafeMutableRawBufferPointer(
        rebasing: memory[window..<window + part.count])
      try unsafe read(bytes: part, into: own)
      try unsafe other.read(bytes: part, into: others)
      if let first = part.first(where: { unsafe own[$0 - start] != others[$0 - start] }) {
        return first
      }
    }
    return nil
  }

  /// Gives back the memory of the tensor's pages; they may stay in the page cache.
  package func release() {
    file.release(range)
    // Its neighbours' edges came with it, and nobody else knows of them.
    file.releaseAround(range)
  }

  /// Gives back the memory of part of the tensor, counted from its first byte.
  package func release(bytes: Range<Int>) {
    precondition(bytes.lowerBound >= 0 && bytes.upperBound <= byteCount, "range beyond the tensor")
    file.release(range.lowerBound + bytes.lowerBound..<range.lowerBound + bytes.upperBound)
  }

  /// Gives back the memory of pages that were mapped with the tensor's and are not the tensor's.
  package func releaseAround() { file.releaseAround(range) }

  /// Gives back the memory and the page cache of the tensor's pages.
  package func discard() { file.discard(range) }
}

/// A mapped file whose header has been validated.
package final class SafetensorsFile: Sendable {
  package let path: String
  /// In offset order.
  package let tensors: [StoredTensor]
  package let metadata: [(String, String)]

  private let positions: [String: Int]

  /// - Parameter room: bytes of memory that reading the header may take.
  package init(path: String, room: Int = Header.standardRoom) throws(SafetensorsError) {
    let file = try withSystemErrors { () throws(SystemError) in try MappedFile(path: path) }
    let parsed = unsafe file.withBytes { bytes in
      Result { () throws(SafetensorsError) in
        try unsafe Header.parse(
          bytes: bytes, fileByteCount: file.byteCount, path: path, room: room)
      }
    }
    let header = try parsed.get()
    // Nobody looks at it again.
    file.release(0..<(header.tensors.first?.range.lowerBound ?? file.byteCount))
    self.path = path
    metadata = header.metadata
    tensors = header.tensors.map {
      StoredTensor(file: file, name: $0.name, dtype: $0.dtype, shape: $0.shape, range: $0.range)
    }
    positions = Self.positions(tensors)
  }

  /// `file` with other names for what it holds.
  private init(_ file: SafetensorsFile, _ tensors: [StoredTensor]) {
    path = file.path
    metadata = file.metadata
    self.tensors = tensors
    positions = Self.positions(tensors)
  }

  private static func positions(_ tensors: [StoredTensor]) -> [String: Int] {
    Dictionary(tensors.enumerated().map { ($1.name, $0) }) { first, _ in first }
  }

  /// A view of the file in which some tensors are cut along their first dimension.
  func cut(_ names: Set<String>, called naming: (Int, String) -> String) -> SafetensorsFile {
    if !tensors.contains(where: { names.contains($0.name) }) { return self }
    return SafetensorsFile(
      self, tensors.flatMap { names.contains($0.name) ? $0.slices(called: naming) : [$0] })
  }

  package subscript(name: String) -> StoredTensor? {
    positions[name].map { tensors[$0] }
  }
}
