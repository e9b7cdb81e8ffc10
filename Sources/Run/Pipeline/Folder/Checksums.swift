// checksums.txt: the CRC-32 of every tensor that was written, to be held against what the disk gives back.

internal import CompressedTensors
internal import LinearAlgebra
internal import Planning
internal import Safetensors
internal import SystemIO
internal import Tensors

/// A tensor that does not read as it was written.
package struct TensorChanged: Error, CustomStringConvertible, Equatable {
  package let file: String
  package let tensor: String
  package let written: String
  package let found: String

  package var description: String {
    "\(file): `\(tensor)` has the checksum \(found), written was \(written); something else wrote "
      + "there, or the disk is failing: check it, and \(startOverText)"
  }
}

/// CRC-32 in hexadecimal and name, a line for each tensor.
struct Checksums {
  /// Slices of one text: a large model has hundreds of thousands.
  private(set) var entries: [(tensor: Substring, checksum: Substring)] = []
  /// Lines, from 1, that are something else.
  private(set) var malformed: [Int] = []

  init(lines: [UInt8]) {
    for (number, line) in String(decoding: lines, as: UTF8.self).split(separator: "\n").enumerated()
    {
      let parts = line.split(separator: " ", maxSplits: 1)
      if parts.count == 2 {
        entries.append((parts[1], parts[0]))
      } else {
        malformed.append(number + 1)
      }
    }
  }

  static func line(_ tensor: String, _ checksum: Checksum) -> String {
    "\(checksum.text) \(tensor)"
  }

  /// - Returns: the first tensor that is not as it was written.
  func firstChange(
    backend: Backend, find: @Sendable (String) -> StoredTensor?
  ) -> TensorChanged? {
    changes(backend: backend, find: find).first
  }

  /// Reads every listed tensor that `find` knows.
  ///
  /// - Parameter progress: sees how many more were read.
  /// - Returns: those that are not as they were written.
  func changes(
    backend: Backend, progress: (Int) -> Void = { _ in },
    find: @Sendable (String) -> StoredTensor?
  ) -> [TensorChanged] {
    ranges(of: entries.count, by: 256).flatMap { part in
      defer { progress(part.count) }
      return changes(in: entries[part], backend, find)
    }
  }

  private func changes(
    in entries: ArraySlice<(tensor: Substring, checksum: Substring)>, _ backend: Backend,
    _ find: @Sendable (String) -> StoredTensor?
  ) -> [TensorChanged] {
    let changes = backend.map(entries.count) { index -> TensorChanged? in
      let (name, written) = entries[entries.startIndex + index]
      guard let tensor = find(String(name)) else { return nil }
      let checksum = tensor.checksum()
      return checksum.text == written
        ? nil
        : TensorChanged(
          file: tensor.file.path, tensor: tensor.name, written: String(written),
          found: checksum.text)
    }
    return changes.compactMap { $0 }
  }
}

extension StoredTensor {
  /// Reads all of it, a window at a time, and lets it go.
  ///
  /// - Parameter body: sees each window, and where it begins.
  func checksum(_ body: (Int, UnsafeRawBufferPointer) -> Void) -> Checksum {
    var checksum = Checksum()
    for window in ranges(of: byteCount, by: Windows.checkedBytes) {
      unsafe withBytes { bytes in
        let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[window])
        unsafe checksum.add(part)
        unsafe body(window.lowerBound, part)
      }
      release(bytes: window)
    }
    release()
    return checksum
  }

  func checksum() -> Checksum { unsafe checksum { _, _ in } }

  /// The checksum of what the file holds now, without mapping it.
  ///
  /// - Throws: `SafetensorsError.cut` where the file was cut since it was opened.
  func checksumOfFile() throws(SafetensorsError) -> Checksum {
    let window = CheckpointWeights.releasedTile
    let buffer = Buffer(
      "a window", byteCount: min(window, max(1, byteCount)), from: Matrix.unlimited)
    var checksum = Checksum()
    for part in ranges(of: byteCount, by: window) {
      try unsafe read(bytes: part, into: buffer.bytes)
      unsafe checksum.add(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<part.count]))
    }
    return checksum
  }
}
