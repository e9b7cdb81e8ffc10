// Unicode normalization form C as of Unicode 9, the version the tokenizers package normalizes by.

/// Source: Unicode Standard Annex #15. Scalars that came after Unicode 9 stay as they are.
enum CanonicalComposition {
  /// Whether no scalar of the text could be changed: certain for text below U+0300, the usual case.
  static func isUnchanged(_ text: [UInt8]) -> Bool {
    var position = 0
    while position < text.count {
      if text[position] < 0xCC {
        position += 1
        continue
      }
      let (value, end) = scalar(in: text, at: position)
      if tables.isInert(value) { position = end } else { return false }
    }
    return true
  }

  static func compose(_ text: [UInt8], _ range: Range<Int>, into result: inout [UInt8]) {
    var position = range.lowerBound
    // Text up to here has been written.
    var done = position
    // The last scalar that takes no part in anything before it, where a changed stretch starts.
    var boundary = position
    while position < range.upperBound {
      let (value, end) = scalar(in: text, at: position)
      if tables.isInert(value) {
        boundary = position
        position = end
        continue
      }
      // From the boundary to the next inert scalar; it starts a new stretch itself.
      var stop = end
      while stop < range.upperBound {
        let (value, end) = scalar(in: text, at: stop)
        if tables.isInert(value) { break }
        stop = end
      }
      result += text[done..<boundary]
      composeStretch(text, boundary..<stop, into: &result)
      done = stop
      boundary = stop
      position = stop
    }
    result += text[done..<range.upperBound]
  }

  private static func composeStretch(
    _ text: [UInt8], _ range: Range<Int>, into result: inout [UInt8]
  ) {
    var scalars: [UInt32] = []
    var position = range.lowerBound
    while position < range.upperBound {
      let (value, end) = scalar(in: text, at: position)
      decompose(value, into: &scalars)
      position = end
    }
    order(&scalars)
    for value in composed(scalars) { append(value, to: &result) }
  }

  private static func decompose(_ scalar: UInt32, into scalars: inout [UInt32]) {
    if hangul.contains(scalar) {
      let index = scalar - hangul.lowerBound
      scalars.append(0x1100 + index / 588)
      scalars.append(0x1161 + index % 588 / 28)
      if index % 28 != 0 { scalars.append(0x11A7 + index % 28) }
    } else if let (first, second) = tables.decompositions[scalar] {
      decompose(first, into: &scalars)
      if second != 0 { scalars.append(second) }
    } else {
      scalars.append(scalar)
    }
  }

  /// Puts combining marks in the order of their classes, keeping the order within one class.
  private static func order(_ scalars: inout [UInt32]) {
    var start = 0
    while start < scalars.count {
      if tables.combiningClass(scalars[start]) == 0 {
        start += 1
        continue
      }
      var end = start
      while end < scalars.count, tables.combiningClass(scalars[end]) != 0 { end += 1 }
      let marks = scalars[start..<end].enumerated().sorted { left, right in
        let leftClass = tables.combiningClass(left.element)
        let rightClass = tables.combiningClass(right.element)
        return (leftClass, left.offset) < (rightClass, right.offset)
      }
      scalars.replaceSubrange(start..<end, with: marks.map(\.element))
      start = end
    }
  }

  private static func composed(_ scalars: [UInt32]) -> [UInt32] {
    var result: [UInt32] = []
    var starter: Int?
    var lastClass: UInt8 = 0
    for scalar in scalars {
      let combiningClass = tables.combiningClass(scalar)
      if let starter {
        // Nothing of this class or a higher one may lie between the two.
        let isAdjacent = starter == result.count - 1
        if isAdjacent || (lastClass != 0 && lastClass < combiningClass),
          let pair = composition(result[starter], scalar)
        {
          result[starter] = pair
          continue
        }
      }
      if combiningClass == 0 { starter = result.count }
      lastClass = combiningClass
      result.append(scalar)
    }
    return result
  }

  private static func composition(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if (0x1100..<0x1113).contains(first), (0x1161..<0x1176).contains(second) {
      return hangul.lowerBound + (first - 0x1100) * 588 + (second - 0x1161) * 28
    }
    if hangul.contains(first), (first - hangul.lowerBound) % 28 == 0,
      (0x11A8..<0x11C3).contains(second)
    {
      return first + second - 0x11A7
    }
    return tables.compositions[UInt64(first) << 32 | UInt64(second)]
  }

  private static let hangul: ClosedRange<UInt32> = 0xAC00...0xD7A3

  // MARK: Tables

  private struct Tables: Sendable {
    var decompositions: [UInt32: (UInt32, UInt32)] = [:]
    var compositions: [UInt64: UInt32] = [:]
    var classes: [UInt32: UInt8] = [:]
    /// Bits of the scalars that are changed by, or change, what stands before them.
    var active = [UInt64](repeating: 0, count: 0x30000 / 64)

    func isInert(_ scalar: UInt32) -> Bool {
      if scalar < 0x300 { return true }
      // Nothing above plane 2 decomposes or combines in Unicode 9.
      if scalar >= 0x30000 { return true }
      return active[Int(scalar / 64)] & 1 << UInt64(scalar % 64) == 0
    }

    func combiningClass(_ scalar: UInt32) -> UInt8 {
      isInert(scalar) ? 0 : classes[scalar] ?? 0
    }

    mutating func activate(_ scalar: UInt32) {
      active[Int(scalar / 64)] |= 1 << UInt64(scalar % 64)
    }
  }

  private static let tables: Tables = {
    var tables = Tables()
    let blank = UInt8(ascii: " ")
    var position: UInt32 = 0
    for entry in UnicodeTables.decompositions.utf8.split(separator: blank) {
      var parts = entry
      let isExcluded = parts.last == UInt8(ascii: "!")
      if isExcluded { parts.removeLast() }
      let sides = parts.split(separator: UInt8(ascii: "="))
      let values = sides[1].split(separator: UInt8(ascii: "+")).map { number($0, radix: 16) }
      position += number(sides[0], radix: 16)
      let second = values.count > 1 ? values[1] : 0
      tables.decompositions[position] = (values[0], second)
      if isExcluded {
        tables.activate(position)
      } else {
        tables.compositions[UInt64(values[0]) << 32 | UInt64(second)] = position
        tables.activate(second)
      }
    }
    position = 0
    for entry in UnicodeTables.combiningClasses.utf8.split(separator: blank) {
      let values = entry.split(separator: UInt8(ascii: ",")).map { number($0, radix: 16) }
      position += values[0]
      for _ in 0..<values[1] {
        tables.classes[position] = UInt8(values[2])
        tables.activate(position)
        position += 1
      }
    }
    // Vowels and final consonants join the Hangul syllable before them.
    for scalar: UInt32 in 0x1161..<0x1176 { tables.activate(scalar) }
    for scalar: UInt32 in 0x11A8..<0x11C3 { tables.activate(scalar) }
    return tables
  }()
}
