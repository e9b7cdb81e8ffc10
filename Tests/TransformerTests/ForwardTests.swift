// The forward pass against transformers: hidden states of every layer and log-probabilities.

import CompressedTensors
import Glibc
import LinearAlgebra
import Models
import Safetensors
import Tensors
import Testing
import TestSupport
import Transformer

/// All of them.
let forwardCases = fixtures(in: "forward")

/// A case of `fixtures/forward`, opened.
struct ForwardCase {
  let checkpoint: Checkpoint
  let golden: SafetensorsFile
  let tokens: [Int32]
  let sequences: [Range<Int>]
  let backend: Backend

  init(_ name: String, engine: Engine = .f32) throws {
    backend = Backend(threads: 2, engine: engine)
    let folder = fixturePath("forward/" + name)
    checkpoint = try Checkpoint(folder: folder)
    golden = try SafetensorsFile(path: folder + "/golden.safetensors")
    let ids = try #require(golden["input_ids"])
    tokens = ids.integers.map { Int32($0) }
    let length = ids.shape[1]
    sequences = (0..<ids.shape[0]).map { $0 * length..<($0 + 1) * length }
  }

  func hidden(_ layer: Int) throws -> Matrix {
    let spec = checkpoint.spec
    let states = layer < spec.layers.count ? spec.statesBefore(layer: layer) : spec.exit?.states
    return try golden.matrix("hidden.\(layer)", columns: (states ?? 1) * spec.hiddenSize)
  }

  /// What the branch on tokens of a layer's first part may be added to: its input, unless a token has more states by then.
  func fed(_ layer: LayerSpec) throws -> Matrix {
    let x = try hidden(layer.index)
    guard let sequence = layer.parts[0].sequence, sequence.residual != nil else { return x }
    return sequence.apply(
      to: x, sequences: sequences, weights: checkpoint.weights, backend: backend)
  }

  func run(_ layer: LayerSpec, _ x: Matrix, backend: Backend? = nil) -> Matrix {
    let backend = backend ?? self.backend
    var states = x.prefix(x.rows)
    for part in layer.parts {
      let read = part.isParallel ? [states] : nil
      states =
        part.sequence?.apply(
          to: states, sequences: sequences, weights: checkpoint.weights, backend: backend) ?? states
      part.tokens?.add(
        to: [states], reading: read, weights: checkpoint.weights, backend: backend)
    }
    return states
  }
}

@Suite struct ForwardTests {
  @Test(arguments: forwardCases)
  func everyLayerAndEveryProbabilityIsThatOfTransformers(name: String) throws {
    let model = try ForwardCase(name)
    let spec = model.checkpoint.spec
    var x = model.checkpoint.embed(model.tokens)
    for layer in spec.layers {
      #expect(
        relativeError(x.values, try model.hidden(layer.index).values) < 1e-4,
        "input of layer \(layer.index)")
      x = model.run(layer, x)
    }
    #expect(relativeError(x.values, try model.hidden(spec.layers.count).values) < 1e-4)

