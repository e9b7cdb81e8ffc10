// Mixers along the sequence: the kinds that are known, what the rest of the program asks of any of them, and their forward
// pass.

package import LinearAlgebra
package import Tensors

/// A mixer along the sequence, of one of the kinds that are known. Each kind is a file of its own.
package enum SequenceMixer: Sendable, Equatable {
  case groupedQuery(GroupedQuerySpec)
  case latent(LatentSpec)
  case deltaNet(DeltaNetSpec)

  /// In the order of the forward pass.
  package var linears: [LinearSpec] { parts.flatMap(\.readers) }

  /// The projection that all heads end in.
  package var output: LinearSpec {
    switch self {
    case .groupedQuery(let spec): spec.output
    case .latent(let spec): spec.output
    case .deltaNet(let spec): spec.output
    }
  }

  /// Norms within the mixer.
  package var norms: [NormSpec] {
    switch self {
    case .groupedQuery(let spec): spec.norms
    case .latent(let spec): spec.norms
    case .deltaNet(let spec): [spec.norm]
    }
  }

  /// What else decides on the work of a layer, where the sizes of Linears are equal: which tokens are seen, what turns.
  var shape: String {
    switch self {
    case .groupedQuery(let spec):
      "\(spec.reach) \(spec.rotary.dimensions) \(spec.rotary.scaling.followsLength) \(spec.sharpening != nil)"
    case .latent(let spec): "\(spec.rotary.dimensions)"
    case .deltaNet: ""
    }
  }

  /// Keys and values that an inference engine keeps of every token; nil where it keeps something else.
  package var cache: KeyValueCache? {
    switch self {
    case .groupedQuery(let spec): spec.cache
    // A latent and one rotated key for all heads; a state that stands for all tokens.
    case .latent, .deltaNet: nil
    }
  }

  /// Vectors that no Linear reads and no norm has.
  package var vectors: [VectorSpec] {
    switch self {
    case .groupedQuery(let spec): spec.vectors
    case .latent(let spec): spec.indexer?.vectors ?? []
    case .deltaNet(let spec): spec.vectors
    }
  }

  /// Every activation that Linears read, and who reads it, in the order of the forward pass.
  package var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    switch self {
    case .groupedQuery(let spec): spec.parts
    case .latent(let spec): spec.parts
    case .deltaNet(let spec): spec.parts
    }
  }

  /// What chooses the tokens that are attended to.
  package var indexer: IndexerSpec? {
    switch self {
    case .groupedQuery, .deltaNet: nil
    case .latent(let spec): spec.indexer
    }
  }

  /// Heads whose results lie side by side in what the output projection reads.
  package var heads: Int {
    switch self {
    case .groupedQuery(let spec): spec.heads
    case .latent(let spec): spec.heads
    case .deltaNet(let spec): spec.valueHeads
    }
  }

  /// Heads with keys and values of their own.
  package var headGroups: Int {
    if case .groupedQuery(let spec) = self { spec.keyValueHeads } else { heads }
  }

  /// The Linears at whose outputs a probe finds gradients, each with the outputs that belong together; none where the
  /// mixer's way back is not known.
  package var probed: [(linear: LinearSpec, size: Int)] {
    switch self {
    case .groupedQuery(let spec): spec.probed
    case .latent(let spec): spec.probed
    case .deltaNet: []
    }
  }

  /// Linears that decide on what is attended to, or on what is remembered, and what they read: never quantized.
  package var deciding: [(place: Tap.Place, linear: LinearSpec)] {
    switch self {
    case .groupedQuery, .latent: indexer?.readers ?? []
    case .deltaNet(let spec): spec.deciding.map { (.input, $0) }
    }
  }

  /// Smoothings within the mixer, each with every consumer.
  func smoothings(of branch: Int) -> [Smoothing] {
    switch self {
    case .groupedQuery(let spec): spec.smoothings(of: branch)
    case .latent(let spec): spec.smoothings(of: branch)
    // What the output projection reads is no multiple of what any Linear or norm makes, channel by channel.
    case .deltaNet: []
    }
  }

  /// Linears that inference engines load as one.
  var fusedGroups: [[LinearSpec]] {
    switch self {
    case .groupedQuery(let spec): [spec.projections]
    case .latent(let spec): [spec.parts[0].readers]
    case .deltaNet(let spec): [spec.projections]
    }
  }

  /// Linears whose outputs inference engines split over devices, by heads.
  package var splitByHeads: [LinearSpec] {
    switch self {
    case .groupedQuery(let spec): spec.projections
    case .latent(let spec): [spec.queryUp, spec.keyValueUp]
    case .deltaNet(let spec): spec.projections
    }
  }
}

extension SequenceMixer {
  /// What the output projection reads, `[T, heads * value dimension]`.
  ///
  /// - Parameters:
  ///   - sequences: the rows of each sequence; positions count from the start of each.
  ///   - probe: of a mixer that has `probed` Linears.
  ///   - input: makes what the mixer reads, `[T, H]`, which is gone before scores are computed.
  package func read(
    sequences: [Range<Int>], weights: any LayerWeights, workers: Workers,
    tap: (Tap.Place, Matrix) -> Void = { _, _ in }, probe: OutputProbe? = nil,
    input: () -> Matrix
  ) -> Matrix {
    func project<Projections>(_ projections: (Matrix) -> Projections) -> Projections {
      let x = input()
      tap(.input, x)
      return projections(x)
    }
    let read =
      switch self {
      case .groupedQuery(let spec):
        spec.attend(
          project { spec.project($0, weights: weights, workers: workers) }, sequences: sequences,
          weights: weights, workers: workers, tap: tap, probe: probe)
      case .latent(let spec):
        spec.attend(
          project { spec.project($0, weights: weights, workers: workers, tap: tap) },
          sequences: sequences, workers: workers, probe: probe)
      case .deltaNet(let spec):
        spec.remember(
          project { spec.project($0, weights: weights, workers: workers) }, sequences: sequences,
          weights: weights, workers: workers)
      }
    tap(.output, read)
    return read
  }
}
