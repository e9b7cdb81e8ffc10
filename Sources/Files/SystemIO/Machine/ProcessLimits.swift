// What the shell allows this process: files, file sizes, stack, threads, address space.

internal import CLinux
import Glibc

/// The limits of `ulimit`, and what else a process may lack. Each is looked at before it could end the process.
package enum ProcessLimits {
  package enum Problem: Error, CustomStringConvertible, Equatable {
    case noProc
    case files(limit: Int, needed: Int)
    case stack(limit: Int, needed: Int)
    case threads(started: Int, needed: Int)
    /// `flag` is that of `ulimit`; bytes.
    case memory(flag: String, limit: Int, left: Int, needed: Int)

    package var description: String {
      func kib(_ bytes: Int) -> String { "\(bytes >> 10) KiB" }
      return switch self {
      case .noProc:
        "/proc: not there, and memory in use is read from it; mount it (mount -t proc proc /proc)"
      case .files(let limit, let needed):
        "the limit on open files is \(limit), but at least \(needed) are needed; raise it with "
          + "`ulimit -n`"
      case .stack(let limit, let needed):
        "the limit on the stack is \(kib(limit)), but \(kib(needed)) are needed; raise it with "
          + "`ulimit -s`"
      case .threads(let started, let needed):
        "only \(started) of \(needed) threads can be started; use fewer --threads, or raise the "
          + "limits of `ulimit -u`, `ulimit -v` and `ulimit -d`"
      case .memory(let flag, let limit, let left, let needed):
        "of the \(kib(limit)) that `ulimit \(flag)` allows, \(kib(left)) are left, but "
          + "\(kib(needed)) are needed; raise that limit, or lower --memory and --threads"
      }
    }
  }

  private static let leastFiles = 32
  private static let leastStack = 1 << 20
  private static let usualStack = 8 << 20

  /// Call first of all.
  package static func prepare() throws(Problem) {
    openStandardStreams()
    // Without /proc the program does not even know its arguments.
    if unsafe access("/proc/self/status", R_OK) != 0 { throw .noProc }
    // A write beyond `ulimit -f` is then an error like that of a full disk.
    signal(SIGXFSZ, SIG_IGN)
    let files = raise(RLIMIT_NOFILE, to: .max)
    if files < leastFiles { throw .files(limit: files, needed: leastFiles) }
    let stack = raise(RLIMIT_STACK, to: usualStack)
    if stack < leastStack { throw .stack(limit: stack, needed: leastStack) }
    // Threads that run already keep the limit that they began with.
    var attributes = pthread_attr_t()
    unsafe pthread_attr_init(&attributes)
    unsafe pthread_attr_setstacksize(&attributes, min(stack, usualStack))
    unsafe pthread_setattr_default_np(&attributes)
    unsafe pthread_attr_destroy(&attributes)
  }

  /// A file that is opened takes the lowest number that is free. Where a shell closed one of the standard streams, that
  /// would be its number, and news would go into the file. What stands there instead is opened the other way round, so that
  /// its use fails as that of a closed stream does.
  private static func openStandardStreams() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
      _ = unsafe open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
  }

  /// How many files may be open at a time.
  package static var files: Int { limits(RLIMIT_NOFILE).soft }

  /// Starts so many threads at once and lets them end. Without this test, a queue would wait for ever for a thread that it
  /// cannot have.
  package static func checkThreads(_ needed: Int) throws(Problem) {
    var gate = unsafe pthread_mutex_t()
    unsafe pthread_mutex_init(&gate, nil)
    defer { unsafe pthread_mutex_destroy(&gate) }
    var threads: [pthread_t] = []
    unsafe withUnsafeMutablePointer(to: &gate) { gate in
      unsafe pthread_mutex_lock(gate)
      while threads.count < needed {
        var thread = pthread_t()
        let code = unsafe pthread_create(
          &thread, nil,
          { gate in
            guard let gate = unsafe gate?.assumingMemoryBound(to: pthread_mutex_t.self) else {
              return nil
            }
            unsafe pthread_mutex_lock(gate)
            unsafe pthread_mutex_unlock(gate)
            return nil
          }, gate)
        if code != 0 { break }
        threads.append(thread)
      }
      unsafe pthread_mutex_unlock(gate)
      for thread in threads { pthread_join(thread, nil) }
    }
    if threads.count < needed { throw .threads(started: threads.count, needed: needed) }
  }

  /// Whether address space and data may grow by so many bytes.
  package static func checkMemory(_ needed: Int) throws(Problem) {
    let status = (try? FileSystem.readFile("/proc/self/status")) ?? []
    let text = String(decoding: status, as: UTF8.self)
    for (resource, flag, field) in [(RLIMIT_AS, "-v", "VmSize"), (RLIMIT_DATA, "-d", "VmData")] {
      let limit = limits(resource).soft
      let used = ResidentMemory.bytes(field, in: text) ?? 0
      if limit - used < needed {
        throw .memory(flag: flag, limit: limit, left: max(0, limit - used), needed: needed)
      }
    }
  }

  private static func limits(_ resource: __rlimit_resource) -> (soft: Int, hard: Int) {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 else {
      return (.max, .max)
    }
    return (Int(clamping: limit.rlim_cur), Int(clamping: limit.rlim_max))
  }

  /// Raises a limit as far as it is wanted and allowed.
  ///
  /// - Returns: the limit that then holds.
  private static func raise(_ resource: __rlimit_resource, to wanted: Int) -> Int {
    let (soft, hard) = limits(resource)
    if soft >= min(wanted, hard) { return soft }
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 else { return soft }
    limit.rlim_cur = min(limit.rlim_max, rlim_t(wanted))
    return unsafe setrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0
      ? Int(clamping: limit.rlim_cur) : soft
  }
}
