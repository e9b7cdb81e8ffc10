// What stands before a prediction layer: the states of the layer before it, joined with embeddings of tokens ahead.

package import LinearAlgebra
package import Tensors

/// What a layer reads that predicts further tokens: projection([embeddingNorm(e), statesNorm(before(h))]), where h are the
/// states of the layer before it, and e embeddings of tokens ahead of theirs.
///
/// Source: DeepSeek-V3 (arXiv:2412.19437), 2.2; vLLM 0.33 `deepseek_mtp.py`, `glm4_moe_mtp.py`.
package struct Entrance: Sendable, Equatable {
  /// What the names of all tensors of the layer begin with.
  package let prefix: String
  /// How many tokens ahead.
  package let ahead: Int
  /// A norm of what comes before, which its states go through first; nil where they come as they are.
  package let before: NormSpec?
  package let statesNorm: NormSpec
  package let embeddingNorm: NormSpec
  /// `[H, 2H]`, embeddings first.
  package let projection: LinearSpec
  /// Whether a sequence begins with zeros in place of its first embedding.
  package let masksFirst: Bool
  /// What names of tensors begin with that are no part of the decoder layer.
  package let aside: [String]

  package init(
    prefix: String, ahead: Int, before: NormSpec?, statesNorm: NormSpec, embeddingNorm: NormSpec,
    projection: LinearSpec, masksFirst: Bool, aside: [String]
  ) {
    self.prefix = prefix
    self.ahead = ahead
    self.before = before
    self.statesNorm = statesNorm
    self.embeddingNorm = embeddingNorm
    self.projection = projection
    self.masksFirst = masksFirst
    self.aside = aside
  }

  /// The tokens whose embeddings are read beside the states of `tokens`. At the end of a sequence, where nobody knows what
  /// follows, its last token stands for that: one position of hundreds, which no other one sees.
  ///
  /// - Parameter sequences: where each of them lies.
  package func read(_ tokens: [Int32], sequences: [Range<Int>]) -> [Int32] {
    var result = tokens
    for sequence in sequences {
      for place in sequence {
        result[place] = tokens[min(place + ahead, sequence.upperBound - 1)]
      }
    }
    return result
  }

  /// What the layer reads, `[T, H]`.
  ///
  /// - Parameters:
  ///   - states: of the layer before, `[T, H]`.
  ///   - embeddings: of the tokens ahead, `[T, H]`; they are used up.
  ///   - sequences: the rows of each sequence.
  package func apply(
    to states: Matrix, _ embeddings: Matrix, sequences: [Range<Int>], weights: any LayerWeights,
    backend: Backend
  ) -> Matrix {
    if masksFirst {
      backend.compute {
        for sequence in sequences where !sequence.isEmpty {
          unsafe embeddings.row(sequence.lowerBound)
            .update(repeating: 0, count: embeddings.columns)
        }
      }
    }
    embeddingNorm.apply(in: embeddings, weights: weights, backend: backend)
    let normed = (before ?? statesNorm).apply(to: states, weights: weights, backend: backend)
    if before != nil { statesNorm.apply(in: normed, weights: weights, backend: backend) }
    return weights.apply(
      projection, to: embeddings.beside(normed, into: "inputs of an entrance", backend: backend),
      backend: backend, into: "hidden states of a block")
  }
}
