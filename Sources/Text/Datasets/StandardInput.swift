// Rows from stdin: kept in a file without a name, since a data set is looked at more than once.

internal import Glibc
internal import SystemIO

enum StandardInput {
  /// What a user calls it.
  static let word = "-"
  /// What messages call it.
  static let name = "stdin"

  /// All that stdin gives, read once.
  static let file = Result<DatasetFile, DatasetError> { () throws(DatasetError) in try read() }

  private static func read() throws(DatasetError) -> DatasetFile {
    if isatty(STDIN_FILENO) == 1 {
      throw refusal(found: "a terminal", "pipe rows into it, or name a file")
    }
    do {
      let descriptor = try nameless()
      var beginning: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 1 << 20)
      while true {
        let count = unsafe Glibc.read(STDIN_FILENO, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        if count < 0 { throw SystemError(path: name, call: "read", code: errno) }
        if count == 0 { break }
        if beginning.count < 64 { beginning += buffer[..<min(count, 64)] }
        try write(buffer[..<count], to: descriptor)
      }
      if beginning.isEmpty { throw refusal(found: "nothing", "pipe rows into it") }
      // Whoever opens this path opens the file anew.
      return DatasetFile(
        path: "/proc/self/fd/\(descriptor)", format: try format(beginning), packing: .none,
        name: name)
    } catch let error as DatasetError {
      throw error
    } catch let error as SystemError {
      throw .unreadable(error)
    } catch {
      preconditionFailure("unforeseen error: \(error)")
    }
  }

  /// A file that goes with the process.
  private static func nameless() throws(DatasetError) -> Int32 {
    var template = Array("\(folder)/sluice-stdin-XXXXXX".utf8CString)
    let descriptor = unsafe mkstemp(&template)
    if descriptor < 0 { throw noCopy(errno) }
    if unsafe unlink(template) != 0 { throw noCopy(errno) }
    return descriptor
  }

  /// Where that file is.
  private static var folder: String {
    let named = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? ""
    return named.isEmpty ? P_tmpdir : named
  }

  private static func noCopy(_ code: Int32) -> DatasetError {
    let reason = unsafe String(cString: strerror(code))
    return .unsupported(
      file: name, what: "its copy in \(folder)", expected: "a file that takes all of it",
      found: reason, wayOut: "name another folder in TMPDIR, or make room in this one")
  }

  private static func write(_ bytes: ArraySlice<UInt8>, to file: Int32) throws(DatasetError) {
    var rest = bytes
    while !rest.isEmpty {
      let written = unsafe rest.withUnsafeBytes {
        unsafe Glibc.write(file, $0.baseAddress, $0.count)
      }
      if written < 0, errno == EINTR { continue }
      if written < 0 { throw noCopy(errno) }
      rest = rest.dropFirst(written)
    }
  }

  /// JSON by its first character, else text.
  private static func format(_ beginning: [UInt8]) throws(DatasetError) -> DatasetFile.Format {
    let marks: [(mark: [UInt8], kind: String)] = [
      ([0x1F, 0x8B], "gzip"), ([0x28, 0xB5, 0x2F, 0xFD], "zstd"), (Array("PAR1".utf8), "parquet"),
    ]
    if let mark = marks.first(where: { beginning.starts(with: $0.mark) }) {
      throw refusal(
        found: mark.kind,
        mark.kind == "parquet" ? "name the file" : "unpack it on the way, as with `zcat`")
    }
    var rest = beginning[...]
    if rest.starts(with: [0xEF, 0xBB, 0xBF]) { rest = rest.dropFirst(3) }
    switch rest.first(where: { !$0.isJSONSpace }) {
    case UInt8(ascii: "{")?: return .jsonLines
    case UInt8(ascii: "[")?: return .json
    default: return .text
    }
  }

  private static func refusal(found: String, _ wayOut: String) -> DatasetError {
    .unsupported(
      file: name, what: "rows", expected: "JSON lines, JSON or text", found: found,
      wayOut: wayOut)
  }
}
