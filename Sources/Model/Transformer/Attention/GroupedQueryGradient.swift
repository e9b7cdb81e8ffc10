// Grouped-query attention on the way back: from probes at its result to the outputs of its projections.

internal import CKernels
internal import LinearAlgebra
internal import Tensors

extension GroupedQuerySpec {
  /// The Linears at whose outputs gradients are found, each with the outputs that belong together: those of a head.
  var probed: [(linear: LinearSpec, size: Int)] {
    // Ways back that nobody has written.
    if value == key || valueEpsilon != nil || queryKeyEpsilon != nil || sharpening != nil {
      return []
    }
    let others = [(key, headDimension), (value, headDimension)]
    return queryMakesGates ? others : [(query, headDimension)] + others
  }

  /// One over the root mean square of what each norm takes, `[T, norms of a row]`; nothing where there is no norm.
  func inverseRoots(_ x: Matrix, _ norm: NormSpec?, _ workers: Workers) -> Matrix? {
    guard let norm else { return nil }
    let count = x.columns / norm.size
    let result = workers.matrix("roots of heads", rows: x.rows, columns: count)
    workers.ledger.note(Operation(.elements, [x.count]))
    let parts = ranges(of: x.rows, by: 64)
    workers.forEach(parts.count) { index in
      for row in parts[index] {
        for place in 0..<count {
          let numbers = unsafe x.row(row) + place * norm.size
          let squares = unsafe sluice_dot(numbers, numbers, norm.size)
          unsafe result.row(row)[place] =
            1 / (Float(squares) / Float(norm.size) + norm.epsilon).squareRoot()
        }
      }
    }
    return result
  }

  /// Leads a probe back to the outputs of the projections of queries, keys and values.
  ///
  /// - Parameters:
  ///   - causal: each head before it goes forward.
  ///   - queries: as scores read them, `[T, heads * headDimension]`, and the inverse roots of their norm.
  ///   - keys: likewise.
  func lead(
    _ probe: OutputProbe, back causal: @Sendable (Int) -> CausalHead,
    queries: (read: Matrix, roots: Matrix?), keys: (read: Matrix, roots: Matrix?), gates: Matrix?,
    _ sequences: [Range<Int>], _ weights: any LayerWeights, _ workers: Workers
  ) {
    let q = workers.matrix("gradients", rows: queries.read.rows, columns: queries.read.columns)
    let k = workers.matrix("gradients", rows: keys.read.rows, columns: keys.read.columns)
    let v = workers.matrix("gradients", rows: keys.read.rows, columns: keys.read.columns)
    workers.compute {
      k.fill(0)
      v.fill(0)
    }
    let group = heads / keyValueHeads
    let width = headDimension
    let signs = probe.signs
    workers.forEachGroupBack(
      keyValueHeads, heads: group, of: sequences, width: 2 * width, valueWidth: width, reach: reach
    ) { shared, sequence in
      for head in shared * group..<(shared + 1) * group {
        CausalGradient(
          head: causal(head), queries: [HeadColumns(q, head, width: width)],
          keys: [HeadColumns(k, shared, width: width)],
          values: HeadColumns(v, shared, width: width)
        ) { tokens, result in
          signs.make(tokens, head: head, into: result, from: workers.memory)
          guard let gates else { return }
          for (row, token) in tokens.enumerated() {
            var gate = unsafe Array(
              UnsafeBufferPointer(start: gates.row(token) + head * width, count: width))
            unsafe sluice_sigmoid(&gate, width)
            unsafe sluice_multiply(result.row(row), gate, result.row(row), width)
          }
        }.add(sequence, from: workers.memory)
      }
    }
    RotaryTables.with(rotary, sequences: sequences, workers: workers) { sequence, table in
      let back = table.transposed
      unposition(q, queries, heads: heads, norm: queryNorm, sequence, back, weights, workers)
      unposition(k, keys, heads: keyValueHeads, norm: keyNorm, sequence, back, weights, workers)
    }
    let made = [query.name: q, key.name: k, value.name: v]
    for (linear, _) in probed {
      if let gradient = made[linear.name] { probe.found(linear, gradient) }
    }
  }

  /// From gradients at normed and rotated heads to those at what the norm takes, in their place.
  ///
  /// With y = gain x / r: dx = (gain dy - (x / r) mean(y dy)) / r, and the mean is the same before and after a rotation.
  private func unposition(
    _ gradients: Matrix, _ x: (read: Matrix, roots: Matrix?), heads: Int, norm: NormSpec?,
    _ sequence: Range<Int>, _ back: RotaryTable, _ weights: any LayerWeights, _ workers: Workers
  ) {
    let gains = norm.map { $0.gains(weights) } ?? []
    let width = headDimension
    // Rotations that stretch do so both ways.
    let stretch = Float(rotary.scaling.attentionFactor * rotary.scaling.attentionFactor)
    let parts = ranges(of: sequence.count, by: 64)
    workers.ledger.note(Operation(.elements, [2 * sequence.count * heads * width]))
    workers.forEach(parts.count) { index in
      var read = [Float](repeating: 0, count: heads * width)
      for offset in parts[index] {
        let row = unsafe gradients.row(sequence.lowerBound + offset)
        guard let norm, let roots = x.roots else {
          for head in 0..<heads { unsafe back.rotate(row + head * width, position: offset) }
          continue
        }
        let normed = unsafe x.read.row(sequence.lowerBound + offset)
        let inverse = unsafe roots.row(sequence.lowerBound + offset)
        unsafe read.withUnsafeMutableBufferPointer { buffer in
          guard let read = buffer.baseAddress else { return }
          unsafe read.update(from: normed, count: heads * width)
          let means = (0..<roots.columns).map { place in
            unsafe Float(sluice_dot(normed + place * norm.size, row + place * norm.size, norm.size))
              / Float(norm.size)
          }
          for head in 0..<heads {
            unsafe back.rotate(row + head * width, position: offset)
            unsafe back.rotate(read + head * width, position: offset)
            for column in 0..<rotary.dimensions { unsafe read[head * width + column] /= stretch }
          }
          for column in 0..<heads * width {
            let (place, gain) = (column / norm.size, gains[column % norm.size])
            let plain = gain == 0 ? 0 : unsafe read[column] / gain
            unsafe row[column] = inverse[place] * (gain * row[column] - plain * means[place])
          }
        }
      }
    }
  }
}
