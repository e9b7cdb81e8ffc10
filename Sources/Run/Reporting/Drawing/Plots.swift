// Plots over the layers. Text stands outside the drawing, so that it keeps its size when the drawing is stretched.

internal import JSON

/// A line of a plot: a value for each layer, or none.
struct Series {
  let name: String
  /// A class of the style sheet, which gives the colour.
  let style: HTML
  let values: [Double?]
}

struct LayerPlot {
  let title: HTML
  /// What the plot shows, for those who do not see it.
  let summary: String
  let layers: [Int]
  let series: [Series]
  /// Values as text.
  let text: (Double) -> String
  /// What the values are, for the name of their axis.
  let measure: String
  /// A level to hold the values against.
  var reference: Double?
  /// The axis ends at this value or above it: a plot of shares goes up to the whole, however small its values are.
  var smallestTop = 0.0

  /// The drawing's own units.
  private static let extent = 1000.0

  private var scale: Scale {
    Scale(
      upTo: max(series.flatMap(\.values).compactMap { $0 }.max() ?? 0, smallestTop, reference ?? 0))
  }

  private func x(_ index: Int) -> String {
    coordinate(Self.extent * (Double(index) + 0.5) / Double(layers.count))
  }

  private func y(_ value: Double) -> String {
    coordinate(Self.extent * (1 - value / scale.top))
  }

  var html: HTML {
    let isDense = layers.count > 40
    return """
      <figure class="chart\(isDense ? " dense" : "")">
      <figcaption>\(title)\(legend)</figcaption>
      <div class="plot"><div class="y" aria-hidden="true">\(scale.ticks.map(tick))</div>
      <svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="\(summary)">
      \(scale.ticks.map(grid))\(referenceLine)\(connections)\(series.map(draw))\(hovers)</svg>
      <div class="x" aria-hidden="true">\(names)</div></div>
      <p class="axes">Across: layers. Up: \(measure).</p>
      </figure>

      """
  }

  private var legend: HTML? {
    if series.count < 2 { return nil }
    let keys = series.map { one -> HTML in
      "<span class=\"key \(one.style)\">\(one.name)</span> "
    }
    return " <span class=\"keys\">\(keys)</span>"
  }

  private func tick(_ value: Double) -> HTML {
    "<span style=\"bottom:\(coordinate(100 * value / scale.top))%\">\(text(value))</span>"
  }

  private func grid(_ value: Double) -> HTML {
    "<path class=\"\(value == 0 ? "axis" : "grid")\" d=\"M0 \(y(value))h1000\"/>"
  }

  private var referenceLine: HTML? {
    reference.map { "<path class=\"reference\" d=\"M0 \(y($0))h1000\"/>" }
  }

  /// What each layer gained: a line from the first series to the last.
  private var connections: HTML? {
    guard series.count > 1 else { return nil }
    let lines = layers.indices.compactMap { index -> HTML? in
      guard let from = series[0].values[index], let to = series[series.count - 1].values[index]
      else { return nil }
      return "M\(x(index)) \(y(from))V\(y(to))"
    }
    return "<path class=\"gain\" d=\"\(lines)\"/>"
  }

  private func draw(_ one: Series) -> HTML {
    var line = ""
    var dots = ""
    var isDrawing = false
    for (index, value) in one.values.enumerated() {
      if let value {
        line += "\(isDrawing ? "L" : "M")\(x(index)) \(y(value))"
        dots += "M\(x(index)) \(y(value))h0"
      }
      isDrawing = value != nil
    }
    return
      "<path class=\"line \(one.style)\" d=\"\(line)\"/><path class=\"dots \(one.style)\" d=\"\(dots)\"/>"
  }

  /// Numbers under the pointer.
  private var hovers: [HTML] {
    let width = Self.extent / Double(layers.count)
    return layers.indices.map { index in
      let values = series.map { one in
        (series.count > 1 ? "\(one.name) " : "") + (one.values[index].map(text) ?? "–")
      }
      return """
        <rect class="hover" x="\(coordinate(width * Double(index)))" y="0" \
        width="\(coordinate(width))" height="1000">\
        <title>layer \(layers[index]): \(values.joined(separator: ", "))</title></rect>
        """
    }
  }

