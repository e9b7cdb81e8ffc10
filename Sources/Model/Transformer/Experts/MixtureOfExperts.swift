// A mixer on tokens over blocks of them: each unit's weights are visited once.

package import LinearAlgebra
package import Tensors

extension MLPSpec {
  /// Tokens that go through a routed expert together: what its activations take does not depend on the router's taste.
  package static let gatheredRows = 256

  /// Adds the outputs of all always-on units and of each token's experts to each block, `[T, H]`.
  ///
  /// Units outside, blocks inside, so that the weights of an expert are read once for all blocks. Tokens are gathered
  /// within their block only: what is computed for a token does not depend on how many blocks are in memory.
  ///
  /// - Parameters:
  ///   - inputs: what the units read, for each block.
  ///   - routings: one for each block, or none where there is no router.
  ///   - finished: called after the last use of a unit's weights.
  package func add(
    to results: [Matrix], reading inputs: [Matrix], routings: [Routing],
    weights: any LayerWeights, backend: Backend, finished: (UnitSpec) -> Void = { _ in }
  ) {
    guard let strands else {
      addAlwaysOn(
        to: results, reading: inputs, weights: weights, backend: backend, finished: finished)
      guard let latent else {
        return addRouted(
          to: results, reading: inputs, routings: routings, weights: weights, backend: backend,
          finished: finished)
      }
      let latents = inputs.map {
        input($0, at: .routedInput, weights: weights, backend: backend)
      }
      let sums = latents.map { backend.zeros("latents of experts", like: $0) }
      addRouted(
        to: sums, reading: latents, routings: routings, weights: weights, backend: backend,
        finished: finished)
      for (sum, result) in zip(sums, results) {
        latent.norm?.apply(in: sum, weights: weights, backend: backend)
        result.add(
          weights.apply(latent.up, to: sum, backend: backend, into: "outputs of experts"),
          backend: backend)
      }
      return
    }
    func add(_ strand: Strand, _ units: (_ sums: [Matrix], _ inputs: [Matrix]) -> Void) {
      let sums = inputs.map { backend.zeros("outputs of a strand", like: $0) }
      units(sums, inputs.map { strand.before.apply(to: $0, weights: weights, backend: backend) })
      for (sum, result) in zip(sums, results) {
        strand.behind.apply(in: sum, weights: weights, backend: backend)
        result.add(sum, backend: backend)
      }
    }
    add(strands.alwaysOn) {
      addAlwaysOn(to: $0, reading: $1, weights: weights, backend: backend, finished: finished)
    }
    add(strands.routed) {
      addRouted(
        to: $0, reading: $1, routings: routings, weights: weights, backend: backend,
        finished: finished)
    }
  }

  /// What units read of the mixer's input, at each of `inputPlaces`.
  package func inputs(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> [(place: Tap.Place, input: Matrix)] {
    inputPlaces.map { ($0, input(x, at: $0, weights: weights, backend: backend)) }
  }

  /// What units read of the mixer's input at one of `inputPlaces`.
  package func input(
    _ x: Matrix, at place: Tap.Place, weights: any LayerWeights, backend: Backend
  ) -> Matrix {
    if let latent, place == .routedInput {
      return weights.apply(latent.down, to: x, backend: backend, into: "latents of experts")
    }
    return strand(at: place)?.before.apply(to: x, weights: weights, backend: backend) ?? x
  }

  private func addAlwaysOn(
    to results: [Matrix], reading inputs: [Matrix], weights: any LayerWeights, backend: Backend,
    finished: (UnitSpec) -> Void
  ) {
    for unit in alwaysOn {
      for (x, result) in zip(inputs, results) {
        let output = unit.apply(to: x, weights: weights, backend: backend)
        result.add(output, backend: backend)
      }
      finished(unit)
    }
  }

  private func addRouted(
    to results: [Matrix], reading inputs: [Matrix], routings: [Routing],
    weights: any LayerWeights, backend: Backend, finished: (UnitSpec) -> Void
  ) {
    // Each token's experts and weights, and the same by expert.
    let choices = routings.reduce(0) { $0 + $1.tokens * $1.expertsPerToken }
    backend.holding("routing", bytes: choices * 48) {
      let tokens = routings.map { $0.byExpert(routed.count) }
      func add(_ chosen: ArraySlice<(token: Int, weight: Float)>, _ unit: UnitSpec, block: Int) {
        let gathered = inputs[block].gathered(
          chosen.map(\.token), into: "tokens of an expert", backend: backend)
        let scalesInputs = router?.scalesInputs ?? false
        if scalesInputs { gathered.multiply(byRows: chosen.map(\.weight), backend: backend) }
        let output = unit.apply(to: gathered, weights: weights, backend: backend)
        results[block].add(
          output, to: chosen.map { ($0.token, scalesInputs ? 1 : $0.weight) }, backend: backend)
      }
      if !backend.computes {
        return noteRouted(routings, finished, { add($0, $1, block: $2) }, backend)
      }
      for (expert, unit) in routed.enumerated() {
        for block in inputs.indices {
          for part in ranges(of: tokens[block][expert].count, by: Self.gatheredRows) {
            add(tokens[block][expert][part], unit, block: block)
          }
        }
        finished(unit)
      }
    }
  }

  /// Where only shapes are known: buffers as where all tokens of a part go to one expert, and operations as where the
  /// router sends as many tokens to each.
  private func noteRouted(
    _ routings: [Routing], _ finished: (UnitSpec) -> Void,
    _ add: (ArraySlice<(token: Int, weight: Float)>, UnitSpec, _ block: Int) -> Void,
    _ backend: Backend
  ) {
    guard let unit = routed.first else { return }
    func tokens(_ count: Int) -> ArraySlice<(token: Int, weight: Float)> {
      ArraySlice(repeating: (token: 0, weight: 0), count: count)
    }
    for (block, routing) in routings.enumerated() {
      let most = min(routing.tokens, Self.gatheredRows)
      let share = routing.tokens * routing.expertsPerToken
      let rows = min(most, max(1, share / routed.count))
      backend.ledger.repeated(Double(share) / Double(rows), items: Double(routed.count)) {
        add(tokens(rows), unit, block)
      }
      backend.ledger.repeated(0) { add(tokens(most), unit, block) }
    }
    for unit in routed { finished(unit) }
  }

  /// The experts of each token of each block; none where there is no router.
  package func route(
    _ blocks: [Matrix], weights: any LayerWeights, backend: Backend
  ) -> [Routing] {
    guard let router else { return [] }
    return blocks.map { router.route($0, weights: weights, backend: backend) }
  }
}