    let normed = model.checkpoint.weights.finish(x, of: spec, backend: model.backend)
    let logits = Gemm.multiply(
      normed, by: model.checkpoint.weights.weight(spec.head),
      bias: model.checkpoint.weights.bias(spec.head), backend: model.backend)
    if spec.logitScale != 1 { logits.multiply(by: spec.logitScale, backend: model.backend) }
    if let cap = spec.logitCap { logits.capSoftly(at: cap, backend: model.backend) }
    let expected = try model.golden.floats("log_probabilities")
    #expect(logits.count == expected.count)
    for row in 0..<logits.rows {
      let columns = row * spec.vocabularySize..<(row + 1) * spec.vocabularySize
      let values = logits.values[columns].map(Double.init)
      let largest = values.max() ?? 0
      let sum = values.reduce(0) { $0 + exp($1 - largest) }
      for (value, golden) in zip(values, expected[columns]) {
        #expect(abs(value - largest - log(sum) - Double(golden)) < 1e-4)
      }
    }
  }

  /// No choice of experts in these cases is near a tie, so that rounding leaves all of them as they are.
  @Test(.enabled(if: Engine.bf16.isAvailable))
  func inBF16EveryLayerStaysNearTheReference() throws {
    let model = try ForwardCase("published-mtp-bf16", engine: .bf16)
    var largest: Float = 0
    for layer in model.checkpoint.spec.layers {
      let output = try model.run(layer, model.hidden(layer.index))
      let error = relativeError(output.values, try model.hidden(layer.index + 1).values)
      #expect(error < 1.0 / 64, "layer \(layer.index)")
      largest = max(largest, error)
    }
    #expect(largest > 2e-5, "this was float32")
  }

  /// A mistake in one layer cannot hide behind the ones before it.
  @Test(arguments: forwardCases)
  func everyLayerAloneMapsTheReferenceInputToTheReferenceOutput(name: String) throws {
    let model = try ForwardCase(name)
    for layer in model.checkpoint.spec.layers {
      let output = try model.run(layer, model.hidden(layer.index))
      let expected = try model.hidden(layer.index + 1)
      #expect(relativeError(output.values, expected.values) < 2e-5, "layer \(layer.index)")
    }
  }

  @Test(arguments: forwardCases)
  func outputsDoNotDependOnThreads(name: String) throws {
    let model = try ForwardCase(name)
    for layer in model.checkpoint.spec.layers {
      let x = try model.hidden(layer.index)
      let outputs = [1, 2, 7].map { threads in
        model.run(layer, x, backend: Backend(threads: threads)).values.map(\.bitPattern)
      }
      #expect(outputs[0] == outputs[1] && outputs[0] == outputs[2])
    }
  }

  @Test(arguments: forwardCases)
  func severalBlocksAtOnceGiveTheBytesOfOneAfterTheOther(name: String) throws {
    let model = try ForwardCase(name)
    let weights = model.checkpoint.weights
    for layer in model.checkpoint.spec.layers {
      guard let feeding = layer.parts[0].tokens else { continue }
      let x = try model.fed(layer)
      let first = x.prefix(5)
      let rest = Matrix(
        rows: x.rows - 5, columns: x.columns, values: Array(x.values[first.count...]))
      let apart = [first, rest].map { $0.prefix($0.rows) }
      for block in apart { feeding.add(to: [block], weights: weights, backend: model.backend) }
      feeding.add(to: [first, rest], weights: weights, backend: model.backend)
      for (one, other) in zip([first, rest], apart) {
        #expect(one.values.map(\.bitPattern) == other.values.map(\.bitPattern))
      }
    }
  }

  @Test func everyUnitIsReportedFinishedOnceAndInOrder() throws {
    let model = try ForwardCase("local-experts-f16")
    for layer in model.checkpoint.spec.layers {
      var finished: [UnitSpec] = []
      layer.feeding.add(
        to: [try model.hidden(layer.index)], weights: model.checkpoint.weights,
        backend: model.backend
      ) { finished.append($0) }
      #expect(finished == layer.mlp.units)
    }
  }

  @Test func tapsSeeWhatTheAttentionReads() throws {
    let model = try ForwardCase("published-qk-norm")
    let layer = model.checkpoint.spec.layers[1]
    let x = try model.hidden(1)
    var seen: [Tap: Matrix] = [:]
    let output = layer.attending.apply(
      to: x, sequences: model.sequences, weights: model.checkpoint.weights, backend: model.backend
    ) { seen[$0] = $1 }
    let normed = layer.attending.input(
      x, weights: model.checkpoint.weights, backend: model.backend)
    let kept = [Tap(0, .cached(.keys)), Tap(0, .cached(.values))]
    #expect(Set(seen.keys) == Set([Tap(0, .input), Tap(0, .output)] + kept))
    #expect(seen[Tap(0, .input)]?.values == normed.values)
    let read = try #require(seen[Tap(0, .output)])
    let projected = Gemm.multiply(
      read, by: model.checkpoint.weights.weight(layer.attention.output), backend: model.backend)
    #expect(zip(projected.values, x.values).map { $0 + $1 } == output.values)
  }
}
