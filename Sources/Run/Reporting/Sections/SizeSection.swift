// A size that the user named: what each group got for it, and what other sizes would cost.

internal import Glibc

extension Report {
  var sizeSection: HTML? {
    guard let chosen = choices.size else { return nil }
    return """
      <section id="size">
      <h2>The size that was asked for</h2>
      <p class="finding">\(size(chosen.bytes)) of \(size(chosen.target)) allowed: \(chosen.words).</p>
      \(frontier(chosen))\(groupTable(chosen))\
      <p class="note">The predicted loss of a group is the energy of its rounding errors at the end of its branch over \
      that of the residual stream there, as a first pass measured it, and counts more the more routers read it; losses of \
      groups add up. The choice is the best of all that fit.</p>
      </section>

      """
  }

  private func groupTable(_ chosen: SizeRecord) -> HTML {
    let most = chosen.groups.map(\.loss).max() ?? 0
    let rows = chosen.groups.map { group -> [Cell] in
      [
        .text(code(group.name)), .text("\(group.choice)"), .number(size(group.bytes)),
        .number(lossText(group.loss)), .extra("\(bar(most > 0 ? group.loss / most : nil))"),
      ]
    }
    return """
      <details><summary>What each of \(counted(chosen.groups.count, "group")) got</summary>
      \(table(
        "Choices by group",
        [
          .text("Group"), .text("choice"), .number("size"), .number("predicted loss"),
          .extra("<span class=\"hidden\">predicted loss, as a bar</span>"),
        ], rows))</details>

      """
  }

  /// Size against predicted loss, each on a scale of its own; the loss by its logarithm.
  private func frontier(_ chosen: SizeRecord) -> HTML? {
    // Of a sum that should be nothing, rounding leaves a trifle.
    let most = chosen.frontier.map(\.loss).filter(\.isFinite).max() ?? 0
    let points = chosen.frontier.filter { $0.loss > most * 1e-9 && $0.loss.isFinite }
    guard let first = points.first, let last = points.last, last.bytes > first.bytes,
      chosen.loss > 0
    else { return nil }
    let (top, bottom) = (decade(above: first.loss), decade(below: min(last.loss, chosen.loss)))
    func x(_ bytes: Int) -> Double {
      1000 * Double(bytes - first.bytes) / Double(last.bytes - first.bytes)
    }
    func y(_ loss: Double) -> Double {
      1000 * (log10(top) - log10(loss)) / max(1, log10(top) - log10(bottom))
    }
    let path = points.enumerated().map { index, point in
      "\(index == 0 ? "M" : "L")\(coordinate(x(point.bytes))) \(coordinate(y(point.loss)))"
    }.joined()
    var ticks: [Double] = []
    var tick = top
    while tick > bottom * 0.99 {
      ticks.append(tick)
      tick /= 10
    }
    let marks = ticks.map { tick -> HTML in
      """
      <span style="bottom:\(coordinate((1000 - y(tick)) / 10))%">\(lossText(tick))</span>
      """
    }
    let grid = ticks.map { tick -> HTML in
      "<path class=\"\(tick == ticks.last ? "axis" : "grid")\" d=\"M0 \(coordinate(y(tick)))h1000\"/>"
    }
    let names = (0...4).map { part -> HTML in
      let bytes = first.bytes + (last.bytes - first.bytes) * part / 4
      let side: HTML = [
        " class=\"first\"", " class=\"wide\"", "", " class=\"wide\"", " class=\"last\"",
      ][part]
      return "<span\(side) style=\"left:\(part * 25)%\">\(size(bytes))</span>"
    }
    let summary =
      "Predicted loss by size: \(lossText(first.loss)) at \(size(first.bytes)), \(lossText(chosen.loss)) at the "
      + "\(size(chosen.bytes)) that were chosen, \(lossText(last.loss)) at \(size(last.bytes))"
    return """
      <figure class="chart">
      <figcaption>Predicted loss by size <span class="keys"><span class="key after">best choice of each size</span> \
      <span class="key before">chosen</span> </span></figcaption>
      <div class="plot"><div class="y" aria-hidden="true">\(marks)</div>
      <svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="\(summary)">
      \(grid)<path class="line after" d="\(path)"/>\
      <path class="dots before" d="M\(coordinate(x(chosen.bytes))) \(coordinate(y(chosen.loss)))h0"/>\
      <rect class="hover" x="0" y="0" width="1000" height="1000"><title>\(summary)</title></rect></svg>
      <div class="x" aria-hidden="true">\(names)</div></div>
      <p class="axes">Across: size of the output. Up: predicted loss.</p>
      </figure>

      """
  }
}

private func decade(above value: Double) -> Double { pow(10, log10(value).rounded(.up)) }
private func decade(below value: Double) -> Double { pow(10, log10(value).rounded(.down)) }

/// Two digits: `0.0012`, `3.4e-06`.
private func lossText(_ value: Double) -> String {
  if value == 0 || !value.isFinite { return "0" }
  return "\(significant(value, digits: 2))"
}
