// The sentences of failed system calls.

import Glibc
import SystemIO
import Testing

@Suite struct SystemErrorTests {
  @Test(arguments: [
    (ENOSPC, "No space left on device; free some space or choose another folder"),
    (EDQUOT, "Disk quota exceeded; free some of your quota or choose another folder"),
    (EACCES, "Permission denied; check the owner and permissions, or choose another folder"),
    (EPERM, "Operation not permitted; check the owner and permissions, or choose another folder"),
    (EROFS, "Read-only file system; choose a folder on a writable file system"),
    (ENOENT, "No such file or directory; check the spelling of the path"),
    (ENOTDIR, "Not a directory; a file stands where a folder is needed; choose another path"),
    (EMFILE, "Too many open files; raise the limit with `ulimit -n`"),
    (EIO, "Input/output error"),
  ])
  func theMessageNamesPathCallReasonAndTheWayOut(code: Int32, ending: String) {
    let error = SystemError(path: "out/model.safetensors", call: "write", code: code)
    #expect(error.description == "out/model.safetensors: write failed: \(ending)")
  }
}
