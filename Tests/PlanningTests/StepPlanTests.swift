// What a plan makes of ledgers: peaks of layers, sums over them.

import Planning
import Tensors
import Testing

@Suite struct StepPlanTests {
  private func ledger(buffers: [(String, Int)], mapped: Int, product rows: Int) -> Ledger {
    let ledger = Ledger()
    for (name, bytes) in buffers { ledger.take(name, bytes, from: .buffers) }
    for (name, bytes) in buffers { ledger.giveBack(name, bytes, to: .buffers) }
    ledger.take("mapped weights", mapped, from: .mapped)
    ledger.note(.product(rows, 10, 10, isExact: false))
    ledger.note(.product(1, 10, 10, isExact: true))
    return ledger
  }

  @Test func `a step is as large as its largest layer and as long as all`() {
    var use = StepUse()
    use.add(ledger(buffers: [("a", 100), ("b", 50)], mapped: 10, product: 2), times: 3)
    use.add(ledger(buffers: [("a", 120)], mapped: 70, product: 5), times: 1)
    let plan = StepPlan(RunStep.attend, always: [MemoryUse("the process", 1000)], use: use)
    #expect(plan.bufferBytes == 150)
    #expect(plan.bytes == 1000 + 150 + 70)
    #expect(plan.consumers.map(\.name) == ["the process", "a", "mapped weights", "b"])
    #expect(plan.operations == 200 * (3 * 2 + 5 + 4))
    #expect(plan.exactOperations == 200 * 4)
  }

  @Test func `buffers are kept for the next only where the budget has room`() {
    var use = StepUse()
    use.add(ledger(buffers: [("a", 800)], mapped: 10, product: 2), times: 1)
    func plan(_ budget: Int) -> StepPlan<RunStep> {
      StepPlan(.attend, always: [MemoryUse("the process", 1000)], use: use, budget: budget)
    }
    #expect([0, 1810, 1850, 1910, 5000].map { plan($0).keptBytes } == [0, 0, 40, 100, 100])
    #expect([0, 1810, 1850, 1910, 5000].map { plan($0).bytes } == [1810, 1810, 1850, 1910, 1910])
    #expect(plan(5000).bufferBytes == 800)
  }

  @Test func `what is repeated is counted as often and held once`() {
    let ledger = Ledger()
    ledger.repeated(7) {
      ledger.take("a", 10, from: .buffers)
      ledger.note(.product(1, 10, 10, isExact: false))
      ledger.note(.source, bytes: 5)
      ledger.giveBack("a", 10, to: .buffers)
    }
    #expect(ledger.balance(of: .buffers).peak == 10)
    #expect(ledger.balance(of: .buffers).bytes == 0)
    #expect(ledger.arithmetic == 1400)
    #expect(ledger.bytes(.source) == 35)
  }

  @Test func `pages are mapped once until they are let go of`() {
    let ledger = Ledger()
    ledger.map("w", 10, as: "mapped weights")
    ledger.map("w", 10, as: "mapped weights")
    #expect(ledger.balance(of: .mapped).bytes == 10)
    ledger.letGo("w")
    ledger.letGo("w")
    #expect(ledger.balance(of: .mapped).bytes == 0)
    #expect(ledger.balance(of: .mapped).atPeak == ["mapped weights": 10])
  }
}
