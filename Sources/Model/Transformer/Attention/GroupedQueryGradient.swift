// Grouped-query attention on the way back: from probes at its result to the outputs of its projections.

internal import CKernels
internal import LinearAlgebra
internal import Tensors

/// Queries or keys as scores read them, `[T, heads * headDimension]`, and what their norm made them with.
struct PositionedHeads: Sendable {
  let read: Matrix
  let gains: [Float]
  /// Numbers that are normed together: those of a head, or of all heads; 0 where there is no norm.
  let normed: Int
  /// `[T, norms of a row]`: one over the root mean square; nil where there is no norm.
  let roots: Matrix?
}

extension GroupedQuerySpec {
  /// The Linears at whose outputs gradients are found, each with the outputs that belong together: those of a head.
  var probed: [(linear: LinearSpec, size: Int)] {
    // Ways back that nobody has written.
    if value == key || valueEpsilon != nil || queryKeyEpsilon != nil || sharpening != nil
      || normsFollowRotation || valueDimension != headDimension || valueScale != 1
      || gate.map({ gateActivation != .sigmoid || $0.outputs != heads * headDimension }) == true
    {
      return []
    }
    let others = [(key, headDimension), (value, headDimension)]
    return queryMakesGates ? others : [(query, headDimension)] + others
  }

  /// Takes down what a norm will divide by, before it does.
  func positioned(
    _ x: Matrix, _ norm: NormSpec?, _ weights: any LayerWeights, _ backend: Backend
  ) -> PositionedHeads {
    guard let norm else { return PositionedHeads(read: x, gains: [], normed: 0, roots: nil) }
    let count = x.columns / norm.size
    let roots = backend.matrix("roots of heads", rows: x.rows, columns: count)
    backend.ledger.note(Operation(.elements, [x.count]))
    let parts = ranges(of: x.rows, by: 64)
    backend.forEach(parts.count) { index in
      for row in parts[index] {
        for place in 0..<count {
          let numbers = unsafe x.row(row) + place * norm.size
          let squares = unsafe sluice_dot(numbers, numbers, norm.size)
          unsafe roots.row(row)[place] =
            1 / (Float(squares) / Float(norm.size) + norm.epsilon).squareRoot()
        }
      }
    }
    return PositionedHeads(
      read: x, gains: norm.gains(weights), normed: norm.size, roots: roots)
  }

  /// Leads a probe back to the outputs of the projections of queries, keys and values: of one group of heads that share
  /// keys and values after the other, so that their gradients take little room.
  ///
  /// - Parameter causal: each head before it goes forward.
  func lead(
    _ probe: OutputProbe, back causal: @Sendable (Int) -> CausalHead, queries: PositionedHeads,
    keys: PositionedHeads, gates: Matrix?, _ sequences: [Range<Int>], _ backend: Backend
  ) {
    let back = GroupBack(
      spec: self, signs: probe.signs, queries: queries, keys: keys, gates: gates,
      memory: backend.memory)
    let work = backend.groupsBack(
      keyValueHeads, heads: heads / keyValueHeads, of: sequences, width: 2 * headDimension,
      valueWidth: headDimension,
      gradients: [heads / keyValueHeads, 1, 1].map { $0 * headDimension }, reach: reach)
    RotaryTables.with(rotary, all: sequences, backend: backend) { tables in
      // What one norm takes of all heads is known once all groups were there.
      var means: HeadMeans?
      if max(queries.normed, keys.normed) > headDimension {
        let parts = work.map { back.means(of: $0, causal, sequences) }
        means = parts.dropFirst().reduce(parts.first) { $0?.adding($1) }
      }
      let all = means
      work.forEach { shared in
        let (q, k, v) = back.gradients(of: shared, causal, sequences)
        for sequence in sequences {
          guard let table = tables?.table(sequence.count).transposed else { continue }
          back.unposition(
            q, queries, firstHead: shared * back.group, all?.queries, sequence, table)
          back.unposition(k, keys, firstHead: shared, all?.keys, sequence, table)
        }
        for (linear, gradient) in [(query, q), (key, k), (value, v)] {
          probe.found(linear, shared, gradient)
        }
      }
    }
  }
}

/// The sums of y dy over the heads of some groups, of every token.
private struct HeadMeans: Sendable {
  var queries: [Float]
  var keys: [Float]

  func adding(_ other: HeadMeans) -> HeadMeans {
    HeadMeans(
      queries: zip(queries, other.queries).map { $0 + $1 },
      keys: zip(keys, other.keys).map { $0 + $1 })
  }
}

