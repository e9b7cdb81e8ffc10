// A small file whose room is reserved beforehand, so that a last word can be written even on a full disk.

internal import CMappings
import Glibc

/// The file holds empty lines until something is written.
package final class ReservedNote: Sendable {
  private static let room = 4096
  private let descriptor: Descriptor

  /// Makes or empties the file.
  package init(path: String) throws(SystemError) {
    descriptor = try Descriptor(path, O_RDWR | O_CREAT | O_TRUNC)
    try fill([])
    sluice_mapping_copy_errors(descriptor.number)
  }

  deinit { sluice_mapping_keep_errors(descriptor.number) }

  /// Replaces the text. A failure is passed over, as there is no one left to tell.
  package func write(_ text: String) { try? fill(Array(text.utf8.prefix(Self.room - 1))) }

  private func fill(_ text: [UInt8]) throws(SystemError) {
    let bytes = text + [UInt8](repeating: UInt8(ascii: "\n"), count: Self.room - text.count)
    try unsafe bytes.span.bytes.withUnsafeBytes { content throws(SystemError) in
      try unsafe descriptor.write(content, at: 0)
    }
  }

  /// The text in such a file; nil where there is none, or no file.
  package static func read(_ path: String) -> String? {
    guard let bytes = try? FileSystem.readFile(path) else { return nil }
    let text = String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    return text.isEmpty ? nil : text
  }
}
