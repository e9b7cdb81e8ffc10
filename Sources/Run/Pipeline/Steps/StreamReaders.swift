// What errors of the residual stream do behind a branch: along which directions the head and the routers read it.

internal import CKernels
internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import Tensors
internal import Transformer

/// Second moments of gradients at the residual stream, from weights and token counts alone.
///
/// An error e of the stream changes the logits by V γ e over the size of the stream, V the head's weight and γ the gains
/// of the norm before it. To the second order that costs e's variance over the vocabulary, by how often each token comes.
/// A router changes its mind likewise where e tells its experts apart. So A = Vᵀ (diag f - f fᵀ) V for the head, f the
/// shares of tokens, with γ in V; the same for each router, with equal shares; each over the mean of its diagonal; and the
/// head counts as much as all routers together.
///
/// Readers before a branch count as well as those behind it: they read alike, and every layer's work stays the same. The
/// sums of a layer's own gradients, from a pass back through the whole model, give no lower KL.
struct StreamReaders {
  private let inputs: StepInputs

  init(_ inputs: StepInputs) { self.inputs = inputs }

  private var backend: Backend { inputs.backend }
  private var channels: Int { inputs.spec.hiddenSize }

  /// Most channels of a block, whose errors make up for each other.
  private static let largestBlock = 512
  /// Steps of a block.
  private static let steps = 16
  /// Rows of a weight that are looked at together.
  private static let tileRows = 64

  /// Channels of a block: of parts of one size, and of whole words of zero points; nil where there are none.
  private var blockSize: Int? {
    if channels <= Self.largestBlock { return channels }
    return stride(from: Self.largestBlock, to: 0, by: -32).first { channels % $0 == 0 }
  }

  /// Whether some Linears of a layer that write to the stream are rounded so.
  func ask(about linears: [LinearSpec], of layer: LayerSpec) -> Bool {
    inputs.output.method.compensatesOutputs && !inputs.measures && inputs.stage != .states
      && layer.index < inputs.calibratedLayers && blockSize != nil
      && linears.contains(where: makesUp)
  }

  /// Whether a Linear that writes to the stream may be rounded so.
  private func makesUp(_ linear: LinearSpec) -> Bool {
    linear.outputs == channels && inputs.output.fates[linear.weight] == .packed
      && inputs.quantized(linear).quantizer.roundsRowsInTurn
  }

  /// What errors of a Linear's outputs do.
  ///
  /// - Parameter norms: between these outputs and the stream.
  func factor(behind norms: [NormSpec]) throws -> OutputFactor {
    OutputFactor(
      moments: try moments(behind: norms), steps: Self.steps, backend: backend.exact)
  }

  /// A of each block of channels; none where there are no blocks.
  func moments(behind norms: [NormSpec]) throws -> [Matrix] {
    guard let size = blockSize else { return [] }
    let moments = (0..<channels / size).map { _ in
      backend.matrix("readers of the stream", rows: size, columns: size)
    }
    for matrix in moments { backend.clear(matrix) }
    let behind = norms.map { $0.gains(inputs.weights) }
    func gains(_ others: [[Float]]) -> [Float] {
      (behind + others).reduce([Float](repeating: 1, count: channels)) { product, gains in
        // Empty where only shapes are known.
        zip(product, gains).map { $0 * $1 }
      }
    }
    let head = inputs.spec.head
    let tokens = tokens
    try add(
      tokens.shares, over: 1, gains: gains([inputs.spec.finalNorm.gains(inputs.weights)]),
      to: moments
    ) { rows in
      try inputs.weights.embed(
        Array(tokens.ids[rows]), head.weight, columns: channels, backend: backend)
    }
    let routers = routers
    for (router, norm) in routers {
      let own = [norm?.gains(inputs.weights), router.norm.map { inputs.weights.vector($0.gains) }]
      let weight = inputs.weights.weight(router.linear)
      let experts = router.linear.outputs
      weight.noteReading(experts, tileRows: Self.tileRows, backend: backend)
      try add(
        [Double](repeating: 1 / Double(experts), count: experts), over: routers.count,
        gains: gains(own.compactMap(\.self)), to: moments
      ) { rows in
        let result = backend.matrix("rows of readers", rows: rows.count, columns: channels)
        backend.compute { unsafe weight.decode(rows, into: result.base) }
        return result
      }
      inputs.weights.letGo(router.linear)
    }
    for matrix in moments { Gemm.symmetrize(matrix, backend: backend) }
    return moments
  }

  /// Every router that reads the stream, with the norm before it.
  private var routers: [(RouterSpec, NormSpec?)] {
    inputs.layers.flatMap(\.parts).compactMap { part in
      part.tokens.flatMap { branch in
        branch.mixer.router.flatMap {
          $0.linear.inputs == channels ? ($0, branch.preNorm) : nil
        }
      }
    }
  }

  /// The tokens of the calibration, each once, and how often they come.
  private var tokens: (ids: [Int32], shares: [Double]) {
    var counts: [Int32: Int] = [:]
    for block in inputs.blocks {
      for token in block.tokens { counts[token, default: 0] += 1 }
    }
    let ids = counts.keys.sorted()
    let all = Double(inputs.tokens)
    return (ids, ids.map { Double(counts[$0] ?? 0) / all })
  }

  /// Adds the variance of what some rows read, over the mean of its diagonal.
  ///
  /// - Parameters:
  ///   - shares: of the rows; 1 in all.
  ///   - count: how many like it share a weight of 1.
  ///   - gains: what each channel is multiplied by before the rows read it.
  ///   - read: makes some rows.
  private func add(
    _ shares: [Double], over count: Int, gains: [Float], to moments: [Matrix],
    read: (Range<Int>) throws -> Matrix
  ) throws {
    let tiles = ranges(of: shares.count, by: Self.tileRows)
    var mean = [Double](repeating: 0, count: channels)
    var squares = 0.0
    try backend.forEach(of: tiles, alike: \.count) { tile in
      let rows = try read(tile)
      backend.ledger.note(Operation(.elements, [rows.count]))
      backend.compute {
        for (row, share) in shares[tile].enumerated() {
          let values = unsafe rows.row(row)
          for channel in 0..<channels {
            let value = unsafe Double(values[channel] * gains[channel])
            mean[channel] += share * value
            squares += share * value * value
          }
        }
      }
    }
    let variance = (squares - mean.reduce(0) { $0 + $1 * $1 }) / Double(channels)
    // Rows that are all alike tell nothing.
    let scale = variance > 0 && variance.isFinite ? 1 / (variance * Double(count)) : 0
    let center = mean.map { Float($0) }
    try backend.forEach(of: tiles, alike: \.count) { tile in
      let rows = try read(tile)
      backend.ledger.note(Operation(.elements, [rows.count]))
      backend.compute {
        for (row, share) in shares[tile].enumerated() {
          let values = unsafe rows.row(row)
          unsafe sluice_multiply(values, gains, values, channels)
          unsafe sluice_add_scaled(center, -1, values, channels)
          unsafe sluice_scale(values, Float((share * scale).squareRoot()), values, channels)
        }
      }
      for (block, matrix) in moments.enumerated() {
        let first = block * matrix.rows
        Gemm.addGram(
          of: rows, columns: first..<first + matrix.rows, to: matrix, backend: backend.exact)
      }
    }
  }
}
