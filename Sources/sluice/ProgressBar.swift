// How far some work is, as one line: as a bar on a terminal of any width, as words elsewhere.

internal import JSON
internal import Pipeline
internal import Planning
internal import Reporting

/// A moment of some work.
struct ProgressMoment {
  let share: Double
  let secondsLeft: Double?
  /// The layer in work, from 0, and how many there are.
  var layer: (index: Int, count: LayerCount)?
  /// What is done to it.
  var step: String?
  var tokens: (done: Int, all: Int)?
  var tokensPerSecond: Double?
  /// While a file is read to its end: how much of it was.
  var read: Double?
  var residentBytes: Int?

  /// The longest bar, and the shortest that is worth its room, by how long its words are.
  private static let bars: [(detail: Detail, longest: Int, shortest: Int)] = [
    (.all, 30, 20), (.most, 24, 10), (.short, 24, 5),
  ]

  private enum Detail {
    case all, most, short
  }

  /// What fits a terminal: all words and a bar; fewer words; short ones; and where not even these leave room for a bar,
  /// the first of the words, so that none is ever cut.
  func pieces(columns: Int, cells: BarCells) -> [Piece] {
    // A terminal wraps what reaches its last column.
    let room = columns - 1
    let percent = Piece(percentText(share), .strong)
    for (detail, longest, shortest) in Self.bars {
      let gap = detail == .short ? " " : "  "
      let words = words(detail)
      let taken =
        ([percent.text, ""] + words).reduce(0) { $0 + $1.columns + gap.count } - gap.count
      if room - taken < shortest { continue }
      let bar = cells.bar(share, width: min(longest, room - taken))
      return [percent, Piece(gap)] + bar + words.map { Piece(gap + $0) }
    }
    return [Piece(fitting([percent.text] + words(.short), columns: room))]
  }

  /// Where lines stay: the most important first.
  var words: [String] { [percentText(share)] + words(.all) }

  private func words(_ detail: Detail) -> [String] {
    var words: [String] = []
    let isShort = detail == .short
    if let secondsLeft {
      words.append(isShort ? shortDuration(secondsLeft) : "ETA \(durationText(secondsLeft))")
    }
    if let (index, count) = layer {
      words.append(isShort ? count.shortPlace(of: index) : count.place(of: index))
    }
    if let step { words.append(step) }
    if detail == .all, let (done, all) = tokens, done > 0 { words.append("\(done)/\(all) tokens") }
    if let rate = tokensPerSecond.map({ Int(saturating: $0.rounded()) }) {
      words.append(isShort ? "\(rate)/s" : "\(rate) tokens/s")
    }
    if let read { words.append(isShort ? percentText(read) : "\(percentText(read)) of it read") }
    if detail == .all, let residentBytes { words.append(bytesText(residentBytes)) }
    return words
  }
}

extension ProgressMoment {
  init(_ progress: RunProgress, residentBytes: Int) {
    self.init(
      share: progress.share, secondsLeft: progress.secondsLeft,
      layer: progress.layer.map { ($0, progress.layers) }, step: progress.step.rawValue,
      tokens: (progress.tokensDone, progress.tokensInStep),
      tokensPerSecond: progress.tokensPerSecond, read: progress.checked,
      residentBytes: residentBytes)
  }
}

extension LayerCount {
  /// `31/91`, `mtp 92/92`.
  fileprivate func shortPlace(of layer: Int) -> String {
    layer < own ? "\(layer)/\(own - 1)" : "mtp \(layer)/\(own + predictions - 1)"
  }
}

/// What a bar is drawn with.
struct BarCells {
  let done: Character
  /// The cell that is half done.
  let half: Character
  let rest: Character

  static let lines = BarCells(done: "━", half: "╸", rest: "─")
  /// For a locale that is not UTF-8.
  static let ascii = BarCells(done: "#", half: "#", rest: "-")

  func bar(_ share: Double, width: Int) -> [Piece] {
    let halves = Int(saturating: (min(max(share, 0), 1) * Double(2 * width)).rounded(.down))
    let done =
      String(repeating: done, count: halves / 2) + (halves % 2 == 1 ? String(half) : "")
    return [
      Piece(done, .done), Piece(String(repeating: rest, count: width - done.count), .rest),
    ]
  }
}

/// A part of a line, and how it is shown where colours are wanted.
struct Piece {
  enum Style: String {
    case done = "32"
    case rest = "2"
    case strong = "1"
  }

  let text: String
  let style: Style?

  init(_ text: String, _ style: Style? = nil) {
    self.text = text
    self.style = style
  }
}

/// Shows the first parts of a line, as many as fit, so that none is ever cut. The most important come first.
func fitting(_ parts: [String], columns: Int) -> String {
  var line = ""
  for part in parts {
    let longer = line.isEmpty ? part : line + "  " + part
    if longer.columns > columns { break }
    line = longer
  }
  return line
}

/// "2h05m", "3m20s", "45s".
private func shortDuration(_ seconds: Double) -> String {
  durationText(seconds).replacing(" min", with: "m").filter { $0 != " " }
}
