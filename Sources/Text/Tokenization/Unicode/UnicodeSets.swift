// The generated Unicode sets, ready for use by name.

/// A set of scalars as ascending ranges.
struct ScalarSet: Sendable {
  let ranges: [ClosedRange<UInt32>]
  private let ascii: [Bool]

  init(ranges: [ClosedRange<UInt32>]) {
    self.ranges = ranges
    ascii = (0..<128).map { scalar in ranges.contains { $0.contains(scalar) } }
  }

  /// - Parameter runs: lengths of the runs outside and inside, in turn.
  init(runs: String) {
    var ranges: [ClosedRange<UInt32>] = []
    var position: UInt32 = 0
    for (index, run) in runs.utf8.split(separator: UInt8(ascii: " ")).enumerated() {
      let length = number(run)
      if index % 2 == 1 { ranges.append(position...(position + length - 1)) }
      position += length
    }
    self.init(ranges: ranges)
  }

  /// Without single scalars.
  func subtracting(_ scalars: [UInt32]) -> ScalarSet {
    var result = ranges
    for scalar in scalars {
      result = result.flatMap { range -> [ClosedRange<UInt32>] in
        guard range.contains(scalar) else { return [range] }
        var parts: [ClosedRange<UInt32>] = []
        if range.lowerBound < scalar { parts.append(range.lowerBound...(scalar - 1)) }
        if scalar < range.upperBound { parts.append((scalar + 1)...range.upperBound) }
        return parts
      }
    }
    return ScalarSet(ranges: result)
  }

  func contains(_ scalar: UInt32) -> Bool {
    if scalar < 128 { return ascii[Int(scalar)] }
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < scalar { low = middle + 1 } else { high = middle }
    }
    return low < ranges.count && ranges[low].lowerBound <= scalar
  }
}

enum UnicodeSets {
  static let word = ScalarSet(runs: UnicodeTables.word)
  /// What `\w` is in brackets: the package's engine leaves six superscripts and fractions out there, which are word
  /// characters to it everywhere else.
  static let wordInBrackets = word.subtracting([0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE])
  static let space = ScalarSet(runs: UnicodeTables.space)
  static let wordNextToToken = ScalarSet(runs: UnicodeTables.wordNextToToken)
  static let numeric = ScalarSet(runs: UnicodeTables.numeric)
  static let punctuation = ScalarSet(runs: UnicodeTables.punctuation)
  static let decimal = properties["nd"]!

  /// The set of `\p{name}`; case, blanks, `-` and `_` do not matter, as in Oniguruma.
  static func property(_ name: String) -> ScalarSet? {
    let letters = name.lowercased().filter { !" -_".contains($0) }
    return properties[letters]
  }

  private static let properties: [String: ScalarSet] = {
    var ranges: [String: [ClosedRange<UInt32>]] = [:]
    for (name, range) in categoryRuns() {
      ranges[name.lowercased(), default: []].append(range)
      var groups = [name.prefix(1).lowercased()]
      if ["Lu", "Ll", "Lt"].contains(name) { groups.append("lc") }
      for group in groups {
        // Neighbouring categories of one group make one range.
        if let last = ranges[group]?.last, last.upperBound + 1 == range.lowerBound {
          ranges[group]![ranges[group]!.count - 1] = last.lowerBound...range.upperBound
        } else {
          ranges[group, default: []].append(range)
        }
      }
    }
    var sets = ranges.mapValues(ScalarSet.init(ranges:))
    // Source: Unicode's PropertyValueAliases.txt.
    let longNames = [
      ("letter", "l"), ("casedletter", "lc"), ("uppercaseletter", "lu"), ("lowercaseletter", "ll"),
      ("titlecaseletter", "lt"), ("modifierletter", "lm"), ("otherletter", "lo"),
      ("mark", "m"), ("combiningmark", "m"), ("nonspacingmark", "mn"), ("spacingmark", "mc"),
      ("enclosingmark", "me"),
      ("number", "n"), ("decimalnumber", "nd"), ("letternumber", "nl"), ("othernumber", "no"),
      ("punctuation", "p"), ("connectorpunctuation", "pc"), ("dashpunctuation", "pd"),
      ("openpunctuation", "ps"), ("closepunctuation", "pe"), ("initialpunctuation", "pi"),
      ("finalpunctuation", "pf"), ("otherpunctuation", "po"),
      ("symbol", "s"), ("mathsymbol", "sm"), ("currencysymbol", "sc"), ("modifiersymbol", "sk"),
      ("othersymbol", "so"),
      ("separator", "z"), ("spaceseparator", "zs"), ("lineseparator", "zl"),
      ("paragraphseparator", "zp"),
      ("other", "c"), ("control", "cc"), ("format", "cf"), ("privateuse", "co"),
      ("unassigned", "cn"),
    ]
    for (long, short) in longNames { sets[long] = sets[short] }
    for (name, runs) in UnicodeTables.scripts {
      sets[name.lowercased()] = ScalarSet(runs: runs)
    }
    sets["alphabetic"] = ScalarSet(runs: UnicodeTables.alphabetic)
    return sets
  }()

  private static func categoryRuns() -> [(String, ClosedRange<UInt32>)] {
    var runs: [(String, ClosedRange<UInt32>)] = []
    var position: UInt32 = 0
    var length: UInt32 = 0
    for byte in UnicodeTables.categories.utf8 {
      if byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") {
        length = length * 10 + UInt32(byte - UInt8(ascii: "0"))
        continue
      }
      let range = position...(position + length - 1)
      if byte >= UInt8(ascii: "a") {
        runs.append((UnicodeTables.categoryNames[Int(byte - UInt8(ascii: "a")) + 26], range))
      } else if byte >= UInt8(ascii: "A") {
        runs.append((UnicodeTables.categoryNames[Int(byte - UInt8(ascii: "A"))], range))
      }
      position += length
      length = 0
    }
    return runs
  }
}

/// The digits of a number in a generated table.
func number(_ digits: Substring.UTF8View, radix: UInt32 = 10) -> UInt32 {
  var value: UInt32 = 0
  for byte in digits {
    let digit = byte <= UInt8(ascii: "9") ? byte - UInt8(ascii: "0") : byte - UInt8(ascii: "a") + 10
    value = value * radix + UInt32(digit)
  }
  return value
}
