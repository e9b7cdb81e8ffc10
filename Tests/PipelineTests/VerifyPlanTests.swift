// The plan of a check against what it takes.

import Pipeline
import Planning
import Testing
import TestSupport

@Suite struct VerifyPlanTests {
  @Test func `a budget that is too small for a check is refused with one that works`() throws {
    try withTemporaryFolder { folder in
      let output = try SpoiledOutput(in: folder)
      func verify(_ memory: Int) throws -> VerifyModel {
        try VerifyModel(output: output.path, source: output.source, threads: 2, memory: memory)
      }
      let error = #expect(throws: BudgetTooSmall.self) { try verify(16 << 20) }
      let smallest = try #require(error).smallest
      #expect(throws: BudgetTooSmall.self) { try verify(smallest - 1) }
      let small = try verify(smallest)
      #expect(small.plan.peakBytes == smallest)
      #expect(try small.run() == verify(1 << 40).run())
    }
  }

  @Test(arguments: [1, 2]) func `buffers of a check are what was planned`(threads: Int) throws {
    try withTemporaryFolder { folder in
      let output = try SpoiledOutput(in: folder)
      let check = try VerifyModel(output: output.path, source: output.source, threads: threads)
      #expect(try check.run().findings.isEmpty)
      #expect(check.peakBuffers == check.plan.step(.source).bufferBytes)
    }
  }
}
