// Mixers along the sequence: the kinds that are known, what the rest of the program asks of any of them, and their forward
// pass.

package import LinearAlgebra
package import Tensors

/// A mixer along the sequence, of one of the kinds that are known. Each kind is a file of its own.
package enum SequenceMixer: Sendable, Equatable {
  case groupedQuery(GroupedQuerySpec)
  case latent(LatentSpec)
  case deltaNet(DeltaNetSpec)
  case channelDeltaNet(ChannelDeltaNetSpec)
  case stateSpace(StateSpaceSpec)
  case selective(SelectiveSpec)
  case shortConvolution(ShortConvolutionSpec)
  case lightning(LightningSpec)

  /// In the order of the forward pass.
  package var linears: [LinearSpec] { parts.flatMap(\.readers) }

  /// The projection that all heads end in.
  package var output: LinearSpec {
    switch self {
    case .groupedQuery(let spec): spec.output
    case .latent(let spec): spec.output
    case .deltaNet(let spec): spec.output
    case .channelDeltaNet(let spec): spec.output
    case .stateSpace(let spec): spec.output
    case .selective(let spec): spec.output
    case .shortConvolution(let spec): spec.output
    case .lightning(let spec): spec.output
    }
  }

  /// Norms within the mixer.
  package var norms: [NormSpec] {
    switch self {
    case .groupedQuery(let spec): spec.norms
    case .latent(let spec): spec.norms
    case .deltaNet(let spec): [spec.norm]
    case .channelDeltaNet(let spec): [spec.norm]
    case .stateSpace(let spec): [spec.norm]
    case .selective(let spec): spec.norms
    case .shortConvolution: []
    case .lightning(let spec): [spec.norm]
    }
  }

  /// What else decides on the work of a layer, where the sizes of Linears are equal: which tokens are seen, what turns.
  var shape: String {
    switch self {
    case .groupedQuery(let spec):
      "\(spec.reach) \(spec.rotary.dimensions) \(spec.rotary.scaling.followsLength) \(spec.sharpening != nil)"
    case .latent(let spec): "\(spec.rotary.dimensions) \(spec.turns)"
    case .deltaNet, .channelDeltaNet, .shortConvolution: ""
    case .lightning(let spec): "lightning \(spec.heads)"
    case .stateSpace(let spec): "\(spec.heads) \(spec.groups)"
    case .selective(let spec): "selective \(spec.stateSize)"
    }
  }

  /// Keys and values that an inference engine keeps of every token; nil where it keeps something else.
  package var cache: KeyValueCache? {
    switch self {
    case .groupedQuery(let spec): spec.cache
    // A latent and one rotated key for all heads; a state that stands for all tokens; the few tokens before.
    case .latent, .deltaNet, .channelDeltaNet, .stateSpace, .selective, .shortConvolution,
      .lightning:
      nil
    }
  }

  /// Vectors that no Linear reads and no norm has.
  package var vectors: [VectorSpec] {
    switch self {
    case .groupedQuery(let spec): spec.vectors
    case .latent(let spec): spec.indexer?.vectors ?? []
    case .deltaNet(let spec): spec.vectors
    case .channelDeltaNet(let spec): spec.vectors
    case .stateSpace(let spec): spec.vectors
    case .selective(let spec): spec.vectors
    case .shortConvolution(let spec): spec.convolution.vectors
    case .lightning: []
    }
  }

  /// Every activation that Linears read, and who reads it, in the order of the forward pass.
  package var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    switch self {
    case .groupedQuery(let spec): spec.parts
    case .latent(let spec): spec.parts
    case .deltaNet(let spec): spec.parts
    case .channelDeltaNet(let spec): spec.parts
    case .stateSpace(let spec): spec.parts
    case .selective: []
    case .shortConvolution(let spec): spec.parts
    case .lightning(let spec): spec.parts
    }
  }

  func readers(at place: Tap.Place) -> [LinearSpec] {
    parts.first { $0.place == place }?.readers ?? []
  }

  /// What chooses the tokens that are attended to.
  package var indexer: IndexerSpec? {
    switch self {
    case .groupedQuery(let spec): spec.indexer
    case .latent(let spec): spec.indexer
    case .deltaNet, .channelDeltaNet, .stateSpace, .selective, .shortConvolution, .lightning: nil
    }
  }

  /// Heads whose results lie side by side in what the output projection reads.
  package var heads: Int {
    switch self {
    case .groupedQuery(let spec): spec.heads
    case .latent(let spec): spec.heads
    case .deltaNet(let spec): spec.valueHeads
    case .channelDeltaNet(let spec): spec.heads
    case .stateSpace(let spec): spec.heads
    case .lightning(let spec): spec.heads
    case .selective, .shortConvolution: 1
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
    case .deltaNet, .channelDeltaNet, .stateSpace, .selective, .shortConvolution, .lightning: []
    }
  }

  /// Linears that decide on what is attended to, or on what is remembered, and what they read: never quantized. Nil for
  /// what lies within the mixer.
  package var deciding: [(place: Tap.Place?, linear: LinearSpec)] {
    switch self {
    case .groupedQuery, .latent:
      indexer?.isLoadedWithKeys == true
        ? [] : indexer?.readers.map { ($0.place, $0.linear) } ?? []
    case .deltaNet(let spec): spec.deciding.map { (.input, $0) }
    case .channelDeltaNet(let spec): spec.deciding
    case .selective(let spec): [(.input, spec.input)] + spec.inner.map { (nil, $0) }
    case .stateSpace, .shortConvolution, .lightning: []
    }
  }

  /// What `deciding` is called in lists of what stays as it is.
  package var leftOut: String? {
    switch self {
    case .groupedQuery, .stateSpace, .shortConvolution, .lightning: nil
    case .latent: indexer == nil ? nil : "indexers"
    case .deltaNet: "steps of delta nets"
    case .channelDeltaNet(let spec): spec.leftOut
    case .selective: "Mamba"
    }
  }

  /// What decides, be it quantized or not, and what it reads: no output tells what becomes of some of them.
  package var scored: [(place: Tap.Place?, linear: LinearSpec)] {
    indexer?.readers.map { ($0.place, $0.linear) } ?? deciding
  }

  /// Smoothings within the mixer, each with every consumer.
  func smoothings(of branch: Int) -> [Smoothing] {
    switch self {
    case .groupedQuery(let spec): spec.smoothings(of: branch)
    case .latent(let spec): spec.smoothings(of: branch)
    case .stateSpace(let spec): spec.smoothings(of: branch)
    case .lightning(let spec): spec.smoothings(of: branch)
    // What the output projection reads is no multiple of what a whole Linear or norm makes, channel by channel.
    case .deltaNet, .channelDeltaNet, .selective, .shortConvolution: []
    }
  }

  /// Linears that inference engines load as one.
  var fusedGroups: [[LinearSpec]] {
    switch self {
    case .groupedQuery(let spec): [spec.loadedAsOne]
    case .latent(let spec): [spec.loadedAsOne]
    case .deltaNet(let spec): [spec.projections]
    case .channelDeltaNet(let spec): [spec.loadedAsOne]
    case .stateSpace, .selective, .shortConvolution, .lightning: []
    }
  }

  /// Linears whose outputs inference engines split over devices, by heads.
  package var splitByHeads: [LinearSpec] {
    switch self {
    case .groupedQuery(let spec): spec.loadedAsOne
    case .latent(let spec): [spec.queryUp, spec.keyValueUp] + (spec.gate.map { [$0] } ?? [])
    case .deltaNet(let spec): spec.projections
    case .channelDeltaNet(let spec): spec.readers
    case .stateSpace(let spec): [spec.input]
    case .selective: []
    case .shortConvolution(let spec): [spec.input]
    case .lightning(let spec): [spec.projection, spec.gate]
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
    sequences: [Range<Int>], weights: any LayerWeights, backend: Backend,
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
          project { spec.project($0, weights: weights, backend: backend) }, sequences: sequences,
          weights: weights, backend: backend, tap: tap, probe: probe)
      case .latent(let spec):
        spec.attend(
          project { spec.project($0, weights: weights, backend: backend, tap: tap) },
          sequences: sequences, backend: backend, probe: probe)
      case .deltaNet(let spec):
        spec.remember(
          project { spec.project($0, weights: weights, backend: backend) }, sequences: sequences,
          weights: weights, backend: backend)
      case .channelDeltaNet(let spec):
        spec.remember(
          project { spec.project($0, weights: weights, backend: backend) }, sequences: sequences,
          weights: weights, backend: backend)
      case .stateSpace(let spec):
        spec.remember(
          project { spec.project($0, weights: weights, backend: backend) }, sequences: sequences,
          weights: weights, backend: backend)
      case .selective(let spec):
        spec.remember(
          project { spec.project($0, weights: weights, backend: backend) }, sequences: sequences,
          weights: weights, backend: backend)
      case .shortConvolution(let spec):
        spec.mix(
          project { spec.project($0, weights: weights, backend: backend) }, sequences: sequences,
          weights: weights, backend: backend)
      case .lightning(let spec):
        spec.remember(
          project { spec.project($0, weights: weights, backend: backend) }, sequences: sequences,
          weights: weights, backend: backend)
      }
    tap(.output, read)
    return read
  }
}
