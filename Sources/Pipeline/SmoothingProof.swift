// Proof inside every run that smoothing keeps the function: a few tokens of every layer, before and after, in float32.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Planning
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// A smoothing that changes what its layer computes: a consumer is missing from the architecture's description.
package struct FunctionChanged: Error, CustomStringConvertible, Equatable {
  package let layer: Int
  package let smoothing: String
  package let place: String
  package let difference: Float

  package var description: String {
    "layer \(layer): the smoothing of `\(smoothing)` changes the output of \(place) by "
      + "\(difference) of its size, more than \(proofTolerance); the description of this architecture is "
      + "incomplete, please report it"
  }
}

/// The largest relative difference of a token's output that float32 arithmetic explains.
let proofTolerance: Float = 1e-4

extension QuantizeModel {
  private var exact: Workers { workers.exact }

  /// The smoothings of a layer with the scales that were written for them.
  func recordedSmoothings(of layer: LayerSpec) throws -> [AppliedSmoothing] {
    let smoothings = plan.output.smoothings[layer.index]
    if smoothings.isEmpty { return [] }
    let file = try SafetensorsFile(path: folder.work + "/" + OutputFolder.smoothingFile)
    return file.recordedSmoothings(smoothings)
  }

  /// The attention half under its smoothings, as they were written.
  func proveAttention(of layer: LayerSpec) throws {
    let applied = try recordedSmoothings(of: layer).filter {
      layer.attention.taps.contains($0.smoothing.tap)
    }
    if applied.isEmpty { return }
    let x = try proofStates(.hidden, layer)
    func output(_ weights: any LayerWeights) -> Matrix {
      layer.attend(x, sequences: [0..<x.rows], weights: weights, workers: exact)
    }
    let original = output(weights)
    try prove(applied, of: layer, place: "the attention") {
      relativeDifference(original, output($0))
    }
  }

  /// One unit alone, also an expert that the router never chooses.
  ///
  /// - Parameter x: `proofStates(.attended, layer)`.
  func prove(
    _ unit: GatedMLPSpec, of layer: LayerSpec, _ smoothed: SmoothedWeights,
    against weights: CheckpointWeights, on x: Matrix
  ) throws {
    func output(_ weights: any LayerWeights) -> Matrix {
      let normed = layer.postAttentionNorm.apply(to: x, weights: weights, workers: exact)
      return unit.apply(to: normed, weights: weights, workers: exact)
    }
    let difference = relativeDifference(output(weights), output(smoothed))
    if !(difference <= proofTolerance) {
      throw FunctionChanged(
        layer: layer.index, smoothing: "\(layer.postAttentionNorm.name)` or `\(unit.up.name)",
        place: "`\(unit.down.name)`", difference: difference)
    }
  }

  /// The feed-forward half under all smoothings of the layer, as they were written.
  func proveFeedForward(of layer: LayerSpec) throws {
    let applied = try recordedSmoothings(of: layer).filter {
      !layer.attention.taps.contains($0.smoothing.tap)
    }
    if applied.isEmpty { return }
    let x = try proofStates(.attended, layer)
    func normed(_ weights: any LayerWeights) -> Matrix {
      layer.postAttentionNorm.apply(to: x, weights: weights, workers: exact)
    }
    // Experts are chosen once, from the original weights: two scores may differ by less than float32 tells apart,
    // and then a choice proves nothing. The scores themselves are compared instead.
    let routings = layer.mlp.route([normed(weights)], weights: weights, workers: exact)
    func output(_ weights: any LayerWeights) -> ProofOutput {
      let result = x.prefix(x.rows)
      layer.feedForward(
        [result], routings: routings, weights: weights, workers: exact,
        finished: { self.weights.release($0.linears) })
      return ProofOutput(
        block: result,
        scores: layer.mlp.router?.scores(normed(weights), weights: weights, workers: exact))
    }
    let original = output(weights)
    try prove(applied, of: layer, place: "the block") { original.difference(to: output($0)) }
  }

  /// - Parameter difference: of what some weights compute to what the original ones do.
  private func prove(
    _ applied: [AppliedSmoothing], of layer: LayerSpec, place: String,
    difference: (SmoothedWeights) -> Float
  ) throws {
    let together = difference(SmoothedWeights(weights, applied))
    if together <= proofTolerance { return }
    // Which of them is it? Each alone.
    let worst = applied.map { ($0, difference(SmoothedWeights(weights, [$0]))) }
      .max { $0.1 < $1.1 }
    throw FunctionChanged(
      layer: layer.index, smoothing: worst?.0.smoothing.producerName ?? "", place: place,
      difference: together)
  }

  /// The first tokens of the first sequence, `[Proof.tokens, H]` or fewer.
  func proofStates(_ kind: StateKind, _ layer: LayerSpec) throws -> Matrix {
    let states = try readStates(kind, layer: layer.index).read(0)
    return states.prefix(min(Proof.tokens, plan.blocks[0].sequences[0].count))
  }
}

/// What a layer makes of the proof tokens.
private struct ProofOutput {
  let block: Matrix
  let scores: Matrix?

  func difference(to other: ProofOutput) -> Float {
    let blocks = relativeDifference(block, other.block)
    guard let scores, let otherScores = other.scores else { return blocks }
    let router = relativeDifference(scores, otherScores)
    // Not max(): a NaN must not hide.
    return router > blocks || router.isNaN ? router : blocks
  }
}

/// The largest norm of a row's difference over the norm of the row.
private func relativeDifference(_ a: Matrix, _ b: Matrix) -> Float {
  var largest: Float = 0
  for row in 0..<a.rows {
    var (difference, size) = (0.0, 0.0)
    for column in 0..<a.columns {
      let (first, second) = unsafe (Double(a.row(row)[column]), Double(b.row(row)[column]))
      difference += (first - second) * (first - second)
      size += first * first
    }
    let relative = Float((difference / max(size, 1e-30)).squareRoot())
    if relative > largest || relative.isNaN { largest = relative }
  }
  return largest
}
