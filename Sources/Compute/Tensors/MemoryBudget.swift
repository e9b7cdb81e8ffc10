// Where large buffers come from: counted by name, kept for the next of the same size, refused beyond the plan.

import Glibc
import Synchronization

/// The memory that large buffers of one run may take, all together.
///
/// A run that asks for more than was planned has a bug in its plan. It gets what it asks for, and `unplanned` says so by
/// name: whoever commits its work stops it then. What is given back stays mapped for the next buffer of that size, as far
/// as there is room: fresh pages cost a fault each.
package final class MemoryBudget: Sendable {
  private struct State {
    var limit: Int
    /// Bytes beyond the limit that idle buffers may keep mapped.
    var kept = 0
    /// Bytes in use by name.
    var names: [String: Int] = [:]
    var used = 0
    var peak = 0
    /// Outside of loops, and what their tasks come to.
    var together = BufferUse()
    /// Given back and still mapped, oldest first.
    var idle: [(address: UInt, count: Int)] = []
    var idleBytes = 0
    var unplanned: UnplannedBuffer?
  }

  private let state: Mutex<State>
  /// Whether its buffers have memory; without, only their sizes are known.
  package let isReal: Bool

  /// - Parameters:
  ///   - limit: bytes of buffers in use at any time.
  ///   - isReal: false for buffers that nobody may read or write.
  package init(limit: Int = .max, isReal: Bool = true) {
    state = Mutex(State(limit: limit))
    self.isReal = isReal
  }

  /// Buffers below this are not counted: they come from the heap.
  package static let smallest = 64 << 10

  /// Where there is no limit.
  private static let mostIdle = 64 << 20
  private static let page = 4 << 10
  private static let hugePage = 2 << 20

  /// What a buffer of `bytes` takes: whole pages, huge ones where it is larger than one.
  package static func footprint(_ bytes: Int) -> Int {
    if bytes < smallest { return 0 }
    let unit = bytes >= hugePage ? hugePage : page
    return (bytes + unit - 1) / unit * unit
  }

  /// The most that was in use at a time since the last `setLimit`; or would have been, had all threads of a loop been at
  /// their largest task at once. So it is the same on a machine where other work keeps a thread waiting.
  package var peak: Int { state.withLock { max($0.peak, $0.together.peak) } }

  /// The first buffer that went beyond the limit, where one did.
  package var unplanned: UnplannedBuffer? { state.withLock { $0.unplanned } }

  /// What the step that begins now may use. Lets go of what is idle and would not fit.
  ///
  /// - Parameters:
  ///   - limit: bytes of buffers in use at any time.
  ///   - kept: bytes on top that may stay mapped for the next buffers.
  package func setLimit(_ limit: Int, kept: Int = 0) {
    state.withLock { state in
      state.limit = limit
      state.kept = kept
      state.peak = state.used
      state.together = BufferUse(state.used)
      Self.dropIdle(&state)
    }
  }

  fileprivate func take(_ name: String, _ bytes: Int) -> UnsafeMutableRawPointer {
    unsafe state.withLock { state in
      let (used, limit) = (state.used, state.limit)
      if bytes > limit - used, state.unplanned == nil {
        let held = state.names.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        state.unplanned = UnplannedBuffer(
          name: name, bytes: bytes, used: used, limit: limit,
          held: held.map { "\($0.key) \($0.value)" })
      }
      state.names[name, default: 0] += bytes
      state.used += bytes
      state.peak = max(state.peak, state.used)
      count(bytes, &state)
      if let index = state.idle.firstIndex(where: { $0.count == bytes }) {
        state.idleBytes -= bytes
        return unsafe UnsafeMutableRawPointer(bitPattern: state.idle.remove(at: index).address)!
      }
      Self.dropIdle(&state)
      return unsafe Self.map(name, bytes)
    }
  }

  fileprivate func giveBack(_ name: String, _ base: UnsafeMutableRawPointer?, _ bytes: Int) {
    let address = UInt(bitPattern: base)
    state.withLock { state in
      state.used -= bytes
      count(-bytes, &state)
      let left = (state.names[name] ?? 0) - bytes
      state.names[name] = left > 0 ? left : nil
      state.idle.append((address, bytes))
      state.idleBytes += bytes
      Self.dropIdle(&state)
    }
  }

  /// Counts bytes for the task that this thread is at, or for none.
  private func count(_ bytes: Int, _ state: inout State) {
    if let task = TaskUse.current(of: self) { task.add(bytes) } else { state.together.add(bytes) }
  }

  func add(_ tasks: [BufferUse], together: Int) {
    if let task = TaskUse.current(of: self) {
      task.add(tasks, together: together)
    } else {
      state.withLock { $0.together.add(tasks, together: together) }
    }
  }

  /// Unmaps idle buffers, oldest first, until those in use and those idle are within what may be mapped.
  private static func dropIdle(_ state: inout State) {
    let room = state.limit == .max ? mostIdle : state.limit + state.kept - state.used
    while state.idleBytes > max(0, room) {
      let oldest = state.idle.removeFirst()
      state.idleBytes -= oldest.count
      unsafe munmap(UnsafeMutableRawPointer(bitPattern: oldest.address), oldest.count)
    }
  }

  private static func map(_ name: String, _ bytes: Int) -> UnsafeMutableRawPointer {
    let isHuge = bytes >= hugePage
    // Room to align: what sticks out on both sides is given back at once.
    let length = isHuge ? bytes + hugePage : bytes
    let answer = unsafe mmap(
      nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let mapped = unsafe answer, unsafe mapped != UnsafeMutableRawPointer(bitPattern: -1)
    else {
      outOfMemory(name, bytes)
    }
    if !isHuge { return unsafe mapped }
    let ahead = -Int(bitPattern: mapped) & (hugePage - 1)
    if ahead > 0 { unsafe munmap(mapped, ahead) }
    let base = unsafe mapped + ahead
    if ahead < hugePage { unsafe munmap(base + bytes, hugePage - ahead) }
    // A wish, no more.
    unsafe madvise(base, bytes, MADV_HUGEPAGE)
    return unsafe base
  }
}

/// A buffer that the plan of a step has no room for.
package struct UnplannedBuffer: Error, CustomStringConvertible, Equatable {
  package let name: String
  package let bytes: Int
  package let used: Int
  package let limit: Int
  /// Buffers in use, largest first, with their bytes.
  package let held: [String]

  package var description: String {
    "the plan has no room for `\(name)` of \(bytes) bytes: \(used) of \(limit) are in use "
      + "(\(held.joined(separator: ", "))); what was done is kept: raise --memory, give the same command again, and "
      + "please report this"
  }
}

/// Ends the process, which can do nothing else, as it ends on an error: what was committed is kept.
private func outOfMemory(_ name: String, _ bytes: Int) -> Never {
  let text = Array(
    "error: out of memory: the system refused \(bytes) bytes for `\(name)`; lower --memory or --threads\n"
      .utf8)
  _ = unsafe write(STDERR_FILENO, text, text.count)
  _exit(1)
}

/// A buffer that goes back to its budget with its last reference; small ones are the heap's.
@safe package final class Buffer: @unchecked Sendable {
  package let bytes: UnsafeMutableRawBufferPointer
  private let name: String
  private let budget: MemoryBudget
  private let footprint: Int
  private let ledger: Ledger?

  /// Contents are undefined until written.
  ///
  /// - Parameter ledger: where it is written down; nil for what a task takes for itself, which its loop writes down.
  package init(
    _ name: String, byteCount: Int, from budget: MemoryBudget, in ledger: Ledger? = nil
  ) {
    precondition(byteCount >= 0, "a buffer of \(byteCount) bytes")
    self.name = name
    self.budget = budget
    self.ledger = ledger
    footprint = MemoryBudget.footprint(byteCount)
    ledger?.take(name, footprint, from: .buffers)
    if !budget.isReal {
      // No address: to touch it ends the process, and a test finds it.
      unsafe bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)
      return
    }
    let base: UnsafeMutableRawPointer
    if footprint > 0 {
      unsafe base = budget.take(name, footprint)
    } else if let heap = unsafe aligned_alloc(64, max(64, (byteCount + 63) / 64 * 64)) {
      unsafe base = heap
    } else {
      outOfMemory(name, byteCount)
    }
    unsafe bytes = UnsafeMutableRawBufferPointer(start: base, count: byteCount)
  }

  deinit {
    ledger?.giveBack(name, footprint, to: .buffers)
    if !budget.isReal { return }
    if footprint > 0 {
      unsafe budget.giveBack(name, bytes.baseAddress, footprint)
    } else {
      unsafe free(bytes.baseAddress)
    }
  }
}
