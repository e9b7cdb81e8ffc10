// What a command asks of the machine before it computes.

internal import Glibc
internal import SystemIO

/// The folder for files that live for a moment.
var temporaryFolder: String {
  let named = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? ""
  return named.isEmpty ? "/tmp" : trimmed(named)
}

/// Refuses a run that would wait for ever, as its threads cannot start, or be killed, as a limit of the shell keeps memory
/// back. Called where the computing begins.
///
/// - Parameter bytes: of buffers.
func checkLimits(threads: Int, bytes: Int = 0) throws {
  // Signals have threads, too.
  try ProcessLimits.checkThreads(threads + 3)
  try ProcessLimits.checkMemory(bytes + threads * bytesOfThread)
}

/// Address space that OpenBLAS (128 MiB), the heap (64 MiB) and the stack take for each thread. OpenBLAS waits for ever for
/// what it cannot have.
private let bytesOfThread = 208 << 20
