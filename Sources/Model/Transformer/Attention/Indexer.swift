// What chooses the tokens that heads attend to in long texts.
//
// Source: DeepSeek-V3.2-Exp, section 2.1; transformers `DeepseekV32Indexer`, `GlmMoeDsaIndexer`, `MiniMaxM3VLIndexer`.

/// Scores every earlier token, or block of tokens, for each token, and keeps the best, `chosen` tokens in all. In texts of no
/// more tokens than that it changes nothing, and longer ones are refused: what is left of it here is what it reads.
package struct IndexerSpec: Sendable, Equatable {
  package let query: LinearSpec
  /// What `query` reads: the latent of queries, or what the mixer reads, as the others do.
  package let queryPlace: Tap.Place
  package let key: LinearSpec
  /// Of its heads; nil where each counts by itself.
  package let weights: LinearSpec?
  /// Of its norms.
  package let vectors: [VectorSpec]
  package let chosen: Int
  /// Whether inference engines load it with the projections of keys and values, so that it is quantized as they are.
  package let isLoadedWithKeys: Bool

  package init(
    query: LinearSpec, readingAt queryPlace: Tap.Place, key: LinearSpec, weights: LinearSpec?,
    vectors: [VectorSpec], chosen: Int, isLoadedWithKeys: Bool = false
  ) {
    self.query = query
    self.queryPlace = queryPlace
    self.key = key
    self.weights = weights
    self.vectors = vectors
    self.chosen = chosen
    self.isLoadedWithKeys = isLoadedWithKeys
  }

  /// Who reads what.
  var readers: [(place: Tap.Place, linear: LinearSpec)] {
    [(queryPlace, query), (.input, key)] + (weights.map { [(.input, $0)] } ?? [])
  }
}
