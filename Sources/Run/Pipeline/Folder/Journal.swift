// A file of lines that grows with a run, and is believed only as far as the last commit speaks of it.

internal import SystemIO

/// How much of a journal a commit speaks of, and what it holds.
package struct JournalMark: Sendable, Equatable {
  package let byteCount: Int
  /// CRC-32 in hexadecimal.
  package let checksum: String

  package init(byteCount: Int, checksum: String) {
    self.byteCount = byteCount
    self.checksum = checksum
  }

  package static let start = JournalMark(byteCount: 0, checksum: Checksum().text)
}

/// A journal that holds something else than what was committed.
struct JournalChanged: Error, CustomStringConvertible {
  let path: String
  var description: String { "\(path) does not hold what was written to it" }
}

final class Journal {
  private let file: AppendedFile
  private var checksum: Checksum
  /// Whether it may hold something that is not on the disk yet.
  private var isDirty = true
  /// The lines that were committed before.
  let committed: [UInt8]

  /// Cuts the file to what was committed; what came later never was.
  init(path: String, committed mark: JournalMark) throws {
    committed = try Self.read(path, committed: mark)
    checksum = Checksum(committed)
    file = try AppendedFile(continuing: path, at: mark.byteCount)
  }

  /// The lines that a commit speaks of.
  static func read(_ path: String, committed mark: JournalMark) throws -> [UInt8] {
    let lines =
      mark.byteCount > 0 ? Array(try FileSystem.readFile(path).prefix(mark.byteCount)) : []
    guard lines.count == mark.byteCount, Checksum(lines).text == mark.checksum else {
      throw JournalChanged(path: path)
    }
    return lines
  }

  func add(line: String) throws(SystemError) {
    let bytes = Array((line + "\n").utf8)
    isDirty = true
    try file.append(bytes)
    unsafe bytes.withUnsafeBytes { unsafe checksum.add($0) }
  }

  /// The lines that were committed before, and those that were added since.
  func lines() throws -> [UInt8] { try Self.read(file.path, committed: mark) }

  var mark: JournalMark { JournalMark(byteCount: file.byteCount, checksum: checksum.text) }

  func synchronize() throws(SystemError) {
    if !isDirty { return }
    try file.synchronize()
    isDirty = false
  }
}
