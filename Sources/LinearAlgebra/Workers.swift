// The one way to use more than one core, and the memory that is shared by those who do.

internal import Dispatch
internal import Synchronization
package import Tensors

/// A number of threads that share a loop.
///
/// Results never depend on the number: callers cut work by the size of the data, and add partial results in index
/// order.
package struct Workers: Sendable {
  package let threads: Int
  /// Where their large buffers come from.
  package let memory: MemoryBudget
  /// What their products are computed with.
  package let engine: Engine

  package init(threads: Int, memory: MemoryBudget = MemoryBudget(), engine: Engine = .f32) {
    precondition(threads >= 1, "\(threads) threads")
    precondition(engine.isAvailable, "this CPU has no \(engine) products")
    self.threads = threads
    self.memory = memory
    self.engine = engine
  }

  /// These workers with products in float32: for what must not be rounded.
  package var exact: Workers { Workers(threads: threads, memory: memory) }

  /// A matrix whose contents are undefined until written.
  package func matrix(_ name: String, rows: Int, columns: Int) -> Matrix {
    Matrix(name, rows: rows, columns: columns, from: memory)
  }

  /// Calls `body` once for every index below `count`, on up to `threads` cores, and returns when all are done.
  package func forEach(_ count: Int, _ body: @Sendable (Int) -> Void) {
    if threads == 1 || count <= 1 {
      for index in 0..<count { body(index) }
      return
    }
    let next = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: min(threads, count)) { _ in
      while true {
        let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
        if index >= count { return }
        body(index)
      }
    }
  }

  /// The results of `body` in index order.
  package func map<Value: Sendable>(
    _ count: Int, _ body: @Sendable (Int) -> Value
  ) -> [Value] {
    unsafe [Value](unsafeUninitializedCapacity: count) { buffer, initialized in
      nonisolated(unsafe) let values = unsafe buffer
      forEach(count) { index in
        unsafe (values.baseAddress! + index).initialize(to: body(index))
      }
      initialized = count
    }
  }
}

/// `count` items cut into ranges of `size`; the last may be shorter.
package func ranges(of count: Int, by size: Int) -> [Range<Int>] {
  stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
}
