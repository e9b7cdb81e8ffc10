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
  private let rows: Int

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
      [(self, weight, largest)], by: rounding, outputs: outputs, largestInput: largestInput,
      backend: backend, write: write)
    return try all[0].get()
  }

  /// Rounds Linears that read the same, in one loop over the tiles of all: a Linear of an expert has too few for many
  /// threads.
  ///
  /// - Parameters:
  ///   - linears: with their weights, and the largest weight of what each is loaded with, where that must be known.
  ///   - outputs: where there is one Linear alone.
  static package func round(
    _ linears: [(linear: QuantizedLinear, weight: any WeightRows, largest: Float?)],
    by rounding: Rounding, outputs: OutputFactor? = nil, largestInput: Float, backend: Backend,
    write: (@Sendable (UnsafeRawBufferPointer, String, Int) throws -> Void)?
  ) -> [Result<RoundingErrors, any Error>] {
    let measuring = unsafe write == nil
    let inTurn: (under: GramFactors, and: OutputFactor)? =
      if case .compensated(let factors) = rounding, let outputs, !measuring,
        linears.allSatisfy(\.linear.quantizer.roundsRowsInTurn)
      {
        (factors, outputs)
      } else {
        nil
      }
    let tileRows = inTurn?.and.taskRows ?? rounding.tileRows
    let wholes = linears.map { each in
      Result {
        try each.linear.quantizer.whole(each.weight, largest: each.largest, backend: backend)
          .reading(largestInput)
      }
    }
    let tiles = linears.indices.flatMap { place in
      ranges(of: linears[place].linear.rows, by: tileRows).map { (place: place, rows: $0) }
    }
    noteReading(linears.map(\.weight), tileRows: tileRows, backend: backend)
    for (linear, weight, _) in linears {
      backend.ledger.note(
        rounding.operation(
          rows: linear.rows, channels: weight.columns, outputs: inTurn?.and, measuring: measuring))
      if !measuring {
        for tensor in linear.tensors { backend.ledger.note(.output, bytes: tensor.byteCount) }
      }
    }
    let rows = linears.map(\.linear.rows).max() ?? 0
    let channels = linears.map(\.weight.columns).max() ?? 0
    let each =
      if let inTurn {
        inTurn.and.buffers(rows: rows, channels: channels, under: inTurn.under)
      } else {
        rounding.buffers(rows: rows, channels: channels)
      }
    let results = backend.map(tiles.count, each: each) {
      index -> Result<RoundingErrors, any Error> in
      let (place, rows) = tiles[index]
      let (linear, weight, _) = linears[place]
      return Result {
        let whole = try wholes[place].get()
        let rounded =
          if let inTurn {
            try linear.quantizer.round(
              weight, rows: rows, under: inTurn.under, and: inTurn.and, knowing: whole,
              from: backend.memory)
          } else {
            try linear.quantizer.round(
              weight, rows: rows, by: rounding, knowing: whole, measuring: measuring,
              from: backend.memory)
          }
        if let write = unsafe write {
          try unsafe linear.codec.encode(rounded, rows: rows, write: write)
        }
        return rounded.errors
      }
    }
    return linears.indices.map { place in
      Result {
        var errors = RoundingErrors()
        for (tile, result) in zip(tiles, results) where tile.place == place {
          errors.add(try result.get())
        }
        if !backend.computes { return errors }
        if let write = unsafe write {
          try unsafe linears[place].linear.codec.encodeRest(wholes[place].get(), write: write)
        }
        return errors
      }
    }
  }

  /// Writes down what is mapped where tiles of several weights are in work: no more than threads have.
  private static func noteReading(
    _ weights: [any WeightRows], tileRows: Int, backend: Backend
  ) {
    var (held, others) = ([() -> Void](), [() -> Void]())
    var free = backend.threads
    for weight in weights {
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
