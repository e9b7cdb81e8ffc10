// The smoothing search against llm-compressor's, on the two models of fixtures/awq.

import Calibration
import CompressedTensors
import JSON
import LinearAlgebra
import Models
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

/// A case of `fixtures/awq` with the statistics of every activation of the layers that the peer searched.
private struct AWQCase {
  struct Search {
    let smoothing: Smoothing
    let gridIndex: Int
    /// The peer's losses of all grid points.
    let errors: [Double]
    let scale: [Float]
  }

  let checkpoint: Checkpoint
  let searches: [Search]
  private(set) var statistics: [String: ActivationStatistics] = [:]
  let backend = Backend(threads: 2)
  static let scheme = IntegerScheme(bits: 4, groupSize: 32, isSymmetric: true)

  init(_ name: String) throws {
    let folder = fixturePath("awq/" + name)
    checkpoint = try Checkpoint(folder: folder)
    let data = try CalibrationSource(
      path: folder + "/calibration.jsonl",
      selection: RowSelection(samples: 64, sequenceLength: 64)
    ).load(model: folder, vocabularySize: checkpoint.spec.vocabularySize)
    let golden = try SafetensorsFile(path: folder + "/golden.safetensors")
    let records = try JSONValue.parse(FileSystem.readFile(folder + "/golden.json")).array ?? []
    let smoothings = checkpoint.spec.layers.flatMap(\.smoothings)
    searches = try records.map { record in
      let record = try #require(record.object)
      let producer = try #require(record["smooth"]?.string)
      let smoothing = try #require(smoothings.first { $0.producerName == producer })
      let consumers = try #require(record["balance"]?.array).compactMap(\.string)
      #expect(Set(consumers) == Set(smoothing.consumers.map(\.name)))
      return Search(
        smoothing: smoothing, gridIndex: try #require(record["grid_index"]?.int),
        errors: try #require(record["errors"]?.array).compactMap(\.double),
        scale: try golden.floats(producer + ".smoothing_scale"))
    }
    try collect(TokenBlock.cut(data.sequences))
  }

  /// Runs the model; every token goes through every unit.
  private mutating func collect(_ blocks: [TokenBlock]) throws {
    let weights = checkpoint.weights
    var statistics: [String: ActivationStatistics] = [:]
    for block in blocks {
      var x = checkpoint.embed(block.tokens)
      for layer in checkpoint.spec.layers {
        func add(_ tap: Tap, _ activation: Matrix) {
          guard let producer = layer.smoothing(at: tap)?.producerName else { return }
          let sums =
            statistics[producer]
            ?? ActivationStatistics(channels: activation.columns, withGram: true)
          sums.add(activation, backend: backend)
          statistics[producer] = sums
        }
        let attended = layer.attending.apply(
          to: x, sequences: block.sequences, weights: weights, backend: backend, tap: add)
        let normed = layer.feeding.input(attended, weights: weights, backend: backend)
        add(layer.feeding.tap(.input), normed)
        for (index, unit) in layer.mlp.units.enumerated() {
          add(
            layer.feeding.tap(.hidden(index)),
            unit.hidden(normed, weights: weights, backend: backend))
        }
        layer.feeding.add(to: [attended], weights: weights, backend: backend)
        x = attended
      }
    }
    self.statistics = statistics
  }

  /// The search as a run makes it; the weights are as stored, before any other smoothing.
  func search(_ smoothing: Smoothing, _ loss: SmoothingLoss) throws -> SmoothingSearch {
    let statistics = try #require(statistics[smoothing.producerName])
    var search = SmoothingSearch(statistics: statistics, loss: loss)
    let consumers = smoothing.consumers.filter { !$0.name.hasSuffix("mlp.gate") }
      .map { checkpoint.weights.weight($0) }
    let quantizer = Self.scheme.quantizer(.f32)
    for weight in consumers {
      try search.addMagnitude(of: weight, in: quantizer, backend: backend)
    }
    search.fixCandidates()
    for weight in consumers { search.addErrors(of: weight, in: quantizer, backend: backend) }
    return search
  }

  var singleSearches: [Search] { searches.filter { $0.smoothing.consumers.count == 1 } }
}

@Suite struct PeerSearchTests {
  @Test(arguments: ["dense-first", "moe-only"])
  func theGramLossChoosesThePeersGridPointAndScales(name: String) throws {
    let model = try AWQCase(name)
    #expect(model.singleSearches.count >= 6)
    for peer in model.singleSearches {
      let producer = peer.smoothing.producerName
      let search = try model.search(peer.smoothing, .gram)
      #expect(search.best == peer.gridIndex, "\(producer)")
      let scale = search.candidates[search.best]
      #expect(
        zip(scale, peer.scale).allSatisfy { abs($0 / $1 - 1) < 1e-5 }
          && scale.count == peer.scale.count,
        "\(producer)")
    }
  }

  /// The peer's loss is the mean over all outputs of all tokens; ours is the sum over outputs of the mean over tokens.
  @Test(arguments: ["dense-first", "moe-only"])
  func theGramLossOfEveryGridPointIsThePeersLoss(name: String) throws {
    let model = try AWQCase(name)
    for peer in model.singleSearches {
      let search = try model.search(peer.smoothing, .gram)
      let outputs = Double(peer.smoothing.consumers[0].outputs)
      #expect(search.losses.count == peer.errors.count)
      for (index, (loss, error)) in zip(search.losses, peer.errors).enumerated() {
        #expect(
          abs(loss / outputs / error - 1) < 1e-4, "\(peer.smoothing.producerName) point \(index)")
      }
    }
  }

  /// Also where many Linears share a scale and the peer's loss sees the whole block.
  @Test(arguments: ["dense-first", "moe-only"])
  func theScalesOfEveryGridPointThatThePeerChoseAreThePeers(name: String) throws {
    let model = try AWQCase(name)
    for peer in model.searches {
      let search = try model.search(peer.smoothing, .diagonal)
      let scale = search.candidates[peer.gridIndex]
      #expect(
        zip(scale, peer.scale).allSatisfy { abs($0 / $1 - 1) < 1e-5 },
        "\(peer.smoothing.producerName)")
    }
  }

  @Test(arguments: ["dense-first", "moe-only"])
  func theDiagonalLossChoosesAPointThatThePeerFindsNearlyAsGood(name: String) throws {
    let model = try AWQCase(name)
    for peer in model.singleSearches {
      let chosen = try model.search(peer.smoothing, .diagonal).best
      let best = try #require(peer.errors.min())
      #expect(peer.errors[chosen] <= 1.25 * best, "\(peer.smoothing.producerName)")
    }
  }
}
