// What the answer to a small budget advises.

import Planning
import Testing

@Suite struct BudgetTooSmallTests {
  @Test func `a tokenizer that does not fit is left out by data with ids`() throws {
    let error = #expect(throws: BudgetTooSmall.self) {
      try RunPlan.dataRoom(budget: 64 << 20, tensors: 1, tokenizerBytes: 100 << 20) { $0 }
    }
    let text = try #require(error).description
    #expect(text.contains("for the tokenizer; raise --memory to "))
    #expect(text.hasSuffix("iB, or take data with `input_ids`"))
  }
}
