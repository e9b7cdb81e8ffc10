// How much a template may take before it is refused, so that no template can bring the run down.

enum Limits {
  /// Jinja2's own bound on `range`, `MAX_RANGE` in its sandbox.
  static let rangeLength = 100_000
  /// Bytes of rendered text, and of any string on the way.
  static let textBytes = 64 << 20
  /// Elements of a list made by the template.
  static let listLength = 2_000_000
  /// Loop rounds, macro calls and elements visited by filters, over one whole render.
  static let steps = 5_000_000
  /// Bytes that are looked at or made over one whole render: so many, and for each byte of the chat.
  static let workBytes = 32 << 20
  static let workPerByte = 64
  /// Bits of an integer: beyond anything but an attack.
  static let integerBits = 65_536
  /// Values inside values, as far as they are printed or compared.
  static let valueDepth = 200
  /// Nesting of the template's text; Python's parser gives up at a similar depth.
  static let syntaxDepth = 90
  /// Nesting of expressions, chains included; Python stops at 200 parentheses.
  static let expressionDepth = 250
  static let sourceBytes = 16 << 20
}

/// Measures how much of the stack the recursion below `init` uses.
///
/// A thread may have as little as 512 KiB; frames are several times larger without optimisation,
/// where only tests run, on threads of the usual 8 MiB.
struct StackGuard {
  private static let bytes = isDebug ? 3 << 20 : 320 << 10
  private static let isDebug: Bool = {
    var debug = false
    assert(
      {
        debug = true
        return true
      }())
    return debug
  }()

  private let start: UInt

  init() {
    start = Self.here()
  }

  var isExhausted: Bool {
    let now = Self.here()
    return (start > now ? start - now : now - start) > UInt(Self.bytes)
  }

  /// The address of a local variable.
  @inline(never)
  private static func here() -> UInt {
    var local: UInt8 = 0
    return unsafe withUnsafeMutablePointer(to: &local) { UInt(bitPattern: $0) }
  }
}
