// The end of a layer's part: the hidden states of the next one, from the original weights.

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
  let part: LayerPart
  /// Of the part, on tokens.
  let branch: Branch<MLPSpec>

  private var backend: Backend { inputs.backend }

  /// That the branch under its smoothings computes what it did.
  func prove() throws {
    if !inputs.measures { try Proof(inputs, layer, part).prove(branch) }
  }

  /// Reads what the branch on tokens reads and writes the next part's input. Only routed experts contribute.
  ///
  /// - Parameter block: blocks before it are done.
  func run(from block: Int) throws {
    let weights = inputs.weights
    if block == 0, inputs.stage == .whole { try prove() }
    guard let results = try inputs.writeNext(after: part, from: block) else { return }
    let states = try inputs.states.read(.addedToByTokens(of: part), part)
    let beside = try part.isParallel ? inputs.states.read(.readByTokens(of: part), part) : nil
    let routings = try inputs.states.readRouting(part)
    let passes = ranges(of: inputs.blocks.count - block, by: inputs.passes.blocksPerPass).map {
      $0.lowerBound + block..<$0.upperBound + block
    }
    try backend.forEach(of: passes, alike: { $0.map { inputs.blocks[$0].count } }) { pass in
      var blocks: [Matrix] = []
      var read: [Matrix] = []
      var chosen: [Routing] = []
      for index in pass {
        blocks.append(try states.read(index))
        if let beside { read.append(try beside.read(index)) }
        if let routings { chosen.append(Routing(try routings.read(index), backend: backend)) }
      }
      branch.add(
        to: blocks, reading: beside == nil ? nil : read, routings: chosen, weights: weights,
        backend: backend
      ) { weights.release($0.linears) }
      for (index, states) in zip(pass, blocks) {
        try results.file.append(
          inputs.entered(states, block: index, after: part), backend: backend)
      }
      for index in pass { inputs.results.noteBlock(index, .advance, layer: layer.index) }
      if pass.upperBound < inputs.blocks.count {
        try inputs.results.commitIfDue(
          .advance(layer: layer.index, part: part.index, block: pass.upperBound), [results],
          statistics: [], keepsStatistics: false, isDue: false)
      }
    }
    try inputs.states.finish(results)
  }
}
