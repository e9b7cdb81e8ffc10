// The passes that read least within a budget, against all passes that there are.

import Planning
import Testing

@Suite struct PassSearchTests {
  /// What a made-up run takes and reads: held experts take more and read less, as larger groups and passes do.
  private struct Work {
    let budget: Int

    func bytes(_ passes: Passes, _ step: RunStep) -> Int {
      switch step {
      case .experts: 10 + 3 * passes.unitsPerGroup + (passes.holdsExperts ? 40 : 0)
      case .attend: 20 + (passes.holdsAttention ? 15 : 0)
      case .advance: 5 + 7 * passes.blocksPerPass
      case .load, .copy, .check: 1
      }
    }

    func reads(_ passes: Passes) -> Double {
      let groups = (12 + passes.unitsPerGroup - 1) / passes.unitsPerGroup
      return Double(groups * 10) + (passes.holdsExperts ? 0 : 200)
    }

    func fits(_ passes: Passes) -> Bool {
      [RunStep.experts, .attend, .advance].allSatisfy { bytes(passes, $0) <= budget }
    }

    var search: PassSearch {
      PassSearch(
        units: 12, blocks: 6, fits: { bytes($0, $1) <= budget }, reads: reads,
        commitsOften: { passes, step in step != .experts || passes.unitsPerGroup <= 8 })
    }
  }

  @Test(arguments: [20, 22, 30, 35, 47, 53, 60, 74, 75, 100, 1000])
  func `no passes that fit read less`(budget: Int) {
    let work = Work(budget: budget)
    let best = work.search.best
    #expect(work.fits(best) || budget < 20)
    for holds in [false, true] {
      for units in 1...8 {
        var other = best
        other.holdsExperts = holds
        other.unitsPerGroup = units
        if work.fits(other) { #expect(work.reads(best) <= work.reads(other)) }
      }
    }
    var more = best
    more.blocksPerPass += 1
    #expect(more.blocksPerPass > 6 || !work.fits(more))
  }

  @Test func `commits come often enough`() {
    #expect(Work(budget: 1000).search.best.unitsPerGroup == 8)
  }

  /// Whether a step fits is found by running it on shapes.
  @Test func `what is quick to tell is asked first`() {
    let work = Work(budget: 1000)
    let search = PassSearch(
      units: 12, blocks: 6,
      fits: { passes, step in
        #expect(passes.unitsPerGroup <= 8 && passes.blocksPerPass <= 2, "\(step)")
        return true
      }, reads: work.reads,
      commitsOften: { passes, step in
        step == .experts ? passes.unitsPerGroup <= 8 : passes.blocksPerPass <= 2
      })
    #expect(search.best.unitsPerGroup == 8 && search.best.blocksPerPass == 2)
  }
}
