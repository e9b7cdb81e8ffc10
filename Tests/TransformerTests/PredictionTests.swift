// Prediction layers against transformers' own layers, joined as vLLM joins them.

import CompressedTensors
import LinearAlgebra
import Models
import Safetensors
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct PredictionTests {
  /// A case of `fixtures/predictions`, opened.
  private struct Case {
    let checkpoint: Checkpoint
    let spec: ModelSpec
    let golden: SafetensorsFile
    let tokens: [Int32]
    let sequences: [Range<Int>]

    init(_ name: String) throws {
      let folder = fixturePath("predictions/" + name)
      checkpoint = try Checkpoint(folder: folder)
      spec = try CheckpointShapes(checkpoint).predicting().spec
      golden = try SafetensorsFile(path: folder + "/golden.safetensors")
      let ids = try #require(golden["input_ids"])
      tokens = ids.integers.map { Int32($0) }
      let length = ids.shape[1]
      sequences = (0..<ids.shape[0]).map { $0 * length..<($0 + 1) * length }
    }

    func states(_ name: String) throws -> Matrix {
      try golden.matrix(name, columns: spec.hiddenSize)
    }

    func enter(_ layer: LayerSpec, _ x: Matrix, threads: Int) throws -> Matrix {
      let entrance = try #require(layer.entrance)
      return entrance.apply(
        to: x, checkpoint.embed(entrance.read(tokens, sequences: sequences)), sequences: sequences,
        weights: checkpoint.weights, backend: Backend(threads: threads))
    }

    func run(_ layer: LayerSpec, _ x: Matrix) -> Matrix {
      let backend = Backend(threads: 2)
      var states = x
      for part in layer.parts {
        states =
          part.sequence?.apply(
            to: states, sequences: sequences, weights: checkpoint.weights, backend: backend)
          ?? states
        part.tokens?.add(to: [states], weights: checkpoint.weights, backend: backend)
      }
      return states
    }
  }

  /// One after the other, each from what the one before it left.
  @Test(arguments: fixtures(in: "predictions"))
  func `what prediction layers read and leave is what the judge says`(name: String) throws {
    let model = try Case(name)
    let layers = model.spec.layers.filter { $0.entrance != nil }
    #expect(layers.count == (name.hasSuffix("two") ? 2 : 1))
    let first = model.spec.layers.count - layers.count
    var x = try model.states("hidden.\(first)")
    for (number, layer) in layers.enumerated() {
      #expect(layer.index == first + number)
      let entered = try model.enter(layer, x, threads: 1)
      #expect(entered.values == (try model.enter(layer, x, threads: 3).values))
      #expect(
        relativeError(entered.values, try model.states("entered.\(number)").values) < 1e-4,
        "input of layer \(layer.index)")
      x = model.run(layer, entered)
      #expect(
        relativeError(x.values, try model.states("predicted.\(number)").values) < 1e-4,
        "output of layer \(layer.index)")
    }
  }

  /// The decoder's layers end where prediction layers begin.
  @Test(arguments: fixtures(in: "predictions"))
  func `the model before its prediction layers is as without them`(name: String) throws {
    let model = try Case(name)
    let plain = model.checkpoint.spec
    #expect(model.spec.withoutPredictions == plain && plain.predicting == model.spec)
    var x = model.checkpoint.embed(model.tokens)
    for layer in plain.layers { x = model.run(layer, x) }
    let expected = try model.states("hidden.\(plain.layers.count)")
    #expect(relativeError(x.values, expected.values) < 1e-4)
  }

  @Test func `the token at the end of a sequence stands for those behind it`() throws {
    let entrance = try #require(
      try Case("glm4-moe-two").spec.layers.last?.entrance)
    #expect(entrance.ahead == 2)
    #expect(
      entrance.read([1, 2, 3, 4, 5, 6, 7], sequences: [0..<4, 4..<5, 5..<7])
        == [3, 4, 4, 4, 5, 7, 7])
  }
}
