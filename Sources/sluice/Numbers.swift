// Numbers as text.

internal import Glibc
internal import JSON
internal import SystemIO

/// Four significant digits.
func rounded(_ value: Double) -> String {
  if value == 0 || !value.isFinite { return "\(value)" }
  let exponent = Int(saturating: log10(abs(value)).rounded(.down))
  let factor = pow(10, Double(3 - exponent))
  let result = (value * factor).rounded() / factor
  return result == result.rounded() && abs(result) < 1e15
    ? "\(Int(saturating: result))" : "\(result)"
}

/// A number in JSON; null where it is none.
func jsonNumber(_ value: Double) -> JSONValue {
  .finite(value)
}

func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}

/// Where the system wants files that live for a moment.
var temporaryFolder: String {
  let named = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? ""
  return named.isEmpty ? "/tmp" : trimmed(named)
}

/// Refuses what would wait for ever or be killed: threads that cannot start, and memory that a limit of the shell keeps
/// back. Call where the computing begins.
///
/// - Parameter bytes: of buffers.
func checkLimits(threads: Int, bytes: Int = 0) throws {
  // Beside them there are those of signals.
  try ProcessLimits.checkThreads(threads + 3)
  try ProcessLimits.checkMemory(bytes + threads * bytesOfThread)
}

/// What OpenBLAS (128 MiB), the heap (64 MiB) and the stack map for each. OpenBLAS waits for ever for what it cannot have.
private let bytesOfThread = 208 << 20
