// What there is to do: a model, a scheme, and the sizes of the calibration data.

package import Calibration
package import CompressedTensors
package import LinearAlgebra
internal import Models
package import Quantization
internal import Safetensors
package import Tensors

/// Everything that the plan of a run depends on but the budget.
package struct Workload: Sendable {
  package let checkpoint: Checkpoint
  package let output: OutputPlan
  /// Tokens of each block; empty for a run without calibration.
  package let blocks: [Int]
  package let longestSequence: Int
  package let loss: SmoothingLoss
  /// Candidates of each scale search.
  package let gridPoints: Int
  package let threads: Int
  /// The largest output file.
  package let shardBytes: Int
  package let engine: Engine
  /// The peak of resident memory when the model had been opened and the calibration data read.
  package let loadingBytes: Int

  package init(
    checkpoint: Checkpoint, output: OutputPlan, blocks: [TokenBlock], loss: SmoothingLoss,
    gridPoints: Int, threads: Int, shardBytes: Int, engine: Engine = .f32, loadingBytes: Int
  ) {
    self.checkpoint = checkpoint
    self.output = output
    self.blocks = blocks.map(\.count)
    longestSequence = blocks.flatMap { $0.sequences.map(\.count) }.max() ?? 0
    self.loss = loss
    self.gridPoints = gridPoints
    self.threads = threads
    self.shardBytes = shardBytes
    self.engine = engine
    self.loadingBytes = loadingBytes
  }

  package var tokens: Int { blocks.reduce(0, +) }

  /// The type of hidden states in scratch.
  package var stateType: DType {
    HiddenStates.dtype(for: checkpoint.weights.tensor(checkpoint.spec.embedding).dtype)
  }

  /// Layers that the calibration tokens run through: up to the last one with something to calibrate.
  package var calibratedLayers: Int {
    (output.taps.lastIndex { !$0.isEmpty } ?? -1) + 1
  }

  /// By layer.
  var operations: [LayerOperations] {
    zip(checkpoint.spec.layers.indices, checkpoint.spec.layers).map { index, layer in
      LayerOperations(
        layer, output, gathersGrams: gathersGrams, context: Double(longestSequence) / 2,
        isCalibrated: index < calibratedLayers, isLast: index + 1 >= calibratedLayers)
    }
  }

  /// Whether statistics come with Gram matrices.
  package var gathersGrams: Bool { loss == .gram || output.method.needsGram }
}
