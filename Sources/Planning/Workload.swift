// What there is to do: a model, a scheme, and the sizes of the calibration data.

package import Calibration
package import CompressedTensors
package import LinearAlgebra
internal import Models
package import Quantization
internal import Safetensors
package import Tensors
internal import Transformer

/// Everything that the plan of a run depends on but the budget.
package struct Workload: Sendable {
  package let source: CheckpointShapes
  package let output: OutputPlan
  /// Tokens of each block; empty for a run without calibration.
  package let blocks: [Int]
  package let longestSequence: Int
  package let loss: SmoothingLoss
  /// Tokens that an expert sees beside those that the router sends to it; nil for all.
  package let expertTokens: Int?
  /// Candidates of each scale search.
  package let gridPoints: Int
  package let threads: Int
  /// The largest output file.
  package let shardBytes: Int
  package let engine: Engine
  /// The peak of resident memory when the model had been opened and the calibration data read.
  package let loadingBytes: Int

  package init(
    source: CheckpointShapes, output: OutputPlan, blocks: [TokenBlock], loss: SmoothingLoss,
    expertTokens: Int? = nil, gridPoints: Int, threads: Int, shardBytes: Int,
    engine: Engine = .f32, loadingBytes: Int
  ) {
    self.source = source
    self.output = output
    self.blocks = blocks.map(\.count)
    longestSequence = TokenBlock.longest(of: blocks)
    self.loss = loss
    self.expertTokens = expertTokens
    self.gridPoints = gridPoints
    self.threads = threads
    self.shardBytes = shardBytes
    self.engine = engine
    self.loadingBytes = loadingBytes
  }

  package var tokens: Int { blocks.reduce(0, +) }

  /// The type of hidden states in scratch.
  package var stateType: DType {
    HiddenStates.dtype(for: source.tensor(source.spec.embedding).dtype)
  }

  /// Layers that the calibration tokens run through: up to the last one with something to calibrate.
  package var calibratedLayers: Int {
    (output.taps.lastIndex { !$0.isEmpty } ?? -1) + 1
  }

  /// By layer.
  var operations: [LayerOperations] { operations { seenShare($0) } }

  /// By layer, if every expert saw all tokens.
  var operationsOfAllTokens: [LayerOperations] { operations { _ in 1 } }

  private func operations(seenShare: (LayerSpec) -> Double) -> [LayerOperations] {
    zip(source.spec.layers.indices, source.spec.layers).map { index, layer in
      LayerOperations(
        layer, output, gathersGrams: gathersGrams, context: Double(longestSequence) / 2,
        seenShare: seenShare(layer), isCalibrated: index < calibratedLayers,
        isLast: index + 1 >= calibratedLayers)
    }
  }

  /// The part of all tokens that each routed expert of a layer sees, on average: how the router spreads them is not
  /// known before.
  private func seenShare(_ layer: LayerSpec) -> Double {
    guard let expertTokens, let router = layer.mlp.router, tokens > 0 else { return 1 }
    let own = tokens * router.expertsPerToken / layer.mlp.routed.count
    let sample = TokenSample(
      tokens: tokens, own: own, wanted: expertTokens, layer: layer.index, expert: 0)
    return Double(own + sample.count) / Double(tokens)
  }

  /// Whether statistics come with Gram matrices.
  package var gathersGrams: Bool { loss == .gram || output.method.needsGram }
}
