// How much arithmetic a layer is: floating-point operations of its matrix products, from its description alone.

extension LinearSpec {
  /// For one token.
  package var operations: Double { 2 * Double(inputs) * Double(outputs) }
}

extension LayerSpec {
  /// The attention half, for one token that sees `context` tokens on average.
  package func attendOperations(context: Double) -> Double {
    attention.linears.reduce(0) { $0 + $1.operations } + scoreOperations(context: context)
  }

  /// The scores and what they weight, which are float32 in every engine.
  package func scoreOperations(context: Double) -> Double {
    2 * Double(attention.scoreWidth) * context
  }

  /// The feed-forward half, for one token: always-on units, and as many routed ones as a token is sent to.
  package var feedForwardOperations: Double {
    let chosen = mlp.routed.prefix(mlp.router?.expertsPerToken ?? 0)
    return (mlp.alwaysOn + chosen).reduce(0) { $0 + $1.hiddenOperations + $1.down.operations }
  }
}

extension GatedMLPSpec {
  /// What the down projection reads, for one token.
  package var hiddenOperations: Double { gate.operations + up.operations }
}
