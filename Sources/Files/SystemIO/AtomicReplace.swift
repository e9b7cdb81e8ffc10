// Write a sibling temporary, fsync, rename, fsync the folder.

import Glibc

/// Where `replaceFile` writes what is to take a file's place. A run that is killed leaves it.
package func temporaryPath(of path: String) -> String { path + ".tmp" }

/// Replaces the content of a file; a crash at any moment leaves the old or the new one whole.
///
/// Unless `durably`, a loss of power may leave neither. A mapping of the old content stays valid. Two processes must not
/// replace one file at the same time: the temporary's name is fixed, so that killed runs leave one stray file and not many.
package func replaceFile(_ path: String, with bytes: [UInt8], durably: Bool = true)
  throws(SystemError)
{
  let temporary = temporaryPath(of: path)
  do {
    let descriptor = try Descriptor(temporary, O_WRONLY | O_CREAT | O_TRUNC)
    try unsafe bytes.span.bytes.withUnsafeBytes { content throws(SystemError) in
      try unsafe descriptor.write(content, at: 0)
    }
    if durably { try descriptor.synchronize() }
    try check(path, "rename") { unsafe rename(temporary, path) }
  } catch {
    unsafe unlink(temporary)
    throw error
  }
  if durably { try synchronizeFolder(FileSystem.parent(path)) }
}

/// Gives a file another name in its folder, durably; what had that name is replaced.
package func renameFile(_ path: String, to other: String) throws(SystemError) {
  try check(path, "rename") { unsafe rename(path, other) }
  try synchronizeFolder(FileSystem.parent(path))
}

/// Fails where `replaceFile` would not even begin; leaves nothing behind.
package func checkReplaceable(_ path: String) throws(SystemError) {
  let temporary = temporaryPath(of: path)
  do {
    _ = try Descriptor(temporary, O_WRONLY | O_CREAT)
  } catch {
    // The user knows the file and not the temporary.
    throw SystemError(path: path, call: error.call, code: error.code)
  }
  unsafe unlink(temporary)
}

/// Makes the names in a folder durable: files created, renamed and removed there.
package func synchronizeFolder(_ path: String) throws(SystemError) {
  let descriptor = try Descriptor(path, O_RDONLY | O_DIRECTORY)
  try check(path, "fsync") { fsync(descriptor.number) }
}
