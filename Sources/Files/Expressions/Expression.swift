// Regular expressions that end: Oniguruma, with a bound on what a search may try.

internal import COniguruma
internal import Glibc

/// A compiled regular expression.
@safe package final class Expression: Sendable {
  package enum Syntax: Sendable {
    /// What the tokenizers package compiles with.
    case oniguruma
    /// What Python's `re` reads.
    case python
  }

  package enum Problem: Error, Equatable {
    case malformed(String)
    /// The search was given up: nested repetitions can try for ever.
    case endless
    /// A greedy repetition keeps a place to come back to for every character of a run, and a run had too many.
    case longRun

    package var text: String {
      switch self {
      case .malformed(let text): text
      case .endless:
        "it tries too many ways to match; repetitions inside of repetitions, such as `(.+)+`, do that"
      case .longRun:
        "a run of characters in it, such as letters or blanks, goes on for too long: it would keep "
          + "more than 2 million places to come back to"
      }
    }
  }

  // Compiled once, freed with the last owner, and only read in between: Oniguruma allows searches
  // from several threads as long as each has a region of its own.
  nonisolated(unsafe) private let regex: OnigRegex

  private static let initialized = oniguruma_initialize()

  package init(_ source: String, _ syntax: Syntax) throws(Problem) {
    guard Self.initialized == ONIG_NORMAL else { throw .malformed("Oniguruma does not start") }
    let pattern = Array(source.utf8)
    var compiled: OnigRegex?
    var problem = unsafe OnigErrorInfo()
    let code = unsafe oniguruma_compile(
      &compiled, pattern, pattern.count, syntax == .python, &problem)
    guard code == ONIG_NORMAL, let compiled = unsafe compiled else {
      throw .malformed(unsafe Self.message(code, &problem))
    }
    unsafe regex = compiled
  }

  deinit { unsafe onig_free(regex) }

  /// What one thread needs to search, and what the searches of one text may try.
  @safe package final class Search {
    nonisolated(unsafe) fileprivate let region: UnsafeMutablePointer<OnigRegion>
    nonisolated(unsafe) fileprivate let bounds: OpaquePointer
    private let kind: Kind
    /// Tries that are left.
    fileprivate var left = 0
    /// Calls of the engine for this text, and the processor time of this thread when it began.
    private var calls = 0
    private var started = 0.0
    /// Processor time of searches that took more than the first tries, of names.
    private var spent = 0.0

    package enum Kind: Sendable {
      /// A text at a time, of any size.
      case text
      /// Many short names.
      case names
    }

    package init(_ kind: Kind) {
      self.kind = kind
      guard let region = unsafe onig_region_new(), let bounds = unsafe onig_new_match_param() else {
        fatalError("no memory for a search")
      }
      unsafe self.region = unsafe region
      unsafe self.bounds = unsafe bounds
      unsafe onig_initialize_match_param(bounds)
      unsafe onig_set_match_stack_limit_size_of_match_param(bounds, Self.deepest)
      begin(bytes: 0)
    }

    deinit {
      unsafe onig_region_free(region, 1)
      unsafe onig_free_match_param(bounds)
    }

    /// A new text of so many bytes. What may be tried grows with it, so that every sound expression has enough.
    package func begin(bytes: Int) {
      left = kind == .names ? 1_000_000_000 : Self.mostTries + 64 * min(bytes, 1 << 40)
      calls = 0
      started = Self.processorSeconds()
    }

    /// The engine counts tries, not the bytes that each of them looks at. So a text is also given up where it takes far
    /// longer than with any sound expression.
    fileprivate func checkTime() throws(Problem) {
      if kind == .names { return }
      calls += 1
      if calls % 256 != 0 { return }
      if Self.processorSeconds() - started > Self.mostSeconds { throw .endless }
    }

    /// Names come one by one, with other work between them: only their searches count, and a search that ends within the
    /// first tries takes no time to speak of.
    fileprivate func timed<R>(_ isLong: Bool, _ body: () -> R) throws(Problem) -> R {
      if kind == .text || !isLong { return body() }
      let begun = Self.processorSeconds()
      let result = body()
      spent += Self.processorSeconds() - begun
      if spent > Self.mostSeconds { throw .endless }
      return result
    }

    private static let mostSeconds = 30.0

    private static func processorSeconds() -> Double {
      var time = timespec()
      unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
      return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    /// What one search may try.
    fileprivate var most: Int { kind == .names ? Self.mostTries / 10 : .max }

    private static let mostTries = 20_000_000

    /// How many places to come back to a search may hold: some 100 MB.
    private static let deepest: CUnsignedInt = 2 << 20
  }

  /// How many tries a search gets at first. Nearly all need fewer; one that needs more begins again, and both count.
  private static let firstTries = 512

  /// Whether a match begins where `text` does.
  package func matches(startOf text: String, _ search: Search) throws(Problem) -> Bool {
    let bytes = Array(text.utf8)
    return try unsafe bytes.withUnsafeBufferPointer { bytes throws(Problem) in
      try unsafe firstMatch(in: bytes, from: 0, isAnchored: true, search) != nil
    }
  }

  /// The first match in `text` from `start` on; at `start` alone where `isAnchored`.
  package func firstMatch(
    in text: UnsafeBufferPointer<UInt8>, from start: Int, isAnchored: Bool = false,
    _ search: Search
  ) throws(Problem) -> Range<Int>? {
    var empty: UInt8 = 0
    return try unsafe withUnsafePointer(to: &empty) { placeholder throws(Problem) in
      let base = unsafe text.baseAddress ?? placeholder
      let end = unsafe base + text.count
      let (region, bounds) = unsafe (search.region, search.bounds)
      var tries = Self.firstTries
      while true {
        try search.checkTime()
        unsafe onig_set_retry_limit_in_match_of_match_param(bounds, CUnsignedLong(tries))
        unsafe onig_set_retry_limit_in_search_of_match_param(bounds, CUnsignedLong(tries))
        let found = try search.timed(tries > Self.firstTries) {
          unsafe isAnchored
            ? onig_match_with_param(
              regex, base, end, base + start, region, ONIG_OPTION_NONE, bounds)
            : onig_search_with_param(
              regex, base, end, base + start, end, region, ONIG_OPTION_NONE, bounds)
        }
        switch found {
        case 0...:
          let end = unsafe Int(region.pointee.end[0])
          // `\K` in a look ahead moves the beginning behind the end.
          return unsafe min(Int(region.pointee.beg[0]), end)..<end
        case ONIG_MISMATCH: return nil
        case ONIGERR_RETRY_LIMIT_IN_MATCH_OVER, ONIGERR_RETRY_LIMIT_IN_SEARCH_OVER:
          search.left -= tries
          if search.left <= 0 || tries >= search.most { throw .endless }
          tries = min(tries * 8, max(search.left, Self.firstTries))
        case ONIGERR_MATCH_STACK_LIMIT_OVER: throw .longRun
        default: throw .malformed(unsafe Self.message(found, nil))
        }
      }
    }
  }

  @unsafe
  private static func message(_ code: CInt, _ problem: UnsafeMutablePointer<OnigErrorInfo>?)
    -> String
  {
    var message = [UInt8](repeating: 0, count: Int(ONIG_MAX_ERROR_MESSAGE_LEN))
    let length = unsafe oniguruma_message(&message, code, problem)
    return String(decoding: message.prefix(Int(length)), as: UTF8.self)
  }
}
