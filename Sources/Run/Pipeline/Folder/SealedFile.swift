// A small JSON file that says in which form it is written and what its checksum is.

internal import JSON
internal import SystemIO

/// An object with `format`, and `crc32` of all that stands before it.
enum SealedFile {
  /// Replaces the file, durably.
  static func write(_ object: JSONObject, to path: String) throws {
    var object = object
    object["crc32"] = .string(checksum(of: object))
    try replaceFile(
      path, with: Array((JSONValue.object(object).serialized(indent: 2) + "\n").utf8))
  }

  /// - Parameters:
  ///   - format: what `format` must be.
  ///   - damaged: the error for a problem with what the file holds.
  static func read<Problem: Error>(
    _ path: String, format: Int, damaged: (String) -> Problem
  ) throws -> JSONObject {
    let value: JSONValue
    do {
      value = try JSONValue.parse(FileSystem.readFile(path))
    } catch let error as JSONError {
      throw damaged("\(error)")
    }
    var object = value.object ?? JSONObject()
    guard object["format"]?.int == format else {
      throw damaged("written by another version of Sluice")
    }
    let written = object["crc32"]?.string
    object["crc32"] = nil
    guard written == checksum(of: object) else {
      throw damaged("not as it was written: its checksum differs")
    }
    return object
  }

  private static func checksum(of object: JSONObject) -> String {
    Checksum(Array(JSONValue.object(object).serialized().utf8)).text
  }
}
