// How often an activation has magnitudes of each size, and the range of codes that makes its errors least.

internal import LinearAlgebra
internal import Tensors

/// Sizes by powers of two, in quarters each. They are the same for any data, so that counts of several blocks, or hosts, add
/// up; the largest magnitude of a channel is known apart.
enum MagnitudeBins {
  static let count = 128

  /// Magnitudes below count as this power of two.
  private static let lowest = -16
  private static let fractionBits = 2
  /// The shares of the largest magnitude that are tried.
  ///
  /// Source: compressed-tensors' and llm-compressor's `mse` observer, which goes down to a fifth.
  private static let shares: [Float] = (0...32).map { 1 - 0.025 * Float($0) }

  private static func bin(of value: Float) -> Int {
    let first = (127 + lowest) << fractionBits
    let place = Int(value.magnitude.bitPattern >> (23 - UInt32(fractionBits))) - first
    return min(max(place, 0), count - 1)
  }

  /// The least magnitude of a bin; 0 of the first.
  private static func start(of bin: Int) -> Float {
    if bin == 0 { return 0 }
    let first = UInt32((127 + lowest) << fractionBits)
    return Float(bitPattern: (first + UInt32(bin)) << (23 - UInt32(fractionBits)))
  }

  /// Adds the magnitudes of x `[T, C]` to counts `[C, bins]`.
  static func count(_ x: Matrix, into counts: Matrix, _ backend: Backend) {
    let strips = ranges(of: x.columns, by: 64)
    backend.ledger.note(Operation(.elements, [x.count]))
    backend.forEach(strips.count) { index in
      for row in 0..<x.rows {
        let values = unsafe x.row(row)
        for channel in strips[index] {
          unsafe counts.row(channel)[bin(of: values[channel])] += 1
        }
      }
    }
  }

  /// The range of codes, in x / `scale`, with the least sum of squared errors: within it a twelfth of the square of a
  /// step, or the number itself where that is below half a step; beyond it the distance to its end.
  ///
  /// - Parameters:
  ///   - largest: of each channel of x.
  ///   - most: of all x / `scale`.
  static func range(
    _ counts: Matrix, largest: [Float], smoothedBy scale: [Float]?, below most: Float,
    _ numbers: NumberFormat
  ) -> Float {
    if !(most > 0) || !most.isFinite { return most }
    let ranges = shares.map { $0 * most }
    var errors = [Double](repeating: 0, count: ranges.count)
    let starts = (0...count).map { $0 < count ? start(of: $0) : .infinity }
    for channel in largest.indices {
      let divisor = scale?[channel] ?? 1
      for bin in 0..<count {
        let times = unsafe counts.row(channel)[bin]
        if times == 0 { continue }
        let low = Double(starts[bin] / divisor)
        let high = Double(min(starts[bin + 1], max(largest[channel], starts[bin])) / divisor)
        for (place, range) in ranges.enumerated() {
          errors[place] += Double(times) * error(low, high, Double(range), numbers)
        }
      }
    }
    let best = errors.indices.min { errors[$0] < errors[$1] } ?? 0
    return ranges[best]
  }

  /// The mean squared error of magnitudes that lie evenly between two.
  private static func error(
    _ low: Double, _ high: Double, _ range: Double, _ numbers: NumberFormat
  ) -> Double {
    let step = numbers.scale(lowest: -range, highest: range)
    func inside(_ low: Double, _ high: Double) -> Double {
      let middle = (low + high) / 2
      return middle < step / 2 ? middle * middle : step * step / 12
    }
    if high <= range { return inside(low, high) }
    let width = high - low
    if low >= range {
      let (a, b) = (low - range, high - range)
      return (a * a + a * b + b * b) / 3
    }
    let beyond = high - range
    return (inside(low, range) * (range - low) + beyond * beyond * beyond / 3) / width
  }
}
