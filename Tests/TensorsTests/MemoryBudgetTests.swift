// Buffers are counted, reused and refused.

import Synchronization
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

  /// One thread alone stands for two that come to meet.
  @Test(arguments: [1, 2, 3, 8])
  func `tasks count as if the largest of them were at work together`(together: Int) {
    let budget = MemoryBudget(limit: 64 << 20)
    let held = Matrix("held", rows: 512, columns: 1024, from: budget)
    // In pieces of 2 MiB.
    let sizes = [1, 4, 2, 3, 0]
    let uses = TaskUses(of: budget)
    for size in sizes {
      uses.count {
        _ = Matrix("first", rows: size * 512, columns: 1024, from: budget)
        // Of a loop within a task.
        let inner = TaskUses(of: budget)
        for _ in 0..<size {
          inner.count { _ = Matrix("second", rows: 512, columns: 1024, from: budget) }
        }
        inner.end(together: size)
      }
    }
    #expect(budget.peak == 10 << 20)
    uses.end(together: together)
    let largest = sizes.sorted(by: >).prefix(together).reduce(0, +)
    #expect(budget.peak == (2 + 2 * largest) << 20)
    budget.setLimit(64 << 20)
    #expect(budget.peak == 2 << 20)
    withExtendedLifetime(held) {}
  }

  @Test func `what tasks leave is held behind them`() {
    let budget = MemoryBudget()
    let kept = Mutex<[Matrix]>([])
    let uses = TaskUses(of: budget)
    for _ in 0..<3 {
      uses.count {
        let left = Matrix("left", rows: 256, columns: 1024, from: budget)
        _ = Matrix("of the task alone", rows: 512, columns: 1024, from: budget)
        kept.withLock { $0.append(left) }
      }
    }
    #expect(budget.peak == 5 << 20)
    uses.end(together: 2)
    // The last two at once, beside what all of them leave.
    #expect(budget.peak == 7 << 20)
    let other = Matrix("other", rows: 1280, columns: 1024, from: budget)
    #expect(budget.peak == 9 << 20)
    withExtendedLifetime((kept.withLock { $0 }, other)) {}
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
