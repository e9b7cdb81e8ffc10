// What errors of a branch do behind it: the head and the routers read the residual stream along some directions alone.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import Tensors
internal import Transformer

/// What reads the residual stream: the head, by how often tokens come, and every router.
///
/// Routers before a branch count as well as those behind it: all read alike, and the work of every layer stays the same.
struct StreamReaders {
  private let inputs: StepInputs

  init(_ inputs: StepInputs) { self.inputs = inputs }

  private var backend: Backend { inputs.backend }
  private var channels: Int { inputs.spec.hiddenSize }

  /// Tokens that are looked at.
  private static let mostTokens = 8192

  /// Whether some Linears of a layer are rounded under what reads the stream, as it is known: they write to it, or to what
  /// a Linear reads that does.
  func count(for linears: [LinearSpec], of layer: LayerSpec) -> Bool {
    isKnown(in: layer) && linears.contains(where: inputs.roundsRowsInTurn)
  }

  /// Whether errors in a layer are weighed by what reads the stream.
  func isKnown(in layer: LayerSpec) -> Bool {
    inputs.gathersGradients(of: layer) && StreamMoments.blockSize(channels) != nil
  }

  /// What errors of the stream do that come through some norms.
  ///
  /// - Parameter norms: between the outputs of a Linear and the stream.
  func moments(behind norms: [NormSpec]) throws -> StreamMoments {
    let weights = inputs.weights
    let moments = StreamMoments(
      channels: channels, block: StreamMoments.blockSize(channels) ?? channels, backend: backend)
    let behind = norms.map { $0.gains(weights) }
    func gains(_ others: [[Float]?]) -> [Float] {
      // Of shapes there are no numbers.
      (behind + others.compactMap(\.self)).reduce([Float](repeating: 1, count: channels)) {
        zip($0, $1).map { $0 * $1 }
      }
    }
    let tokens = tokens
    try moments.add(
      tokens.count, weight: 1, gains: gains([inputs.spec.finalNorm.gains(weights)])
    ) {
      try weights.embed(
        Array(tokens[$0]), inputs.spec.head.weight, columns: channels, backend: backend)
    }
    let routers = Self.routers(of: inputs.spec)
    for (router, norm) in routers {
      let (weight, experts) = (weights.weight(router.linear), router.linear.outputs)
      let own = gains([norm?.gains(weights), router.norm.map { weights.vector($0.gains) }])
      weight.noteReading(experts, tileRows: StreamMoments.tileRows, backend: backend)
      moments.add(experts, weight: 1 / Double(routers.count), gains: own) { rows in
        let result = backend.matrix("weight tiles", rows: rows.count, columns: channels)
        backend.compute { unsafe weight.decode(rows, into: result.base) }
        return result
      }
      weights.letGo(router.linear)
    }
    moments.complete()
    return moments
  }

  /// Every router of the model, with the norm before it. Prediction layers change no byte of the others.
  private static func routers(of spec: ModelSpec) -> [(RouterSpec, NormSpec?)] {
    spec.layers.filter { $0.entrance == nil }.flatMap(\.parts).compactMap(\.tokens).compactMap {
      branch in
      branch.mixer.router.map { ($0, branch.preNorm) }
    }.filter { router, _ in router.linear.inputs == spec.hiddenSize }
  }

  /// Names of all tensors that tell what reads the stream, but for the head, which is large.
  static func names(in spec: ModelSpec) -> [String] {
    spec.finalNorm.parameters
      + routers(of: spec).flatMap { router, norm in
        [router.linear.weight] + (norm?.parameters ?? []) + (router.norm.map { [$0.gains] } ?? [])
      }
  }

  /// Tokens of the calibration from all over it, each as often as it comes.
  private var tokens: [Int32] {
    let all = inputs.tokens
    let count = min(all, Self.mostTokens)
    var result: [Int32] = []
    var first = 0
    for block in inputs.blocks {
      while result.count < count, result.count * all / count < first + block.count {
        result.append(block.tokens[result.count * all / count - first])
      }
      first += block.count
    }
    return result
  }
}
