// A file's bytes from front to back, unpacked where the file is packed, a window at a time.

internal import SystemIO

/// A growing window over the bytes of a file. The reader moves `position` and asks for `more`; then the bytes before
/// `position` are forgotten, and their pages are given back.
final class ByteStream {
  private static let step = 1 << 20

  let path: String
  let room: Room
  private(set) var buffer: [UInt8] = []
  /// Index in `buffer` of the next byte to read.
  var position = 0

  private let file: MappedFile
  private let unpacking: (any UnpackingStream)?
  private var offset = 0
  private var unpacked: [UInt8] = []

  init(_ file: DatasetFile, _ room: Room) throws(DatasetError) {
    path = file.name
    self.room = room
    do {
      self.file = try MappedFile(path: file.path)
    } catch {
      throw .unreadable(error)
    }
    do {
      unpacking = try file.packing.makeStream(windowLog: room.windowLog)
    } catch {
      throw .damaged(file: file.name, place: "byte 0", problem: error.problem)
    }
    let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
    while buffer.count < mark.count {
      guard try more() else { break }
    }
    if buffer.starts(with: mark) { position = mark.count }
  }

  /// Reads on behind the end of `buffer`; false, changing nothing but `position`, at the end of the file.
  func more() throws(DatasetError) -> Bool {
    if position > 0 {
      buffer.removeSubrange(..<position)
      position = 0
    }
    guard let unpacking else { return readPlain() }
    while try unpack(unpacking) {
      if !unpacked.isEmpty {
        buffer += unpacked
        return true
      }
    }
    return false
  }

  /// Looks at the bytes of `buffer` where they stand.
  func withBytes<R>(_ body: (Span<UInt8>) -> R) -> R {
    // A second reference, since the property could change meanwhile. It is gone before the next change, so nothing is copied.
    let bytes = buffer
    return body(bytes.span)
  }

  private func readPlain() -> Bool {
    let range = offset..<min(offset + Self.step, file.byteCount)
    if range.isEmpty { return false }
    unsafe file.withBytes { bytes in
      unsafe buffer.append(contentsOf: bytes[range])
    }
    file.release(range)
    offset = range.upperBound
    return true
  }

  /// One step of the decompressor into `unpacked`; false at the end of the file.
  private func unpack(_ stream: any UnpackingStream) throws(DatasetError) -> Bool {
    let range = offset..<min(offset + Self.step, file.byteCount)
    let result = unsafe file.withBytes { bytes -> Result<Int, PackingError> in
      do throws(PackingError) {
        let source = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
        var step: (consumed: Int, produced: Int)?
        var failure: PackingError?
        unpacked = unsafe [UInt8](unsafeUninitializedCapacity: Self.step) { target, count in
          do throws(PackingError) {
            step = try unsafe stream.unpack(source, into: UnsafeMutableRawBufferPointer(target))
          } catch {
            failure = error
          }
          count = step?.produced ?? 0
        }
        if let failure { throw failure }
        return .success(step?.consumed ?? 0)
      } catch {
        return .failure(error)
      }
    }
    switch result {
    case .failure(let error):
      let place = "packed byte \(offset)"
      if error.isTooLarge {
        throw .unsupported(
          file: path, what: place,
          expected: "a window of at most \(1 << (room.windowLog - 20)) MiB",
          found: "a larger one", wayOut: "raise --memory, or pack it again without `--long`")
      }
      throw .damaged(file: path, place: place, problem: error.problem)
    case .success(let consumed):
      file.release(offset..<offset + consumed)
      offset += consumed
      if consumed > 0 || !unpacked.isEmpty { return true }
      if !range.isEmpty || !(stream.isComplete || file.byteCount == 0) {
        throw .damaged(file: path, place: "packed byte \(offset)", problem: "ends too early")
      }
      return false
    }
  }
}
