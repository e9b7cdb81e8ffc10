// What a loop reads of the source, where the book keeps its first item for all of them.

import Tensors
import Testing

@Suite struct LedgerTrafficTests {
  private func read(_ key: String, _ ledger: Ledger) {
    if ledger.map(key, 100, as: "weights") { ledger.note(.source, bytes: 100) }
  }

  @Test func `pages that stay mapped are read once, however often a loop comes by`() {
    let ledger = Ledger()
    ledger.repeated(7) { read("a", ledger) }
    #expect(ledger.bytes(.source) == 100)
    ledger.repeated(3) { read("a", ledger) }
    #expect(ledger.bytes(.source) == 100)
  }

  @Test func `pages that are let go of are read each time`() {
    let ledger = Ledger()
    ledger.repeated(7) {
      read("a", ledger)
      ledger.unmap("a")
    }
    #expect(ledger.bytes(.source) == 700)
  }

  @Test func `experts that stay mapped are read once each, whatever the blocks of tokens`() {
    let ledger = Ledger()
    ledger.repeated(5) {
      ledger.repeated(leavingPages: 4) { expert in read("expert \(expert)", ledger) }
    }
    #expect(ledger.bytes(.source) == 400)
    #expect(ledger.balance(of: .mapped).peak == 400)
  }
}
