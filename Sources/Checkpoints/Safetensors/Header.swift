// Parse and validate the header: offsets, overlaps, holes, overflow.

import JSON
package import Tensors

/// One tensor as a header describes it.
package struct TensorRecord: Sendable, Equatable {
  package let name: String
  package let dtype: DType
  package let shape: [Int]
  /// Bytes from the start of the file.
  package let range: Range<Int>

  package init(name: String, dtype: DType, shape: [Int], range: Range<Int>) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.range = range
  }
}

/// The validated header of a safetensors file.
///
/// A header is untrusted input. One that parses holds tensors that lie in the file, have the size
/// their dtype and shape ask for, and together cover the data without overlap or hole.
///
/// Source: safetensors, README.md ("Format") and `safetensors/src/tensor.rs`
/// (`Metadata::validate`).
package struct Header: Sendable {
  /// In offset order.
  package let tensors: [TensorRecord]
  package let metadata: [(String, String)]

  /// The limit of the reference implementation, too.
  package static let maximumBytes = 100_000_000
  /// What reading a header or an index may take where no budget is named.
  package static let standardRoom = 256 << 20

  /// - Parameters:
  ///   - bytes: the whole file, or at least its header.
  ///   - path: for messages.
  ///   - room: bytes of memory that reading it may take, its pages included.
  @unsafe
  package static func parse(
    bytes: UnsafeRawBufferPointer, fileByteCount: Int, path: String, room: Int = standardRoom
  ) throws(SafetensorsError) -> Header {
    guard fileByteCount >= 8 else {
      throw .fileTooShort(file: path, bytes: fileByteCount)
    }
    precondition(bytes.count >= 8, "the caller passed less than the header")
    let length = unsafe UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard length <= maximumBytes else {
      throw .headerTooLong(file: path, bytes: length, limit: maximumBytes)
    }
    let dataStart = 8 + Int(length)
    guard dataStart <= fileByteCount else {
      throw .headerBeyondFile(file: path, headerBytes: Int(length), fileBytes: fileByteCount)
    }
    guard length <= room / 2 else { throw .takesTooMuch(file: path, part: "header", room: room) }
    precondition(bytes.count >= dataStart, "the caller passed less than the header")
    let text = unsafe UnsafeRawBufferPointer(rebasing: bytes[8..<dataStart])
    let firstByte = unsafe text.first
    guard firstByte == UInt8(ascii: "{") else {
      throw .headerNotAnObject(file: path, firstByte: firstByte)
    }
    let json: JSONValue
    do {
      json = try unsafe JSONValue.parse(text, limit: room - Int(length))
    } catch {
      if error.isTooLarge { throw .takesTooMuch(file: path, part: "header", room: room) }
      if let key = error.duplicateKey { throw .duplicateName(file: path, tensor: key) }
      throw .invalidJSON(file: path, error)
    }
    guard let object = json.object else { preconditionFailure("`{` starts an object") }
    let reader = EntryReader(file: path, dataStart: dataStart, fileByteCount: fileByteCount)
    return try reader.header(object)
  }
}

/// Header entries to records; every rule about one tensor and about all of them together.
private struct EntryReader {
  /// Far more than any tensor has, and little enough that sizes can be added: a dimension beside a 0 may be anything.
  private static let mostDimensions = 64
  private static let largestDimension = 1 << 48

  let file: String
  let dataStart: Int
  let fileByteCount: Int

