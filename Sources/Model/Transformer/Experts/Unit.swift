// One unit of a mixer on tokens: its projections and what it applies between them.
//
// Source: Shazeer, arXiv:2002.05202 (gated linear units); Hendrycks and Gimpel, arXiv:1606.08415 (GELU); So et al.,
// arXiv:2109.08668 (squared ReLU); transformers `GptOssExperts` (clamped pairs), `GraniteMoeHybridMLP` (gated halves);
// llm-compressor 0.14, modeling_kimi_linear.py, `SituAndMul` (SiTU).

internal import CKernels
package import LinearAlgebra
package import Tensors

extension Activation {
  /// x = activation(x).
  func apply(in x: UnsafeMutablePointer<Float>, count: Int) {
    switch self {
    case .silu: unsafe sluice_silu(x, count)
    case .gelu: unsafe sluice_gelu(x, count)
    case .geluTanh: unsafe sluice_gelu_tanh(x, count)
    case .reluSquared: unsafe sluice_relu_squared(x, count)
    case .gatedHalves, .clampedPairs, .clampedGates:
      preconditionFailure("two numbers become one")
    case .clampedSilu(let limit):
      unsafe sluice_silu(x, count)
      unsafe sluice_clamp(x, -.infinity, limit, count)
    case .situ(let beta, _): unsafe sluice_situ(x, beta, count)
    }
  }

  /// up = activation(gate) * up; the gate is used up.
  func apply(
    gate: UnsafeMutablePointer<Float>, in up: UnsafeMutablePointer<Float>, count: Int
  ) {
    // The one that nearly all models have, in one pass.
    if self == .silu { return unsafe sluice_swiglu(gate, up, count) }
    if case .clampedGates(let alpha, let limit) = self {
      return unsafe sluice_clamped_gates(gate, alpha, limit, up, count)
    }
    unsafe apply(in: gate, count: count)
    if case .clampedSilu(let limit) = self { unsafe sluice_clamp(up, -limit, limit, count) }
    if case .situ(_, let upBeta?) = self { unsafe sluice_soft_cap(up, upBeta, count) }
    unsafe sluice_multiply(up, gate, up, count)
  }
}

extension UnitSpec {
  /// What the down projection reads, `[T, F]`.
  package func hidden(_ x: Matrix, weights: any LayerWeights, backend: Backend) -> Matrix {
    let (gates, made) = project(x, weights: weights, backend: backend)
    return activate(gates, made, backend: backend)
  }

  /// What comes of the outputs of projections, which are used up.
  func activate(_ gates: Matrix?, _ made: Matrix, backend: Backend) -> Matrix {
    if activation == .gatedHalves { return gateHalves(made, backend: backend) }
    if case .clampedPairs(let alpha, let limit) = activation {
      return clamped(made, alpha: alpha, limit: limit, backend: backend)
    }
    let parts = ranges(of: made.count, by: 1 << 16)
    backend.ledger.note(Operation(.elements, [made.count]))
    backend.forEach(parts.count) { index in
      let part = parts[index]
      let up = unsafe made.base + part.lowerBound
      if let gates {
        unsafe activation.apply(gate: gates.base + part.lowerBound, in: up, count: part.count)
      } else {
        unsafe activation.apply(in: up, count: part.count)
      }
    }
    return made
  }

  /// The outputs of projections, as the activation takes them.
  func project(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> (gates: Matrix?, up: Matrix) {
    let name = "activations of an expert"
    let gates = gate.map { weights.apply($0, to: x, backend: backend, into: name) }
    let made = weights.apply(up, to: x, backend: backend, into: name)
    if !upMakesGates { return (gates, made) }
    func half(_ columns: Range<Int>) -> Matrix {
      made.columns(columns, into: name, backend: backend)
    }
    return (half(0..<down.inputs), half(down.inputs..<up.outputs))
  }

  /// Half as many columns as `halves` has.
  private func gateHalves(_ halves: Matrix, backend: Backend) -> Matrix {
    let width = halves.columns / 2
    let result = halves.columns(
      width..<halves.columns, into: "activations of an expert", backend: backend)
    let parts = ranges(of: result.rows, by: 16)
    backend.ledger.note(Operation(.elements, [result.count]))
    backend.forEach(parts.count) { index in
      for row in parts[index] { unsafe sluice_swiglu(halves.row(row), result.row(row), width) }
    }
    return result
  }

  /// Half as many columns as `pairs` has.
  private func clamped(_ pairs: Matrix, alpha: Float, limit: Float, backend: Backend) -> Matrix {
    let result = backend.matrix(
      "activations of an expert", rows: pairs.rows, columns: pairs.columns / 2)
    let parts = ranges(of: result.count, by: 1 << 16)
    backend.ledger.note(Operation(.elements, [result.count]))
    backend.forEach(parts.count) { index in
      let part = parts[index]
      unsafe sluice_clamped_pairs(
        pairs.base + 2 * part.lowerBound, alpha, limit, result.base + part.lowerBound, part.count)
    }
    return result
  }

  /// `[T, H]`.
  package func apply(to x: Matrix, weights: any LayerWeights, backend: Backend) -> Matrix {
    let result = weights.apply(
      down, to: hidden(x, weights: weights, backend: backend), backend: backend,
      into: "outputs of an expert")
    if let outputGate {
      let shares = weights.apply(
        outputGate, to: x, backend: backend.exact, into: "gates of outputs")
      backend.compute { unsafe sluice_sigmoid(shares.base, shares.count) }
      result.multiply(byRows: shares, backend: backend)
    }
    return result
  }
}
