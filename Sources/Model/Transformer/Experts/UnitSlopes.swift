// How what a down projection reads goes with the outputs of the projections before it: a unit's way back.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// A part of a unit's outputs that its activation takes together: F numbers for each token.
package enum UnitSide: String, Sendable {
  case gate
  case up
}

extension UnitSpec {
  /// What the activation takes.
  package var sides: [UnitSide] {
    switch activation {
    case .gatedHalves, .clampedPairs: [.gate, .up]
    default: gate != nil || upMakesGates ? [.gate, .up] : [.up]
    }
  }

  /// What the down projection reads, `[T, F]`, and how that goes with what the activation takes.
  ///
  /// - Parameter slopes: is given, for each of `sides`, the derivatives of every number that the down projection reads by
  ///   the one that it is made from, `[T, F]`, which it may use up. They are differences over a step of 1/32: where an
  ///   activation has a corner, the slope on average.
  package func hidden(
    _ x: Matrix, weights: any LayerWeights, backend: Backend,
    slopes: (UnitSide, Matrix) -> Void
  ) -> Matrix {
    let (gates, made) = project(x, weights: weights, backend: backend)
    do {
      let (gates, ups, activation) = split(gates, made, backend: backend)
      let name = "slopes of an expert"
      let result = backend.matrix(name, rows: ups.rows, columns: ups.columns)
      for side in sides {
        let parts = ranges(of: result.count, by: 1 << 12)
        backend.ledger.note(Operation(.elements, [4 * result.count]))
        backend.forEach(parts.count) { index in
          let first = parts[index].lowerBound
          unsafe activation.slopes(
            gate: gates.map { unsafe $0.base + first }, up: ups.base + first, by: side,
            into: result.base + first, count: parts[index].count)
        }
        slopes(side, result)
      }
    }
    return activate(gates, made, backend: backend)
  }

  /// Gates and ups as matrices of their own, and what takes them so.
  private func split(
    _ gates: Matrix?, _ made: Matrix, backend: Backend
  ) -> (gates: Matrix?, ups: Matrix, activation: Activation) {
    func every(_ first: Int, ofEach width: Int, _ count: Int) -> Matrix {
      made.columns(
        [first..<first + count], ofEach: width, into: "activations of an expert", backend: backend)
    }
    switch activation {
    case .gatedHalves:
      let width = made.columns / 2
      return (
        every(0, ofEach: made.columns, width), every(width, ofEach: made.columns, width), .silu
      )
    case .clampedPairs(let alpha, let limit):
      return (
        every(0, ofEach: 2, 1), every(1, ofEach: 2, 1), .clampedGates(alpha: alpha, limit: limit)
      )
    default: return (gates, made, activation)
    }
  }
}

extension Activation {
  /// result = d activation(gate, up) / d `side`.
  fileprivate func slopes(
    gate: UnsafePointer<Float>?, up: UnsafePointer<Float>, by side: UnitSide,
    into result: UnsafeMutablePointer<Float>, count: Int
  ) {
    let step: Float = 1 / 64
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * count) { room in
      let (stepped, gates) = unsafe (room.baseAddress!, room.baseAddress! + count)
      /// What comes of a step, at `values`.
      func find(_ step: Float, _ values: UnsafeMutablePointer<Float>) {
        for place in 0..<count {
          unsafe values[place] = up[place] + (side == .up ? step : 0)
        }
        guard let gate = unsafe gate else { return unsafe apply(in: values, count: count) }
        for place in 0..<count {
          unsafe gates[place] = gate[place] + (side == .gate ? step : 0)
        }
        unsafe apply(gate: gates, in: values, count: count)
      }
      unsafe find(step, result)
      unsafe find(-step, stepped)
      for place in 0..<count {
        unsafe result[place] = (result[place] - stepped[place]) / (2 * step)
      }
    }
  }
}
