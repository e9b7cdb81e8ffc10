// Current and peak resident bytes of this process, and the processor time it used.

internal import CLinux
import Glibc

/// What the kernel counts against `--memory`. Source: proc_pid_status(5).
package struct ResidentMemory: Sendable, Equatable {
  /// VmRSS: pages in memory now, the process's own and those of mapped files.
  package let residentBytes: Int
  /// VmHWM: the highest `residentBytes` so far.
  package let peakBytes: Int
  /// RssAnon: heap and stacks.
  package let anonymousBytes: Int
  /// RssFile: touched pages of mapped files, the program's own included.
  package let fileBytes: Int

  package static func current() -> ResidentMemory {
    if let content = try? FileSystem.readFile("/proc/self/status"),
      let memory = ResidentMemory(status: String(decoding: content, as: UTF8.self))
    {
      return memory
    }
    // No descriptor may be left to read the file. The peak, which needs none, is then the best that is known.
    var usage = rusage()
    unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
    let peak = usage.ru_maxrss << 10
    return ResidentMemory(
      residentBytes: peak, peakBytes: peak, anonymousBytes: peak, fileBytes: 0)
  }

  private init(residentBytes: Int, peakBytes: Int, anonymousBytes: Int, fileBytes: Int) {
    self.residentBytes = residentBytes
    self.peakBytes = peakBytes
    self.anonymousBytes = anonymousBytes
    self.fileBytes = fileBytes
  }

  /// The value of a field of `status`, such as `VmRSS`.
  static func bytes(_ field: String, in status: String) -> Int? {
    for line in status.split(separator: "\n") where line.hasPrefix(field + ":") {
      let words = line.split { $0 == " " || $0 == "\t" }
      guard words.count == 3, words[2] == "kB" else { return nil }
      return Int(words[1]).map { $0 * 1024 }
    }
    return nil
  }

  /// - Parameter status: lines like `VmRSS:      1234 kB`.
  init?(status: String) {
    func bytes(_ field: String) -> Int? { Self.bytes(field, in: status) }
    guard let resident = bytes("VmRSS"), let peak = bytes("VmHWM"),
      let anonymous = bytes("RssAnon"), let file = bytes("RssFile")
    else { return nil }
    residentBytes = resident
    peakBytes = peak
    anonymousBytes = anonymous
    fileBytes = file
  }
}

/// Seconds of processor time all threads of this process used, in user and system mode.
package func processorSeconds() -> Double {
  var usage = rusage()
  let result = unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
  precondition(result == 0, "getrusage failed")
  func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
  return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

extension ResidentMemory {
  /// Gives pages of the heap that hold nothing any more back to the kernel.
  package static func returnFreedMemory() { malloc_trim(0) }

  /// Makes the heap give large buffers back to the kernel as soon as they are freed.
  ///
  /// glibc raises its threshold for that with every large buffer it sees, and what is freed below the threshold stays
  /// resident in pieces between what is not: 170 MiB over a layer of 5,120 channels. Call once, before any work.
  package static func returnLargeBuffersAtOnce() {
    mallopt(M_MMAP_THRESHOLD, 4 << 20)
  }
}
