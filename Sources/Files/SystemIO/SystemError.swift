// errno with the path and the call that failed.

import Glibc

/// A system call that failed on a path.
package struct SystemError: Error, CustomStringConvertible, Equatable {
  package let path: String
  /// What was tried, as it reads before "failed": usually the name of the C function.
  package let call: String
  /// The errno value.
  package let code: Int32
  /// What stands at the path, where the program needs a regular file.
  package let found: FileKind?
  /// How many bytes the file may hold, where it holds more.
  package let limit: Int?
  /// Whether that many because of the memory that there is.
  package let isLimitOfMemory: Bool

  package init(path: String, call: String, code: Int32) {
    self.path = path
    self.call = call
    self.code = code
    found = nil
    limit = nil
    isLimitOfMemory = false
  }

  /// Something that is no regular file, where one is needed.
  package init(path: String, found: FileKind) {
    self.path = path
    call = "open"
    code = found == .folder ? EISDIR : ENODEV
    self.found = found
    limit = nil
    isLimitOfMemory = false
  }

  /// A file that holds more than may be read of it at once.
  package init(path: String, limit: Int, isLimitOfMemory: Bool = false) {
    self.path = path
    call = "read"
    code = EFBIG
    found = nil
    self.limit = limit
    self.isLimitOfMemory = isLimitOfMemory
  }

  /// Whether nothing stands at the path.
  package var isMissing: Bool { code == ENOENT }

  package var description: String {
    if let found {
      return
        "\(path): expected a regular file, found \(found.rawValue); put a regular file there, or "
        + "name another path"
    }
    if let limit {
      return
        "\(path): expected a file of at most \(limit >> 20) MiB, found more; put the right file there"
        + (isLimitOfMemory ? ", or raise --memory if it is that" : "")
    }
    let reason = unsafe String(cString: strerror(code))
    return "\(path): \(call) failed: \(reason)" + (wayOut.map { "; \($0)" } ?? "")
  }

  private var wayOut: String? {
    switch code {
    case ENOSPC: "free some space or choose another folder"
    case EDQUOT: "free some of your quota or choose another folder"
    case EACCES, EPERM: "check the owner and permissions, or choose another folder"
    case EROFS: "choose a folder on a writable file system"
    case ENOENT: "check the spelling of the path"
    case ENOTDIR: "a file stands where a folder is needed; choose another path"
    case EISDIR: "a folder stands where a file is needed; move it away"
    case EMFILE: "raise the limit with `ulimit -n`"
    case EFBIG: "raise the limit with `ulimit -f`, or choose a file system for larger files"
    case ENOMEM: "raise the limit with `ulimit -v`, or free some memory"
    // The words of mappings.c, which meets the same where the file is mapped.
    case EIO: "check the disk and give the same command again"
    case ESTALE:
      "another file was put in its place, or the network file system lost it; put it back and give "
        + "the same command again"
    default: nil
    }
  }
}

/// Calls `body` again for as long as a signal interrupts it; every other failure is thrown.
///
/// - Parameter body: a system call that reports failure by a negative result and errno.
@discardableResult
func check<Result: SignedInteger>(
  _ path: String, _ call: String, _ body: () -> Result
) throws(SystemError) -> Result {
  while true {
    let result = body()
    if result >= 0 { return result }
    let code = errno
    if code != EINTR { throw SystemError(path: path, call: call, code: code) }
  }
}
