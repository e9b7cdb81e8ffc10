// A read-only mmap that unmaps when its last owner goes.

internal import CMappings
import Glibc

/// A file as it stands in its folder: what differs where someone wrote it, or put another in its place.
package struct FileIdentity: Sendable, Equatable {
  package let byteCount: Int
  /// When it was last written, in nanoseconds since 1970.
  package let modified: Int
  package let inode: UInt64

  package init(byteCount: Int, modified: Int, inode: UInt64) {
    self.byteCount = byteCount
    self.modified = modified
    self.inode = inode
  }

  fileprivate init(_ status: stat) {
    self.init(
      byteCount: Int(status.st_size),
      // Whatever year a file claims to be from.
      modified: Int(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int(status.st_mtim.tv_nsec),
      inode: UInt64(status.st_ino))
  }
}

/// A file mapped read-only into memory.
///
/// Where someone cuts the file meanwhile, or the disk fails, touching a page ends the process with an error that names
/// the file; what was committed stays good. The bytes are untrusted until `Header` has validated them; after that,
/// tensor ranges are in bounds by construction.
///
/// Pages that were touched count as resident until `release` gives them back, so who streams a big
/// file releases behind the cursor.
@safe
package final class MappedFile: Sendable {
  /// When it was opened.
  package let identity: FileIdentity
  package var byteCount: Int { identity.byteCount }
  package var path: String { descriptor.path }

  // For posix_fadvise, and for reading past the mapping.
  private let descriptor: KeptDescriptor
  // Valid for `byteCount` bytes until deinit; nil for an empty file, which cannot be mapped.
  private nonisolated(unsafe) let base: UnsafeMutableRawPointer?

  package init(path: String) throws(SystemError) {
    let descriptor = try Descriptor(path, O_RDONLY)
    let kept = try KeptDescriptor(descriptor, O_RDONLY)
    identity = FileIdentity(try descriptor.status())
    let byteCount = identity.byteCount
    var base: UnsafeMutableRawPointer?
    if byteCount > 0 {
      unsafe base = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor.number, 0)
      if unsafe base == UnsafeMutableRawPointer(bitPattern: -1) {
        throw SystemError(path: path, call: "mmap", code: errno)
      }
      if unsafe !sluice_mapping_add(base, byteCount, path) {
        unsafe munmap(base, byteCount)
        throw SystemError(path: path, call: "mmap", code: ENOMEM)
      }
    }
    self.descriptor = kept
    unsafe self.base = unsafe base
  }

  deinit {
    guard let base = unsafe base else { return }
    unsafe sluice_mapping_remove(base)
    unsafe munmap(base, byteCount)
  }

  /// - Parameter body: must not let the pointer escape; it dies with the last owner of the file.
  package func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try unsafe body(UnsafeRawBufferPointer(start: base, count: byteCount))
  }

  /// Reads `range` without mapping it: a page that is touched here and there would keep its neighbours resident.
  ///
  /// - Returns: whether all of it was there; a file may have been cut since it was opened.
  package func read(
    _ range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemError) -> Bool {
    precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "range beyond the file")
    precondition(buffer.count >= range.count, "a buffer of \(buffer.count) bytes")
    return try unsafe descriptor.open().read(
      into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<range.count]), at: range.lowerBound)
  }

  /// Asks the kernel to read `range` into its cache; returns at once.
  package func prefetch(_ range: Range<Int>) {
    guard let descriptor = try? descriptor.open() else { return }
    posix_fadvise(descriptor.number, range.lowerBound, range.count, POSIX_FADV_WILLNEED)
  }

  /// Gives back the memory of every page that touches `range`; they stay in the page cache while the kernel has room,
  /// and the content stays readable. Pages shared with a neighbour go, too: kept, they would add up.
  package func release(_ range: Range<Int>) {
    guard let base = unsafe base, let pages = pages(touching: range) else { return }
    unsafe madvise(base + pages.lowerBound, pages.count, MADV_DONTNEED)
  }

  /// Gives back the pages next to `range` that the kernel mapped with it: one touch maps the whole piece that the page
  /// cache keeps together. Whoever still reads there pays for a page fault.
  package func releaseAround(_ range: Range<Int>) {
    guard let base = unsafe base, let pages = pages(touching: range) else { return }
    // Pieces begin at multiples of their size.
    let piece = Self.largestPiece
    let before = pages.lowerBound / piece * piece..<pages.lowerBound
    let end = (pages.upperBound + Self.pageSize - 1) / Self.pageSize * Self.pageSize
    for part in [before, end..<max(end, min(byteCount, (end + piece - 1) / piece * piece))]
    where !part.isEmpty {
      unsafe madvise(base + part.lowerBound, part.count, MADV_DONTNEED)
    }
  }

  /// What the page cache of Linux keeps in one piece at most: a huge page.
  private static let largestPiece = 2 << 20

  /// Like `release`, and out of the page cache too: for bytes that will not be read again soon.
  package func discard(_ range: Range<Int>) {
    guard let pages = pages(touching: range) else { return }
    // In this order: the kernel keeps cached pages that are still mapped.
    release(range)
    guard let descriptor = try? descriptor.open() else { return }
    posix_fadvise(descriptor.number, pages.lowerBound, pages.count, POSIX_FADV_DONTNEED)
  }

  private func pages(touching range: Range<Int>) -> Range<Int>? {
    precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "range beyond the file")
    if range.isEmpty { return nil }
    return range.lowerBound / Self.pageSize * Self.pageSize..<range.upperBound
  }

  private static let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
}
