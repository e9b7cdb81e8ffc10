// What one of several threads writes into a ledger while the others work beside it.

internal import Synchronization

/// Entries of a ledger that wait for their turn: work that is done side by side is written down in the order of its items,
/// as if one had come after the other. So a ledger says the same for any number of threads.
package final class LedgerDraft: Sendable {
  /// Of the thread that asks.
  @TaskLocal static var current: LedgerDraft?

  private let ledger: Ledger
  private let entries = Mutex<[@Sendable (Ledger) -> Void]>([])
  /// Loops of the work that this is of.
  package let loops = LoopWatch()

  package init(_ ledger: Ledger) { self.ledger = ledger }

  func isOf(_ ledger: Ledger) -> Bool { self.ledger === ledger }

  func add(_ entry: @escaping @Sendable (Ledger) -> Void) {
    entries.withLock { $0.append(entry) }
  }

  /// Takes what `body` writes on this thread.
  package func take(_ body: () -> Void) { Self.$current.withValue(self, operation: body) }

  /// Writes all of it into the ledger.
  package func enter() {
    let all = entries.withLock { entries in
      defer { entries = [] }
      return entries
    }
    for entry in all { entry(ledger) }
  }
}
