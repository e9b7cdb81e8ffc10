// One option for each of some groups: the least loss that fits a size. A multiple-choice knapsack, solved exactly as long as
// few partial choices may become the best.

/// Groups that each take one of several options.
package struct SizeChoice: Sendable {
  /// What an option of a group takes, and what it costs.
  package struct Option: Sendable, Equatable {
    package let bytes: Int
    package let loss: Double

    package init(bytes: Int, loss: Double) {
      self.bytes = bytes
      self.loss = loss
    }
  }

  /// The sums of a choice.
  package struct Sum: Sendable, Equatable {
    package var bytes = 0
    package var loss = 0.0
  }

  private let groups: [[Option]]

  /// Partial choices that are kept at a time. Seldom are there more that may become the best; then only the best of each
  /// stretch of bytes goes on.
  private static let mostStates = 1 << 14
  /// What sums of losses in another order may differ by.
  private static let slack = 1e-9

  /// - Parameter groups: none of them empty.
  package init(_ groups: [[Option]]) {
    precondition(groups.allSatisfy { !$0.isEmpty }, "a group without an option")
    self.groups = groups
  }

  package var smallestBytes: Int { groups.reduce(0) { $0 + ($1.map(\.bytes).min() ?? 0) } }

  package func sum(of choice: [Int]) -> Sum {
    zip(groups, choice).reduce(into: Sum()) { sum, each in
      sum.bytes += each.0[each.1].bytes
      sum.loss += each.0[each.1].loss
    }
  }

  /// The option of each group with which the loss is least; of equal losses the one that takes least, then the first.
  ///
  /// - Returns: nil where not even the smallest options fit.
  package func best(within limit: Int) -> [Int]? {
    if smallestBytes > limit { return nil }
    let greedy = greedy(within: limit)
    let most = sum(of: greedy.choice).loss
    let price = greedy.price
    // Groups whose options differ most come first: what is left then fits nearly everywhere.
    let order = groups.indices.sorted { first, second in
      let (a, b) = (span(first), span(second))
      return a != b ? a > b : first < second
    }
    // What the groups behind each place take and cost at least; the latter with bytes at their price.
    var leastBytes = [0]
    var leastCost = [0.0]
    for group in order.reversed() {
      leastBytes.append(leastBytes[leastBytes.count - 1] + (groups[group].map(\.bytes).min() ?? 0))
      let cost = groups[group].map { $0.loss + price * Double($0.bytes) }.min() ?? 0
      leastCost.append(leastCost[leastCost.count - 1] + cost)
    }
    leastBytes.reverse()
    leastCost.reverse()
    let scale = most + price * Double(limit)
    func mayBeBest(_ sum: Sum, at place: Int) -> Bool {
      sum.bytes + leastBytes[place] <= limit
        && sum.loss + price * Double(sum.bytes - limit) + leastCost[place]
          <= most + Self.slack * scale
    }
    var states = [Sum()]
    var levels: [[Origin]] = []
    for (place, group) in order.enumerated() {
      var next: [(sum: Sum, origin: Origin)] = []
      for (parent, state) in states.enumerated() {
        for option in options(of: group) {
          let sum = Sum(
            bytes: state.bytes + groups[group][option].bytes,
            loss: state.loss + groups[group][option].loss)
          if mayBeBest(sum, at: place + 1) {
            next.append((sum, Origin(parent: Int32(parent), option: Int32(option))))
          }
        }
      }
      next.sort { a, b in
        if a.sum.bytes != b.sum.bytes { return a.sum.bytes < b.sum.bytes }
        if a.sum.loss != b.sum.loss { return a.sum.loss < b.sum.loss }
        if a.origin.parent != b.origin.parent { return a.origin.parent < b.origin.parent }
        return a.origin.option < b.origin.option
      }
      let kept = Self.thinned(Self.undominated(next))
      states = kept.map(\.sum)
      levels.append(kept.map(\.origin))
    }
    // By rising bytes and falling loss: the last one is the best.
    guard var place = states.indices.last else { return greedy.choice }
    var choice = [Int](repeating: 0, count: groups.count)
    for (level, group) in zip(levels, order).reversed() {
      choice[group] = Int(level[place].option)
      place = Int(level[place].parent)
    }
    return choice
  }

  private struct Origin {
    let parent: Int32
    let option: Int32
  }

  /// Those that no other with as few bytes is as good as; they are sorted by bytes.
  private static func undominated(
    _ states: [(sum: Sum, origin: Origin)]
  ) -> [(sum: Sum, origin: Origin)] {
    var result: [(sum: Sum, origin: Origin)] = []
    for state in states where state.sum.loss < result.last?.sum.loss ?? .infinity {
      result.append(state)
    }
    return result
  }

  private static func thinned(
    _ states: [(sum: Sum, origin: Origin)]
  ) -> [(sum: Sum, origin: Origin)] {
    guard states.count > mostStates, let first = states.first, let last = states.last else {
      return states
    }
    let stretch = (last.sum.bytes - first.sum.bytes) / mostStates + 1
    // The last of a stretch has the least loss, and the first of all must stay, lest nothing fits.
    return states.indices.filter { index in
      index == 0 || index + 1 == states.count
        || (states[index].sum.bytes - first.sum.bytes) / stretch
          != (states[index + 1].sum.bytes - first.sum.bytes) / stretch
    }.map { states[$0] }
  }

  private func span(_ group: Int) -> Int {
    (groups[group].map(\.bytes).max() ?? 0) - (groups[group].map(\.bytes).min() ?? 0)
  }

  /// The options of a group that take more only where they cost less, by rising bytes.
  private func options(of group: Int) -> [Int] {
    let all = groups[group]
    let sorted = all.indices.sorted { first, second in
      if all[first].bytes != all[second].bytes { return all[first].bytes < all[second].bytes }
      if all[first].loss != all[second].loss { return all[first].loss < all[second].loss }
      return first < second
    }
    var result: [Int] = []
    for option in sorted where all[option].loss < result.last.map({ all[$0].loss }) ?? .infinity {
      result.append(option)
    }
    return result
  }

  // MARK: The frontier

  /// A step of a group to an option that takes more.
  private struct Step {
    let group: Int
    let option: Int
    let bytes: Int
    let gain: Double
    /// Loss that a byte saves.
    var rate: Double { gain / Double(bytes) }
  }

  /// All steps that are worth taking, the best first: for each group along its lower convex hull.
  private var steps: [Step] {
    var result: [Step] = []
    for group in groups.indices {
      var hull: [Int] = []
      func step(_ from: Int, _ to: Int) -> Step {
        let (a, b) = (groups[group][from], groups[group][to])
        return Step(group: group, option: to, bytes: b.bytes - a.bytes, gain: a.loss - b.loss)
      }
      for option in options(of: group) {
        while hull.count > 1,
          step(hull[hull.count - 2], hull[hull.count - 1]).rate
            <= step(hull[hull.count - 1], option).rate
        {
          hull.removeLast()
        }
        hull.append(option)
      }
      result += zip(hull, hull.dropFirst()).map(step)
    }
    return result.sorted { a, b in
      if a.rate != b.rate { return a.rate > b.rate }
      return a.group != b.group ? a.group < b.group : a.bytes < b.bytes
    }
  }

  private var smallest: [Int] { groups.indices.map { options(of: $0)[0] } }

  /// Choices that no other beats at their size, from the smallest on, as sums.
  package var frontier: [Sum] {
    var choice = smallest
    var result = [sum(of: choice)]
    for step in steps {
      choice[step.group] = step.option
      result.append(
        Sum(
          bytes: result[result.count - 1].bytes + step.bytes,
          loss: max(0, result[result.count - 1].loss - step.gain)))
    }
    return result
  }

  /// A good choice that fits, and the price of a byte: what the first step that did not fit would save with each.
  private func greedy(within limit: Int) -> (choice: [Int], price: Double) {
    var choice = smallest
    var bytes = smallestBytes
    var price: Double?
    var closed: Set<Int> = []
    for step in steps where !closed.contains(step.group) {
      if bytes + step.bytes <= limit {
        choice[step.group] = step.option
        bytes += step.bytes
      } else {
        closed.insert(step.group)
        price = price ?? step.rate
      }
    }
    return (choice, price ?? 0)
  }
}
