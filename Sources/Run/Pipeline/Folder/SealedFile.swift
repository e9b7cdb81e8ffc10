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
  ///   - otherFormat: the error for another format, where that has its own way out.
  static func read<Problem: Error>(
    _ path: String, format: Int, damaged: (String) -> Problem,
    otherFormat: ((Int) -> Problem)? = nil
  ) throws -> JSONObject {
    let value: JSONValue
    do {
      value = try JSONValue.parse(FileSystem.readFile(path))
    } catch let error as JSONError {
      throw damaged("\(error)")
    }
    let object = value.object ?? JSONObject()
    guard let found = object["format"]?.int else { throw damaged("it names no format") }
    if found != format {
      throw otherFormat?(found)
        ?? damaged(
          "written by another version of Sluice, in format \(found), expected \(format)")
    }
    guard let content = content(of: object) else {
      throw damaged("not as it was written: its checksum differs")
    }
    return content
  }

  /// What was written, in whatever format; nil where it is not as it was written.
  static func readAnyFormat(_ path: String) -> JSONObject? {
    (try? JSONValue.parse(FileSystem.readFile(path)))?.object.flatMap(content)
  }

  /// What stands before the checksum; nil where that is another one.
  private static func content(of object: JSONObject) -> JSONObject? {
    var object = object
    let written = object["crc32"]?.string
    object["crc32"] = nil
    return written == checksum(of: object) ? object : nil
  }

  private static func checksum(of object: JSONObject) -> String {
    Checksum(Array(JSONValue.object(object).serialized().utf8)).text
  }
}
