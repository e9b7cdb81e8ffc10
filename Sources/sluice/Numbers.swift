// Numbers as text.

internal import Glibc
internal import JSON
internal import Reporting
internal import SystemIO

/// Four significant digits.
func rounded(_ value: Double) -> String {
  if value == 0 || !value.isFinite { return "\(value)" }
  let result = significant(value, digits: 4)
  return result == result.rounded() && abs(result) < 1e15
    ? "\(Int(saturating: result))" : "\(result)"
}

func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}

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
