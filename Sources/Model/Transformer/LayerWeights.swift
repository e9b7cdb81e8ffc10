// What a forward pass asks for: vectors and Linears by tensor name.

package import LinearAlgebra
internal import Tensors

/// The weights of a model, by name. Names, types and shapes have been checked before a forward pass asks.
package protocol LayerWeights: Sendable {
  /// A norm weight or a bias in float32.
  func vector(_ tensor: String) -> [Float]
  /// The weight of a Linear.
  func weight(_ linear: LinearSpec) -> any WeightRows
}

extension LayerWeights {
  func bias(_ linear: LinearSpec) -> [Float]? { linear.hasBias ? vector(linear.bias) : nil }

  func apply(
    _ linear: LinearSpec, to x: Matrix, workers: Workers, into name: String
  ) -> Matrix {
    Gemm.multiply(x, by: weight(linear), bias: bias(linear), workers: workers, into: name)
  }
}
