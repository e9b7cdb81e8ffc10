// The halves that a layer of most families has: attention, and an MLP on each token.

package import Transformer

extension LayerSpec {
  /// The first branch along the sequence.
  package var attending: Branch<SequenceMixer> {
    guard let branch = parts[0].sequence else { preconditionFailure("no attention") }
    return branch
  }

  /// The first branch on tokens.
  package var feeding: Branch<MLPSpec> {
    guard let branch = parts[0].tokens else { preconditionFailure("no MLP") }
    return branch
  }

  package var attention: SequenceMixer { attending.mixer }
  package var mlp: MLPSpec { feeding.mixer }
}
