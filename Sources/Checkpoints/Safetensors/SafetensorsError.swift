// Everything that can be wrong with a file, worded for its owner.

package import JSON
package import SystemIO
package import Tensors

package enum SafetensorsError: Error, Equatable {
  // The file as a whole.
  case system(SystemError)
  case fileTooShort(file: String, bytes: Int)
  case headerTooLong(file: String, bytes: UInt64, limit: Int)
  case headerBeyondFile(file: String, headerBytes: Int, fileBytes: Int)
  case takesTooMuch(file: String, part: String, room: Int)
  case headerNotAnObject(file: String, firstByte: UInt8?)
  case invalidJSON(file: String, JSONError)
  case invalidMetadata(file: String, key: String?, found: String)
  case cut(file: String, expected: Int, found: Int)

  // One tensor in a header.
  case duplicateName(file: String, tensor: String)
  case entryNotAnObject(file: String, tensor: String, found: String)
  case missingKey(file: String, tensor: String, key: String)
  case unknownKey(file: String, tensor: String, key: String)
  case unknownDType(file: String, tensor: String, found: String)
  case invalidShape(file: String, tensor: String, found: String)
  case invalidOffsets(file: String, tensor: String, found: String)
  case reversedOffsets(file: String, tensor: String, begin: Int, end: Int)
  case offsetsBeyondData(file: String, tensor: String, end: Int, dataBytes: Int)
  case sizeOverflow(file: String, tensor: String, dtype: DType, shape: [Int])
  case sizeMismatch(
    file: String, tensor: String, dtype: DType, shape: [Int], expected: Int, found: Int)

  // Tensors against each other and against the end of the file.
  case overlap(file: String, tensor: String, other: String, bytes: Int)
  case hole(file: String, tensor: String, offset: Int, bytes: Int)
  case trailingBytes(file: String, bytes: Int)

  // A folder with an index.
  case noModel(folder: String)
  case missingWeightMap(file: String, found: String)
  case shardNotAString(file: String, tensor: String, found: String)
  case invalidShardName(file: String, tensor: String, found: String)
  case missingShards(file: String, names: [String])
  case absentTensors(file: String, names: [String])
  case unlistedTensors(file: String, names: [String])
  case misplacedTensor(file: String, tensor: String, expected: String)

  // Output that is resumed.
  case shardSizeDiffers(file: String, expected: Int, found: Int)
  case shardHeaderDiffers(file: String)
}

/// Passes on what `body` throws; a failed system call already names path and reason.
func withSystemErrors<R>(
  _ body: () throws(SystemError) -> R
) throws(SafetensorsError) -> R {
  do {
    return try body()
  } catch {
    throw .system(error)
  }
}

