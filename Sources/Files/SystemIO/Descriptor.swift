// An open file descriptor that closes when its last owner goes. Every file that the program opens is opened here.

import Glibc

final class Descriptor: Sendable {
  let path: String
  let number: Int32

  /// Opens a regular file, or with `O_DIRECTORY` a folder. Whatever else stands at the path is refused: a FIFO would
  /// hang, and a device may never end.
  ///
  /// - Parameter flags: `O_…`. Added are those that keep the call from waiting and the file from child processes.
  init(_ path: String, _ flags: Int32) throws(SystemError) {
    let isFile = flags & O_DIRECTORY == 0
    // Before it is opened: a device may act on that.
    if isFile, let found = FileKind(at: path), found != .regular {
      throw SystemError(path: path, found: found)
    }
    number = try check(path, "open") {
      unsafe open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o666)
    }
    self.path = path
    // And afterwards: something else may have come to the path in between.
    let found = FileKind(try status())
    if isFile, found != .regular { throw SystemError(path: path, found: found) }
  }

  deinit {
    close(number)
  }

  func status() throws(SystemError) -> stat {
    var status = stat()
    try check(path, "stat") { unsafe fstat(number, &status) }
    return status
  }

  /// Reads up to `buffer.count` bytes; 0 at the end of the file.
  func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
    try check(path, "read") { unsafe Glibc.read(number, buffer.baseAddress, buffer.count) }
  }

  /// Fills `buffer` from `offset` on, going on after short reads; false where the file ends before.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Bool
  {
    var done = 0
    while done < buffer.count {
      let count = try check(path, "read") {
        unsafe pread(number, buffer.baseAddress! + done, buffer.count - done, offset + done)
      }
      if count == 0 { return false }
      done += count
    }
    return true
  }

  /// Writes all of `bytes`, going on after short writes.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemError) {
    var done = 0
    while done < bytes.count {
      done += try check(path, "write") {
        unsafe pwrite(number, bytes.baseAddress! + done, bytes.count - done, offset + done)
      }
    }
  }

  /// Makes content and size durable.
  func synchronize() throws(SystemError) {
    try check(path, "fdatasync") { fdatasync(number) }
  }
}
