// The end of a layer: the hidden states of the next one, from the original weights.

internal import Calibration
internal import CompressedTensors
internal import Planning
internal import ScratchStore
internal import Tensors
internal import Transformer

extension QuantizeModel {
  /// Reads the states after attention and writes the next layer's input. Only routed experts contribute.
  func advance(_ layer: LayerSpec) throws {
    if layer.index + 1 < plan.run.calibratedLayers {
      let states = try readStates(.attended, layer: layer.index)
      let results = try writeStates(.hidden, layer: layer.index + 1)
      var tokens = 0
      for first in stride(from: 0, to: plan.blocks.count, by: plan.run.blocksPerPass) {
        let pass = first..<min(first + plan.run.blocksPerPass, plan.blocks.count)
        var blocks: [Matrix] = []
        for index in pass { blocks.append(try states.read(index)) }
        let next = layer.feedForward(blocks, weights: weights, workers: workers) {
          weights.release($0.linears)
        }
        for block in next { try results.append(block) }
        let done = pass.reduce(0) { $0 + plan.blocks[$1].count }
        tokens += done
        noteWork(operations: Double(done) * layer.feedForwardOperations)
        reportProgress(.advance, layer: layer.index, tokensDone: tokens)
      }
      try finishStates(results)
    }
    weights.discard(layer.linears)
  }
}
