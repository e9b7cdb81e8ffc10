// Whether a rounded weight can be a rounding of the weight it should come from, where nobody knows the activations.

package import Tensors

/// What the groups of a rounded weight show of its source.
///
/// Compensated rounding hands the error of a column on to others, by what their channels have in common: a group that
/// is small beside others of its row, or that meets quiet channels, may come out anywhere within its range, and a row
/// far from its source. So a distance alone tells nothing. What no activation can make it do:
///
/// - leave a group's range: scales and zero points are those of the source's range, clipped and fitted;
/// - lose the source: what is handed on does not depend on a weight itself, so that in every tile of rows the weights
///   of some groups still go with the source's, far more often than by chance;
/// - throw a lone group: an error is handed on in the measure of the row's largest steps and of what all rows have in
///   common, so that a group that is far, forgets its source and lies beyond all others is no work of it.
package struct RoundingEvidence: Sendable {
  /// Rows of a tile that must show their source; to be the rows that are looked at in one call.
  package static let tileRows = 64

  /// What float16 cannot tell of a step.
  private static let stepSlack = 1e-7
  /// Steps below may not be what a 16-bit scale can hold.
  private static let smallestStep = 1e-6
  /// Zero points are rounded once more where ranges are clipped, and other programs clip one end alone.
  private static let zeroPointSlack = 2.0
  /// A tile with fewer groups that can be told apart may look like its source, or not, by chance.
  private static let leastGroups = 32
  /// Standard deviations of chance by which a tile shows its source. Random weights under random activations, even
  /// where they go wild, show 4.8 and more, codes of other rows 3.5 at most.
  private static let leastTrace = 3.5
  /// Correlation above which a group of the source is so much like that of another row that nothing tells them apart. The
  /// next row is asked first, then the one before.
  private static let alike = 0.9
  /// Correlation with the source below which a group has forgotten it.
  private static let forgotten = 0.1
  /// Times the error of all but one group of 50 by which a lone group is far. Compensation reached 2.3.
  private static let farRatio = 5.0
  private static let ordinaryShare = 50

  private let numbers: NumberFormat
  private let groupSize: Int
  /// Rows that share a scale.
  private let rowsTogether: Int
  /// What a scale may be over the step of the source's whole range.
  private let scaleRatios: ClosedRange<Double>
  /// Steps that are too small for a scale get one all the same.
  private let smallScales: SmallScales?
  private var difference = 0.0
  private var size = 0.0
  /// The largest error of a group, by its size.
  package private(set) var worstGroup = 0.0
  private var badScales = GroupCount()
  private var badZeroPoints = GroupCount()
  /// Scales that rows share, by their places.
  private var shared: [SharedPlace: SharedScale] = [:]
  private var lostTiles: [Range<Int>] = []
  /// Errors of the groups that can be told of, in the largest steps of their rows.
  private var errors: [Float] = []
  private var farGroups = 0
  /// Far groups that have forgotten their source.
  private var suspects: [(place: GroupPlace, error: Float)] = []

  /// - Parameter globalScale: what scales of two levels are divided by.
  package init(_ quantizer: WeightQuantizer, globalScale: Float = 1) {
    smallScales =
      quantizer.scales == .twoLevel ? SmallScales(globalScale: Double(globalScale)) : nil
    numbers = quantizer.numbers
    groupSize = quantizer.groupSize
    rowsTogether = quantizer.rowsTogether
    scaleRatios = quantizer.scales.fittingRatios
  }

  package mutating func add(_ other: RoundingEvidence) {
    difference += other.difference
    size += other.size
    worstGroup = max(worstGroup, other.worstGroup)
    largest = max(largest, other.largest)
    badScales.add(other.badScales)
    badZeroPoints.add(other.badZeroPoints)
    shared.merge(other.shared) { $0.joined(with: $1) }
    lostTiles += other.lostTiles
    errors += other.errors
    farGroups += other.farGroups
    suspects += other.suspects
  }

  /// Norm of the difference over norm of the source.
  package var relativeError: Double {
    size > 0 ? (difference / size).squareRoot() : difference > 0 ? .infinity : 0
  }

  /// What is wrong with the groups that were added.
  package var faults: [RoundingFault] {
    var faults: [RoundingFault] = []
    var scales = badScales
    for (place, scale) in shared.sorted(by: { $0.key < $1.key })
    where !isFitting(scale.scale, scale.largestStep) {
      scales.add(GroupPlace(row: place.rows * rowsTogether, group: place.group))
    }
    if let first = scales.first { faults.append(.scales(scales.count, first: first)) }
    if let first = badZeroPoints.first {
      faults.append(.zeroPoints(badZeroPoints.count, first: first))
    }
    if let first = lostTiles.first { faults.append(.lost(lostTiles.count, first: first)) }
    let lone = loneGroups
    if let first = lone.first { faults.append(.farGroups(lone.count, first: first)) }
    return faults
  }

  private func isFitting(_ scale: Double, _ step: Double) -> Bool {
    // Such that a NaN does not pass, here and below.
    if let smallScales, smallScales.holds(scale, for: step, scaleRatios.upperBound) { return true }
    return abs(scale) >= scaleRatios.lowerBound * step - Self.stepSlack
      && abs(scale) <= scaleRatios.upperBound * step + Self.stepSlack
  }

  /// The largest magnitude of the source's groups that were added.
  package private(set) var largest = 0.0

  private var loneGroups: [GroupPlace] {
    let few = max(1, errors.count / Self.ordinaryShare)
    if suspects.isEmpty || farGroups > few { return [] }
    let ordinary = errors.sorted()[errors.count - 1 - min(few, errors.count - 1)]
    return suspects.filter { Double($0.error) > Self.farRatio * Double(ordinary) }.map(\.place)
  }

  // MARK: A tile

  /// Looks at rows of a weight.
  ///
  /// - Parameters:
  ///   - firstRow: of both, in the whole weight.
  ///   - scales: of these rows, `[rows, columns / group]`.
  ///   - zeroPoints: likewise; nil where there are none.
  package mutating func add(
    _ found: Matrix, from source: Matrix, firstRow: Int, scales: [Float], zeroPoints: [Int8]?
  ) {
    let groups = (source.columns + groupSize - 1) / groupSize
    var trace = Trace()
    for row in 0..<source.rows {
      let neighbours = [row + 1, row + source.rows - 1].map { $0 % source.rows }
      let sums = (0..<groups).map { group in
        let start = group * groupSize
        let count = min(groupSize, source.columns - start)
        func sums(beside other: Int) -> GroupSums {
          unsafe GroupSums(
            found.row(row) + start, source.row(row) + start, beside: source.row(other) + start,
            count: count)
        }
        let first = sums(beside: neighbours[0])
        if first.likeness < Self.alike { return first }
        let second = sums(beside: neighbours[1])
        return second.likeness < Self.alike ? second : first
      }
      let largest = sums.map(step).max() ?? 0
      for group in 0..<groups {
        let place = row * groups + group
        add(
          sums[group], GroupPlace(row: firstRow + row, group: group), largestStep: largest,
          scale: Double(scales[place]), zeroPoint: zeroPoints.map { Double($0[place]) }, &trace)
      }
    }
    if trace.isLost(of: Self.leastGroups, by: Self.leastTrace) {
      lostTiles.append(firstRow..<firstRow + source.rows)
    }
  }

  /// What rounding to nearest takes for a step: of the whole range.
  private func step(of group: GroupSums) -> Double {
    numbers.scale(lowest: group.lowest, highest: group.highest)
  }

  private mutating func add(
    _ sums: GroupSums, _ place: GroupPlace, largestStep: Double, scale: Double, zeroPoint: Double?,
    _ trace: inout Trace
  ) {
    difference += sums.difference
    size += sums.source
    largest = max(largest, -sums.lowest, sums.highest)
    if sums.source > 0 {
      worstGroup = max(worstGroup, (sums.difference / sums.source).squareRoot())
    }
    let step = step(of: sums)
    if !(step > Self.smallestStep) { return }
    if rowsTogether > 1 {
      // As large as the largest step of all rows that share it.
      let own = SharedScale(scale: scale, largestStep: step)
      shared.merge([SharedPlace(rows: place.row / rowsTogether, group: place.group): own]) {
        $0.joined(with: $1)
      }
    } else if !isFitting(scale, step) {
      badScales.add(place)
    }
    if let zeroPoint {
      let expected = numbers.zeroPoint(lowest: sums.lowest, scale: step)
      if abs(zeroPoint - expected) > Self.zeroPointSlack { badZeroPoints.add(place) }
    }
    if sums.likeness < Self.alike { trace.add(sums.correlation - sums.correlationWithOther) }
    let error = (sums.difference / Double(groupSize)).squareRoot() / largestStep
    errors.append(error.isNaN ? .infinity : Float(error))
    if !(sums.difference <= sums.source) {
      farGroups += 1
      if !(sums.correlation >= Self.forgotten) {
        suspects.append((place, errors[errors.count - 1]))
      }
    }
  }
}

