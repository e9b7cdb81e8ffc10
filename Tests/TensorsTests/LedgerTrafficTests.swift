// What a loop reads of the source, where the book keeps its first item for all of them.

import Tensors
import Testing

@Suite struct LedgerTrafficTests {
  @Test func `what is read again before it is let go of comes from the kernel's cache`() {
    let ledger = Ledger()
    for _ in 0..<3 { ledger.read("a", 100) }
    #expect(ledger.bytes(.source) == 100)
    ledger.letGo("a")
    ledger.read("a", 100)
    #expect(ledger.bytes(.source) == 200)
  }

  @Test func `what is not let go of is read once, however often a loop comes by`() {
    let ledger = Ledger()
    ledger.repeated(7) { ledger.read("a", 100) }
    #expect(ledger.bytes(.source) == 100)
    ledger.repeated(3) { ledger.read("a", 100) }
    #expect(ledger.bytes(.source) == 100)
  }

  @Test func `items with pages of their own read them once each, however often they come by`() {
    let ledger = Ledger()
    ledger.repeated(3) {
      for _ in 0..<2 { ledger.repeated(11, items: 4) { ledger.read("experts", 100) } }
      ledger.letGo("experts")
    }
    #expect(ledger.bytes(.source) == 1200)
  }

  @Test func `what is let go of is read each time`() {
    let ledger = Ledger()
    ledger.repeated(7) {
      for _ in 0..<2 { ledger.read("a", 100) }
      ledger.letGo("a")
    }
    #expect(ledger.bytes(.source) == 700)
  }

  @Test func `experts that stay mapped are read once each, whatever the blocks of tokens`() {
    let ledger = Ledger()
    ledger.repeated(5) {
      ledger.repeated(leavingPages: 4) { expert in
        ledger.map("expert \(expert)", 100, as: "weights")
        ledger.read("expert \(expert)", 100)
      }
    }
    #expect(ledger.bytes(.source) == 400)
    #expect(ledger.balance(of: .mapped).peak == 400)
  }
}
