// A short convolution along tokens, each channel by itself.

internal import CKernels
internal import LinearAlgebra
internal import Tensors

/// Mixes every channel of a token with the same channel of the tokens just before it.
package struct CausalConvolution: Sendable, Equatable {
  /// A tensor `[channels, 1, taps]`.
  package let weight: String
  /// A tensor `[channels]`, added to what is mixed.
  package let bias: String?
  package let channels: Int
  package let taps: Int

  package init(weight: String, bias: String? = nil, channels: Int, taps: Int) {
    self.weight = weight
    self.bias = bias
    self.channels = channels
    self.taps = taps
  }

  var vectors: [VectorSpec] {
    [VectorSpec(weight, shape: [channels, 1, taps])]
      + (bias.map { [VectorSpec($0, size: channels)] } ?? [])
  }

  /// Channels of a task.
  private static let taskChannels = 512

  /// Works in the place of x `[T, channels]`.
  ///
  /// - Parameters:
  ///   - sequences: the rows of each sequence, before which there is nothing.
  ///   - activates: whether SiLU follows.
  func apply(
    in x: Matrix, sequences: [Range<Int>], activates: Bool, weights: any LayerWeights,
    backend: Backend
  ) {
    let stored = weights.vector(weight)
    // Tap by tap; of shapes there are no numbers.
    let kernel = (0..<taps).flatMap { tap in
      stride(from: tap, to: stored.count, by: taps).map { stored[$0] }
    }
    let bias = bias.map { weights.vector($0) }
    backend.ledger.note(
      Operation(.elements, [(taps + (activates ? 1 : 0) + (bias == nil ? 0 : 1)) * x.count]))
    let parts = ranges(of: channels, by: Self.taskChannels)
    let tasks = sequences.flatMap { sequence in parts.map { (sequence, $0) } }
    backend.forEach(tasks.count) { index in
      let (sequence, part) = tasks[index]
      unsafe kernel.withUnsafeBufferPointer { kernel in
        guard let kernel = kernel.baseAddress else { return }
        unsafe sluice_causal_convolution(
          x.row(sequence.lowerBound) + part.lowerBound, kernel + part.lowerBound, taps,
          sequence.count, part.count, channels)
      }
      for token in sequence {
        let row = unsafe x.row(token) + part.lowerBound
        if let bias {
          unsafe bias[part].withUnsafeBufferPointer {
            unsafe sluice_add_scaled($0.baseAddress, 1, row, part.count)
          }
        }
        if activates { unsafe sluice_silu(row, part.count) }
      }
    }
  }
}
