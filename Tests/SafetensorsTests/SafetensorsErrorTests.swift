// The sentences, all of one form.

import Glibc
import JSON
import Safetensors
import SystemIO
import Tensors
import Testing

@Suite struct SafetensorsErrorTests {
  private static let all: [SafetensorsError] = [
    .system(SystemError(path: "f", call: "open", code: ENOENT)),
    .fileTooShort(file: "f", bytes: 7),
    .headerTooLong(file: "f", bytes: 200_000_000, limit: 100_000_000),
    .headerBeyondFile(file: "f", headerBytes: 300, fileBytes: 200),
    .takesTooMuch(file: "f", part: "header", room: 64 << 20),
    .headerNotAnObject(file: "f", firstByte: 91),
    .headerNotAnObject(file: "f", firstByte: nil),
    .invalidJSON(file: "f", JSONError(offset: 17, problem: "expected a digit")),
    .invalidMetadata(file: "f", key: nil, found: "array"),
    .invalidMetadata(file: "f", key: "k", found: "number"),
    .cut(file: "f", expected: 16, found: 15),
    .duplicateName(file: "f", tensor: "a"),
    .entryNotAnObject(file: "f", tensor: "a", found: "array"),
    .missingKey(file: "f", tensor: "a", key: "dtype"),
    .unknownKey(file: "f", tensor: "a", key: "x"),
    .unknownDType(file: "f", tensor: "a", found: "\"F4\""),
    .invalidShape(file: "f", tensor: "a", found: "[-1]"),
    .invalidOffsets(file: "f", tensor: "a", found: "[0]"),
    .reversedOffsets(file: "f", tensor: "a", begin: 4, end: 0),
    .offsetsBeyondData(file: "f", tensor: "a", end: 17, dataBytes: 16),
    .sizeOverflow(file: "f", tensor: "a", dtype: .u8, shape: [1 << 62, 4]),
    .sizeMismatch(file: "f", tensor: "a", dtype: .bf16, shape: [8], expected: 16, found: 15),
    .overlap(file: "f", tensor: "b", other: "a", bytes: 2),
    .hole(file: "f", tensor: "a", offset: 8, bytes: 2),
    .trailingBytes(file: "f", bytes: 3),
    .noModel(folder: "f"),
    .missingWeightMap(file: "f", found: "nothing"),
    .shardNotAString(file: "f", tensor: "a", found: "number"),
    .invalidShardName(file: "f", tensor: "a", found: "../x.safetensors"),
    .missingShards(file: "f", names: ["x"]),
    .absentTensors(file: "f", names: ["x"]),
    .unlistedTensors(file: "f", names: ["x"]),
    .misplacedTensor(file: "f", tensor: "a", expected: "x"),
    .shardSizeDiffers(file: "f", expected: 2, found: 1),
    .shardHeaderDiffers(file: "f"),
  ]

  @Test(arguments: all)
  func everySentenceNamesTheFileAndTheWayOut(error: SafetensorsError) {
    let text = error.description
    #expect(text.hasPrefix("f: "))
    #expect(text.split(separator: ";").count == 2)
    #expect(!text.hasSuffix("."))
  }

  @Test func numbersAndNamesAreInTheSentence() {
    #expect(
      SafetensorsError.sizeMismatch(
        file: "m.safetensors", tensor: "w", dtype: .bf16, shape: [8, 2], expected: 32, found: 31
      ).description
        == "m.safetensors: `w`, BF16 [8, 2], needs 32 bytes, data_offsets give it 31; "
        + "download the file again or have its author write it anew")
    #expect(
      SafetensorsError.trailingBytes(file: "m.safetensors", bytes: 3).description
        == "m.safetensors: the last 3 bytes belong to no tensor; download it again")
  }

  @Test func atMostFiveNamesAreShownWithTheirCount() {
    func sentence(_ count: Int) -> String {
      SafetensorsError.missingShards(file: "i", names: (1...count).map { "s\($0)" }).description
    }
    #expect(
      sentence(1) == "i: names 1 shard (`s1`) missing from the folder; download the rest")
    #expect(sentence(5).contains("5 shards (`s1`, `s2`, `s3`, `s4`, `s5`)"))
    #expect(sentence(7).contains("7 shards (`s1`, `s2`, `s3`, `s4`, `s5`, …)"))
  }
}
