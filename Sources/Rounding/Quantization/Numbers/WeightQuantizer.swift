// What rounding knows of a weight: the numbers it becomes, the weights that share a scale, and the type of scales.

internal import CKernels
package import Tensors

/// The way from a Linear's weight to codes and scales. Searches, clipping, compensation and the evidence of rounding are
/// written against it; how codes are stored is a format's.
package struct WeightQuantizer: Sendable, Hashable {
  package let numbers: NumberFormat
  /// Columns of a row that share a scale; the last group of a row may have fewer.
  package let groupSize: Int
  /// Rows that share a scale; those of a whole weight where it has one scale.
  package let rowsTogether: Int
  package let scales: ScaleFormat
  /// The type of the weight, in which ranges are computed.
  package let weightType: DType
  /// Whether scales may be negative, so that the one code more below zero serves the longer side of a group: integers
  /// with few codes, whose scales are only multiplied.
  package let signsScales: Bool
  /// Whether a row is one group, however long it is.
  private let spansRows: Bool

  /// With scales in the weight's type, each row its own.
  package init(_ numbers: NumberFormat, groupSize: Int, scaleType: DType) {
    self.numbers = numbers
    self.groupSize = groupSize
    rowsTogether = 1
    scales = .plain(scaleType)
    weightType = scaleType
    signsScales = false
    spansRows = false
  }

  /// - Parameters:
  ///   - arguments: of weights that a format writes.
  ///   - columns: of the weight.
  ///   - dtype: the type of the weight, which its scales share where nothing else is said.
  ///   - signsScales: whether whoever multiplies with the weight takes negative scales.
  package init(
    _ arguments: QuantizationArguments, columns: Int, dtype: DType, signsScales: Bool = false
  ) {
    guard let numbers = NumberFormat(arguments) else {
      preconditionFailure("nothing is rounded to \(arguments.words)")
    }
    self.numbers = numbers
    groupSize = arguments.columnsPerScale(columns)
    rowsTogether =
      switch arguments.strategy {
      case .tensor: Int.max
      case .block: arguments.block?.rows ?? 1
      default: 1
      }
    scales = ScaleFormat(arguments, dtype: dtype)
    weightType = dtype
    self.signsScales =
      signsScales && arguments.type == .int && arguments.isSymmetric
      && arguments.bits <= Self.mostSignedBits && scales == .plain(dtype) && rowsTogether == 1
    spansRows = arguments.strategy == .tensor || arguments.strategy == .channel
  }

  /// Whether scales are found before the first row is rounded, since rows share them.
  package var sharesScales: Bool { rowsTogether > 1 }

  /// Whether the largest weight must be known before the first row is rounded.
  package var needsLargest: Bool { scales == .twoLevel }

  /// Scales of a row.
  package func groups(of columns: Int) -> Int { (columns + groupSize - 1) / groupSize }

  // MARK: Refinement

  /// Columns that are refined together: a group, or a part of a larger one, whose scale then stays. None are of two
  /// groups.
  package var refinedColumns: Int {
    if groupSize <= Self.largestGroup { return groupSize }
    if spansRows { return Self.part }
    return (1...Self.part).last { groupSize % $0 == 0 } ?? 1
  }

  /// Whether scales are fitted to codes.
  var fitsScales: Bool { !sharesScales && groupSize <= Self.largestGroup }

  private static let (part, largestGroup) = (128, 256)
  /// With more, one code is too little to tell.
  private static let mostSignedBits = 6

  // MARK: Kernels

  /// As the kernels take it.
  ///
  /// - Parameters:
  ///   - globalScale: of scales of two levels; nil where it is not known yet.
  ///   - signed: whether scales are searched among both signs, where they may be negative.
  func kernel(globalScale: Float? = nil, signed: Bool = false) -> sluice_rounding {
    func type(_ dtype: DType) -> Int32 {
      switch dtype {
      case .bf16: Int32(SLUICE_SCALE_BF16)
      case .f16: Int32(SLUICE_SCALE_F16)
      default: Int32(SLUICE_SCALE_F32)
      }
    }
    let scaleType =
      switch scales {
      case .plain(let dtype): type(dtype)
      case .powersOfTwo: Int32(SLUICE_SCALE_E8M0)
      case .twoLevel: Int32(SLUICE_SCALE_E4M3)
      }
    var (kind, bits) = (SLUICE_INTEGERS, 0)
    switch numbers {
    case .integer(let count, _): bits = count
    case .e4m3: kind = SLUICE_E4M3
    case .e2m1: kind = SLUICE_E2M1
    case .e2m3: kind = SLUICE_E2M3
    }
    return sluice_rounding(
      numbers: Int32(kind), bits: Int32(bits), group: Int32(groupSize),
      before: 0, symmetric: numbers.hasZeroPoints ? 0 : signed && signsScales ? 2 : 1,
      scale_type: scaleType, weight_type: type(weightType), global_scale: globalScale ?? 0)
  }

  /// What codes of one row stand for.
  package func decode(
    _ codes: UnsafePointer<Int8>, scales: [Float], zeroPoints: [Int8]?, columns: Int,
    into result: UnsafeMutablePointer<Float>
  ) {
    unsafe sluice_values_of_codes(codes, scales, zeroPoints, columns, kernel(), result)
  }
}