  private var names: [HTML] { axisNames(layers, extent: layers.count, side: "left") }
}

/// Some of the numbers along an axis, as many as can be read on a small screen.
func axisNames(_ numbers: [Int], extent: Int, side: HTML, most: Int = 9) -> [HTML] {
  let step = [1, 2, 5, 10, 20, 50, 100, 200, 500].first { extent <= $0 * most } ?? 1000
  return numbers.enumerated().filter { $0.element % step == 0 }.map { index, number in
    let place = coordinate(100 * (Double(index) + 0.5) / Double(max(1, extent)))
    return "<span style=\"\(side):\(place)%\">\(number)</span>"
  }
}

/// A scale from 0 to a round number.
struct Scale {
  let ticks: [Double]
  let top: Double

  init(upTo largest: Double) {
    if largest < 1e-100 || !largest.isFinite {
      (ticks, top) = ([0, 1], 1)
      return
    }
    var step = 1.0
    while step > largest / 4 { step /= 10 }
    while step * 10 <= largest / 4 { step *= 10 }
    // Between a quarter of the largest and ten times less: three to five ticks.
    let unit = step
    step = [1, 2, 2.5, 5, 10].map { $0 * unit }.first { largest / $0 <= 4.001 } ?? unit * 10
    let count = Int(saturating: (largest / step - 1e-9).rounded(.up))
    ticks = (0...count).map { Double($0) * step }
    top = Double(count) * step
  }
}

/// How a value runs through the layers, the height of a line of text.
func sparkline(_ values: [Double?], style: HTML, summary: String) -> HTML? {
  let known = values.compactMap { $0 }
  guard known.count > 1, let largest = known.max(), largest > 0 else { return nil }
  var path = ""
  var isDrawing = false
  for (index, value) in values.enumerated() {
    if let value {
      let x = 100 * Double(index) / Double(max(1, values.count - 1))
      path += "\(isDrawing ? "L" : "M")\(coordinate(x)) \(coordinate(22 - 20 * value / largest))"
    }
    isDrawing = value != nil
  }
  return """
    <svg class="spark" viewBox="-1 0 102 24" preserveAspectRatio="none" role="img" \
    aria-label="\(summary)"><path class="grid" d="M0 22h100"/>\
    <path class="line \(style)" d="\(path)"/></svg>
    """
}

/// How often each exponent between 0 and 1 was chosen.
func exponentHistogram(_ summary: SmoothingSummary, step: Double) -> HTML {
  let largest = Double(summary.exponents.map(\.count).max() ?? 1)
  let bars = summary.exponents.map { entry -> HTML in
    let height = max(1.5, 22 * Double(entry.count) / largest)
    let x = 100 * entry.exponent / (1 + step)
    return """
      <rect x="\(coordinate(x))" y="\(coordinate(24 - height))" \
      width="\(coordinate(82 * step / (1 + step)))" height="\(coordinate(height))">\
      <title>exponent \(figure(entry.exponent)): \(entry.count)</title></rect>
      """
  }
  let most = summary.exponents.max { $0.count < $1.count }
  return """
    <svg class="spark bars" viewBox="0 0 100 25" preserveAspectRatio="none" role="img" \
    aria-label="most often \(figure(most?.exponent ?? 0)), \(most?.count ?? 0) times">\
    \(bars)<path class="axis" d="M0 24.5h100"/></svg>
    """
}

/// The step of the grid that exponents lie on.
func gridStep(_ exponents: some Sequence<Double>) -> Double {
  let sorted = Set(exponents).sorted()
  let steps = zip(sorted.dropFirst(), sorted).map { $0 - $1 }.filter { $0 > 1e-4 }
  return min(steps.min() ?? 0.05, 0.06)
}

/// A number in a drawing: as many digits as can be seen.
func coordinate(_ value: Double) -> String {
  let rounded = (value * 10).rounded() / 10
  return rounded == rounded.rounded() ? "\(Int(saturating: rounded))" : "\(rounded)"
}
