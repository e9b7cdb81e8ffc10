// The end of a layer: the hidden states of the next one, from the original weights.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Planning
internal import ScratchStore
internal import Tensors
internal import Transformer

struct Advance {
  let inputs: StepInputs
  let layer: LayerSpec

  private var workers: Workers { inputs.workers }

  /// Reads the states after attention and writes the next layer's input. Only routed experts contribute.
  ///
  /// - Parameter block: blocks before it are done.
  func run(from block: Int) throws {
    let weights = inputs.weights
    if block == 0 { try Proof(inputs, layer).proveFeedForward() }
    if layer.index + 1 >= inputs.calibratedLayers { return }
    let states = try inputs.states.read(.attended, layer: layer.index)
    let routings = layer.mlp.router == nil ? nil : try inputs.states.readRouting(layer)
    let results = try inputs.states.write(.hidden, layer: layer.index + 1, from: block)
    let passes = ranges(of: inputs.blocks.count - block, by: inputs.passes.blocksPerPass).map {
      $0.lowerBound + block..<$0.upperBound + block
    }
    try workers.forEach(of: passes, alike: { $0.map { inputs.blocks[$0].count } }) { pass in
      var blocks: [Matrix] = []
      var chosen: [Routing] = []
      for index in pass {
        blocks.append(try states.read(index))
        if let routings { chosen.append(Routing(try routings.read(index), workers: workers)) }
      }
      layer.feedForward(blocks, routings: chosen, weights: weights, workers: workers) {
        weights.release($0.linears)
      }
      for block in blocks { try results.file.append(block, workers: workers) }
      for index in pass { inputs.results.noteBlock(index, .advance, layer: layer.index) }
      if pass.upperBound < inputs.blocks.count {
        try inputs.results.commitIfDue(
          .advance(layer: layer.index, block: pass.upperBound), [results], statistics: [],
          keepsStatistics: false, isDue: false)
      }
    }
    try inputs.states.finish(results)
  }
}
