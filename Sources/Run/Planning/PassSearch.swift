// The passes that read least within a budget.

/// Chooses how a run is cut. It knows no step: it is told what a choice takes.
package struct PassSearch {
  /// Units of the largest layer.
  package let units: Int
  /// Blocks of the run.
  package let blocks: Int
  /// Whether a step fits the budget.
  package let fits: (Passes, RunStep) -> Bool
  /// Bytes that are read from source and scratch.
  package let reads: (Passes) -> Double
  /// Whether commits are not too far from each other in a step.
  package let commitsOften: (Passes, RunStep) -> Bool

  package init(
    units: Int, blocks: Int, fits: @escaping (Passes, RunStep) -> Bool,
    reads: @escaping (Passes) -> Double, commitsOften: @escaping (Passes, RunStep) -> Bool
  ) {
    self.units = max(1, units)
    self.blocks = max(1, blocks)
    self.fits = fits
    self.reads = reads
    self.commitsOften = commitsOften
  }

  package var best: Passes {
    var best = Passes.smallest
    for holds in [false, true] {
      var passes = best
      passes.holdsExperts = holds
      passes.unitsPerGroup = 1
      if !fits(passes, .experts) { continue }
      passes.unitsPerGroup = largest(1...units) { count in
        var more = passes
        more.unitsPerGroup = count
        return commitsOften(more, .experts) && fits(more, .experts)
      }
      if reads(passes) < reads(best) { best = passes }
    }
    var held = best
    held.holdsAttention = true
    if fits(held, .attend) { best = held }
    best.blocksPerPass = largest(1...blocks) { count in
      var more = best
      more.blocksPerPass = count
      return commitsOften(more, .advance) && fits(more, .advance)
    }
    return best
  }

  private func largest(_ range: ClosedRange<Int>, _ works: (Int) -> Bool) -> Int {
    var (low, high) = (range.lowerBound, range.upperBound)
    while low < high {
      let middle = (low + high + 1) / 2
      if works(middle) { low = middle } else { high = middle - 1 }
    }
    return low
  }
}
