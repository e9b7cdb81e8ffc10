// Proof inside every run that smoothing keeps the function: a few tokens of every branch, before and after, in float32.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
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

/// A matrix that may read what a smoothed norm makes, and that the architecture's description says nothing of.
package struct ReaderUnlisted: Error, CustomStringConvertible, Equatable {
  package let layer: Int
  package let smoothing: String
  package let tensors: [String]

  package var description: String {
    "layer \(layer): \(tensors.map { "`\($0)`" }.joined(separator: ", ")) "
      + "may read what `\(smoothing)` makes, and is not among its readers; the description of this architecture is "
      + "incomplete, please report it"
  }
}

/// The largest relative difference of a token's output that float32 arithmetic explains.
let proofTolerance: Float = 1e-4

/// The proof of a layer's part.
struct Proof {
  private let inputs: StepInputs
  private let layer: LayerSpec
  private let part: LayerPart

  init(_ inputs: StepInputs, _ layer: LayerSpec, _ part: LayerPart) {
    self.inputs = inputs
    self.layer = layer
    self.part = part
  }

  private var exact: Backend { inputs.backend.exact }
  private var weights: any SourceWeights { inputs.weights }

  /// The smoothings of a branch, as they were written.
  private func applied(to branch: Int) throws -> [AppliedSmoothing] {
    try inputs.recordedSmoothings(of: layer).filter { each in
      each.smoothing.taps.contains { $0.branch == branch }
    }
  }

  /// The branch along the sequence under its smoothings.
  func prove(_ branch: Branch<SequenceMixer>) throws {
    let applied = try applied(to: branch.number)
    if applied.isEmpty { return }
    let x = try inputs.states.firstTokens(.hidden, part, backend: exact)
    func output(_ weights: any LayerWeights) -> ProofOutput {
      var scores: [Matrix] = []
      let block = branch.apply(
        to: x, sequences: [0..<x.rows], weights: weights, backend: exact
      ) { tap, read in
        // What decides in longer sequences only.
        for (place, linear) in branch.mixer.scored where place == tap.place {
          scores.append(
            weights.apply(linear, to: read, backend: exact, into: "scores of the proof"))
        }
      }
      return ProofOutput(block: block, scores: scores)
    }
    let original = output(weights)
    try prove(applied, place: "the attention") { original.difference(to: output($0), exact) }
  }

  /// One unit alone, also an expert that the router never chooses.
  ///
  /// - Parameter x: `tokensRead`.
  func prove(
    _ index: Int, of branch: Branch<MLPSpec>, _ smoothed: SmoothedWeights,
    against weights: any LayerWeights, on x: Matrix
  ) throws {
    let (mlp, unit) = (branch.mixer, branch.mixer.unit(index))
    let place = mlp.inputPlace(of: index)
    func output(_ weights: any LayerWeights) -> Matrix {
      let input = mlp.input(
        branch.input(x, weights: weights, backend: exact), at: place, weights: weights,
        backend: exact)
      return unit.apply(to: input, weights: weights, backend: exact)
    }
    let difference = relativeDifference(output(weights), output(smoothed), exact)
    if !(difference <= proofTolerance) {
      let norm = mlp.strand(at: place)?.before ?? branch.preNorm
      let producers = [norm?.name, unit.up.name].compactMap(\.self)
      throw FunctionChanged(
        layer: layer.index, smoothing: producers.joined(separator: "` or `"),
        place: "`\(unit.down.name)`", difference: difference)
    }
  }

  /// The branch on tokens under all its smoothings.
  func prove(_ branch: Branch<MLPSpec>) throws {
    let applied = try applied(to: branch.number)
    if applied.isEmpty { return }
    let x = try tokensRead()
    func input(_ weights: any LayerWeights) -> Matrix {
      branch.input(x, weights: weights, backend: exact)
    }
    // Experts are chosen once, from the original weights: two scores may differ by less than float32 tells apart,
    // and then a choice proves nothing. The scores themselves are compared instead.
    let routings = branch.mixer.route([input(weights)], weights: weights, backend: exact)
    func output(_ weights: any LayerWeights) -> ProofOutput {
      let result = inputs.states.first(of: x, backend: exact)
      branch.add(
        to: [result], routings: routings, weights: weights, backend: exact,
        finished: { inputs.weights.release($0.linears) })
      return ProofOutput(
        block: result,
        scores: branch.mixer.router.map {
          [$0.scores(input(weights), weights: weights, backend: exact)]
        } ?? [])
    }
    let original = output(weights)
    try prove(applied, place: "the block") { original.difference(to: output($0), exact) }
  }

  /// - Parameter difference: of what some weights compute to what the original ones do.
  private func prove(
    _ applied: [AppliedSmoothing], place: String, difference: (SmoothedWeights) -> Float
  ) throws {
    let together = difference(SmoothedWeights(weights, applied))
    if together <= proofTolerance { return try proveReaders(applied) }
    // Which of them is it? Each alone.
    let worst = applied.map { ($0, difference(SmoothedWeights(weights, [$0]))) }
      .max { $0.1 < $1.1 }
    throw FunctionChanged(
      layer: layer.index, smoothing: worst?.0.smoothing.producerName ?? "", place: place,
      difference: together)
  }

  /// That every matrix which may read a smoothed norm is among its readers, or known to read something else: numbers tell
  /// nothing of what a few tokens do not ask for.
  private func proveReaders(_ applied: [AppliedSmoothing]) throws {
    // A plan is made for any description.
    if !exact.computes { return }
    for smoothing in applied.map(\.smoothing) {
      let unlisted = layer.unlistedReaders(of: smoothing)
      if !unlisted.isEmpty {
        throw ReaderUnlisted(
          layer: layer.index, smoothing: smoothing.producerName, tensors: unlisted)
      }
    }
  }

  /// What the branch on tokens reads of the first tokens.
  func tokensRead() throws -> Matrix {
    try inputs.kept(layer, part)?.firstTokens()
      ?? inputs.states.firstTokens(.readByTokens(of: part), part, backend: exact)
  }
}

/// What a layer makes of the proof tokens.
private struct ProofOutput {
  let block: Matrix
  /// Of what decides.
  let scores: [Matrix]

  func difference(to other: ProofOutput, _ backend: Backend) -> Float {
    zip([block] + scores, [other.block] + other.scores).reduce(0) { largest, pair in
      let difference = relativeDifference(pair.0, pair.1, backend)
      // Not max(): a NaN must not hide.
      return difference > largest || difference.isNaN ? difference : largest
    }
  }
}

/// The largest norm of a row's difference over the norm of the row.
private func relativeDifference(_ a: Matrix, _ b: Matrix, _ backend: Backend) -> Float {
  if !backend.computes { return 0 }
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
