// What rounding and smoothing did to the layers' outputs.

extension Report {
  // MARK: Rounding

  /// Nothing where no error was measured.
  var errorSection: HTML? {
    let all = ErrorSummary(choices.linears)
    guard let left = all.left else { return nil }
    return """
      <section id="error">
      <h2>Error of the quantized Linears</h2>
      <p class="finding">\(percent(left)) of the error of \(plainName) is left.</p>
      \(errorPlot)\(kindTable)\
      <p class="note">The error of a Linear is the mean squared change of its output over the calibration \
      tokens. Means are over Linears, each counting the same. \
      \(whole(all.measured)) of \(counted(all.linears, "quantized Linear")) were measured. \
      <em>Left</em> is the error as written over that of \(plainName).</p>
      </section>

      """
  }

  private var errorPlot: HTML {
    let layers = byLayer.filter { $0.errors.left != nil }
    let worst = layers.max { ($0.errors.left ?? 0) < ($1.errors.left ?? 0) }
    return LayerPlot(
      title: "Error left of \(plainName), by layer, mean over its Linears",
      summary: "Error left by layer, largest in layer \(worst?.layer ?? 0): "
        + percent(worst?.errors.left ?? 0),
      layers: layers.map(\.layer),
      series: [Series(name: "left", style: "after", values: layers.map(\.errors.left))],
      text: percent, measure: "error as written over that of \(plainName)"
    ).html
  }

  private var kindTable: HTML {
    let layers = byLayer.map(\.layer)
    let hasRows = choices.linears.contains { !$0.rows.isEmpty }
    let rows = byKind.map { kind, linears -> [Cell] in
      let summary = ErrorSummary(linears)
      let byLayer = Dictionary(grouping: linears, by: \.layer).mapValues { ErrorSummary($0).left }
      var cells: [Cell] = [
        .text(code(kind)), .extra(number: whole(summary.linears)),
        .number(summary.left.map(percent)), .text("\(bar(summary.left))"),
        .extra(
          "\(sparkline(layers.map { byLayer[$0] ?? nil }, style: "after", summary: "error by layer"))"
        ),
      ]
      if hasRows { cells.append(.extra("\(rowShares(summary))")) }
      return cells
    }
    var heads: [Cell] = [
      .text("Linear"), .extra(number: "count"),
      .number("left"), .text("<span class=\"hidden\">left, as a bar</span>"), .extra("by layer"),
    ]
    if hasRows { heads.append(.extra("rows won \(rowKeys)")) }
    return table("Error by kind of Linear", heads, rows)
  }

  /// Ways of rounding in the order of first mention; each has its colour.
  private var roundings: [String] { ErrorSummary(choices.linears).rows.map(\.rounding) }

  private var rowKeys: HTML {
    let keys = roundings.enumerated().map { index, name -> HTML in
      "<span class=\"key box rows\(index % 4)\">\(name)</span> "
    }
    return "<span class=\"keys\">\(keys)</span>"
  }

  private func rowShares(_ summary: ErrorSummary) -> HTML? {
    let total = Double(summary.rows.reduce(0) { $0 + $1.count })
    if total == 0 { return nil }
    let order = roundings
    let parts = summary.rows.map { row -> HTML in
      let share = Double(row.count) / total
      return """
        <i class="rows\((order.firstIndex(of: row.rounding) ?? 0) % 4)" \
        style="width:\(figure(share * 100))%" title="\(row.rounding) \(percent(share))"></i>
        """
    }
    let text = summary.rows.map { "\($0.rounding) \(percent(Double($0.count) / total))" }
    return """
      <span class="bar stack" role="img" aria-label="\(text.joined(separator: ", "))">\(parts)</span>
      """
  }

  // MARK: Smoothing

  var smoothingSection: HTML? {
    if choices.smoothings.isEmpty { return nil }
    let all = SmoothingSummary(choices.smoothings)
    let finding: HTML? = all.left.map {
      "<p class=\"finding\">AWQ's scales leave \(percent($0)) of the error of RTN.</p>"
    }
    return """
      <section id="smoothing">
      <h2>AWQ's scales (smoothing)</h2>
      \(finding)
      \(smoothingPlot)\(smoothingTable)\
      <p class="note">AWQ moves a scale per channel from an activation's producer into the Linears that read \
      it. <em>Left</em> is the loss of the scale that was chosen over the loss without one, as the search \
      estimates it from the calibration tokens; means are over smoothings. The <em>exponent</em> says how far \
      scales follow the magnitude of the activations: 0 not at all, 1 fully. \(identityNote(all))</p>
      </section>

      """
  }

  private func identityNote(_ all: SmoothingSummary) -> String {
    switch all.identities {
    case 0: "A scale was found for every one."
    case 1: "In 1 place no scale was better than none."
    default: "In \(whole(all.identities)) places no scale was better than none."
    }
  }

  private var smoothingPlot: HTML? {
    let layers = byLayer.filter { $0.smoothing.left != nil }
    guard let worst = layers.max(by: { ($0.smoothing.left ?? 0) < ($1.smoothing.left ?? 0) }) else {
      return nil
    }
    return LayerPlot(
      title: "Error that the scales leave of RTN, by layer",
      summary:
        "Error left by layer, most in layer \(worst.layer): \(percent(worst.smoothing.left ?? 0))",
      layers: layers.map(\.layer),
      series: [Series(name: "left", style: "after", values: layers.map(\.smoothing.left))],
      text: percent, measure: "loss with the scale over that without"
    ).html
  }

  private var smoothingTable: HTML {
    let layers = byLayer.map(\.layer)
    let step = gridStep(choices.smoothings.lazy.map(\.exponent))
    let rows = bySmoothing.map { kind, smoothings -> [Cell] in
      let summary = SmoothingSummary(smoothings)
      let byLayer = Dictionary(grouping: smoothings, by: \.layer)
        .mapValues { SmoothingSummary($0).left }
      return [
        .text(code(kind)), .extra(number: whole(summary.smoothings)),
        .number(summary.left.map(percent)), .extra("\(bar(summary.left))"),
        .extra(
          "\(sparkline(layers.map { byLayer[$0] ?? nil }, style: "after", summary: "error left by layer"))"
        ),
        .extra(number: summary.meanExponent.map(figure)),
        .text(
          "\(exponentHistogram(summary, step: step))<span class=\"ends\"><i>0</i><i>1</i></span>"),
      ]
    }
    return table(
      "Smoothings by producer",
      [
        .text("Producer"), .extra(number: "count"), .number("left"),
        .extra("<span class=\"hidden\">left, as a bar</span>"), .extra("by layer"),
        .extra(number: "mean exponent"),
        .text("exponents chosen<small> up: how often</small>"),
      ], rows)
  }
}
