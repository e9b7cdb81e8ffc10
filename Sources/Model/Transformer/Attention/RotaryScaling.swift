// Frequencies of rotary position embedding beyond the context that a model was trained with.
//
// Source: transformers 5.17 modeling_rope_utils.py.

internal import Glibc

package enum RotaryScaling: Sendable, Equatable {
  case none
  /// All frequencies over `factor`.
  case linear(factor: Double)
  /// A larger base for sequences longer than `positions` (NTK-aware, as first described by its author on Reddit).
  case dynamic(factor: Double, positions: Int)
  /// The base of `dynamic`, for sequences of any length, as if the whole in its brackets were `alpha`.
  case raised(alpha: Double)
  case yarn(YarnScaling)
  case llama3(Llama3Scaling)
  case longrope(LongropeScaling)
  /// All frequencies over `factor`, and none beyond a share of the dimensions: those do not turn.
  case proportional(share: Double, factor: Double)

  /// What cosines and sines are multiplied with.
  var attentionFactor: Double {
    switch self {
    case .none, .linear, .dynamic, .raised, .llama3, .proportional: 1
    case .yarn(let yarn): yarn.attentionFactor
    case .longrope(let longrope): longrope.attentionFactor
    }
  }

  /// Whether a sequence's length changes the frequencies of all its positions.
  var followsLength: Bool {
    switch self {
    case .dynamic, .longrope: true
    case .none, .linear, .raised, .yarn, .llama3, .proportional: false
    }
  }
}

/// Slow frequencies over a factor, fast ones as they are, and a ramp between them.
///
/// Source: Peng et al., YaRN (arXiv:2309.00071), section 3.2.
package struct YarnScaling: Sendable, Equatable {
  package let factor: Double
  /// Positions that the model was trained with.
  package let positions: Int
  /// Turns within these positions: frequencies that turn more often stay, those that turn less are divided.
  package let fast: Double
  package let slow: Double
  /// Whether the ramp begins and ends at whole dimensions.
  package let truncates: Bool
  package let attentionFactor: Double

  package init(
    factor: Double, positions: Int, fast: Double, slow: Double, truncates: Bool,
    attentionFactor: Double
  ) {
    self.factor = factor
    self.positions = positions
    self.fast = fast
    self.slow = slow
    self.truncates = truncates
    self.attentionFactor = attentionFactor
  }

  /// 0.1 m ln(s) + 1, by which YaRN makes attention sharper; 1 where nothing is stretched.
  package static func mscale(_ factor: Double, _ weight: Double = 1) -> Double {
    factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1
  }

  /// The share of dimension pair `index` that is divided.
  fileprivate func divided(_ index: Int, of spec: RotarySpec) -> Double {
    let size = Double(spec.dimensions)
    func dimension(turns: Double) -> Double {
      size * log(Double(positions) / (turns * 2 * .pi)) / (2 * log(spec.theta))
    }
    var (low, high) = (dimension(turns: fast), dimension(turns: slow))
    if truncates { (low, high) = (floor(low), ceil(high)) }
    (low, high) = (max(low, 0), min(high, size - 1))
    if low == high { high += 0.001 }
    return min(1, max(0, (Double(index) - low) / (high - low)))
  }
}

/// Slow frequencies over a factor, fast ones as they are, and a smooth change between them. Source: Llama 3.1.
package struct Llama3Scaling: Sendable, Equatable {
  package let factor: Double
  package let low: Double
  package let high: Double
  /// Positions that the model was trained with.
  package let positions: Int

  package init(factor: Double, low: Double, high: Double, positions: Int) {
    self.factor = factor
    self.low = low
    self.high = high
    self.positions = positions
  }

  fileprivate func scaled(_ frequency: Double) -> Double {
    let turns = Double(positions) * frequency / (2 * .pi)
    if turns > high { return frequency }
    // Where both are one number, nothing lies between them, as in Llama 4.
    if turns < low || low == high { return frequency / factor }
    let share = (turns - low) / (high - low)
    return (1 - share) * frequency / factor + share * frequency
  }
}

/// Every frequency over a factor of its own, one for short sequences and one for long ones.
///
/// Source: Ding et al., LongRoPE (arXiv:2402.13753).
package struct LongropeScaling: Sendable, Equatable {
  /// `[dimensions / 2]` each.
  package let short: [Double]
  package let long: [Double]
  /// Sequences of more tokens are long.
  package let positions: Int
  package let attentionFactor: Double

  package init(short: [Double], long: [Double], positions: Int, attentionFactor: Double) {
    self.short = short
    self.long = long
    self.positions = positions
    self.attentionFactor = attentionFactor
  }
}

extension RotarySpec {
  /// Radians by which each pair of dimensions turns from one position to the next, `[dimensions / 2]`.
  func frequencies(length: Int) -> [Double] {
    let size = Double(dimensions)
    func plain(_ theta: Double) -> [Double] {
      (0..<dimensions / 2).map { 1 / pow(theta, Double(2 * $0) / size) }
    }
    switch scaling {
    case .none: return plain(theta)
    case .linear(let factor): return plain(theta).map { $0 / factor }
    case .dynamic(let factor, let positions):
      let stretch = Double(max(length, positions)) / Double(positions)
      return plain(theta * pow(factor * stretch - (factor - 1), size / (size - 2)))
    case .raised(let alpha): return plain(theta * pow(alpha, size / (size - 2)))
    case .yarn(let yarn):
      return plain(theta).enumerated().map { index, frequency in
        let share = yarn.divided(index, of: self)
        return frequency / yarn.factor * share + frequency * (1 - share)
      }
    case .llama3(let llama): return plain(theta).map(llama.scaled)
    case .proportional(let share, let factor):
      let turning = Int(share * size / 2)
      return plain(theta).enumerated().map { $0 < turning ? $1 / factor : 0 }
    case .longrope(let longrope):
      let factors = length > longrope.positions ? longrope.long : longrope.short
      return zip(plain(theta), factors).map { $0 / $1 }
    }
  }
}