/// A group of a weight.
package struct GroupPlace: Sendable, Equatable {
  package let row: Int
  package let group: Int

  package init(row: Int, group: Int) {
    self.row = row
    self.group = group
  }
}

/// Why a weight is no rounding of its source.
package enum RoundingFault: Sendable, Equatable, CustomStringConvertible {
  case scales(Int, first: GroupPlace)
  case zeroPoints(Int, first: GroupPlace)
  /// Tiles of rows that have nothing of the source.
  case lost(Int, first: Range<Int>)
  case farGroups(Int, first: GroupPlace)

  package var description: String {
    func text(_ count: Int, _ one: String, _ many: String, _ first: GroupPlace) -> String {
      "\(count == 1 ? one : "\(count) " + many), "
        + "\(count == 1 ? "" : "the first ")in row \(first.row), group \(first.group)"
    }
    return switch self {
    case .scales(let count, let first):
      text(
        count, "a scale does not fit the source's range",
        "scales do not fit the ranges of the source's groups", first)
    case .zeroPoints(let count, let first):
      text(
        count, "a zero point does not fit the source's range",
        "zero points do not fit the ranges of the source's groups", first)
    case .lost(let count, let first):
      "rows \(first.lowerBound) to \(first.upperBound - 1) have nothing of the source's"
        + (count == 1
          ? "" : ", and so have \(count - 1) more block\(count == 2 ? "" : "s") of rows")
    case .farGroups(let count, let first):
      text(
        count, "a group is no rounding of the source's", "groups are no rounding of the source's",
        first)
    }
  }
}

