// pwrite each finished tensor at its planned offset.

import Synchronization
package import SystemIO
internal import Tensors

/// A number that is NaN or infinite, and was to be written.
package struct NonFiniteOutput: Error, CustomStringConvertible, Equatable {
  package let tensor: String
  /// Counted from the tensor's first.
  package let element: Int

  package init(tensor: String, element: Int) {
    self.tensor = tensor
    self.element = element
  }

  package var description: String { "`\(tensor)`: element \(element) would be NaN or infinite" }
}

/// Writes the tensors of a layout into the files of a folder, in any order. No NaN and no infinity gets there.
///
/// Different tensors, and different parts of one, may be written at the same time. Writing the same
/// bytes again changes nothing, so a resumed run just repeats what it is not sure of.
package final class ShardWriter: Sendable {
  package let layout: ShardLayout

  private let files: [OutputFile]
  /// Shards with bytes that may not be on the disk yet.
  private let unsynchronized: Mutex<Set<Int>>
  /// Checksums of the parts of a tensor that were written so far, by offset.
  private let parts = Mutex<[String: [Int: Checksum]]>([:])

  /// - Parameter resume: false to create the files and write their headers; true to go on with the
  ///   files of an earlier run, which must have the sizes and headers of this layout.
  package init(layout: ShardLayout, folder: String, resume: Bool) throws(SafetensorsError) {
    var files: [OutputFile] = []
    for shard in layout.shards {
      let path = "\(folder)/\(shard.fileName)"
      if resume { try Self.checkWritten(shard, path) }
      let file = try withSystemErrors { () throws(SystemError) in
        try resume
          ? OutputFile(opening: path, byteCount: shard.byteCount) : Self.create(shard, path)
      }
      files.append(file)
    }
    if !resume { try withSystemErrors { () throws(SystemError) in try synchronizeFolder(folder) } }
    self.layout = layout
    self.files = files
    unsynchronized = Mutex(resume ? [] : Set(files.indices))
  }

  /// - Parameters:
  ///   - name: a tensor of the layout.
  ///   - byteOffset: from the tensor's first byte.
  /// - Throws: `NonFiniteOutput`, `SafetensorsError`.
  package func write(
    _ bytes: UnsafeRawBufferPointer, to name: String, at byteOffset: Int = 0
  ) throws {
    guard let place = layout.location(of: name) else {
      preconditionFailure("`\(name)` is not in the layout")
    }
    precondition(
      byteOffset >= 0 && bytes.count <= place.spec.byteCount
        && byteOffset <= place.spec.byteCount - bytes.count,
      "write beyond the end of `\(name)`")
    // Before the system call: it would blame the output for a page of the source that cannot be read.
    let checksum = unsafe Checksum(bytes)
    if let bad = unsafe place.spec.dtype.firstNonFinite(bytes) {
      throw NonFiniteOutput(tensor: name, element: byteOffset / place.spec.dtype.byteWidth + bad)
    }
    try withSystemErrors { () throws(SystemError) in
      try unsafe files[place.shard].write(bytes, at: place.offset + byteOffset)
    }
    // Only now: marked before the write, a synchronize in between would take the mark without the
    // bytes.
    unsynchronized.withLock { _ = $0.insert(place.shard) }
    parts.withLock { $0[name, default: [:]][byteOffset] = checksum }
  }

  /// The checksums of the tensors that were written whole since the last call, by name.
  ///
  /// - Parameter isAsked: for each of their names; what is not asked for stays for another call.
  package func takeChecksums(
    where isAsked: (String) -> Bool = { _ in true }
  ) -> [(tensor: String, checksum: Checksum)] {
    parts.withLock { parts in
      let whole = parts.filter { name, parts in
        isAsked(name)
          && parts.values.reduce(0) { $0 + $1.byteCount }
            == layout.location(of: name)?.spec.byteCount
      }
      for name in whole.keys { parts[name] = nil }
      return whole.sorted { $0.key < $1.key }.map { name, parts in
        let ordered = parts.sorted { $0.key < $1.key }.map(\.value)
        return (name, ordered.reduce(Checksum()) { $0.followed(by: $1) })
      }
    }
  }

  /// Returns when everything written before is on the disk; touches only files written since the
  /// last call.
  package func synchronize() throws(SafetensorsError) {
    let shards = unsynchronized.withLock { shards in
      defer { shards = [] }
      return shards.sorted()
    }
    for shard in shards {
      try withSystemErrors { () throws(SystemError) in try files[shard].synchronize() }
    }
  }

  private static func create(
    _ shard: ShardLayout.Shard, _ path: String
  ) throws(SystemError) -> OutputFile {
    let file = try OutputFile(creating: path, byteCount: shard.byteCount)
    try unsafe shard.header.span.bytes.withUnsafeBytes { header throws(SystemError) in
      try unsafe file.write(header, at: 0)
    }
    return file
  }

  private static func checkWritten(
    _ shard: ShardLayout.Shard, _ path: String
  ) throws(SafetensorsError) {
    let file = try withSystemErrors { () throws(SystemError) in try MappedFile(path: path) }
    guard file.byteCount == shard.byteCount else {
      throw .shardSizeDiffers(file: path, expected: shard.byteCount, found: file.byteCount)
    }
    let isSame = unsafe file.withBytes { unsafe $0.starts(with: shard.header) }
    guard isSame else { throw .shardHeaderDiffers(file: path) }
  }
}