extension SafetensorsError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .system(let error):
      return error.description
    case .fileTooShort(let file, let bytes):
      return "\(file): a safetensors file starts with 8 bytes of header length, this one holds "
        + "\(bytes) in all; download it again"
    case .headerTooLong(let file, let bytes, let limit):
      return "\(file): header says it is \(bytes) bytes long, the format allows \(limit); "
        + "check that this is a safetensors file"
    case .headerBeyondFile(let file, let headerBytes, let fileBytes):
      return "\(file): header says it is \(headerBytes) bytes long but the file holds "
        + "\(fileBytes); download it again"
    case .takesTooMuch(let file, let part, let room):
      return
        "\(file): reading the \(part) takes more than the \(room >> 20) MiB of memory that there is for it; "
        + "raise --memory, or download the file again if its model has fewer tensors than that"
    case .headerNotAnObject(let file, let firstByte):
      let found = firstByte.map { "byte \($0)" } ?? "nothing"
      return "\(file): header starts with \(found), expected `{`; "
        + "check that this is a safetensors file"
    case .invalidJSON(let file, let error):
      return "\(file): invalid JSON: \(error); download it again"
    case .invalidMetadata(let file, let key, let found):
      let subject = key.map { "the value of `\($0)` in `__metadata__`" } ?? "`__metadata__`"
      let expected = key == nil ? "an object" : "a string"
      return "\(file): \(subject) is of kind \(found), expected \(expected); \(Self.rewrite)"
    // The words of mappings.c, which meets the same where the file is mapped.
    case .cut(let file, let expected, let found):
      return "\(file): it was cut while it was read (\(found) bytes, expected \(expected)); "
        + "put the whole file back and give the same command again"

    case .duplicateName(let file, let tensor):
      return "\(file): name `\(tensor)` appears twice; \(Self.rewrite)"
    case .entryNotAnObject(let file, let tensor, let found):
      return "\(file): entry of `\(tensor)` is of kind \(found), expected an object; "
        + Self.rewrite
    case .missingKey(let file, let tensor, let key):
      return "\(file): entry of `\(tensor)` has no `\(key)`; \(Self.rewrite)"
    case .unknownKey(let file, let tensor, let key):
      return "\(file): entry of `\(tensor)` has the unknown key `\(key)`; \(Self.rewrite)"
    case .unknownDType(let file, let tensor, let found):
      let known = DType.allCases.map(\.rawValue).joined(separator: ", ")
      return "\(file): dtype of `\(tensor)` is \(found), known are \(known); "
        + "convert the model to one of them"
    case .invalidShape(let file, let tensor, let found):
      return
        "\(file): shape of `\(tensor)` is \(found), expected a list of at most 64 integers from 0 "
        + "to 2^48; " + Self.rewrite
    case .invalidOffsets(let file, let tensor, let found):
      return "\(file): data_offsets of `\(tensor)` is \(found), expected two integers from 0; "
        + Self.rewrite
    case .reversedOffsets(let file, let tensor, let begin, let end):
      return "\(file): data_offsets of `\(tensor)` begin at \(begin) and end before it, at \(end); "
        + Self.rewrite
    case .offsetsBeyondData(let file, let tensor, let end, let dataBytes):
      return "\(file): `\(tensor)` ends at byte \(end) of the data but the file holds "
        + "\(dataBytes); download it again"
    case .sizeOverflow(let file, let tensor, let dtype, let shape):
      return "\(file): size of `\(tensor)`, \(dtype.rawValue) \(shape), does not fit in 64 bits; "
        + Self.rewrite
    case .sizeMismatch(let file, let tensor, let dtype, let shape, let expected, let found):
      return "\(file): `\(tensor)`, \(dtype.rawValue) \(shape), needs \(expected) bytes, "
        + "data_offsets give it \(found); \(Self.rewrite)"

    case .overlap(let file, let tensor, let other, let bytes):
      return "\(file): `\(tensor)` shares \(bytes) bytes with `\(other)`; \(Self.rewrite)"
    case .hole(let file, let tensor, let offset, let bytes):
      return "\(file): \(bytes) bytes at byte \(offset) of the data, before `\(tensor)`, "
        + "belong to no tensor; \(Self.rewrite)"
    case .trailingBytes(let file, let bytes):
      return "\(file): the last \(bytes) bytes belong to no tensor; download it again"

    case .noModel(let folder):
      return "\(folder): holds neither `model.safetensors.index.json` nor `model.safetensors`; "
        + "name the folder of a downloaded model"
    case .missingWeightMap(let file, let found):
      return "\(file): expected the object `weight_map`, found \(found); download it again"
    case .shardNotAString(let file, let tensor, let found):
      return "\(file): shard of `\(tensor)` is of kind \(found), expected a string; "
        + "download it again"
    case .invalidShardName(let file, let tensor, let found):
      return "\(file): shard of `\(tensor)` is `\(found)`, expected a plain file name ending in "
        + "`.safetensors`; download it again"
    case .missingShards(let file, let names):
      return
        "\(file): names \(Self.some(names, "shard")) missing from the folder; download the rest"
    case .absentTensors(let file, let names):
      return "\(file): lacks \(Self.some(names, "tensor")) that the index lists there; "
        + "download it and the index again"
    case .unlistedTensors(let file, let names):
      return "\(file): holds \(Self.some(names, "tensor")) that the index does not list; "
        + "download it and the index again"
    case .misplacedTensor(let file, let tensor, let expected):
      return "\(file): holds `\(tensor)`, which the index lists for `\(expected)`; "
        + "download both and the index again"

    case .shardSizeDiffers(let file, let expected, let found):
      return "\(file): expected \(expected) bytes, found \(found); \(Self.startOver)"
    case .shardHeaderDiffers(let file):
      return "\(file): header is not the one this run would write; \(Self.startOver)"
    }
  }

  private static let rewrite = "download the file again or have its author write it anew"
  /// As all that a run left says it; those words stand in a layer above.
  private static let startOver =
    "start over with sluice quantize --restart (sluice requantize --restart where that makes it)"

  /// Up to five of the names, and how many there are.
  private static func some(_ names: [String], _ noun: String) -> String {
    let shown = names.prefix(5).map { "`\($0)`" }.joined(separator: ", ")
    return "\(names.count) \(noun)\(names.count == 1 ? "" : "s") "
      + "(\(shown)\(names.count > 5 ? ", …" : ""))"
  }
}
