// Many choices as few numbers: errors of Linears, gains of smoothings, by layer and by kind.

/// The errors of some Linears.
package struct ErrorSummary: Sendable {
  package let linears: Int
  /// Linears whose error is known.
  package let measured: Int
  /// What is left of plain rounding's error, mean over these.
  package let left: Double?
  /// Rows of the weights by the way of rounding that won, in the order of first mention.
  package let rows: [RowCount]

  package init(_ linears: some Collection<LinearChoice>) {
    self.linears = linears.count
    measured = linears.count { $0.left != nil }
    left = mean(linears.compactMap(\.left))
    rows = Self.sum(linears.lazy.map(\.rows))
  }

  private static func sum(_ counts: some Sequence<[RowCount]>) -> [RowCount] {
    var names: [String] = []
    var sums: [String: Int] = [:]
    for count in counts.joined() {
      if sums[count.rounding] == nil { names.append(count.rounding) }
      sums[count.rounding, default: 0] += count.count
    }
    return names.map { RowCount(rounding: $0, count: sums[$0] ?? 0) }
  }
}

/// What some smoothings gained.
package struct SmoothingSummary: Sendable {
  package let smoothings: Int
  /// Mean of loss after over loss before; nil where no loss is known.
  package let left: Double?
  package let worst: SmoothingChoice?
  package let meanExponent: Double?
  /// Searches that found no scale better than none.
  package let identities: Int
  /// How often each exponent was chosen, by rising exponent.
  package let exponents: [(exponent: Double, count: Int)]

  package init(_ smoothings: some Collection<SmoothingChoice>) {
    self.smoothings = smoothings.count
    left = mean(smoothings.compactMap(\.left))
    worst = smoothings.filter { $0.left != nil }.max { ($0.left ?? 0) < ($1.left ?? 0) }
    meanExponent = mean(smoothings.map(\.exponent))
    identities = smoothings.count { $0.isIdentity }
    var counts: [Double: Int] = [:]
    for smoothing in smoothings { counts[smoothing.exponent, default: 0] += 1 }
    exponents = counts.sorted { $0.key < $1.key }.map { (exponent: $0.key, count: $0.value) }
  }
}

/// A layer as far as the run got with it.
package struct LayerSummary: Sendable {
  package let layer: Int
  package let errors: ErrorSummary
  package let smoothing: SmoothingSummary
  package let routing: RoutingBalance?
}

extension Report {
  /// Layers that any line speaks of, in order.
  package var byLayer: [LayerSummary] {
    let linears = Dictionary(grouping: choices.linears, by: \.layer)
    let smoothings = Dictionary(grouping: choices.smoothings, by: \.layer)
    let balances = Dictionary(grouping: balances, by: \.layer)
    let layers = Set(linears.keys).union(smoothings.keys).union(balances.keys)
    return layers.sorted().map { layer in
      LayerSummary(
        layer: layer, errors: ErrorSummary(linears[layer] ?? []),
        smoothing: SmoothingSummary(smoothings[layer] ?? []), routing: balances[layer]?.first)
    }
  }

  /// Kinds of Linears in the order of first mention.
  package var byKind: [(kind: String, linears: [LinearChoice])] {
    grouped(choices.linears, by: \.name.kind).map { (kind: $0.key, linears: $0.items) }
  }

  /// Kinds of smoothings by their producer, in the order of first mention.
  package var bySmoothing: [(kind: String, smoothings: [SmoothingChoice])] {
    grouped(choices.smoothings, by: \.producer.kind).map { (kind: $0.key, smoothings: $0.items) }
  }

  package var balances: [RoutingBalance] {
    choices.routings.sorted { $0.layer < $1.layer }.map {
      RoutingBalance($0, groupSize: subject.groupSize)
    }
  }
}

/// Groups in the order in which their keys come first.
private func grouped<Item>(
  _ items: [Item], by key: (Item) -> String
) -> [(key: String, items: [Item])] {
  var positions: [String: Int] = [:]
  var groups: [(key: String, items: [Item])] = []
  for item in items {
    let key = key(item)
    if let position = positions[key] {
      groups[position].items.append(item)
    } else {
      positions[key] = groups.count
      groups.append((key: key, items: [item]))
    }
  }
  return groups
}

func mean(_ values: [Double]) -> Double? {
  values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
}
