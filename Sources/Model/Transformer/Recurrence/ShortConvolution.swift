// A gated short convolution: what a token says is mixed with what the few before it said, between two gates.
//
// Source: transformers `Lfm2MoeShortConv`.

internal import LinearAlgebra
internal import Tensors

package struct ShortConvolutionSpec: Sendable, Equatable {
  /// To `[T, 3 * channels]`: gates before the convolution, gates behind it, what is mixed.
  package let input: LinearSpec
  package let convolution: CausalConvolution
  package let output: LinearSpec

  package init(input: LinearSpec, convolution: CausalConvolution, output: LinearSpec) {
    self.input = input
    self.convolution = convolution
    self.output = output
  }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    [(.input, [input]), (.output, [output])]
  }
}

extension ShortConvolutionSpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  /// - Returns: What is mixed, gated, and the gates behind the convolution, each `[T, channels]`.
  func project(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> (mixed: Matrix, gates: Matrix) {
    let all = weights.apply(
      input, to: x, backend: backend, into: "projections of a short convolution")
    let width = convolution.channels
    func part(_ index: Int, _ name: String) -> Matrix {
      all.columns(index * width..<(index + 1) * width, into: name, backend: backend)
    }
    let mixed = part(2, "channels of a short convolution")
    mixed.multiply(by: part(0, "gates of a short convolution"), backend: backend)
    return (mixed, part(1, "gates of a short convolution"))
  }

  /// What the output projection reads, `[T, channels]`; it takes the place of what is mixed.
  ///
  /// - Parameter sequences: the rows of each sequence, before which there is nothing.
  func mix(
    _ projections: consuming (mixed: Matrix, gates: Matrix), sequences: [Range<Int>],
    weights: any LayerWeights, backend: Backend
  ) -> Matrix {
    let mixed = projections.mixed
    convolution.apply(
      in: mixed, sequences: sequences, activates: false, weights: weights, backend: backend)
    mixed.multiply(by: projections.gates, backend: backend)
    return mixed
  }
}
