// Rounding that makes up for errors along outputs, too: its errors against sums in Double.

import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport

@Suite struct OutputCompensationTests {
  private let backend = Backend(threads: 2)

  /// A weight, what is known of its input and of its outputs, and both second moments.
  private struct Case {
    let weight: Matrix
    let factors: GramFactors
    let outputs: OutputFactor
    /// xᵀ x / T of the input, and gᵀ g / T of each block of outputs.
    let gram: Matrix
    let moments: [Matrix]
  }

  /// - Parameter shared: what outputs of a block have in common; 0 for nothing.
  private func makeCase(
    blocks: Int, size: Int, channels: Int, shared: Float, engine: Engine = .f32
  ) throws -> Case {
    var generator = SeededGenerator(seed: UInt64(7 + blocks * size))
    let x = generator.matrix(4 * channels, channels)
    let g = generator.matrix(16 * size, blocks * size)
    for row in 0..<x.rows {
      for channel in 0..<channels {
        unsafe x.row(row)[channel] += 0.7 * x.row(row)[channel / 8 * 8]
      }
    }
    for row in 0..<g.rows {
      for output in 0..<g.columns {
        let first = output / size * size
        unsafe g.row(row)[output] += shared * (g.row(row)[first] + g.row(row)[first + size / 2])
      }
    }
    func statistics(_ x: Matrix, block: Int? = nil) -> ActivationStatistics {
      let result = ActivationStatistics(
        channels: x.columns, withGram: true, block: block, backend: backend)
      result.add(x, backend: backend)
      return result
    }
    return Case(
      weight: generator.matrix(blocks * size, channels),
      factors: try statistics(x).factors(
        smoothedBy: nil, refining: [32], damping: 0.005,
        backend: Backend(threads: 2, engine: engine)),
      outputs: OutputFactor([statistics(g, block: size)], size: size, backend: backend),
      gram: statistics(x).grams(backend: backend)[0],
      moments: statistics(g, block: size).grams(backend: backend))
  }

  /// The sum of tr(A D G Dᵀ) over blocks, in Double.
  private func loss(_ rows: QuantizedRows, _ each: Case, by quantizer: WeightQuantizer) -> Double {
    let errors = Matrix(rows: rows.rows, columns: rows.columns)
    for row in 0..<rows.rows {
      let groups = row * rows.groups..<(row + 1) * rows.groups
      unsafe Array(rows.codes[row * rows.columns..<(row + 1) * rows.columns])
        .withUnsafeBufferPointer {
          unsafe quantizer.decode(
            $0.baseAddress!, scales: Array(rows.scales[groups]), zeroPoints: nil,
            columns: rows.columns, into: errors.row(row))
        }
      for column in 0..<rows.columns {
        unsafe errors.row(row)[column] -= each.weight.row(row)[column]
      }
    }
    var sum = 0.0
    for (block, moments) in each.moments.enumerated() {
      let first = block * moments.rows
      for i in 0..<moments.rows {
        for j in 0..<moments.rows {
          var product = 0.0
          for row in 0..<rows.columns {
            for column in 0..<rows.columns {
              unsafe product +=
                Double(errors.row(first + i)[row]) * Double(each.gram.row(row)[column])
                * Double(errors.row(first + j)[column])
            }
          }
          unsafe sum += Double(moments.row(i)[j]) * product
        }
      }
    }
    return sum
  }

  private let quantizer = WeightQuantizer(
    .integers(bits: 4, groupSize: 32), columns: 64, dtype: .bf16, signsScales: true)

  private func alone(_ each: Case) throws -> QuantizedRows {
    try quantizer.round(
      each.weight, rows: 0..<each.weight.rows, by: .compensated(each.factors))
  }

  private func together(_ each: Case) throws -> QuantizedRows {
    try quantizer.round(
      each.weight, rows: 0..<each.weight.rows, under: each.factors, and: each.outputs)
  }

  @Test(arguments: [(4, 32), (2, 64), (3, 24), (1, 8), (2, 7)])
  func `errors that outputs have in common become smaller`(blocks: Int, size: Int) throws {
    let each = try makeCase(blocks: blocks, size: size, channels: 64, shared: 2)
    let (plain, better) = (try alone(each), try together(each))
    #expect(
      loss(better, each, by: quantizer) < 0.97 * loss(plain, each, by: quantizer),
      "\(blocks) blocks of \(size)")
    #expect(better.errors.rows == blocks * size)
    #expect(better.errors.chosen <= better.errors.nearest)
  }

  /// Zero points are packed along rows: a task that began within a word would write over its neighbour's.
  @Test func `a task's rows fill whole words of any number of bits`() {
    for size in 1...512 {
      let rows = OutputFactor.taskRows(size: size)
      #expect(rows > 0 && rows % size == 0 && rows % 32 == 0, "\(size): \(rows)")
    }
    #expect(
      [32, 64, 96, 128, 256, 512].map { OutputFactor.taskRows(size: $0) }
        == [512, 512, 480, 512, 512, 512])
  }

  @Test func `outputs with nothing in common are rounded as if each were alone`() throws {
    let each = try makeCase(blocks: 2, size: 16, channels: 64, shared: 0)
    // No gradients at all: nothing is known of the outputs.
    let statistics = ActivationStatistics(
      channels: 32, withGram: true, block: 16, backend: backend)
    let zeros = Matrix(zeros: 4, 32)
    statistics.add(zeros, backend: backend)
    let found = try quantizer.round(
      each.weight, rows: 0..<32, under: each.factors,
      and: OutputFactor([statistics], size: 16, backend: backend))
    let expected = try alone(each)
    #expect(found.codes == expected.codes)
    #expect(found.scales == expected.scales)
  }

  @Test func `outputs are smoothed as their gradients are`() throws {
    let (blocks, size) = (2, 16)
    var generator = SeededGenerator(seed: 5)
    let g = generator.matrix(64, blocks * size)
    let scale = (0..<blocks * size).map { 1 + Float($0 % 5) / 4 }
    func factor(_ g: Matrix, smoothedBy scale: [Float]?) -> OutputFactor {
      let statistics = ActivationStatistics(
        channels: g.columns, withGram: true, block: size, backend: backend)
      statistics.add(g, backend: backend)
      return OutputFactor([statistics], size: size, smoothedBy: scale, backend: backend)
    }
    let each = try makeCase(blocks: blocks, size: size, channels: 64, shared: 1)
    let scaled = Matrix(rows: g.rows, columns: g.columns)
    for row in 0..<g.rows {
      for column in 0..<g.columns {
        unsafe scaled.row(row)[column] = g.row(row)[column] * scale[column]
      }
    }
    let (first, second) = try (
      quantizer.round(
        each.weight, rows: 0..<blocks * size, under: each.factors,
        and: factor(g, smoothedBy: scale)),
      quantizer.round(
        each.weight, rows: 0..<blocks * size, under: each.factors,
        and: factor(scaled, smoothedBy: nil))
    )
    // Both are the same numbers up to the last bit of a product.
    let same = zip(first.codes, second.codes).count { $0 == $1 }
    #expect(same > first.codes.count * 99 / 100)
  }
}
