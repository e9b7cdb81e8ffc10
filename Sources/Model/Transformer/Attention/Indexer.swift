// What chooses the tokens that latent heads attend to in long texts.
//
// Source: DeepSeek-V3.2-Exp, section 2.1; transformers `DeepseekV32Indexer`, `GlmMoeDsaIndexer`.

/// Scores every earlier token for each token, and keeps the best `chosen`. In texts of no more tokens than that it changes
/// nothing, and longer ones are refused: what is left of it here is what it reads.
package struct IndexerSpec: Sendable, Equatable {
  /// Reads the latent of queries.
  package let query: LinearSpec
  /// These read what the mixer reads.
  package let key: LinearSpec
  package let weights: LinearSpec
  /// A norm with a mean and a bias, of the width of a key.
  package let keyNorm: String
  package let chosen: Int

  package init(
    query: LinearSpec, key: LinearSpec, weights: LinearSpec, keyNorm: String, chosen: Int
  ) {
    self.query = query
    self.key = key
    self.weights = weights
    self.keyNorm = keyNorm
    self.chosen = chosen
  }

  /// Who reads what; none of them is quantized.
  var readers: [(place: Tap.Place, linear: LinearSpec)] {
    [(.queryLatent, query), (.input, key), (.input, weights)]
  }

  /// Weight and bias of the norm.
  var vectors: [VectorSpec] {
    [ParameterName.weight(of: keyNorm), ParameterName.bias(of: keyNorm)].map {
      VectorSpec($0, size: key.outputs)
    }
  }
}
