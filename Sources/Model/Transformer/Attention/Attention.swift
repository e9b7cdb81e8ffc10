// Causal attention: the kinds that are known, what the rest of the program asks of any of them, and its forward pass.

package import LinearAlgebra
package import Tensors

/// Causal attention, of one of the kinds that are known. Each kind is a file of its own.
package enum AttentionSpec: Sendable, Equatable {
  case groupedQuery(GroupedQuerySpec)
  case latent(LatentSpec)

  /// In the order of the forward pass.
  package var linears: [LinearSpec] { parts.flatMap(\.readers) }

  /// The projection that all heads end in.
  package var output: LinearSpec {
    switch self {
    case .groupedQuery(let spec): spec.output
    case .latent(let spec): spec.output
    }
  }

  /// Norms within attention.
  package var norms: [NormSpec] {
    switch self {
    case .groupedQuery(let spec): spec.norms
    case .latent(let spec): spec.norms
    }
  }

  package var rotary: RotarySpec {
    switch self {
    case .groupedQuery(let spec): spec.rotary
    case .latent(let spec): spec.rotary
    }
  }

  /// Every activation that Linears read, and who reads it, in the order of the forward pass.
  package var parts: [(tap: Tap, readers: [LinearSpec])] {
    switch self {
    case .groupedQuery(let spec): spec.parts
    case .latent(let spec): spec.parts
    }
  }

  package var taps: [Tap] { parts.map(\.tap) }

  /// Smoothings that keep the function, each with every consumer.
  ///
  /// - Parameter input: the norm whose output attention reads.
  func smoothings(after input: NormSpec) -> [Smoothing] {
    switch self {
    case .groupedQuery(let spec): spec.smoothings(after: input)
    case .latent(let spec): spec.smoothings(after: input)
    }
  }

  /// Linears that inference engines load as one.
  var fusedGroups: [[LinearSpec]] {
    switch self {
    case .groupedQuery(let spec): [[spec.query, spec.key, spec.value]]
    case .latent(let spec): [spec.parts[0].readers]
    }
  }

  /// Linears whose outputs inference engines split over devices, by heads.
  package var splitByHeads: [LinearSpec] {
    switch self {
    case .groupedQuery(let spec): [spec.query, spec.key, spec.value]
    case .latent(let spec): [spec.queryUp, spec.keyValueUp]
    }
  }
}

extension AttentionSpec {
  /// What the output projection reads, `[T, heads * value dimension]`.
  ///
  /// - Parameters:
  ///   - sequences: the rows of each sequence; positions count from the start of each.
  ///   - input: makes the normed input `[T, H]`, which is gone before scores are computed.
  package func read(
    sequences: [Range<Int>], weights: any LayerWeights, workers: Workers,
    tap: (Tap, Matrix) -> Void = { _, _ in }, input: () -> Matrix
  ) -> Matrix {
    func project<Projections>(_ projections: (Matrix) -> Projections) -> Projections {
      let normed = input()
      tap(.attentionInput, normed)
      return projections(normed)
    }
    let read =
      switch self {
      case .groupedQuery(let spec):
        spec.attend(
          project { spec.project($0, weights: weights, workers: workers) }, sequences: sequences,
          weights: weights, workers: workers)
      case .latent(let spec):
        spec.attend(
          project { spec.project($0, weights: weights, workers: workers, tap: tap) },
          sequences: sequences, workers: workers)
      }
    tap(.attentionOutput, read)
    return read
  }
}
