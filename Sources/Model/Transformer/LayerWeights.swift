// What a forward pass asks for: vectors and Linears by tensor name.

package import LinearAlgebra
package import Tensors

/// The weights of a model, by name. Names, types and shapes have been checked before a forward pass asks.
package protocol LayerWeights: Sendable {
  /// A norm weight or a bias in float32.
  func vector(_ tensor: String) -> [Float]
  /// The weight of a Linear.
  func weight(_ linear: LinearSpec) -> any WeightRows
  /// What a Linear takes for its input `[T, in]`: the input itself, or what its scheme makes of it.
  func read(_ x: Matrix, by linear: LinearSpec, backend: Backend) -> Matrix
  /// Makes of keys or values `[T, width]`, in their place, what their cache gives back: themselves, or what its scheme
  /// makes of them.
  func keep(_ x: Matrix, as part: KeyValueCache.Part, in cache: KeyValueCache, backend: Backend)
}

extension LayerWeights {
  package func read(_ x: Matrix, by linear: LinearSpec, backend: Backend) -> Matrix { x }

  package func keep(
    _ x: Matrix, as part: KeyValueCache.Part, in cache: KeyValueCache, backend: Backend
  ) {}

  package func bias(_ linear: LinearSpec) -> [Float]? { linear.hasBias ? vector(linear.bias) : nil }

  package func apply(
    _ linear: LinearSpec, to x: Matrix, backend: Backend, into name: String
  ) -> Matrix {
    Gemm.multiply(
      read(x, by: linear, backend: backend), by: weight(linear), bias: bias(linear),
      backend: backend, into: name)
  }
}
