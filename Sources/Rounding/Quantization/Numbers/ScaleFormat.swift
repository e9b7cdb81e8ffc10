// The numbers that scales can be.

package import Tensors

/// What scales are stored in, and rounded to before use.
package enum ScaleFormat: Sendable, Hashable {
  /// A type that weights have, too.
  case plain(DType)
  /// E8M0: powers of two.
  case powersOfTwo
  /// E4M3, divided by a global scale: one for a weight and all that are loaded as one with it.
  case twoLevel

  /// - Parameter dtype: of the weight.
  package init(_ arguments: QuantizationArguments, dtype: DType) {
    switch (arguments.scaleType, arguments.type, arguments.groupSize) {
    case (.uint8, _, _): self = .powersOfTwo
    case (.e4m3, _, _): self = .twoLevel
    // Files of 2025 leave out what follows from the size of the groups.
    case (nil, .float, 16): self = .twoLevel
    case (nil, .float, 32): self = .powersOfTwo
    default: self = .plain(dtype)
    }
  }

  /// A fitted scale over the step of the source's whole range. Plain ones: clipping takes half of it at most, two fits up
  /// to a fifth down or a quarter up each, and bf16 rounds each time. In E4M3 the largest weight may also become 4 of 6,
  /// and each rounding moves a scale by up to a sixteenth. Powers of two may be half or twice as large at each of three turns.
  var fittingRatios: ClosedRange<Double> {
    switch self {
    case .plain: 0.31...1.6
    case .twoLevel: 0.26...2.9
    case .powersOfTwo: 0.1...14
    }
  }
}