  func header(_ object: JSONObject) throws(SafetensorsError) -> Header {
    var metadata: [(String, String)] = []
    var tensors: [TensorRecord] = []
    var names: Set<String> = []
    tensors.reserveCapacity(object.count)
    names.reserveCapacity(object.count)
    for (name, value) in object.entries {
      if name == "__metadata__" {
        metadata = try self.metadata(value)
      } else {
        // JSON tells keys apart by bytes; two spellings of one accented name get this far.
        guard names.insert(name).inserted else {
          throw .duplicateName(file: file, tensor: name)
        }
        tensors.append(try record(name, value))
      }
    }
    // Empty tensors come before the one that starts where they do.
    tensors.sort {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    try checkCover(tensors)
    return Header(tensors: tensors, metadata: metadata)
  }

  private func metadata(_ value: JSONValue) throws(SafetensorsError) -> [(String, String)] {
    guard let object = value.object else {
      throw .invalidMetadata(file: file, key: nil, found: value.kind)
    }
    var metadata: [(String, String)] = []
    for (key, value) in object.entries {
      guard let text = value.string else {
        throw .invalidMetadata(file: file, key: key, found: value.kind)
      }
      metadata.append((key, text))
    }
    return metadata
  }

  private func record(
    _ name: String, _ value: JSONValue
  ) throws(SafetensorsError) -> TensorRecord {
    guard let entry = value.object else {
      throw .entryNotAnObject(file: file, tensor: name, found: value.kind)
    }
    var fields: (dtype: JSONValue?, shape: JSONValue?, offsets: JSONValue?)
    for (key, value) in entry.entries {
      switch key {
      case "dtype": fields.dtype = value
      case "shape": fields.shape = value
      case "data_offsets": fields.offsets = value
      default: throw .unknownKey(file: file, tensor: name, key: key)
      }
    }
    guard let dtypeValue = fields.dtype else {
      throw .missingKey(file: file, tensor: name, key: "dtype")
    }
    guard let shapeValue = fields.shape else {
      throw .missingKey(file: file, tensor: name, key: "shape")
    }
    guard let offsetsValue = fields.offsets else {
      throw .missingKey(file: file, tensor: name, key: "data_offsets")
    }
    guard let dtype = dtypeValue.string.flatMap(DType.init(rawValue:)) else {
      throw .unknownDType(file: file, tensor: name, found: dtypeValue.shortText)
    }
    guard let shape = Self.naturals(shapeValue) else {
      let count = shapeValue.array?.count ?? 0
      throw .invalidShape(
        file: file, tensor: name,
        found: count > Self.mostDimensions ? "\(count) values" : shapeValue.shortText)
    }
    guard let offsets = Self.naturals(offsetsValue), offsets.count == 2 else {
      throw .invalidOffsets(file: file, tensor: name, found: offsetsValue.shortText)
    }
    let (begin, end) = (offsets[0], offsets[1])
    guard begin <= end else {
      throw .reversedOffsets(file: file, tensor: name, begin: begin, end: end)
    }
    let dataBytes = fileByteCount - dataStart
    guard end <= dataBytes else {
      throw .offsetsBeyondData(file: file, tensor: name, end: end, dataBytes: dataBytes)
    }
    guard let expected = byteCount(dtype, shape) else {
      throw .sizeOverflow(file: file, tensor: name, dtype: dtype, shape: shape)
    }
    guard shape.allSatisfy({ $0 <= Self.largestDimension }) else {
      throw .invalidShape(file: file, tensor: name, found: shapeValue.shortText)
    }
    guard end - begin == expected else {
      throw .sizeMismatch(
        file: file, tensor: name, dtype: dtype, shape: shape, expected: expected,
        found: end - begin)
    }
    return TensorRecord(
      name: name, dtype: dtype, shape: shape, range: dataStart + begin..<dataStart + end)
  }

  private static func naturals(_ value: JSONValue) -> [Int]? {
    guard let elements = value.array, elements.count <= mostDimensions else { return nil }
    var naturals: [Int] = []
    for element in elements {
      guard let natural = element.int, natural >= 0 else { return nil }
      naturals.append(natural)
    }
    return naturals
  }

  /// - Parameter tensors: in offset order.
  private func checkCover(_ tensors: [TensorRecord]) throws(SafetensorsError) {
    var end = dataStart
    var previous = ""
    for tensor in tensors {
      let start = tensor.range.lowerBound
      if start < end {
        throw .overlap(
          file: file, tensor: tensor.name, other: previous,
          bytes: min(end, tensor.range.upperBound) - start)
      }
      if start > end {
        throw .hole(
          file: file, tensor: tensor.name, offset: end - dataStart, bytes: start - end)
      }
      end = tensor.range.upperBound
      previous = tensor.name
    }
    if end < fileByteCount {
      throw .trailingBytes(file: file, bytes: fileByteCount - end)
    }
  }
}
