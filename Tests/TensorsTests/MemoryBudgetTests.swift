// Buffers are counted, reused and refused.

import Tensors
import Testing

@Suite struct MemoryBudgetTests {
  @Test func footprintsAreWholePagesAndSmallBuffersCountNothing() {
    #expect(MemoryBudget.footprint(MemoryBudget.smallest - 1) == 0)
    #expect(MemoryBudget.footprint(65 << 10) == 68 << 10)
    #expect(MemoryBudget.footprint(2 << 20) == 2 << 20)
    #expect(MemoryBudget.footprint((2 << 20) + 1) == 4 << 20)
  }

  @Test func thePeakIsTheMostThatWasAliveTogether() {
    let budget = MemoryBudget(limit: 16 << 20)
    var first: Matrix? = Matrix("a", rows: 1024, columns: 1024, from: budget)
    let second = Matrix("b", rows: 512, columns: 1024, from: budget)
    first = nil
    _ = Matrix("c", rows: 256, columns: 1024, from: budget)
    #expect(budget.peak == 6 << 20)
    withExtendedLifetime((first, second)) {}
    budget.setLimit(8 << 20)
    #expect(budget.peak == 2 << 20)
  }

  @Test func aBufferThatWasGivenBackIsTakenAgain() {
    let budget = MemoryBudget(limit: 8 << 20)
    let address = unsafe UInt(
      bitPattern: Matrix("a", rows: 1024, columns: 1024, from: budget).base)
    let again = Matrix("b", rows: 1024, columns: 1024, from: budget)
    #expect(unsafe UInt(bitPattern: again.base) == address)
    #expect(address % (2 << 20) == 0)
  }

  @Test func whatIsIdleMakesRoom() {
    let budget = MemoryBudget(limit: 4 << 20)
    for columns in [1024, 1023, 900, 800, 1024] {
      let matrix = Matrix("a", rows: 1024, columns: columns, from: budget)
      matrix.fill(1)
      #expect(matrix.values.allSatisfy { $0 == 1 })
    }
    #expect(budget.peak == 4 << 20)
  }

  @Test func `a buffer beyond the plan is told by its name`() throws {
    let budget = MemoryBudget(limit: 1 << 20)
    let planned = Matrix("one that is planned", rows: 128, columns: 1024, from: budget)
    #expect(budget.unplanned == nil)
    _ = Matrix("the one too many", rows: 1024, columns: 1024, from: budget)
    let unplanned = try #require(budget.unplanned)
    #expect(unplanned.name == "the one too many" && unplanned.bytes == 4 << 20)
    #expect(unplanned.held == ["one that is planned 524288"])
    #expect("\(unplanned)".contains("raise --memory"))
    _ = planned
  }
}
