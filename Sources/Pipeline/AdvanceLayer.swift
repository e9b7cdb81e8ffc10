// The end of a layer: the hidden states of the next one, from the original weights.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Planning
internal import ScratchStore
internal import Tensors
internal import Transformer

extension QuantizeModel {
  /// Reads the states after attention and writes the next layer's input. Only routed experts contribute.
  ///
  /// - Parameter block: blocks before it are done.
  func advance(_ layer: LayerSpec, from block: Int) throws {
    if block == 0 { try proveFeedForward(of: layer) }
    if layer.index + 1 < plan.run.calibratedLayers {
      let states = try readStates(.attended, layer: layer.index)
      let routings =
        layer.mlp.router == nil ? nil : try readStates(.routing, layer: layer.index)
      let results = try writeStates(.hidden, layer: layer.index + 1, from: block)
      var next = block
      while next < plan.blocks.count {
        let pass = next..<min(next + plan.run.blocksPerPass, plan.blocks.count)
        var blocks: [Matrix] = []
        var chosen: [Routing] = []
        for index in pass {
          blocks.append(try states.read(index))
          if let routings { chosen.append(Routing(try routings.read(index))) }
        }
        layer.feedForward(blocks, routings: chosen, weights: weights, workers: workers) {
          weights.release($0.linears)
        }
        for block in blocks { try results.file.append(block, workers: workers) }
        for index in pass {
          noteBlock(
            index, .advance, layer, operations: plan.run.layers[layer.index].advance.perToken)
        }
        next = pass.upperBound
        if next < plan.blocks.count {
          try commitIfDue(.advance(layer: layer.index, block: next), [results])
        }
      }
      try finishStates(results)
    }
  }
}
