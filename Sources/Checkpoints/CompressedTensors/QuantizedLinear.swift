// A Linear that is quantized: rounding makes its codes, its format stores them.

package import LinearAlgebra
package import Quantization
package import Safetensors
package import Tensors
package import Transformer

/// A Linear under a scheme that is written.
package struct QuantizedLinear: Sendable {
  package let quantizer: WeightQuantizer
  package let codec: any WeightCodec
  let rows: Int

  /// - Parameter dtype: of the weight that is quantized, which its scales share.
  package init(_ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType) {
    guard let weights = scheme.weights else {
      preconditionFailure("\(linear.name) is not quantized")
    }
    quantizer = WeightQuantizer(
      weights, columns: linear.inputs, dtype: dtype, signsScales: scheme.signsScales)
    codec = CompressionFormats.codec(linear, scheme, dtype: dtype)
    rows = linear.outputs
  }

  package var tensors: [TensorSpec] { codec.tensors }

  /// Rounds `weight` and hands out the bytes of every tensor, in pieces and from several threads.
  ///
  /// - Parameters:
  ///   - outputs: what errors of its outputs do, where they are compensated, too.
  ///   - largest: the largest weight of all that are loaded as one with this, where `needsLargest`; nil for this alone.
  ///   - largestInput: the largest magnitude of what the Linear reads, where the scheme stores a scale for it.
  ///   - write: nil to measure what rounding does, and what the weight itself puts out.
  /// - Throws: `NonFiniteWeight`, or what `write` throws.
  @discardableResult
  package func round(
    _ weight: any WeightRows, by rounding: Rounding = .nearest, outputs: OutputFactor? = nil,
    largest: Float? = nil, largestInput: Float = 0, backend: Backend,
    write: (@Sendable (UnsafeRawBufferPointer, String, Int) throws -> Void)?
  ) throws -> RoundingErrors {
    let all = unsafe Self.round(
      [
        LinearToRound(
          self, weight, by: rounding, outputs: outputs, largest: largest, largestInput: largestInput
        )
      ], backend: backend, write: write)
    return try all[0].get()
  }

  /// Rounds Linears in one loop over the tiles of all: a Linear of an expert has too few for many threads.
  static package func round(
    _ linears: [LinearToRound], backend: Backend,
    write: (@Sendable (UnsafeRawBufferPointer, String, Int) throws -> Void)?
  ) -> [Result<RoundingErrors, any Error>] {
    let measuring = unsafe write == nil
    let wholes = linears.map { each in
      Result {
        try each.linear.quantizer.whole(each.weight, largest: each.largest, backend: backend)
          .reading(each.largestInput)
      }
    }
    noteReading(linears, measuring: measuring, backend: backend)
    noteRounding(linears, measuring: measuring, backend: backend)
    let tiles = tiles(of: linears, measuring: measuring)
    let each = TaskBuffer.most(linears.map { $0.buffers(measuring: measuring) })
    let results = backend.map(tiles.count, each: each) {
      index -> Result<RoundingErrors, any Error> in
      let (place, rows) = tiles[index]
      let each = linears[place]
      return Result {
        let rounded = try each.round(
          rows, knowing: wholes[place].get(), measuring: measuring, from: backend.memory)
        if let write = unsafe write {
          try unsafe each.linear.codec.encode(rounded, rows: rows, write: write)
        }
        return rounded.errors
      }
    }
    var errors = linears.map { _ in Result<RoundingErrors, any Error>.success(RoundingErrors()) }
    for (tile, result) in zip(tiles, results) {
      errors[tile.place] = errors[tile.place].flatMap { sum in
        result.map { each in
          var sum = sum
          sum.add(each)
          return sum
        }
      }
    }
    guard backend.computes, let write = unsafe write else { return errors }
    return zip(linears.indices, errors).map { place, errors in
      Result {
        let errors = try errors.get()
        try unsafe linears[place].linear.codec.encodeRest(wholes[place].get(), write: write)
        return errors
      }
    }
  }

  /// The tiles of all Linears, those that take longest first: then threads end at nearly the same time.
  private static func tiles(
    of linears: [LinearToRound], measuring: Bool
  ) -> [(place: Int, rows: Range<Int>)] {
    let tiles = linears.indices.flatMap { place in
      ranges(of: linears[place].linear.rows, by: linears[place].tileRows(measuring: measuring)).map
      { (place: place, rows: $0) }
    }
    func work(_ tile: (place: Int, rows: Range<Int>)) -> Int {
      let columns = linears[tile.place].weight.columns
      return tile.rows.count * columns * columns
    }
    // Those that take equally long stay in order, and with them what is added up.
    return tiles.enumerated().sorted { a, b in
      let (first, second) = (work(a.element), work(b.element))
      return first != second ? first > second : a.offset < b.offset
    }.map(\.element)
  }

  /// Writes down what is computed and written; Linears of one kind as one that has the rows of all.
  private static func noteRounding(
    _ linears: [LinearToRound], measuring: Bool, backend: Backend
  ) {
    var alike: [(operation: Operation, first: LinearToRound, count: Int)] = []
    for each in linears {
      let operation = each.operation(rows: each.linear.rows, measuring: measuring)
      if let place = alike.firstIndex(where: { $0.operation == operation }) {
        alike[place].count += 1
      } else {
        alike.append((operation, each, 1))
      }
      if !measuring {
        for tensor in each.linear.tensors { backend.ledger.note(.output, bytes: tensor.byteCount) }
      }
    }
    for (_, first, count) in alike {
      backend.ledger.note(
        first.operation(rows: count * first.linear.rows, measuring: measuring))
    }
  }

  /// Writes down what is mapped where tiles of several weights are in work: no more than threads have.
  private static func noteReading(
    _ linears: [LinearToRound], measuring: Bool, backend: Backend
  ) {
    var (held, others) = ([() -> Void](), [() -> Void]())
    var free = backend.threads
    for each in linears {
      let weight = each.weight
      let tileRows = each.tileRows(measuring: measuring)
      let threads = min(free, (weight.rows + tileRows - 1) / tileRows)
      free -= threads
      let backend = threads > 0 ? backend.with(threads: threads) : backend
      let note = { weight.noteReading(weight.rows, tileRows: tileRows, backend: backend) }
      if threads > 0 { held.append(note) } else { others.append(note) }
    }
    backend.ledger.holdingTogether { for note in held { note() } }
    for note in others { note() }
  }
}
