// The numbers of each layer, in one table.

extension Report {
  var layerSection: HTML? {
    let layers = byLayer
    if layers.isEmpty { return nil }
    let hasErrors = layers.contains { $0.errors.left != nil }
    let hasRouting = layers.contains { $0.routing != nil }
    var heads: [Cell] = [.number("layer"), .number("Linears")]
    if hasErrors { heads.append(.number("left")) }
    heads += [.number("smoothings"), .number("left by smoothing"), .number("mean exponent")]
    if hasRouting {
      heads += [
        .number("effective experts"), .number("variation"), .number("busiest"), .number("thin"),
        .number("no token"),
      ]
    }
    let rows = layers.map { row($0, hasErrors: hasErrors, hasRouting: hasRouting) }
    return """
      <section id="layers">
      <h2>Layer by layer</h2>
      <details><summary>The numbers of \(counted(layers.count, "layer"))</summary>
      \(table("Numbers by layer", heads, rows))\
      <p class="note">Variation: the standard deviation of the experts' loads over their mean.</p>
      </details>
      </section>

      """
  }

  private func row(_ layer: LayerSummary, hasErrors: Bool, hasRouting: Bool) -> [Cell] {
    var cells: [Cell] = [.number("\(layer.layer)"), .number(whole(layer.errors.linears))]
    if hasErrors { cells.append(.number(layer.errors.left.map(percent))) }
    cells += [
      .number(whole(layer.smoothing.smoothings)), .number(layer.smoothing.left.map(percent)),
      .number(layer.smoothing.meanExponent.map(figure)),
    ]
    if hasRouting {
      cells += [
        .number(layer.routing.map { figure($0.effectiveExperts) }),
        .number(layer.routing.map { figure($0.coefficientOfVariation) }),
        .number(layer.routing.map { figure($0.busiest) + "×" }),
        .number(layer.routing.map { whole($0.thin.count) }),
        .number(layer.routing.map { whole($0.unrouted.count) }),
      ]
    }
    return cells
  }
}
