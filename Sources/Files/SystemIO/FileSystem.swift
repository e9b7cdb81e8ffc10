// Whole files and folders: read, list, create, copy, remove.

import Glibc

package enum FileSystem {
  /// A limit for recipes, settings and other files that people write: many times what any of them takes.
  package static let smallFile = 16 << 20

  /// The content of a file; also of those in /proc, whose size reads 0.
  ///
  /// - Parameters:
  ///   - limit: bytes; a file that holds more is refused before it is read.
  ///   - isLimitOfMemory: whether more memory would raise it.
  package static func readFile(
    _ path: String, limit: Int = .max, isLimitOfMemory: Bool = false
  ) throws(SystemError) -> [UInt8] {
    let tooLarge = SystemError(path: path, limit: limit, isLimitOfMemory: isLimitOfMemory)
    let descriptor = try Descriptor(path, O_RDONLY)
    let byteCount = Int(try descriptor.status().st_size)
    if byteCount > limit { throw tooLarge }
    var content: [UInt8] = []
    content.reserveCapacity(byteCount)
    try unsafe forEachBlock(of: descriptor) { block throws(SystemError) in
      if block.count > limit - content.count { throw tooLarge }
      unsafe content.append(contentsOf: block)
    }
    return content
  }

  package static func exists(_ path: String) -> Bool {
    unsafe access(path, F_OK) == 0
  }

  package static func isFolder(_ path: String) -> Bool { FileKind(at: path) == .folder }

  package static func isFile(_ path: String) -> Bool { FileKind(at: path) == .regular }

  /// Whether `path` itself is a symbolic link, whatever it leads to.
  package static func isLink(_ path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
  }

  package static func fileSize(_ path: String) throws(SystemError) -> Int {
    var status = stat()
    try check(path, "stat") { unsafe stat(path, &status) }
    return Int(status.st_size)
  }

  /// Whether a file has so many bytes, now or after a while: a file system over a network may tell late of what another
  /// machine wrote.
  package static func isThere(_ path: String, bytes: Int, waiting seconds: Int) -> Bool {
    let begun = time(nil)
    while true {
      if let size = try? fileSize(path), size >= bytes { return true }
      if time(nil) - begun >= seconds { return false }
      usleep(100_000)
    }
  }

  /// When a file was last written, in seconds since 1970.
  package static func modified(_ path: String) throws(SystemError) -> Int {
    var status = stat()
    try check(path, "stat") { unsafe stat(path, &status) }
    return status.st_mtim.tv_sec
  }

  /// The name of this machine.
  package static func hostName() -> String {
    let name = try? String(decoding: readFile("/proc/sys/kernel/hostname"), as: UTF8.self)
    return String((name ?? "").prefix { $0 != "\n" })
  }

  /// The absolute path without links, dots and doubled slashes, as far as it exists.
  package static func resolved(_ path: String) -> String {
    if let real = unsafe realpath(path, nil) {
      defer { unsafe free(real) }
      return unsafe String(cString: real)
    }
    if isTooLong(path) { return path }
    let above = parent(path)
    if above == path { return path }
    let folder = resolved(above)
    // Below a folder that is yet to be made, dots mean what they will mean then.
    switch path.split(separator: "/").last.map(String.init) ?? "" {
    case ".": return folder
    case "..": return parent(folder)
    case let name: return (folder == "/" ? "" : folder) + "/" + name
    }
  }

  /// Whether a path is too long for any system call. Asked before climbing to the folders above it, as each of them is a
  /// call inside of a call.
  private static func isTooLong(_ path: String) -> Bool { path.utf8.count >= Int(PATH_MAX) }

  /// Creates a folder and the ones above it, durably; content with those that exist.
  package static func createFolder(_ path: String) throws(SystemError) {
    if isFolder(path) { return }
    if isTooLong(path) { throw SystemError(path: path, call: "mkdir", code: ENAMETOOLONG) }
    let above = parent(path)
    if above != path { try createFolder(above) }
    if unsafe mkdir(path, 0o777) != 0 {
      let code = errno
      // Another process may have been quicker.
      if code == EEXIST, isFolder(path) { return }
      throw SystemError(path: path, call: "mkdir", code: code == EEXIST ? ENOTDIR : code)
    }
    try synchronizeFolder(above)
  }

  /// The names in a folder, sorted, without `.` and `..`.
  package static func list(_ folder: String) throws(SystemError) -> [String] {
    guard let stream = unsafe opendir(folder) else {
      throw SystemError(path: folder, call: "opendir", code: errno)
    }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while true {
      // The end and a failure both read nil; only errno tells them apart.
      errno = 0
      guard let entry = unsafe readdir(stream) else {
        if errno != 0 { throw SystemError(path: folder, call: "readdir", code: errno) }
        return names.sorted()
      }
      // By address: the record is shorter than its type says, so a copy would read past its end.
      let offset = MemoryLayout<dirent>.offset(of: \.d_name)!
      let name = unsafe String(
        cString: (UnsafeRawPointer(entry) + offset).assumingMemoryBound(to: CChar.self))
      if name != ".", name != ".." { names.append(name) }
    }
  }

  /// Removes a file, or a folder with all it holds; links are removed, not followed. Afterwards
  /// nothing stands at `path`, so it is no error when nothing did before.
  package static func remove(_ path: String) throws(SystemError) {
    var status = stat()
    if unsafe lstat(path, &status) != 0 {
      if errno == ENOENT { return }
      throw SystemError(path: path, call: "lstat", code: errno)
    }
    if status.st_mode & S_IFMT == S_IFDIR {
      for name in try list(path) { try remove("\(path)/\(name)") }
      try check(path, "rmdir") { unsafe rmdir(path) }
    } else {
      try check(path, "unlink") { unsafe unlink(path) }
    }
  }

  /// Gives a file or a folder another name, maybe in another folder of its file system, durably. Nothing may be there.
  package static func move(_ path: String, to other: String) throws(SystemError) {
    try check(path, "rename") { unsafe rename(path, other) }
    try synchronizeFolder(parent(other))
    try synchronizeFolder(parent(path))
  }

  /// From now on relative paths are of this folder.
  package static func enter(_ folder: String) throws(SystemError) {
    try check(folder, "chdir") { unsafe chdir(folder) }
  }

  /// Copies the content of a file through a small buffer and makes it durable.
  ///
  /// An existing target is emptied first: it must not be mapped by anyone.
  ///
  /// - Returns: the checksum of what was copied.
  @discardableResult
  package static func copyFile(
    from source: String, to target: String
  ) throws(SystemError) -> Checksum {
    let input = try Descriptor(source, O_RDONLY)
    let output = try Descriptor(target, O_WRONLY | O_CREAT | O_TRUNC)
    var checksum = Checksum()
    try unsafe forEachBlock(of: input) { block throws(SystemError) in
      try unsafe output.write(block, at: checksum.byteCount)
      unsafe checksum.add(block)
    }
    try check(target, "fsync") { fsync(output.number) }
    return checksum
  }

  /// The checksum of a file's content.
  package static func checksum(_ path: String) throws(SystemError) -> Checksum {
    let descriptor = try Descriptor(path, O_RDONLY)
    var checksum = Checksum()
    try unsafe forEachBlock(of: descriptor) { block throws(SystemError) in
      unsafe checksum.add(block)
    }
    return checksum
  }

  /// The checksum of a part of a file; nil where the file ends before.
  package static func checksum(
    _ path: String, of part: Range<Int>
  ) throws(SystemError) -> Checksum? {
    let descriptor = try Descriptor(path, O_RDONLY)
    if try descriptor.status().st_size < part.upperBound { return nil }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { unsafe buffer.deallocate() }
    var checksum = Checksum()
    while checksum.byteCount < part.count {
      let count = min(buffer.count, part.count - checksum.byteCount)
      let window = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
      let isWhole = try unsafe descriptor.read(
        into: window, at: part.lowerBound + checksum.byteCount)
      if !isWhole { return nil }
      unsafe checksum.add(UnsafeRawBufferPointer(window))
    }
    return checksum
  }

  /// Bytes of the files in a folder and below; what cannot be read counts nothing, nor do links, which may lead back up.
  package static func folderSize(_ folder: String) -> Int {
    ((try? list(folder)) ?? []).reduce(0) { sum, name in
      let path = "\(folder)/\(name)"
      if isLink(path) { return sum }
      return sum + (isFolder(path) ? folderSize(path) : (try? fileSize(path)) ?? 0)
    }
  }

  /// `path`, or the nearest folder above it that is there.
  package static func existing(_ path: String) -> String {
    var existing = path
    while !exists(existing), parent(existing) != existing { existing = parent(existing) }
    return existing
  }

  /// Whether both names lead to one file; not where one of them leads nowhere.
  package static func isSame(_ path: String, _ other: String) -> Bool {
    var (status, otherStatus) = (stat(), stat())
    guard unsafe stat(path, &status) == 0, unsafe stat(other, &otherStatus) == 0 else {
      return false
    }
    return (status.st_dev, status.st_ino) == (otherStatus.st_dev, otherStatus.st_ino)
  }

  /// The file system that `path` is on or would be created on.
  package static func device(of path: String) throws(SystemError) -> UInt {
    let existing = existing(path)
    var status = stat()
    try check(existing, "stat") { unsafe stat(existing, &status) }
    return UInt(status.st_dev)
  }

  /// Bytes this user may still write where `path` is or would be created.
  package static func freeBytes(_ path: String) throws(SystemError) -> Int {
    let existing = existing(path)
    var status = statvfs()
    try check(existing, "statvfs") { unsafe statvfs(existing, &status) }
    return bytes(blocks: UInt64(status.f_bavail), of: UInt64(status.f_frsize))
  }

  /// File systems without a size of their own, such as those over networks, name any number.
  package static func bytes(blocks: UInt64, of blockSize: UInt64) -> Int {
    let (bytes, overflows) = blocks.multipliedReportingOverflow(by: blockSize)
    return overflows ? .max : Int(clamping: bytes)
  }

  /// The last part of a path.
  package static func name(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }

  /// The folder `path` lies in: `a/b` for `a/b/c` and `a/b/c/`, `.` for `a`, `/` for `/`.
  package static func parent(_ path: String) -> String {
    let components = path.split(separator: "/")
    let root = path.hasPrefix("/") ? "/" : ""
    let above = root + components.dropLast().joined(separator: "/")
    return above.isEmpty ? "." : above
  }

  private static func forEachBlock(
    of descriptor: Descriptor, _ body: (UnsafeRawBufferPointer) throws(SystemError) -> Void
  ) throws(SystemError) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { unsafe buffer.deallocate() }
    while true {
      let count = try unsafe descriptor.read(into: buffer)
      if count == 0 { return }
      try unsafe body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
  }
}
