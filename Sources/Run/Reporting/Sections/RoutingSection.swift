// Who the router sends the calibration tokens to.

extension Report {
  /// Nothing where no layer with a router was reached.
  var routingSection: HTML? {
    let balances = balances.filter { $0.evenShare > 0 }
    if balances.isEmpty { return nil }
    let thin = balances.reduce(0) { $0 + $1.thin.count }
    let unrouted = balances.reduce(0) { $0 + $1.unrouted.count }
    let experts = balances.reduce(0) { $0 + $1.tokens.count }
    return """
      <section id="routing">
      <h2>Experts and their tokens</h2>
      <p class="finding">\(finding(thin: thin, unrouted: unrouted, experts: experts))</p>
      \(thin == 0 ? nil : explanation)\
      \(HeatMap(
        balances: balances,
        summary: "Tokens by layer and expert: \(thin) of \(experts) experts have thin data, \(unrouted) none").html)\
      \(balancePlots(balances))\(thinTable)\
      <p class="note">The <em>even share</em> is what each expert of a layer would get if the router spread \
      the calibration tokens evenly. <em>Effective experts</em> is the number that, \
      evenly used, would give the same entropy. The <em>busiest</em> expert's load counts in even shares.</p>
      </section>

      """
  }

  /// Said where thin data alarms.
  private var explanation: HTML {
    let limit: HTML =
      subject.groupSize.map { size -> HTML in
        """
        fewer than \(size) tokens of an expert's own (the group size) or less than a tenth of the even share, \
        whichever is more
        """
      } ?? "less than a tenth of the even share"
    return """
      <p class="note"><strong>Thin data</strong> means \(limit). It is no fault of the output: statistics rest on \
      tokens of all the data, whether the router sends them to an expert or not. But those that a thin expert will meet are rare \
      among them, so that its scales fit them less well. More calibration data (<code>--samples</code>), or data that is \
      more like what the model will be asked, helps.</p>

      """
  }

  private func finding(thin: Int, unrouted: Int, experts: Int) -> String {
    if thin == 0 { return "Each of \(whole(experts)) experts has enough tokens of its own." }
    let none =
      unrouted == 0
      ? "" : unrouted == 1 ? ", 1 of them none at all" : ", \(whole(unrouted)) of them none at all"
    return
      "\(whole(thin)) of \(whole(experts)) experts (\(percent(Double(thin) / Double(experts)))) have thin data\(none)."
  }

  private func balancePlots(_ balances: [RoutingBalance]) -> HTML {
    let layers = balances.map(\.layer)
    let experts = balances.map(\.tokens.count).max() ?? 0
    let least = balances.min { $0.effectiveExperts < $1.effectiveExperts }
    let most = balances.max { $0.busiest < $1.busiest }
    let effective = LayerPlot(
      title: "Effective experts, of \(experts)",
      summary: "Effective experts by layer, fewest in layer \(least?.layer ?? 0): "
        + figure(least?.effectiveExperts ?? 0),
      layers: layers,
      series: [Series(name: "effective", style: "after", values: balances.map(\.effectiveExperts))],
      text: figure, measure: "experts in use", reference: Double(experts))
    let busiest = LayerPlot(
      title: "Load of the busiest expert, in even shares",
      summary: "Load of the busiest expert by layer, most in layer \(most?.layer ?? 0): "
        + figure(most?.busiest ?? 0),
      layers: layers,
      series: [Series(name: "busiest", style: "after", values: balances.map(\.busiest))],
      text: { figure($0) + "×" }, measure: "even shares", reference: 1)
    return "<div class=\"pair\">\(effective.html)\(busiest.html)</div>\n"
  }

  private var thinTable: HTML? {
    let thin = thinExperts
    if thin.isEmpty { return nil }
    let rows = thin.prefix(Self.listed).map { load -> [Cell] in
      [
        .text("layer \(load.layer), expert \(load.expert)"), .number(whole(load.tokens)),
        .number(percent(load.share)),
      ]
    }
    let which =
      thin.count > rows.count
      ? "The \(rows.count) thinnest of \(whole(thin.count)) experts" : "Thin experts"
    return """
      <details><summary>\(which)</summary>
      \(table(which, [.text("Expert"), .number("tokens"), .number("of the even share")], rows))</details>

      """
  }
}
