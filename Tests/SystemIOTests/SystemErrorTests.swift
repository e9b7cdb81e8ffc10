// The sentences of failed system calls.

import Glibc
import SystemIO
import Testing
import TestSupport

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
    (EIO, "Input/output error; check the disk and give the same command again"),
    (
      ESTALE,
      "Stale file handle; another file was put in its place, or the network file system lost it; "
        + "put it back and give the same command again"
    ),
    (ENAMETOOLONG, "File name too long"),
  ])
  func theMessageNamesPathCallReasonAndTheWayOut(code: Int32, ending: String) {
    let error = SystemError(path: "out/model.safetensors", call: "write", code: code)
    #expect(error.description == "out/model.safetensors: write failed: \(ending)")
  }

  @Test(arguments: [(false, ""), (true, ", or raise --memory if it is that")])
  func `a file that is too large is no matter of memory where its limit is fixed`(
    isLimitOfMemory: Bool, ending: String
  ) throws {
    try withTemporaryFolder { folder in
      let path = folder + "/config.json"
      try replaceFile(path, with: [UInt8](repeating: 0, count: (1 << 20) + 1))
      let error = #expect(throws: SystemError.self) {
        try FileSystem.readFile(path, limit: 1 << 20, isLimitOfMemory: isLimitOfMemory)
      }
      #expect(
        error?.description
          == "\(path): expected a file of at most 1 MiB, found more; put the right file there"
          + ending)
    }
  }
}
