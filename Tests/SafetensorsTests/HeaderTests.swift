// Every way a header can be wrong, each with its own error, and what a right one says.

import JSON
import Safetensors
import SystemIO
import Tensors
import TestSupport
import Testing

@Suite struct HeaderTests {
  @Test func aValidHeaderIsReadInOffsetOrder() throws {
    let text =
      "{" + entry("b", "BF16", "[2,3]", "[4,16]") + ","
      + #""__metadata__":{"format":"pt","é":""},"#
      + entry("a", "F32", "[]", "[0,4]") + "," + entry("none", "I64", "[0,7]", "[16,16]") + "}  "
    let header = try parseHeader(fileBytes(text, data: 16))
    let start = 8 + text.utf8.count
    #expect(
      header.tensors == [
        TensorRecord(name: "a", dtype: .f32, shape: [], range: start..<start + 4),
        TensorRecord(name: "b", dtype: .bf16, shape: [2, 3], range: start + 4..<start + 16),
        TensorRecord(name: "none", dtype: .i64, shape: [0, 7], range: start + 16..<start + 16),
      ])
    #expect(header.metadata.map(\.0) == ["format", "é"])
    #expect(header.metadata.map(\.1) == ["pt", ""])
  }

  /// In a process of its own, whose memory is told from the start.
  @Test func aHeaderOfMillionsOfValuesStaysWithinItsRoom() async throws {
    try await withTemporaryFolder { folder in
      let path = "\(folder)/model.safetensors"
      let zeros = String(repeating: "0,", count: 10_000_000)
      let text = "{" + entry("x", "BF16", "[\(zeros)0]", "[0,0]") + "}"
      try replaceFile(path, with: fileBytes(text), durably: false)
      await #expect(processExitsWith: .success) { [path = path as String] in
        let before = ResidentMemory.current().residentBytes
        for room in [16 << 20, 64 << 20] {
          do throws(SafetensorsError) {
            _ = try SafetensorsFile(path: path, room: room)
            preconditionFailure("it is read")
          } catch {
            precondition(error == .takesTooMuch(file: path, part: "header", room: room))
          }
        }
        precondition(ResidentMemory.current().peakBytes - before < 64 << 20)
      }
    }
  }

  @Test func aShapeOfManyDimensionsIsNotRepeatedInTheError() {
    let text = "{" + entry("x", "BF16", "[\(String(repeating: "0,", count: 999))0]", "[0,0]") + "}"
    let error = SafetensorsError.invalidShape(file: "f", tensor: "x", found: "1000 values")
    #expect(throws: error) { try parseHeader(fileBytes(text)) }
  }

  @Test func aHeaderMayHoldNoTensors() throws {
    #expect(try parseHeader(fileBytes("{}")).tensors.isEmpty)
  }

  @Test func onlyTheHeaderNeedsToBeInMemory() throws {
    let bytes = fileBytes("{" + entry("a", "U8", "[100]", "[0,100]") + "}")
    let header = try unsafe bytes.withUnsafeBytes {
      try unsafe Header.parse(bytes: $0, fileByteCount: bytes.count + 100, path: "f")
    }
    #expect(header.tensors.count == 1)
  }

  @Test(arguments: DType.allCases)
  func everyDTypeIsReadAtItsWidth(dtype: DType) throws {
    let text = "{" + entry("a", dtype.rawValue, "[3]", "[0,\(3 * dtype.byteWidth)]") + "}"
    let header = try parseHeader(fileBytes(text, data: 3 * dtype.byteWidth))
    #expect(header.tensors.first?.dtype == dtype)
  }

  @Test func theSizesOfFileAndHeaderMustAgree() {
    let limit = Header.maximumBytes
    let cases: [([UInt8], SafetensorsError)] = [
      ([], .fileTooShort(file: "f", bytes: 0)),
      ([1, 2, 3, 4, 5, 6, 7], .fileTooShort(file: "f", bytes: 7)),
      ([1, 225, 245, 5, 0, 0, 0, 0], .headerTooLong(file: "f", bytes: 100_000_001, limit: limit)),
      (
        [UInt8](repeating: 255, count: 20),
        .headerTooLong(file: "f", bytes: .max, limit: limit)
      ),
      (
        [3, 0, 0, 0, 0, 0, 0, 0, 0x7B, 0x7D],
        .headerBeyondFile(file: "f", headerBytes: 3, fileBytes: 10)
      ),
      (
        [0, 225, 245, 5, 0, 0, 0, 0], .headerBeyondFile(file: "f", headerBytes: limit, fileBytes: 8)
      ),
      ([0, 0, 0, 0, 0, 0, 0, 0], .headerNotAnObject(file: "f", firstByte: nil)),
    ]
    for (bytes, error) in cases {
      #expect(throws: error) { try parseHeader(bytes) }
    }
  }

  @Test(
    arguments: [
      ("[]", .headerNotAnObject(file: "f", firstByte: 0x5B)),
      (" {}", .headerNotAnObject(file: "f", firstByte: 0x20)),
      ("{", .invalidJSON(file: "f", JSONError(offset: 1, problem: "expected a key in quotes"))),
      (
        "{}x",
        .invalidJSON(file: "f", JSONError(offset: 2, problem: "expected the end of the text"))
      ),
      (#"{"__metadata__":[]}"#, .invalidMetadata(file: "f", key: nil, found: "array")),
      (#"{"__metadata__":{"k":1}}"#, .invalidMetadata(file: "f", key: "k", found: "number")),
      (#"{"a":{},"a":{}}"#, .duplicateName(file: "f", tensor: "a")),
      (#"{"a":{"dtype":"U8","dtype":"U8"}}"#, .duplicateName(file: "f", tensor: "dtype")),
      (#"{"a":[]}"#, .entryNotAnObject(file: "f", tensor: "a", found: "array")),
      (#"{"a":{}}"#, .missingKey(file: "f", tensor: "a", key: "dtype")),
      (#"{"a":{"dtype":"U8"}}"#, .missingKey(file: "f", tensor: "a", key: "shape")),
      (
        #"{"a":{"dtype":"U8","shape":[]}}"#,
        .missingKey(file: "f", tensor: "a", key: "data_offsets")
      ),
      (#"{"a":{"dtype":"U8","x":1}}"#, .unknownKey(file: "f", tensor: "a", key: "x")),
    ] as [(String, SafetensorsError)])
  func aHeaderOfTheWrongFormIsRefused(text: String, error: SafetensorsError) {
    #expect(throws: error) { try parseHeader(fileBytes(text)) }
  }

  @Test(arguments: ["\"F4\"", "\"bf16\"", "\"\"", "7", "null"])
  func anUnknownDTypeIsRefusedByItsName(dtype: String) {
    let text = #"{"a":{"dtype":\#(dtype),"shape":[],"data_offsets":[0,0]}}"#
    #expect(throws: SafetensorsError.unknownDType(file: "f", tensor: "a", found: dtype)) {
      try parseHeader(fileBytes(text))
    }
  }

  @Test(arguments: ["4", "[-1]", "[1.0]", "[\"4\"]", "[null]", "[9223372036854775808]", "{}"])
  func aShapeThatIsNotAListOfNaturalsIsRefused(shape: String) {
    let text = "{" + entry("a", "U8", shape, "[0,4]") + "}"
    #expect(throws: SafetensorsError.invalidShape(file: "f", tensor: "a", found: shape)) {
      try parseHeader(fileBytes(text, data: 4))
    }
  }

  @Test(arguments: ["[9223372036854775807,0]", "[0,281474976710657]", "[0,4611686018427387904,1]"])
  func `a dimension beside a 0 is not any number`(shape: String) {
    let text = "{" + entry("a", "U8", shape, "[0,0]") + "}"
    #expect(throws: SafetensorsError.invalidShape(file: "f", tensor: "a", found: shape)) {
      try parseHeader(fileBytes(text))
    }
  }

  @Test(arguments: ["4", "[0]", "[0,4,4]", "[-4,0]", "[0,4.0]", "[0,18446744073709551615]", "[]"])
  func offsetsThatAreNotTwoNaturalsAreRefused(offsets: String) {
    let text = "{" + entry("a", "U8", "[4]", offsets) + "}"
    #expect(throws: SafetensorsError.invalidOffsets(file: "f", tensor: "a", found: offsets)) {
      try parseHeader(fileBytes(text, data: 4))
    }
  }

  @Test(
    arguments: [
      (
        entry("a", "U8", "[4]", "[4,0]"),
        .reversedOffsets(file: "f", tensor: "a", begin: 4, end: 0)
      ),
      (
        entry("a", "U8", "[17]", "[0,17]"),
        .offsetsBeyondData(file: "f", tensor: "a", end: 17, dataBytes: 16)
      ),
      (
        entry("a", "U8", "[17]", "[0,\(Int.max)]"),
        .offsetsBeyondData(file: "f", tensor: "a", end: .max, dataBytes: 16)
      ),
      (
        entry("a", "U8", "[4294967296,4294967296]", "[0,0]"),
        .sizeOverflow(file: "f", tensor: "a", dtype: .u8, shape: [1 << 32, 1 << 32])
      ),
      (
        entry("a", "F64", "[1152921504606846976]", "[0,0]"),
        .sizeOverflow(file: "f", tensor: "a", dtype: .f64, shape: [1 << 60])
      ),
      (
        entry("a", "BF16", "[8]", "[0,15]"),
        .sizeMismatch(file: "f", tensor: "a", dtype: .bf16, shape: [8], expected: 16, found: 15)
      ),
      (
        entry("a", "U8", "[10]", "[0,10]") + "," + entry("b", "U8", "[10]", "[6,16]"),
        .overlap(file: "f", tensor: "b", other: "a", bytes: 4)
      ),
      (
        entry("a", "U8", "[16]", "[0,16]") + "," + entry("b", "U8", "[2]", "[6,8]"),
        .overlap(file: "f", tensor: "b", other: "a", bytes: 2)
      ),
      (
        entry("a", "U8", "[15]", "[1,16]"),
        .hole(file: "f", tensor: "a", offset: 0, bytes: 1)
      ),
      (
        entry("b", "U8", "[6]", "[10,16]") + "," + entry("a", "U8", "[8]", "[0,8]"),
        .hole(file: "f", tensor: "b", offset: 8, bytes: 2)
      ),
      (
        entry("a", "U8", "[13]", "[0,13]"),
        .trailingBytes(file: "f", bytes: 3)
      ),
      (
        entry("\u{E9}", "U8", "[8]", "[0,8]") + "," + entry("e\u{301}", "U8", "[8]", "[8,16]"),
        .duplicateName(file: "f", tensor: "e\u{301}")
      ),
    ] as [(String, SafetensorsError)])
  func tensorsThatDoNotCoverTheDataExactlyAreRefused(entries: String, error: SafetensorsError) {
    #expect(throws: error) { try parseHeader(fileBytes("{\(entries)}", data: 16)) }
  }

  @Test func anyCorruptionGivesAnErrorOrAValidHeader() throws {
    let text =
      #"{"__metadata__":{"format":"pt"},"# + entry("w", "BF16", "[4,8]", "[0,64]") + ","
      + entry("s", "F32", "[4]", "[64,80]") + "," + entry("z", "U8", "[0]", "[80,80]") + "}"
    let valid = fileBytes(text, data: 80)
    #expect(throws: Never.self) { try parseHeader(valid) }
    var random = SystemRandomNumberGenerator()
    var refused = 0
    for _ in 0..<20_000 {
      var bytes = valid
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let position = Int.random(in: 0..<8 + text.utf8.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[position] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes[position] = UInt8.random(in: 0x30...0x39, using: &random)
        case 2: bytes.removeLast(Int.random(in: 0...min(3, bytes.count - 9), using: &random))
        default: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        }
        if bytes.count <= 8 + text.utf8.count { break }
      }
      do {
        let header = try parseHeader(bytes)
        var end = bytes.count - header.tensors.reduce(0) { $0 + $1.range.count }
        for tensor in header.tensors {
          #expect(tensor.range.lowerBound == end)
          #expect(byteCount(tensor.dtype, tensor.shape) == tensor.range.count)
          end = tensor.range.upperBound
        }
        #expect(end == bytes.count)
      } catch let error as SafetensorsError {
        #expect(error.description.hasPrefix("f: "))
        refused += 1
      }
    }
    #expect(refused > 10_000 && refused < 20_000)
  }
}