/// The work on one group of heads that share keys and values.
private struct GroupBack: Sendable {
  let spec: GroupedQuerySpec
  let signs: ProbeSigns
  let queries: PositionedHeads
  let keys: PositionedHeads
  let gates: Matrix?
  let memory: MemoryBudget

  /// Heads of a group.
  var group: Int { spec.heads / spec.keyValueHeads }
  private var width: Int { spec.headDimension }

  /// At normed and rotated queries `[T, heads of the group * width]` and keys, and at values `[T, width]`.
  func gradients(
    of shared: Int, _ causal: (Int) -> CausalHead, _ sequences: [Range<Int>]
  ) -> (queries: Matrix, keys: Matrix, values: Matrix) {
    func matrix(_ heads: Int) -> Matrix {
      Matrix("gradients", rows: queries.read.rows, columns: heads * width, from: memory)
    }
    let (q, k, v) = (matrix(group), matrix(1), matrix(1))
    k.fill(0)
    v.fill(0)
    for sequence in sequences {
      for place in 0..<group {
        let head = shared * group + place
        CausalGradient(
          head: causal(head), queries: [HeadColumns(q, place, width: width)],
          keys: [HeadColumns(k, 0, width: width)], values: HeadColumns(v, 0, width: width)
        ) { tokens, result in
          signs.make(tokens, head: head, into: result, from: memory)
          guard let gates else { return }
          for (row, token) in tokens.enumerated() {
            var gate = unsafe Array(
              UnsafeBufferPointer(start: gates.row(token) + head * width, count: width))
            unsafe sluice_sigmoid(&gate, width)
            unsafe sluice_multiply(result.row(row), gate, result.row(row), width)
          }
        }.add(sequence, from: memory)
      }
    }
    return (q, k, v)
  }

  func means(
    of shared: Int, _ causal: (Int) -> CausalHead, _ sequences: [Range<Int>]
  ) -> HeadMeans {
    let made = gradients(of: shared, causal, sequences)
    func sums(_ gradients: Matrix, _ x: PositionedHeads, _ firstHead: Int) -> [Float] {
      (0..<gradients.rows).map { row in
        unsafe Float(
          sluice_dot(
            gradients.row(row), x.read.row(row) + firstHead * width, gradients.columns))
      }
    }
    return HeadMeans(
      queries: sums(made.queries, queries, shared * group), keys: sums(made.keys, keys, shared))
  }

  /// From gradients at normed and rotated heads to those at what the norm takes, in their place.
  ///
  /// With y = gain x / r: dx = (gain dy - (x / r) mean(y dy)) / r, and the mean is the same before and after a rotation.
  ///
  /// - Parameters:
  ///   - gradients: `[T, some heads * width]`.
  ///   - firstHead: of x, the first of these.
  ///   - sums: of y dy over all heads, where one norm takes all of them.
  ///   - back: the transposed rotation.
  func unposition(
    _ gradients: Matrix, _ x: PositionedHeads, firstHead: Int, _ sums: [Float]?,
    _ sequence: Range<Int>, _ back: RotaryTable
  ) {
    // Rotations that stretch do so both ways.
    let factor = spec.rotary.scaling.attentionFactor
    let stretch = Float(factor * factor)
    let whole = x.normed > width
    var read = [Float](repeating: 0, count: width)
    for (position, token) in sequence.enumerated() {
      for place in 0..<gradients.columns / width {
        let gradient = unsafe gradients.row(token) + place * width
        let head = firstHead + place
        guard let roots = x.roots else {
          unsafe back.rotate(gradient, position: position)
          continue
        }
        let normed = unsafe x.read.row(token) + head * width
        let inverse = unsafe roots.row(token)[whole ? 0 : head]
        let sum = unsafe sums.map { $0[token] } ?? Float(sluice_dot(normed, gradient, width))
        let mean = sum / Float(x.normed)
        let firstGain = whole ? head * width : 0
        unsafe back.rotate(gradient, position: position)
        unsafe read.withUnsafeMutableBufferPointer { buffer in
          guard let read = buffer.baseAddress else { return }
          unsafe read.update(from: normed, count: width)
          unsafe back.rotate(read, position: position)
          for column in 0..<spec.rotary.dimensions { unsafe read[column] /= stretch }
          for column in 0..<width {
            let gain = x.gains[firstGain + column]
            let plain = gain == 0 ? 0 : unsafe read[column] / gain
            unsafe gradient[column] = inverse * (gain * gradient[column] - plain * mean)
          }
        }
      }
    }
  }
}
