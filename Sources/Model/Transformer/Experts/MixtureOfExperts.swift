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
    weights: any LayerWeights, workers: Workers, finished: (UnitSpec) -> Void = { _ in }
  ) {
    guard let strands else {
      addAlwaysOn(
        to: results, reading: inputs, weights: weights, workers: workers, finished: finished)
      guard let latent else {
        return addRouted(
          to: results, reading: inputs, routings: routings, weights: weights, workers: workers,
          finished: finished)
      }
      let latents = inputs.map {
        input($0, at: .routedInput, weights: weights, workers: workers)
      }
      let sums = latents.map { workers.zeros("latents of experts", like: $0) }
      addRouted(
        to: sums, reading: latents, routings: routings, weights: weights, workers: workers,
        finished: finished)
      for (sum, result) in zip(sums, results) {
        result.add(
          weights.apply(latent.up, to: sum, workers: workers, into: "outputs of experts"),
          workers: workers)
      }
      return
    }
    func add(_ strand: Strand, _ units: (_ sums: [Matrix], _ inputs: [Matrix]) -> Void) {
      let sums = inputs.map { workers.zeros("outputs of a strand", like: $0) }
      units(sums, inputs.map { strand.before.apply(to: $0, weights: weights, workers: workers) })
      for (sum, result) in zip(sums, results) {
        strand.behind.apply(in: sum, weights: weights, workers: workers)
        result.add(sum, workers: workers)
      }
    }
    add(strands.alwaysOn) {
      addAlwaysOn(to: $0, reading: $1, weights: weights, workers: workers, finished: finished)
    }
    add(strands.routed) {
      addRouted(
        to: $0, reading: $1, routings: routings, weights: weights, workers: workers,
        finished: finished)
    }
  }

  /// What units read of the mixer's input, at each of `inputPlaces`.
  package func inputs(
    _ x: Matrix, weights: any LayerWeights, workers: Workers
  ) -> [(place: Tap.Place, input: Matrix)] {
    inputPlaces.map { ($0, input(x, at: $0, weights: weights, workers: workers)) }
  }

  /// What units read of the mixer's input at one of `inputPlaces`.
  package func input(
    _ x: Matrix, at place: Tap.Place, weights: any LayerWeights, workers: Workers
  ) -> Matrix {
    if let latent, place == .routedInput {
      return weights.apply(latent.down, to: x, workers: workers, into: "latents of experts")
    }
    return strand(at: place)?.before.apply(to: x, weights: weights, workers: workers) ?? x
  }

  private func addAlwaysOn(
    to results: [Matrix], reading inputs: [Matrix], weights: any LayerWeights, workers: Workers,
    finished: (UnitSpec) -> Void
  ) {
    for unit in alwaysOn {
      for (x, result) in zip(inputs, results) {
        let output = unit.apply(to: x, weights: weights, workers: workers)
        result.add(output, workers: workers)
      }
      finished(unit)
    }
  }

  private func addRouted(
    to results: [Matrix], reading inputs: [Matrix], routings: [Routing],
    weights: any LayerWeights, workers: Workers, finished: (UnitSpec) -> Void
  ) {
    // Each token's experts and weights, and the same by expert.
    let choices = routings.reduce(0) { $0 + $1.tokens * $1.expertsPerToken }
    workers.holding("routing", bytes: choices * 48) {
      let tokens = routings.map { $0.byExpert(routed.count) }
      func add(_ chosen: ArraySlice<(token: Int, weight: Float)>, _ unit: UnitSpec, block: Int) {
        let gathered = inputs[block].gathered(
          chosen.map(\.token), into: "tokens of an expert", workers: workers)
        let scalesInputs = router?.scalesInputs ?? false
        if scalesInputs { gathered.multiply(byRows: chosen.map(\.weight), workers: workers) }
        let output = unit.apply(to: gathered, weights: weights, workers: workers)
        results[block].add(
          output, to: chosen.map { ($0.token, scalesInputs ? 1 : $0.weight) }, workers: workers)
      }
      if !workers.computes {
        return noteRouted(routings, finished, { add($0, $1, block: $2) }, workers)
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
    _ workers: Workers
  ) {
    guard let unit = routed.first else { return }
    func tokens(_ count: Int) -> ArraySlice<(token: Int, weight: Float)> {
      ArraySlice(repeating: (token: 0, weight: 0), count: count)
    }
    for (block, routing) in routings.enumerated() {
      let most = min(routing.tokens, Self.gatheredRows)
      let share = routing.tokens * routing.expertsPerToken
      let rows = min(most, max(1, share / routed.count))
      workers.ledger.repeated(Double(share) / Double(rows)) { add(tokens(rows), unit, block) }
      workers.ledger.repeated(0) { add(tokens(most), unit, block) }
    }
    for unit in routed { finished(unit) }
  }

  /// The experts of each token of each block; none where there is no router.
  package func route(
    _ blocks: [Matrix], weights: any LayerWeights, workers: Workers
  ) -> [Routing] {
    guard let router else { return [] }
    return blocks.map { router.route($0, weights: weights, workers: workers) }
  }
}
