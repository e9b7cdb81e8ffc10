// Experts across, layers down: how many tokens each expert got, at a glance for 92 layers of 160 experts.

/// What an expert's load is called, from least to most.
enum LoadClass: Int, CaseIterable {
  case none
  case thin
  case underHalf
  case underOne
  case underTwo
  case underFour
  case more

  init(_ expert: Int, of balance: RoutingBalance) {
    let share =
      balance.evenShare > 0 ? Double(balance.tokens[expert]) / balance.evenShare : 0
    self =
      balance.tokens[expert] == 0
      ? .none
      : balance.isThin(expert)
        ? .thin
        : share < 0.5
          ? .underHalf
          : share < 1 ? .underOne : share < 2 ? .underTwo : share < 4 ? .underFour : .more
  }

  var name: String {
    switch self {
    case .none: "no token"
    case .thin: "thin"
    case .underHalf: "less than ½ of the even share"
    case .underOne: "½ to 1"
    case .underTwo: "1 to 2"
    case .underFour: "2 to 4"
    case .more: "4 and more"
    }
  }

  /// A class of the style sheet.
  var style: HTML { "load\(rawValue)" }
}

struct HeatMap {
  let balances: [RoutingBalance]
  let summary: String

  /// With more cells than this, cells have no texts of their own.
  private static let mostHovers = 600

  private var experts: Int { balances.map(\.tokens.count).max() ?? 0 }

  /// The height of a row in pixels: at least what can be seen, at most what is needed.
  private var rowHeight: Int { max(5, min(22, 460 / max(1, balances.count))) }

  var html: HTML {
    let (columns, rows) = (experts, balances.count)
    return """
      <figure class="chart heat">
      <figcaption>Tokens of each expert, against the even share <span class="keys">\(keys)</span>\
      </figcaption>
      <div class="plot" style="--height:\(rows * rowHeight)px;--width:\(columns * 34)px">\
      <div class="y" aria-hidden="true">\(layerNames)</div>
      <svg viewBox="0 0 \(columns) \(rows)" preserveAspectRatio="none" role="img" \
      aria-label="\(summary)">
      \(LoadClass.allCases.compactMap(cells))\(gaps)\(hovers)</svg>
      <div class="x" aria-hidden="true">\(axisNames(Array(0..<columns), extent: columns, side: "left"))\
      </div></div>
      <p class="axes">Across: experts. Down: layers.</p>
      </figure>

      """
  }

  private var keys: [HTML] {
    let used = Set(
      balances.flatMap { balance in balance.tokens.indices.map { LoadClass($0, of: balance) } })
    return LoadClass.allCases.filter(used.contains).map {
      "<span class=\"key box \($0.style)\">\($0.name)</span> "
    }
  }

  private var layerNames: [HTML] {
    axisNames(
      balances.map(\.layer), extent: balances.count, side: "top",
      most: max(2, balances.count * rowHeight / 18))
  }

  /// All cells of a class as one path: neighbours in a row are drawn together.
  private func cells(_ load: LoadClass) -> HTML? {
    var path = ""
    for (row, balance) in balances.enumerated() {
      var start: Int?
      for expert in 0...balance.tokens.count {
        let isIn = expert < balance.tokens.count && LoadClass(expert, of: balance) == load
        if isIn, start == nil { start = expert }
        if !isIn, let first = start {
          path += "M\(first) \(row)h\(expert - first)v1h-\(expert - first)z"
          start = nil
        }
      }
    }
    return path.isEmpty ? nil : "<path class=\"\(load.style)\" d=\"\(path)\"/>"
  }

  /// The gap between cells that are large enough to have one.
  private var gaps: HTML? {
    let rows =
      balances.count <= 46 ? (1..<max(1, balances.count)).map { "M0 \($0)h\(experts)" } : []
    let columns = experts <= 64 ? (1..<max(1, experts)).map { "M\($0) 0v\(balances.count)" } : []
    return "<path class=\"gaps\" d=\"\((rows + columns).joined())\"/>"
  }

  private var hovers: [HTML] {
    if balances.count * experts > Self.mostHovers { return [] }
    return balances.enumerated().flatMap { row, balance in
      balance.tokens.indices.map { expert -> HTML in
        """
        <rect class="hover" x="\(expert)" y="\(row)" width="1" height="1"><title>layer \
        \(balance.layer), expert \(expert): \(counted(balance.tokens[expert], "token"))</title></rect>
        """
      }
    }
  }
}
