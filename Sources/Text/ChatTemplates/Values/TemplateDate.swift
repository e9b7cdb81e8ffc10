// The moment a template takes for now, so that renders can be repeated.

package struct TemplateDate: Sendable, Equatable {
  package let year: Int
  package let month: Int
  package let day: Int
  package let hour: Int
  package let minute: Int
  package let second: Int

  /// Nil where there is no such moment.
  package init?(
    year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0
  ) {
    guard (1...9999).contains(year), (1...12).contains(month),
      (1...Self.days(month: month, year: year)).contains(day), (0..<24).contains(hour),
      (0..<60).contains(minute), (0..<60).contains(second)
    else { return nil }
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
  }

  /// From `2026-07-31`, `2026-07-31T12:30` or `2026-07-31T12:30:00`.
  package init?(_ text: String) {
    let halves = text.split(separator: "T", omittingEmptySubsequences: false)
    func numbers(_ text: Substring, _ separator: Character, _ widths: [Int]) -> [Int]? {
      let parts = text.split(separator: separator, omittingEmptySubsequences: false)
      guard parts.count <= widths.count,
        zip(parts, widths).allSatisfy({ part, width in
          part.utf8.count == width && part.utf8.allSatisfy { (48...57).contains($0) }
        })
      else { return nil }
      return parts.compactMap { Int($0) }
    }
    guard (1...2).contains(halves.count), let date = numbers(halves[0], "-", [4, 2, 2]),
      date.count == 3
    else { return nil }
    var time = [0, 0, 0]
    if halves.count == 2 {
      guard let given = numbers(halves[1], ":", [2, 2, 2]), given.count >= 2 else { return nil }
      time.replaceSubrange(0..<given.count, with: given)
    }
    self.init(
      year: date[0], month: date[1], day: date[2], hour: time[0], minute: time[1], second: time[2])
  }

  // MARK: Calendar

  private static func days(month: Int, year: Int) -> Int {
    if month == 2 { return isLeap(year) ? 29 : 28 }
    return [4, 6, 9, 11].contains(month) ? 30 : 31
  }

  private static func isLeap(_ year: Int) -> Bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
  }

  /// From 0, the first of January.
  private var dayOfYear: Int {
    (1..<month).reduce(day - 1) { $0 + Self.days(month: $1, year: year) }
  }

  /// Sunday is 0.
  private var weekday: Int {
    let before = year - 1
    return (before * 365 + before / 4 - before / 100 + before / 400 + dayOfYear + 1) % 7
  }

  /// The week by ISO 8601 and the year it belongs to.
  private var isoWeek: (year: Int, week: Int) {
    let monday = (weekday + 6) % 7
    let week = (dayOfYear - monday + 10) / 7
    if week < 1 {
      let last = TemplateDate(year: year - 1, month: 12, day: 31)
      return last?.isoWeek ?? (year - 1, 52)
    }
    let daysLeft = (Self.isLeap(year) ? 365 : 364) - dayOfYear
    return week == 53 && daysLeft < 3 - monday ? (year + 1, 1) : (year, week)
  }

  // MARK: strftime

  private static let weekdays = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  ]
  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
  ]

  private static let longestFormat = 4096

  /// `datetime.strftime` as glibc does it in the C locale, with its flags `-`, `_`, `0`, `^`.
  func formatted(_ format: String) throws(Fault) -> String {
    let format = Scalars(format.unicodeScalars)
    guard format.count <= Self.longestFormat else {
      throw Fault(.tooLarge, "a date format of more than \(Self.longestFormat) characters")
    }
    var result = ""
    var position = 0
    while position < format.count {
      let start = position
      position += 1
      guard format[start] == "%" else {
        result.unicodeScalars.append(format[start])
        continue
      }
      var flag: Unicode.Scalar?
      while position < format.count, "-_0^#".unicodeScalars.contains(format[position]) {
        flag = format[position]
        position += 1
      }
      guard position < format.count else {
        result += String(format[start...])
        break
      }
      position += 1
      if let text = try field(format[position - 1], flag) {
        result += text
      } else {
        // glibc leaves what it does not know.
        result += String(format[start..<position])
      }
    }
    return result
  }

  private func field(_ code: Unicode.Scalar, _ flag: Unicode.Scalar?) throws(Fault) -> String? {
    func number(_ value: Int, _ width: Int, _ padding: Unicode.Scalar = "0") -> String {
      let digits = String(value)
      let fill = flag == "_" ? " " : flag == "0" ? "0" : padding
      let missing = flag == "-" ? 0 : max(0, width - digits.utf8.count)
      return String(repeating: String(fill), count: missing) + digits
    }
    func name(_ text: String) -> String { flag == "^" || flag == "#" ? uppercased(text) : text }
    let twelve = hour % 12 == 0 ? 12 : hour % 12
    switch code {
    case "a": return name(String(Self.weekdays[weekday].prefix(3)))
    case "A": return name(Self.weekdays[weekday])
    case "b", "h": return name(String(Self.months[month - 1].prefix(3)))
    case "B": return name(Self.months[month - 1])
    case "c": return name(try formatted("%a %b %e %H:%M:%S %Y"))
    case "C": return number(year / 100, 2)
    case "d": return number(day, 2)
    case "D", "x": return try formatted("%m/%d/%y")
    case "e": return number(day, 2, " ")
    case "f": return "000000"
    case "F": return try formatted("%Y-%m-%d")
    case "g": return number(isoWeek.year % 100, 2)
    case "G": return number(isoWeek.year, 1)
    case "H": return number(hour, 2)
    case "I": return number(twelve, 2)
    case "j": return number(dayOfYear + 1, 3)
    case "k": return number(hour, 2, " ")
    case "l": return number(twelve, 2, " ")
    case "m": return number(month, 2)
    case "M": return number(minute, 2)
    case "n": return "\n"
    case "p": return flag == "#" ? (hour < 12 ? "am" : "pm") : hour < 12 ? "AM" : "PM"
    case "P": return hour < 12 ? "am" : "pm"
    case "r": return try formatted("%I:%M:%S %p")
    case "R": return try formatted("%H:%M")
    case "s": throw .failed("the format `%s` of `strftime_now` is not supported")
    case "S": return number(second, 2)
    case "t": return "\t"
    case "T", "X": return try formatted("%H:%M:%S")
    case "u": return number(weekday == 0 ? 7 : weekday, 1)
    case "U": return number((dayOfYear + 7 - weekday) / 7, 2)
    case "V": return number(isoWeek.week, 2)
    case "w": return number(weekday, 1)
    case "W": return number((dayOfYear + 7 - (weekday + 6) % 7) / 7, 2)
    case "y": return number(year % 100, 2)
    case "Y": return number(year, 1)
    // A moment without a time zone, as `datetime.now()` is.
    case "z", "Z": return ""
    case "%": return "%"
    default: return nil
    }
  }
}

extension TemplateDate: CustomStringConvertible {
  /// As `init(_:)` reads it.
  package var description: String {
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let fourDigits = String(repeating: "0", count: 4 - "\(year)".count) + "\(year)"
    return "\(fourDigits)-\(two(month))-\(two(day))T\(two(hour)):\(two(minute)):\(two(second))"
  }
}
