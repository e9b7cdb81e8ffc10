// Rotary position embedding (Su et al., arXiv:2104.09864): cosines and sines by position, and the rotation.

internal import CKernels
internal import Glibc
internal import LinearAlgebra

/// Rotary position embedding of some dimensions of each head.
package struct RotarySpec: Sendable, Equatable {
  package enum Order: Sendable, Equatable {
    /// Dimension i turns with i + dimensions / 2, as transformers stores most models.
    case halves
    /// Dimension 2i turns with 2i + 1.
    case pairs
  }

  package let dimensions: Int
  package let theta: Double
  package let scaling: RotaryScaling
  package let order: Order

  package init(
    dimensions: Int, theta: Double, scaling: RotaryScaling = .none, order: Order = .halves
  ) {
    self.dimensions = dimensions
    self.theta = theta
    self.scaling = scaling
    self.order = order
  }
}

/// Cosines and sines `[positions, dimensions / 2]`.
struct RotaryTable: Sendable {
  private let half: Int
  private let order: RotarySpec.Order
  private let cosines: [Float]
  private let sines: [Float]

  /// - Parameter length: tokens of the sequence, which some frequencies hang on.
  init(_ spec: RotarySpec, length: Int) {
    half = spec.dimensions / 2
    order = spec.order
    // float32 frequencies and angles, as the reference computes them.
    let frequencies = spec.frequencies(length: length).map { Float($0) }
    let angles = (0..<length).flatMap { position in frequencies.map { $0 * Float(position) } }
    let factor = Float(spec.scaling.attentionFactor)
    cosines = angles.map { Float(cos(Double($0))) * factor }
    sines = angles.map { Float(sin(Double($0))) * factor }
  }

  private init(half: Int, order: RotarySpec.Order, cosines: [Float], sines: [Float]) {
    self.half = half
    self.order = order
    self.cosines = cosines
    self.sines = sines
  }

  /// The transpose of every rotation: what gradients are turned by.
  var transposed: RotaryTable {
    RotaryTable(half: half, order: order, cosines: cosines, sines: sines.map { -$0 })
  }

  /// Rotates the dimensions that start at `head`, in place.
  func rotate(_ head: UnsafeMutablePointer<Float>, position: Int) {
    unsafe cosines.withUnsafeBufferPointer { cosines in
      unsafe sines.withUnsafeBufferPointer { sines in
        guard let cosine = cosines.baseAddress, let sine = sines.baseAddress else { return }
        let offset = position * half
        switch order {
        case .halves: unsafe sluice_rotate_half(head, cosine + offset, sine + offset, half)
        case .pairs: unsafe sluice_rotate_pairs(head, cosine + offset, sine + offset, half)
        }
      }
    }
  }
}

/// The tables of some sequences: one for all of them where frequencies do not hang on the length.
struct RotaryTables: Sendable {
  private let tables: [Int: RotaryTable]
  private let shared: RotaryTable?

  /// Calls `body` with every sequence and its table.
  static func with(
    _ spec: RotarySpec, sequences: [Range<Int>], backend: Backend,
    _ body: (_ sequence: Range<Int>, _ table: RotaryTable) -> Void
  ) {
    let lengths = sequences.map(\.count)
    // Angles in double, then a cosine and a sine.
    let longest = lengths.max() ?? 0
    backend.holding("rotations", bytes: longest * spec.dimensions * 8) {
      let tables = RotaryTables(spec, lengths: backend.computes ? lengths : [])
      for sequence in sequences { body(sequence, tables[backend.computes ? sequence.count : 0]) }
    }
  }

  /// Calls `body` with the tables of all sequences; none where only shapes are known.
  static func with(
    _ spec: RotarySpec, all sequences: [Range<Int>], backend: Backend,
    _ body: (_ tables: RotaryTables?) -> Void
  ) {
    let lengths = sequences.map(\.count)
    backend.holding("rotations", bytes: (lengths.max() ?? 0) * spec.dimensions * 8) {
      body(backend.computes ? RotaryTables(spec, lengths: lengths) : nil)
    }
  }

  func table(_ length: Int) -> RotaryTable { self[length] }

  private init(_ spec: RotarySpec, lengths: [Int]) {
    if spec.scaling.followsLength {
      shared = nil
      tables = Dictionary(Set(lengths + [0]).map { ($0, RotaryTable(spec, length: $0)) }) { $1 }
    } else {
      shared = RotaryTable(spec, length: lengths.max() ?? 0)
      tables = [:]
    }
  }

  private subscript(length: Int) -> RotaryTable {
    guard let table = shared ?? tables[length] else {
      preconditionFailure("no rotation for a sequence of \(length) tokens")
    }
    return table
  }
}
