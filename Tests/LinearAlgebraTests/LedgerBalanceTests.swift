// What a ledger says is held.

import LinearAlgebra
import Tensors
import Testing

@Suite struct LedgerBalanceTests {
  private func hold(_ bytes: Int, in ledger: Ledger) {
    ledger.take("pages", bytes, from: .mapped)
    ledger.giveBack("pages", bytes, to: .mapped)
  }

  @Test func `what is held together counts at once, and is given back behind it`() {
    let ledger = Ledger()
    ledger.holdingTogether {
      hold(3, in: ledger)
      hold(4, in: ledger)
    }
    #expect(ledger.balance(of: .mapped).peak == 7 && ledger.balance(of: .mapped).bytes == 0)
    hold(5, in: ledger)
    #expect(ledger.takePeak(of: .mapped).peak == 7)
    hold(5, in: ledger)
    #expect(ledger.balance(of: .mapped).peak == 5)
  }
}
