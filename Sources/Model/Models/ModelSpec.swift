// A whole model as data: embedding, layers, final norm, head, and every tensor it claims.

package import Transformer

/// What an architecture's description makes of a config.json.
package struct ModelSpec: Sendable, Equatable {
  /// The class in transformers.
  package let architecture: String
  package let names: ModelNames
  package let vocabularySize: Int
  package let hiddenSize: Int
  /// The tensor `[vocabulary, H]`.
  package let embedding: String
  /// The decoder's, and those that predict where they count as well.
  package var layers: [LayerSpec]
  /// Layers that predict further tokens, numbered on behind the others, as far as they can be quantized.
  package var predictions: [LayerSpec] = []
  package let finalNorm: NormSpec
  /// Reads the final norm, `[vocabulary, H]`. Its weight is the embedding's where the two are tied.
  package let head: LinearSpec
  /// What makes one state of those behind the last layer, where a token has several: the final norm reads it.
  package var exit: AttentionResidual?
  /// What embeddings are multiplied with.
  package var embeddingScale: Float = 1
  /// What logits are multiplied with.
  package var logitScale: Float = 1
  /// Logits are cap * tanh(logits / cap).
  package var logitCap: Float?
  /// Names that begin so belong to multi-token-prediction layers, or to parts of them: never quantized, there or not.
  package var passedThrough: [String]
  /// What names of tensors beside the text model begin with: copied, whatever they are.
  package var beside: [String] = []
  /// What the owner of its config.json should know.
  package var notes: [ConfigNote] = []

  package init(
    architecture: String, names: ModelNames = .plain, vocabularySize: Int, hiddenSize: Int,
    embedding: String,
    layers: [LayerSpec], finalNorm: NormSpec, head: LinearSpec, passedThrough: [String]
  ) {
    self.architecture = architecture
    self.names = names
    self.vocabularySize = vocabularySize
    self.hiddenSize = hiddenSize
    self.embedding = embedding
    self.layers = layers
    self.finalNorm = finalNorm
    self.head = head
    self.passedThrough = passedThrough
  }

  /// `passedThrough` and `beside` where prediction layers are not among `layers`; nil where that is so.
  private var passedWithout: PassedNames?

  /// What names of tensors begin with that no layer of ours claims.
  private struct PassedNames: Sendable, Equatable {
    let layers: [String]
    let beside: [String]
  }

  /// The most tokens that a sequence may have; nil for any number.
  package var longestSequence: Int? { layers.compactMap(\.longestSequence).min() }

  package var tiesEmbeddings: Bool { head.weight == embedding }

  /// The embedding as a Linear `[vocabulary, H]`, of which a token reads a row.
  package var embeddingTable: LinearSpec {
    LinearSpec(
      ParameterName.module(ofWeight: embedding) ?? embedding, inputs: hiddenSize,
      outputs: vocabularySize)
  }

  /// What is quantized where a target names it, and stays otherwise: the embedding, and the head. Where the two are tied,
  /// the head has a name and no weight of its own.
  package var ends: [LinearSpec] {
    [
      embeddingTable,
      tiesEmbeddings
        ? LinearSpec(headName, inputs: hiddenSize, outputs: vocabularySize) : head,
    ]
  }

  /// As transformers calls it, also where it shares the embedding's weight.
  package var headName: String { names.head }

  /// How many states of width H a token has before a layer.
  package func statesBefore(layer: Int) -> Int { layers[layer].parts.first?.statesBefore ?? 1 }

  /// Linears that decide on weights of units or of states, or on what is attended to.
  package var deciding: [LinearSpec] {
    layers.flatMap(\.deciding) + (exit.map { [$0.score] } ?? [])
  }

  /// Everything that may be quantized.
  package var quantizable: [LinearSpec] { layers.flatMap(\.linears) + ends }
}

/// A tensor that a model needs: its name, its shape, and the Linear whose weight it is.
package struct TensorClaim: Sendable, Equatable {
  package let name: String
  package let shape: [Int]
  /// Set for the weights that can be quantized.
  package let linear: LinearSpec?

  package init(_ name: String, _ shape: [Int], linear: LinearSpec? = nil) {
    self.name = name
    self.shape = shape
    self.linear = linear
  }
}

extension LinearSpec {
  fileprivate func claims(quantizable: Bool) -> [TensorClaim] {
    [TensorClaim(weight, [outputs, inputs], linear: quantizable ? self : nil)]
      + (hasBias ? [TensorClaim(bias, [outputs])] : [])
  }
}

extension AttentionResidual {
  fileprivate var claims: [TensorClaim] { norm.claims + score.claims(quantizable: false) }
}

extension NormSpec {
  fileprivate var claims: [TensorClaim] { parameters.map { TensorClaim($0, [size]) } }
}

// MARK: Prediction layers

extension ModelSpec {
  /// Whether prediction layers are among `layers`.
  package var predicts: Bool { passedWithout != nil }

  /// This model with its prediction layers among the others.
  package var predicting: ModelSpec {
    if predicts || predictions.isEmpty { return self }
    var result = self
    result.passedWithout = PassedNames(layers: passedThrough, beside: beside)
    result.layers += predictions
    let prefixes = predictions.compactMap(\.entrance?.prefix)
    result.beside.removeAll { name in prefixes.contains { $0.hasPrefix(name) } }
    result.passedThrough =
      passedThrough.filter { !prefixes.contains($0) }
      + predictions.flatMap { $0.entrance?.aside ?? [] }
    return result
  }

