// The resident set at its largest between two looks, by samples.

internal import Dispatch
import Glibc
internal import Synchronization

/// Reads the resident set a hundred times a second, which takes a few microseconds each.
///
/// The kernel's own mark of the peak (VmHWM) counts from the start of the process. Setting it back would hide the true peak
/// from everyone who looks from outside.
package final class ResidentSampler {
  private static let milliseconds = 10

  private let samples: Samples
  private let timer: any DispatchSourceTimer

  package init() {
    let samples = Samples()
    self.samples = samples
    // A queue of its own, as all others may be at work.
    timer = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "resident memory"))
    timer.setEventHandler { samples.take() }
    timer.schedule(deadline: .now(), repeating: .milliseconds(Self.milliseconds))
    timer.resume()
  }

  deinit { timer.cancel() }

  /// The most that was resident since the last call, or since the beginning.
  package func takePeak() -> Int {
    samples.take()
    return samples.peak.exchange(0, ordering: .relaxed)
  }
}

private final class Samples: Sendable {
  let peak = Atomic(0)
  private let file = try? Descriptor("/proc/self/statm", O_RDONLY)
  private let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))

  func take() {
    let resident = residentBytes()
    _ = peak.max(resident, ordering: .relaxed)
  }

  /// The second of the words of statm, in pages; 0 where there is none. Source: proc_pid_statm(5).
  private func residentBytes() -> Int {
    guard let file else { return 0 }
    return unsafe withUnsafeTemporaryAllocation(byteCount: 128, alignment: 1) { buffer in
      let count = unsafe pread(file.number, buffer.baseAddress, buffer.count, 0)
      var words = 0
      var pages = 0
      for index in 0..<max(0, count) {
        let byte = unsafe buffer[index]
        if byte == UInt8(ascii: " ") {
          words += 1
          if words == 2 { return pages * pageSize }
        } else if words == 1 {
          pages = pages * 10 + Int(byte &- UInt8(ascii: "0"))
        }
      }
      return 0
    }
  }
}
