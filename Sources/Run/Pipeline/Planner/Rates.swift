// How long operations take on this machine: each kind done once or a few times, at the sizes that a plan has, on numbers
// made for it. Never on a model's own: rounding zeros is quick, and a file may be sparse.

internal import Calibration
internal import Glibc
internal import LinearAlgebra
internal import Quantization
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

/// Seconds by operation, measured when somebody asks and kept.
package final class Rates {
  private let options: QuantizeOptions
  private let backend: Backend
  /// Of the run's threads those that this machine has cores for: the others are planned for another machine, whose cores
  /// are taken to be as fast.
  private let share: Double
  /// On the disk that the run will write to.
  private let folder: String
  /// Room for buffers that are kept for the next of their size.
  private static let keptBytes = 8 << 20
  /// Seconds for one unit of a class: a floating-point operation, or a number where there are none.
  private var known: [SizeClass: Double] = [:]
  private var random: UInt32 = 1

  /// Operations that take as long for each unit.
  private struct SizeClass: Hashable {
    let kind: Operation.Kind
    let sizes: [Int]
  }

  /// - Parameter folder: where a small file may be written for a moment.
  init(_ options: QuantizeOptions, engine: Engine, folder: String) {
    self.options = options
    self.folder = folder
    let cores = min(options.threads, max(1, MachineShare().processors))
    share = Double(cores) / Double(options.threads)
    // What is measured with goes when it was used: a plan may have no more memory than its run.
    backend = Backend(
      threads: cores, memory: MemoryBudget(limit: Self.keptBytes), engine: engine)
  }

  /// What an operation takes that is done so many times.
  func seconds(_ operation: Operation, times: Double) throws -> Double {
    let units = Self.units(operation)
    if units == 0 { return 0 }
    let sizes = sizeClass(operation)
    if known[sizes] == nil { known[sizes] = try measure(sizes) }
    return (known[sizes] ?? 0) * share * units * times * unevenness(operation)
  }

  /// The time of a loop over tiles of rows over that of one whose threads all end at once: a weight of a few large tiles
  /// leaves threads with nothing to do.
  private func unevenness(_ operation: Operation) -> Double {
    guard operation.kind == .compensate, operation.sizes[0] > 0 else { return 1 }
    let threads = options.threads
    var rows = [Int](repeating: 0, count: threads)
    for tile in ranges(of: operation.sizes[0], by: operation.sizes[3]) {
      let free = rows.indices.min { rows[$0] < rows[$1] } ?? 0
      rows[free] += tile.count
    }
    return Double((rows.max() ?? 0) * threads) / Double(operation.sizes[0])
  }

  private static func units(_ operation: Operation) -> Double {
    switch operation.kind {
    case .product, .exactProduct, .scores, .gram, .factor, .compensate: operation.arithmetic
    case .search: Double(operation.sizes[0] * operation.sizes[1] * operation.sizes[2])
    case .round: Double(operation.sizes[0] * operation.sizes[1])
    case .elements, .strips: Double(operation.sizes[0])
    }
  }

  /// Sizes beyond these change nothing that matters, and would take long to measure.
  private enum Most {
    static let rows = 1024
    static let columns = 512
    static let channels = 2048
  }

  /// The next power of two times the lower of two bounds, or the upper one.
  private func rounded(_ count: Int, _ bounds: ClosedRange<Int>) -> Int {
    var result = bounds.lowerBound
    while result < min(count, bounds.upperBound) { result *= 2 }
    return min(result, bounds.upperBound)
  }

  private func sizeClass(_ operation: Operation) -> SizeClass {
    let sizes = operation.sizes
    let reduced: [Int] =
      switch operation.kind {
      case .product, .exactProduct:
        [
          rounded(sizes[0], 8...Most.rows), min(sizes[1], 8 * Most.channels),
          min(sizes[2], Most.columns),
        ]
      case .scores: [rounded(sizes[0], 64...4096), sizes[1]]
      case .gram: [rounded(sizes[0], 64...Most.rows), min(sizes[1], Most.channels)]
      case .factor: [min(sizes[0], Most.channels)]
      case .search: [min(sizes[1], Most.channels), sizes[2], sizes[3] > 0 ? 1 : 0]
      case .round: [min(sizes[1], Most.channels)]
      case .compensate:
        [
          rounded(sizes[2], 8...Rounding.compensatedRows(backend.engine)),
          min(sizes[1], Most.channels),
        ]
      case .elements: []
      case .strips: [sizes[1]]
      }
    return SizeClass(kind: operation.kind, sizes: reduced)
  }

  // MARK: Measuring

  private func measure(_ measured: SizeClass) throws -> Double {
    let sizes = measured.sizes
    switch measured.kind {
    case .product, .exactProduct:
      let (rows, inner, columns) = (sizes[0], sizes[1], sizes[2])
      let x = numbers(rows, inner)
      let plain = numbers(columns, inner)
      let engine = measured.kind == .product ? backend : backend.exact
      let weight: any WeightRows = BF16Rows(rounding: plain)
      return time { _ = Gemm.multiply(x, by: weight, backend: engine) }
        / (2 * Double(rows) * Double(inner) * Double(columns))
    case .scores:
      let heads = 2 * backend.threads
      let arithmetic = CausalAttention.arithmetic(tokens: sizes[0], width: sizes[1])
      let half = numbers(sizes[0], heads * max(1, sizes[1] / 2))
      return time {
        CausalAttention.attend(half, heads: heads, backend: backend)
      } / (arithmetic * Double(heads))
    case .gram:
      let x = numbers(sizes[0], sizes[1])
      let gram = zeros(sizes[1])
      return time { Gemm.addGram(of: x, to: gram, backend: backend) }
        / (Double(sizes[0]) * Double(sizes[1]) * Double(sizes[1]))
    case .factor:
      let n = sizes[0]
      return time({ correlated(n) }, { _ = UpperFactor.factor($0, backend: backend) })
        / (Double(n) * Double(n) * Double(n) / 3)
    case .search: return try search(channels: sizes[0], withGram: sizes[2] == 1, points: sizes[1])
    case .round:
      let (rows, columns) = (256, fitting(sizes[0]))
      let rounding: Rounding =
        options.rounding.needsStatistics
        ? .clip([Float](repeating: 1, count: columns)) : .nearest
      return try round(numbers(rows, columns), by: rounding, tileRows: rounding.tileRows)
        / Double(rows * columns)
    case .compensate:
      // A tile for each thread.
      let (rows, columns) = (sizes[0] * backend.threads, fitting(sizes[1]))
      let factor = try GramFactor(
        correlated(columns), channels: 0..<columns, refining: [quantizer(columns).refinedColumns],
        damping: options.damping, backend: backend)
      let rounding = Rounding.compensated(GramFactors([factor]))
      return try round(numbers(rows, columns), by: rounding, tileRows: sizes[0])
        / rounding.operation(rows: rows, channels: columns).arithmetic
    case .elements:
      let (x, y) = (numbers(512, 512), numbers(512, 512))
      return time { x.add(y, backend: backend) } / Double(x.count)
    case .strips: return try strips(width: sizes[0])
    }
  }

  /// The first scheme stands for all: how many bits it has changes little.
  private func quantizer(_ columns: Int) -> WeightQuantizer {
    WeightQuantizer(arguments, columns: columns, dtype: .bf16)
  }

  private var arguments: QuantizationArguments {
    guard let weights = options.schemes.compactMap(\.weights).first else {
      preconditionFailure("a run without a scheme")
    }
    return weights
  }

  private var groupSize: Int { arguments.columnsPerScale(Most.channels) }

  /// Channels that groups divide.
  private func fitting(_ channels: Int) -> Int {
    max(groupSize, channels / groupSize * groupSize)
  }

  private func search(channels: Int, withGram: Bool, points: Int) throws -> Double {
    let columns = fitting(channels)
    let weight = numbers(256, columns)
    let statistics = ActivationStatistics(
      channels: columns, withGram: withGram, backend: backend)
    statistics.add(numbers(256, columns), backend: backend)
    let seconds = try time {
      var search = SmoothingSearch(
        statistics: statistics, loss: withGram ? .gram : .diagonal, grid: options.grid,
        backend: backend)
      try search.addMagnitude(of: weight, in: quantizer(columns), backend: backend)
      search.fixCandidates(backend: backend)
      search.addErrors(of: weight, in: quantizer(columns), backend: backend)
    }
    return seconds / Double(weight.count * points)
  }

  /// Rounding and packing a weight, without writing it.
  private func round(
    _ weight: Matrix, by rounding: Rounding, tileRows: Int
  ) throws -> Double {
    let (quantizer, backend) = (quantizer(weight.columns), backend)
    return try time {
      let whole = try quantizer.whole(weight, backend: backend)
      let tiles = ranges(of: weight.rows, by: tileRows)
      let results = backend.map(tiles.count) { index in
        Result {
          _ = try quantizer.round(
            weight, rows: tiles[index], by: rounding, knowing: whole, from: backend.memory)
        }
      }
      for result in results { try result.get() }
    }
  }

  /// For each number written or read.
  private func strips(width: Int) throws -> Double {
    let path = "\(folder)/\(OutputFolder.measurementPrefix)\(getpid())"
    defer { try? FileSystem.remove(path) }
    let x = numbers(512, 1024)
    let type: DType = width == 2 ? .bf16 : .f32
    let both = try time {
      try ScratchWriter(path: path, dtype: type).append(x, backend: backend)
      _ = try ScratchReader(path: path).read(
        0, rows: x.rows, columns: x.columns, dtype: type, backend: backend, into: "a block")
    }
    return both / Double(2 * x.count)
  }

  /// For each byte that is written and made durable.
  private(set) lazy var writtenByte = try? {
    let path = "\(folder)/\(OutputFolder.measurementPrefix)\(getpid())"
    defer { try? FileSystem.remove(path) }
    var bytes = [UInt8](repeating: 0, count: 4 << 20)
    for index in bytes.indices {
      bytes[index] = UInt8(truncatingIfNeeded: index &* 2_654_435_761 >> 7)
    }
    return try time {
      let file = try AppendedFile(creating: path)
      try file.append(bytes)
      try file.synchronize()
    } / Double(bytes.count)
  }()

  /// A small file, replaced durably, and what else a commit makes durable: shards, scales, choices, two scratch files and
  /// their folder beside the state itself.
  private(set) lazy var commit = try? {
    let path = "\(folder)/\(OutputFolder.measurementPrefix)\(getpid())"
    defer {
      try? FileSystem.remove(path)
      try? FileSystem.remove(temporaryPath(of: path))
    }
    return 4 * (try time { try replaceFile(path, with: [0]) })
  }()

  // MARK: Numbers

  /// The least of what comes after a first time, as often as a twentieth of a second allows and at least once; the first
  /// where it is long.
  ///
  /// - Parameter prepare: makes what `body` uses up, and does not count.
  private func time<Input>(
    _ prepare: () throws -> Input, _ body: (Input) throws -> Void
  ) rethrows -> Double {
    func once() throws -> Double {
      let input = try prepare()
      let clock = Clock()
      try body(input)
      return clock.seconds
    }
    let first = try once()
    if first > Self.longSeconds { return first }
    var (least, sum) = (Double.infinity, 0.0)
    repeat {
      let seconds = try once()
      least = min(least, seconds)
      sum += seconds
    } while sum < Self.shortSeconds
    return least
  }

  private func time(_ body: () throws -> Void) rethrows -> Double {
    try time({}, { _ in try body() })
  }

  private static let (shortSeconds, longSeconds) = (0.05, 0.5)

  /// Like weights and activations: as many signs of both kinds, and no two rows alike.
  private func numbers(_ rows: Int, _ columns: Int) -> Matrix {
    let result = backend.matrix("numbers to measure with", rows: rows, columns: columns)
    var state = random
    for index in 0..<result.count {
      state = state &* 1_664_525 &+ 1_013_904_223
      unsafe result.base[index] = Float(Int32(bitPattern: state)) * 0x1p-36
    }
    random = state
    return result
  }

  private func zeros(_ n: Int) -> Matrix {
    let result = backend.matrix("numbers to measure with", rows: n, columns: n)
    result.fill(0)
    return result
  }

  /// A Gram matrix `[n, n]`, well conditioned.
  private func correlated(_ n: Int) -> Matrix {
    let x = numbers(64, n)
    let result = zeros(n)
    Gemm.addGram(of: x, to: result, backend: backend)
    Gemm.symmetrize(result)
    for index in 0..<n { unsafe result.row(index)[index] += 1 }
    return result
  }
}
