// Shell patterns, and the paths that one stands for.

import Glibc

/// A pattern over the bytes of a name: `*` is any run, `?` any byte, `[a-c]` and `[!a-c]` are sets.
package struct Glob: Sendable {
  package enum Part: Sendable {
    case one(UInt8)
    case anyOne
    case anyRun
    case set([ClosedRange<UInt8>], negated: Bool)
  }

  /// No two runs stand side by side.
  package let parts: [Part]

  /// - Returns: nil for a `[` without `]`.
  package init?(_ text: some StringProtocol) {
    var parts: [Part] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "*"):
        if case .anyRun? = parts.last { continue }
        parts.append(.anyRun)
      case UInt8(ascii: "?"): parts.append(.anyOne)
      case UInt8(ascii: "["):
        // The first member may be a `]`.
        let members = rest.first == UInt8(ascii: "!") ? rest.dropFirst() : rest
        guard let end = members.dropFirst().firstIndex(of: UInt8(ascii: "]")) else { return nil }
        parts.append(Self.set(rest[rest.startIndex..<end]))
        rest = rest[(end + 1)...]
      default: parts.append(.one(byte))
      }
    }
    self.parts = parts
  }

  /// - Parameter members: what stands between the brackets.
  private static func set(_ members: ArraySlice<UInt8>) -> Part {
    var members = members
    let negated = members.first == UInt8(ascii: "!")
    if negated { members.removeFirst() }
    var set: [ClosedRange<UInt8>] = []
    while let low = members.popFirst() {
      if members.first == UInt8(ascii: "-"), let high = members.dropFirst().first, low <= high {
        set.append(low...high)
        members = members.dropFirst(2)
      } else {
        set.append(low...low)
      }
    }
    return .set(set, negated: negated)
  }

  /// Whether the whole name fits. Takes no longer than parts times bytes: only the last run is ever made longer, as a longer
  /// run before it could match nothing more.
  package func matches(_ name: some StringProtocol) -> Bool {
    let name = Array(name.utf8)
    var (part, byte) = (0, 0)
    var lastRun: (part: Int, byte: Int)?
    while true {
      if part < parts.count, case .anyRun = parts[part] {
        lastRun = (part, byte)
        part += 1
      } else if part < parts.count, byte < name.count, parts[part].fits(name[byte]) {
        part += 1
        byte += 1
      } else if part == parts.count, byte == name.count {
        return true
      } else if let run = lastRun, run.byte < name.count {
        lastRun = (run.part, run.byte + 1)
        (part, byte) = (run.part + 1, run.byte + 1)
      } else {
        return false
      }
    }
  }
}

extension Glob.Part {
  fileprivate func fits(_ byte: UInt8) -> Bool {
    switch self {
    case .one(let expected): byte == expected
    case .anyOne, .anyRun: true
    case .set(let ranges, let negated): ranges.contains { $0.contains(byte) } != negated
    }
  }
}

extension Glob {
  /// A regular expression for what the pattern matches, if nothing may stand before it and behind it.
  package var expression: String { String(decoding: parts.flatMap(\.expression), as: UTF8.self) }
}

extension Glob.Part {
  fileprivate var expression: [UInt8] {
    // Some of these have a meaning only in the sets of some dialects.
    func escaped(_ byte: UInt8) -> [UInt8] {
      "\\^$.|?*+()[]{}-&~".utf8.contains(byte) ? [UInt8(ascii: "\\"), byte] : [byte]
    }
    return switch self {
    case .one(let byte): escaped(byte)
    case .anyOne: Array(".".utf8)
    case .anyRun: Array(".*".utf8)
    case .set(let ranges, let negated):
      Array((negated ? "[^" : "[").utf8)
        + ranges.flatMap {
          escaped($0.lowerBound)
            + ($0.count > 1 ? [UInt8(ascii: "-")] + escaped($0.upperBound) : [])
        } + Array("]".utf8)
    }
  }
}

extension FileSystem {
  /// Whether `path` reads as a pattern: it holds `*`, `?` or `[`.
  package static func isPattern(_ path: some StringProtocol) -> Bool {
    path.utf8.contains {
      $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "[")
    }
  }

  /// The existing paths that `pattern` stands for, sorted; none where it fits nothing. `*` matches no slash, and a hidden
  /// name only behind a dot that is written. A folder on the way that cannot be read is an error.
  package static func matches(_ pattern: String) throws(SystemError) -> [String] {
    var found = [pattern.hasPrefix("/") ? "/" : ""]
    var isBranched = false
    for component in pattern.split(separator: "/") {
      var next: [String] = []
      let glob = isPattern(component) ? Glob(component) : nil
      for folder in found {
        let base = folder.isEmpty || folder == "/" ? folder : folder + "/"
        if let glob {
          if isBranched, !isFolder(folder) { continue }
          next += try list(folder.isEmpty ? "." : folder)
            .filter { (component.hasPrefix(".") || !$0.hasPrefix(".")) && glob.matches($0) }
            .map { base + $0 }
        } else if exists(base + component) {
          next.append(base + component)
        } else if !isBranched {
          throw SystemError(path: base + component, call: "open", code: ENOENT)
        }
      }
      if glob != nil { isBranched = true }
      found = next
    }
    return found.sorted()
  }
}
