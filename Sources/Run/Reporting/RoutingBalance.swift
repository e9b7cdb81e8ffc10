// How evenly a router spreads the calibration tokens over its experts, and who got too few.

internal import Glibc

/// The load of a layer's experts.
package struct RoutingBalance: Sendable, Equatable {
  package let layer: Int
  /// Tokens sent to each expert, `[E]`.
  package let tokens: [Int]
  /// What each would get of an even spread: T K / E.
  package let evenShare: Double
  /// An expert with fewer tokens has thin data: the group size, where there are groups, or a tenth of the even share,
  /// whichever is more.
  package let thinLimit: Double

  package init(_ routing: LayerRouting, groupSize: Int?) {
    layer = routing.layer
    tokens = routing.tokens
    evenShare =
      tokens.isEmpty ? 0 : Double(tokens.reduce(0, +)) / Double(tokens.count)
    thinLimit = max(Double(groupSize ?? 0), evenShare / 10)
  }

  package func isThin(_ expert: Int) -> Bool { Double(tokens[expert]) < thinLimit }

  /// Experts with thin data, those without any included.
  package var thin: [Int] { tokens.indices.filter(isThin) }
  /// Experts that no token was sent to.
  package var unrouted: [Int] { tokens.indices.filter { tokens[$0] == 0 } }

  /// The number of experts that, evenly used, would give the same entropy: from 1 to E.
  package var effectiveExperts: Double {
    let total = Double(tokens.reduce(0, +))
    if total == 0 { return 0 }
    let entropy = tokens.reduce(0.0) { sum, count in
      let share = Double(count) / total
      return share > 0 ? sum - share * log(share) : sum
    }
    return exp(entropy)
  }

  /// Standard deviation of the loads over their mean.
  package var coefficientOfVariation: Double {
    if evenShare == 0 { return 0 }
    let variance = tokens.reduce(0.0) { sum, count in
      let difference = Double(count) - evenShare
      return sum + difference * difference
    }
    return sqrt(variance / Double(tokens.count)) / evenShare
  }

  /// The busiest expert's load in even shares.
  package var busiest: Double {
    evenShare > 0 ? Double(tokens.max() ?? 0) / evenShare : 0
  }
}

/// An expert of a layer and its load.
package struct ExpertLoad: Sendable, Equatable {
  package let layer: Int
  package let expert: Int
  package let tokens: Int
  /// In even shares.
  package let share: Double
}

extension Report {
  /// Experts with thin data, those with the smallest share first.
  package var thinExperts: [ExpertLoad] {
    balances.flatMap { balance in
      balance.thin.map { expert in
        let tokens = balance.tokens[expert]
        return ExpertLoad(
          layer: balance.layer, expert: expert, tokens: tokens,
          share: balance.evenShare > 0 ? Double(tokens) / balance.evenShare : 0)
      }
    }.sorted {
      ($0.share, $0.layer, $0.expert) < ($1.share, $1.layer, $1.expert)
    }
  }
}
