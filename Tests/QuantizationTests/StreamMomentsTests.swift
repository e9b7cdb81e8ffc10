// What reads the residual stream: its second moments against sums in Double.

import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport

@Suite struct StreamMomentsTests {
  private struct Reader {
    let rows: Matrix
    let gains: [Float]
    let weight: Double

    /// The variance of what it makes of errors, over the mean of its diagonal.
    var moments: [[Double]] {
      let (count, channels) = (rows.rows, rows.columns)
      let read = (0..<count).map { row in
        (0..<channels).map { unsafe Double(rows.row(row)[$0]) * Double(gains[$0]) }
      }
      let mean = (0..<channels).map { channel in
        read.reduce(0) { $0 + $1[channel] } / Double(count)
      }
      let sums = (0..<channels).map { i in
        (0..<channels).map { j in
          read.reduce(0) { $0 + ($1[i] - mean[i]) * ($1[j] - mean[j]) }
        }
      }
      let diagonal = (0..<channels).reduce(0) { $0 + sums[$1][$1] } / Double(channels)
      return sums.map { $0.map { weight * $0 / diagonal } }
    }

    func add(to result: StreamMoments) {
      result.add(rows.rows, weight: weight, gains: gains) { tile in
        let part = Matrix(rows: tile.count, columns: rows.columns)
        for (place, row) in tile.enumerated() {
          unsafe part.row(place).update(from: rows.row(row), count: rows.columns)
        }
        return part
      }
    }
  }

  /// Tiles of 64 rows and what is left, and blocks of channels.
  @Test(arguments: [1, 3]) func `each reader counts by the variance of what it puts out`(
    threads: Int
  ) throws {
    let (channels, block) = (48, 16)
    var generator = SeededGenerator(seed: 3)
    let readers = [(150, 1.0), (64, 0.25), (5, 0.75)].map { count, weight in
      let rows = generator.matrix(count, channels)
      for row in 0..<count {
        // Far from 0, and channels that have much in common.
        for channel in 1..<channels {
          unsafe rows.row(row)[channel] += 3 + 2 * rows.row(row)[channel / 4 * 4]
        }
      }
      return Reader(
        rows: rows, gains: (0..<channels).map { 0.5 + Float($0 % 7) / 4 }, weight: weight)
    }
    let found = StreamMoments(
      channels: channels, block: block,
      backend: Backend(threads: threads, engine: Engine.bf16.isAvailable ? .bf16 : .f32))
    for reader in readers { reader.add(to: found) }
    let expected = readers.map(\.moments)
    #expect(found.blocks.count == 3)
    for (number, matrix) in found.blocks.enumerated() {
      for i in 0..<block {
        for j in i..<block {
          let sum = expected.reduce(0) { $0 + $1[number * block + i][number * block + j] }
          #expect(unsafe abs(Double(matrix.row(i)[j]) - sum) < 1e-4, "\(number): \(i), \(j)")
        }
      }
    }
    #expect(found.factor().taskRows % block == 0)
  }

  /// (Wᵀ A W) ∘ E[a aᵀ] in blocks of 8 of 32 inputs, A in blocks of 16.
  @Test(arguments: [1, 3]) func `before a down projection errors count by what it makes of them`(
    threads: Int
  ) throws {
    let (channels, inputs, size) = (48, 32, 8)
    var generator = SeededGenerator(seed: 5)
    let backend = Backend(threads: threads)
    let stream = StreamMoments(channels: channels, block: 16, backend: backend)
    Reader(
      rows: generator.matrix(70, channels), gains: [Float](repeating: 1, count: channels), weight: 1
    ).add(to: stream)
    stream.complete()
    let weight = generator.matrix(channels, inputs)
    let multiplied = generator.matrix(20, inputs)
    let statistics = ActivationStatistics(
      channels: inputs, withGram: true, block: size, backend: backend)
    statistics.add(multiplied, backend: backend)
    let found = statistics.gradientMoments(
      behind: stream.moments(before: weight, block: size, backend: backend), backend: backend)
    #expect(found.count == inputs / size)
    func a(_ i: Int, _ j: Int) -> Double {
      i / 16 == j / 16 ? unsafe Double(stream.blocks[i / 16].row(i % 16)[j % 16]) : 0
    }
    for (number, matrix) in found.enumerated() {
      for row in 0..<size {
        for column in 0..<size {
          let (i, j) = (number * size + row, number * size + column)
          var behind = 0.0
          for k in 0..<channels {
            for l in 0..<channels {
              unsafe behind += Double(weight.row(k)[i]) * a(k, l) * Double(weight.row(l)[j])
            }
          }
          let mean =
            (0..<20).reduce(0.0) {
              unsafe $0 + Double(multiplied.row($1)[i]) * Double(multiplied.row($1)[j])
            } / 20
          #expect(unsafe abs(Double(matrix.row(row)[column]) - behind * mean) < 1e-4)
        }
      }
    }
  }

  @Test func `a reader whose outputs are all alike adds nothing`() {
    let rows = Matrix(rows: 9, columns: 8)
    rows.fill(0.5)
    let found = StreamMoments(channels: 8, block: 8, backend: Backend(threads: 1))
    Reader(rows: rows, gains: [Float](repeating: 1, count: 8), weight: 1).add(to: found)
    for row in 0..<8 {
      #expect((row..<8).allSatisfy { unsafe found.blocks[0].row(row)[$0] == 0 })
    }
  }

  @Test(arguments: [(64, 64), (2880, 480), (5120, 512), (5376, 448), (7168, 512), (1000, nil)])
  func `blocks of channels are parts of one size and whole words`(channels: Int, size: Int?) {
    #expect(StreamMoments.blockSize(channels) == size)
  }

  @Test(arguments: [(256, 256), (1536, 256), (768, 256), (1408, 128), (200, 200), (1000, nil)])
  func `blocks of a unit are smaller`(width: Int, size: Int?) {
    #expect(StreamMoments.unitBlockSize(width) == size)
  }
}