  /// This model as it puts out its logits.
  package var withoutPredictions: ModelSpec {
    guard let passedWithout else { return self }
    var result = self
    result.passedWithout = nil
    result.layers.removeAll { $0.entrance != nil }
    (result.passedThrough, result.beside) = (passedWithout.layers, passedWithout.beside)
    return result
  }

  /// What the names of each prediction layer begin with, of those that are not among `layers`.
  package var uncountedPredictions: [String] { predicts ? [] : passedThrough }

  /// What the names of each prediction layer begin with.
  package var predictionPrefixes: [String] { passedWithout?.layers ?? passedThrough }
}

extension LayerSpec {
  /// Every tensor of the layer, in the order of work.
  package var claims: [TensorClaim] { branches.flatMap(\.claims) }
}

extension Entrance {
  /// Every tensor that it reads.
  package var claims: [TensorClaim] {
    (before?.claims ?? []) + embeddingNorm.claims + statesNorm.claims
      + projection.claims(quantizable: false)
  }
}

extension LayerPart {
  /// Every tensor of its branches, in the order of work.
  package var claims: [TensorClaim] { branches.flatMap(\.claims) }
}

extension LayerSpec {
  /// Matrices of a branch that are as wide as what a norm makes, take no part in its smoothing, and are not known to read
  /// something else: each may be a reader that is missing from the description.
  ///
  /// What no forward pass of ours computes is found so, too: an indexer, which short sequences do not ask.
  package func unlistedReaders(of smoothing: Smoothing) -> [String] {
    guard case .norm(let norm) = smoothing.producer else { return [] }
    return smoothing.taps.flatMap { tap in
      let branch = branches[tap.branch]
      let others = taps.filter { $0.branch == branch.number && $0 != tap }
      let known = Set(
        (smoothing.consumers + others.flatMap { readers(at: $0) }
          + branch.mixer.decidingElsewhere(than: tap.place)
          + (branch.residual.map { [$0.score] } ?? [])).map(\.weight))
      return branch.claims.filter {
        $0.shape.count == 2 && $0.shape[1] == norm.size && !known.contains($0.name)
      }.map(\.name)
    }
  }
}

extension Branch<Mixer> {
  fileprivate var claims: [TensorClaim] {
    (residual?.claims ?? []) + (isBeside ? [] : preNorm?.claims ?? []) + mixer.claims
      + (postNorm?.claims ?? [])
      + (statesScale.map { [TensorClaim($0, [1])] } ?? [])
  }
}

extension Mixer {
  fileprivate var claims: [TensorClaim] {
    switch self {
    case .sequence(let mixer):
      return mixer.linears.flatMap { $0.claims(quantizable: true) } + mixer.norms.flatMap(\.claims)
        + mixer.vectors.map { TensorClaim($0.name, $0.shape) }
        + deciding.flatMap { $0.claims(quantizable: false) }
    case .tokens(let mlp):
      var result = deciding.flatMap { $0.claims(quantizable: false) }
      result += mlp.vectors.map { TensorClaim($0.name, $0.shape) } + mlp.norms.flatMap(\.claims)
      for linear in mlp.units.flatMap(\.linears) { result += linear.claims(quantizable: true) }
      return result
    }
  }
}

extension ModelSpec {
  /// Every tensor of the model but the passed-through ones, in the order of the forward pass.
  package var claims: [TensorClaim] {
    embeddingTable.claims(quantizable: true) + layers.flatMap(\.claims)
      + (exit?.claims ?? []) + finalNorm.claims
      + (tiesEmbeddings ? [] : head.claims(quantizable: true))
  }

  /// The first attention that keeps no keys and values; nil where all do.
  package var moduleWithoutCache: String? {
    for case .sequence(let mixer) in layers.flatMap(\.branches).map(\.mixer)
    where mixer.cache == nil {
      return mixer.output.name.split(separator: ".").dropLast().joined(separator: ".")
    }
    return nil
  }

  package func passesThrough(_ tensor: String) -> Bool {
    passedThrough.contains { tensor.hasPrefix($0) } || beside.contains { tensor.hasPrefix($0) }
      || Self.isDerived(tensor)
  }

  /// The module of a passed-through tensor that may be a Linear's weight: to be listed as not quantized.
  package func passedModule(_ tensor: String, shape: [Int]) -> String? {
    guard passesThrough(tensor), shape.count == 2,
      let module = ParameterName.module(ofWeight: tensor), !module.hasSuffix("embed_tokens")
    else { return nil }
    return module
  }

  /// Some checkpoints store what follows from their config.json, in each layer or once for all: rotations, and decays of
  /// lightning attention. Whoever loads them passes over it, or makes it anew.
  ///
  /// Source: vLLM 0.33, `AutoWeightsLoader`; transformers `MiniMaxLightningAttention`.
  private static func isDerived(_ tensor: String) -> Bool {
    // Large models have tens of thousands of names that are none.
    guard ["inv_freq", "_cached", "_decay", "slope_rate"].contains(where: tensor.hasSuffix) else {
      return false
    }
    let parts = tensor.split(separator: ".").suffix(2).map(String.init)
    guard parts.count == 2 else { return false }
    return switch parts[0] {
    case "rotary_emb", "rotary_pos_emb":
      ["inv_freq", "cos_cached", "sin_cached"].contains(parts[1])
    case "self_attn":
      ["slope_rate", "query_decay", "key_decay", "diagonal_decay"].contains(parts[1])
    default: false
    }
  }
}
