// Smoothing keeps the function, and every consumer is needed for that.

import CompressedTensors
import LinearAlgebra
import Models
import Safetensors
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct SmoothingTests {
  private struct Halves {
    var attention: [Float] = []
    var mlp: [Float] = []
    /// The output of every unit on all tokens, also on those that the router sent elsewhere.
    var units: [[Float]] = []
    /// Before the sigmoid: with one expert a token and normalized weights, only another choice would show.
    var routerScores: [Float] = []
    /// Of what chooses tokens in longer sequences.
    var indexScores: [[Float]] = []
  }

  /// Both halves of a layer, of which one may be missing, without the residual, which would hide differences.
  private func run(_ layer: LayerSpec, _ model: ForwardCase, _ weights: any LayerWeights) throws
    -> Halves
  {
    #expect(layer.parts.count == 1)
    let x = try model.hidden(layer.index)
    let backend = model.backend
    var halves = Halves()
    if let branch = layer.parts[0].sequence {
      let read = branch.mixer.read(
        sequences: model.sequences, weights: weights, backend: backend,
        tap: { tap, x in
          for (place, linear) in branch.mixer.scored where place == tap {
            halves.indexScores.append(
              Gemm.multiply(x, by: weights.weight(linear), backend: backend).values)
          }
        }
      ) { branch.input(x, weights: weights, backend: backend) }
      halves.attention =
        Gemm.multiply(read, by: weights.weight(branch.mixer.output), backend: backend).values
    }
    guard let branch = layer.parts[0].tokens else { return halves }
    let input = branch.input(try model.fed(layer), weights: weights, backend: backend)
    let mlp = Matrix(zeros: input.rows, input.columns)
    branch.mixer.add(
      to: [mlp], reading: [input],
      routings: branch.mixer.route([input], weights: weights, backend: backend), weights: weights,
      backend: backend)
    halves.mlp = mlp.values
    halves.units = branch.mixer.units.enumerated().map { index, unit in
      let read = branch.mixer.input(
        input, at: branch.mixer.inputPlace(of: index), weights: weights, backend: backend)
      return unit.apply(to: read, weights: weights, backend: backend).values
    }
    if let router = branch.mixer.router {
      halves.routerScores =
        router.norm == nil
        ? Gemm.multiply(input, by: weights.weight(router.linear), backend: backend).values
        : router.scores(input, weights: weights, backend: backend).values
    }
    return halves
  }

  private func largestError(_ found: Halves, _ expected: Halves) -> Float {
    let parts = [
      (found.attention, expected.attention), (found.mlp, expected.mlp),
      (found.routerScores, expected.routerScores),
    ]
    let lists = zip(
      found.units + found.indexScores, expected.units + expected.indexScores)
    return (parts + lists).map { relativeError($0, $1) }.max() ?? 0
  }

  private func scales(_ smoothing: Smoothing, _ generator: inout SeededGenerator) -> [Float] {
    (0..<smoothing.channels).map { _ in Float.random(in: 0.25...4, using: &generator) }
  }

  @Test(arguments: forwardCases)
  func smoothingEveryActivationOfALayerKeepsItsOutput(name: String) throws {
    let model = try ForwardCase(name)
    var generator = SeededGenerator(seed: 31)
    for layer in model.checkpoint.spec.layers {
      let applied = layer.smoothings.map { AppliedSmoothing($0, scale: scales($0, &generator)) }
      let plain = try run(layer, model, model.checkpoint.weights)
      let smoothed = try run(layer, model, SmoothedWeights(model.checkpoint.weights, applied))
      #expect(largestError(smoothed, plain) < 1e-5, "layer \(layer.index)")
    }
  }

  @Test(arguments: forwardCases)
  func leavingOutAnyConsumerChangesTheOutput(name: String) throws {
    let model = try ForwardCase(name)
    var generator = SeededGenerator(seed: 32)
    for layer in model.checkpoint.spec.layers {
      let plain = try run(layer, model, model.checkpoint.weights)
      for smoothing in layer.smoothings {
        let scale = scales(smoothing, &generator)
        for left in smoothing.consumers {
          var incomplete = smoothing
          incomplete.consumers.removeAll { $0 == left }
          let weights = SmoothedWeights(
            model.checkpoint.weights, [AppliedSmoothing(incomplete, scale: scale)])
          let error = largestError(try run(layer, model, weights), plain)
          #expect(error > 1e-3, "\(smoothing.producerName) without \(left.name)")
        }
      }
    }
  }

  @Test(arguments: forwardCases)
  func everyLinearBehindANormOrALinearIsSmoothed(name: String) throws {
    let spec = try ForwardCase(name).checkpoint.spec
    for layer in spec.layers {
      let consumers = layer.smoothings.flatMap(\.consumers)
      #expect(Set(consumers.map(\.name)).count == consumers.count, "consumed twice")
      // A router with a norm of its own reads what no smoothing touches; so does what lies within a mixer.
      let mixer = layer.parts[0].sequence?.mixer
      var apart = layer.mlps.flatMap { $0.router?.norm == nil ? [] : $0.deciding }
      apart += layer.mlps.compactMap(\.latent?.up) + layer.branches.compactMap(\.residual?.score)
      apart += mixer?.deciding.filter { $0.place == nil }.map(\.linear) ?? []
      let linears = layer.linears + layer.deciding.filter { !apart.contains($0) }
      let whole =
        switch mixer {
        case .groupedQuery(let spec):
          spec.heads == spec.keyValueHeads && spec.valueEpsilon == nil
            && (spec.value != spec.key || spec.key == spec.query)
        case .stateSpace, .lightning: true
        case .latent, .deltaNet, .channelDeltaNet, .selective, .shortConvolution, nil: false
        }
      // What reads the states as they are, or a norm that goes on beside it, has no producer.
      let plain = layer.branches.filter { branch in
        if case .tokens(let mlp) = branch.mixer, mlp.strands != nil { return false }
        return branch.preNorm == nil || branch.carried != nil
      }
      .flatMap { layer.readers(at: $0.tap(.input)) + $0.mixer.deciding }
      // What is not linear in up has none, either.
      let downs = layer.mlps.flatMap(\.units).filter { !$0.isLinearInUp }.map(\.down)
      let expected = linears.filter {
        (whole || $0 != mixer?.output) && !(plain + downs).contains($0)
      }
      #expect(Set(consumers.map(\.name)) == Set(expected.map(\.name)))
      for smoothing in layer.smoothings {
        #expect(smoothing.consumers.allSatisfy { $0.inputs == smoothing.channels })
        #expect(layer.smoothing(at: smoothing.tap) == smoothing)
      }
    }
  }

  // MARK: Readers by structure

  @Test(arguments: forwardCases)
  func everyReaderOfASmoothedNormThatIsLeftOutIsFoundByItsWidth(name: String) throws {
    for layer in try ForwardCase(name).checkpoint.spec.layers {
      for smoothing in layer.smoothings {
        #expect(layer.unlistedReaders(of: smoothing) == [])
        guard case .norm = smoothing.producer else { continue }
        for left in smoothing.consumers {
          var incomplete = smoothing
          incomplete.consumers.removeAll { $0 == left }
          #expect(layer.unlistedReaders(of: incomplete) == [left.weight])
        }
      }
    }
  }

  /// What may be as wide as a norm and reads something else, by the ends of names.
  private static let others = ["o_proj", "out_proj", "down_proj", "w2"]

  /// The files say which matrices there are: no description can forget one.
  @Test(arguments: forwardCases)
  func everyStoredMatrixAsWideAsASmoothedNormReadsItOrIsNamedAsNone(name: String) throws {
    let model = try ForwardCase(name)
    let spec = model.checkpoint.spec
    let shapes = Dictionary(
      uniqueKeysWithValues: try ShardedModel(folder: fixturePath("forward/" + name)).tensors.map {
        ($0.name, $0.shape)
      })
    let places = try spec.places { shapes[$0].map { .shape($0) } }
    let matrices = shapes.merging(places.mapValues(\.shape)) { $1 }.filter { $1.count == 2 }
    for layer in spec.layers {
      let norms = layer.smoothings.filter { if case .norm = $0.producer { true } else { false } }
      let readers = Set(norms.flatMap(\.consumers).map(\.weight))
      let widths = Set(norms.map(\.channels))
      // What has a norm of its own before it, or none, what reads a latent, which may be as wide, and what would scale a
      // block of codes.
      let inner = layer.parts.compactMap(\.sequence?.mixer).flatMap(\.deciding)
        .filter { $0.place == nil }.map(\.linear)
      let inLatents = layer.mlps.filter { $0.latent != nil }.flatMap(\.routed).flatMap(\.readers)
      let apart =
        (inner + inLatents + layer.mlps.compactMap(\.latent?.up)
        + layer.branches.compactMap(\.residual?.score)
        + layer.mlps.flatMap { $0.router?.norm == nil ? [] : $0.deciding }).map(\.weight)
      let hasStrands = layer.mlps.contains { $0.strands != nil }
      let plain = layer.branches
        .filter { ($0.preNorm == nil || $0.carried != nil) && !hasStrands }
        .flatMap { layer.readers(at: $0.tap(.input)) + $0.mixer.deciding }.map(\.weight)
      for (tensor, shape) in matrices where tensor.hasPrefix(spec.names.layer(layer.index)) {
        let module = tensor.replacing(#/[._]weight$/#, with: "")
        if tensor == module || Self.others.contains(where: module.hasSuffix) { continue }
        if widths.contains(shape[1]), !(apart + plain).contains(tensor) {
          #expect(readers.contains(tensor), "\(tensor)")
        }
      }
    }
  }

  @Test func rowsDecodeAnywhereAsTheWholeDoes() {
    var generator = SeededGenerator(seed: 33)
    let base = generator.matrix(9, 5)
    let columns = generator.floats(5).map { 2 + $0 }
    let divisors = generator.floats(9).map { 2 + $0 }
    let smoothed = SmoothedRows(base, columnScale: columns, rowDivisor: divisors)
    let expected = base.values.enumerated().map { index, value in
      value * columns[index % 5] / divisors[index / 5]
    }
    #expect(relativeError(smoothed.matrix(0..<9).values, expected) < 1e-6)
    let whole = smoothed.matrix(0..<9).values
    for row in 0..<9 {
      #expect(smoothed.matrix(row..<row + 1).values == Array(whole[row * 5..<(row + 1) * 5]))
    }
  }
}