/// Rows that share scales, and one of these.
private struct SharedPlace: Sendable, Hashable, Comparable {
  let rows: Int
  let group: Int

  static func < (a: SharedPlace, b: SharedPlace) -> Bool { (a.rows, a.group) < (b.rows, b.group) }
}

/// The scales below those that E4M3 holds with all its bits: they are few, and what would be none is a large one.
///
/// Source: compressed-tensors 0.20 `calculate_qparams`, where a scale of 0 becomes the type's step at 1.
private struct SmallScales: Sendable {
  private let least: Double
  private let instead: Double

  init(globalScale: Double) {
    least = 0x1p-9 / globalScale
    instead = 0.125 / globalScale
  }

  /// Whether a scale may stand for a step so small. Ranges are clipped to a half at most.
  func holds(_ scale: Double, for step: Double, _ most: Double) -> Bool {
    if step <= least, scale <= most * instead { return true }
    return step <= 8 * least && scale <= most * step + 2 * least
  }
}

/// A scale that rows share, and the largest step of the source's groups that it is for.
private struct SharedScale: Sendable {
  let scale: Double
  let largestStep: Double

  func joined(with other: SharedScale) -> SharedScale {
    SharedScale(scale: scale, largestStep: max(largestStep, other.largestStep))
  }
}

/// Groups with one fault.
private struct GroupCount: Sendable {
  private(set) var count = 0
  private(set) var first: GroupPlace?

  mutating func add(_ place: GroupPlace) {
    count += 1
    first = first ?? place
  }

  mutating func add(_ other: GroupCount) {
    count += other.count
    first = first ?? other.first
  }
}

/// One group of a rounded weight beside the source's, and beside that of another row of the source.
private struct GroupSums {
  private(set) var difference = 0.0
  private(set) var source = 0.0
  private(set) var lowest = 0.0
  private(set) var highest = 0.0
  private(set) var correlation = 0.0
  /// What all rows have in common, as a loud column, shows in it.
  private(set) var correlationWithOther = 0.0
  /// How alike the source's two rows are; 1 where one of them is flat, and has nothing to be known by.
  private(set) var likeness = 1.0

  init(
    _ found: UnsafePointer<Float>, _ source: UnsafePointer<Float>,
    beside other: UnsafePointer<Float>,
    count: Int
  ) {
    var (foundSum, sourceSum, otherSum) = (0.0, 0.0, 0.0)
    for index in 0..<count {
      let (x, y) = unsafe (Double(found[index]), Double(source[index]))
      difference += (x - y) * (x - y)
      self.source += y * y
      lowest = min(lowest, y)
      highest = max(highest, y)
      foundSum += x
      sourceSum += y
      unsafe otherSum += Double(other[index])
    }
    // About the means: a zero point knows that of its own group, whatever the codes are.
    let (foundMean, mean, otherMean) = (
      foundSum / Double(count), sourceSum / Double(count), otherSum / Double(count)
    )
    var (xx, yy, zz, xy, xz, yz) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for index in 0..<count {
      let x = unsafe Double(found[index]) - foundMean
      let y = unsafe Double(source[index]) - mean
      let z = unsafe Double(other[index]) - otherMean
      xx += x * x
      yy += y * y
      zz += z * z
      xy += x * y
      xz += x * z
      yz += y * z
    }
    func ratio(_ product: Double, _ squares: Double) -> Double? {
      squares > 0 ? product / squares.squareRoot() : nil
    }
    correlation = ratio(xy, xx * yy) ?? 0
    correlationWithOther = ratio(xz, xx * zz) ?? 0
    likeness = ratio(yz, yy * zz) ?? 1
  }
}

/// How much more the groups of a tile go with the source's than with those of other rows.
private struct Trace {
  private var count = 0
  private var sum = 0.0
  private var squares = 0.0

  mutating func add(_ excess: Double) {
    count += 1
    sum += excess
    squares += excess * excess
  }

  /// What is there by chance adds up to 0, give or take the root of its squares.
  func isLost(of least: Int, by deviations: Double) -> Bool {
    count >= least && !(sum > deviations * squares.squareRoot())
  }
}
