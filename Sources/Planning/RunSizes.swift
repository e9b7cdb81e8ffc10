// The sizes that memory, disk and arithmetic follow from. What is listed here mirrors, moment by moment, what the steps
// in Pipeline allocate; the run's budget stops a step that takes more, and a test compares the two.

internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import Safetensors
internal import ScratchStore
internal import Tensors
internal import Transformer

struct RunSizes {
  private let work: Workload
  private let hidden: Int
  /// Layers with different shapes, or weights of different widths: one of each.
  private let layers: [LayerSpec]
  /// Tokens of the largest block.
  private let rows: Int
  // Made once, from all tensors and layers: every budget that is tried asks for them.
  /// By layer.
  let layerOperations: [LayerOperations]
  private let weightBytes: [WeightBytes]
  private let copying: [Moment]
  private let checking: [MemoryUse]

  /// What the process holds before any work: code, Swift's runtime, OpenBLAS's tables. Measured, as all constants here;
  /// `tools/bench --memory` shows what became of them.
  static let processBytes = 28 << 20
  /// What is kept of a source tensor and the output tensors it becomes: names, shapes, places. Measured on the 44,691
  /// tensors of GLM-4.7's shapes.
  static let tensorBytes = 4 << 10
  /// What a source tensor takes on top while a run is prepared.
  private static let preparedBytes = 768
  /// From the end of a plan to the first step: code that is touched for the first time, journals and files that are
  /// opened. Measured: 0.6 to 1.1 MiB.
  private static let openingBytes = 3 << 19
  /// What is kept of an output tensor's checksum, and of one in the shard that is read back.
  private static let (checksumBytes, headerBytes) = (192, 448)
  /// A thread's stack and small buffers.
  static let threadBytes = 1 << 20
  /// OpenBLAS's packing buffers for each calling thread, where matrices are large enough to fill them.
  static let packingBytes = 3 << 20
  /// Pages that the kernel maps around those that are asked for.
  static let neighbourBytes = 16 << 20
  /// Arithmetic after which a commit is due: about a minute on a small machine.
  private static let operationsPerCommit = 1e13
  /// What is left of a bf16 state in scratch: a byte plane that does not compress, and one of sign and exponent that
  /// goes to two fifths. Measured on trained and on random weights: 0.69 to 0.71.
  private static let compression = 0.70
  /// What is left of the upper half of a Gram matrix in float32.
  private static let gramCompression = 0.9

  init(_ work: Workload) {
    self.work = work
    let spec = work.source.spec
    hidden = spec.hiddenSize
    rows = work.blocks.max() ?? 0
    layerOperations = work.operations
    weightBytes = spec.layers.map { WeightBytes($0, work.source) }
    copying = Self.copying(work)
    checking = Self.checking(work)
    var seen: Set<String> = []
    layers = spec.layers.filter { layer in
      let widths = layer.linears.map(work.source.byteWidth)
      let groups = layer.linears.map { work.output.schemes.groupSize(of: $0) ?? 0 }
      return seen.insert("\(layer.shape) \(widths) \(groups)").inserted
    }
  }

  // MARK: Choices

  /// The passes that read least within a budget.
  func passes(within budget: Int) -> Passes {
    var best = Passes.smallest
    func fits(_ passes: Passes, _ step: RunStep) -> Bool {
      steps(passes, only: step).allSatisfy { $0.bytes <= budget }
    }
    func largest(_ range: ClosedRange<Int>, _ works: (Int) -> Bool) -> Int {
      var (low, high) = (range.lowerBound, range.upperBound)
      while low < high {
        let middle = (low + high + 1) / 2
        if works(middle) { low = middle } else { high = middle - 1 }
      }
      return low
    }
    let units = layers.map(\.mlp.units.count).max() ?? 1
    for holds in [false, true] {
      var passes = best
      passes.holdsExperts = holds
      passes.unitsPerGroup = 1
      if !fits(passes, .experts) { continue }
      passes.unitsPerGroup = largest(1...units) { count in
        var more = passes
        more.unitsPerGroup = count
        return fits(more, .experts) && commitsOften(units: count)
      }
      if reads(passes) < reads(best) { best = passes }
    }
    var held = best
    held.holdsAttention = true
    if fits(held, .attend) { best = held }
    best.blocksPerPass = largest(1...max(1, work.blocks.count)) { count in
      var more = best
      more.blocksPerPass = count
      return fits(more, .advance) && commitsOften(blocks: count)
    }
    return best
  }

  private func commitsOften(units: Int) -> Bool {
    let operations = layers.map { layer in
      layer.mlp.units.suffix(units).reduce(0) { $0 + $1.hiddenOperations }
    }.max()
    return units == 1 || Double(rows) * (operations ?? 0) <= Self.operationsPerCommit
  }

  private func commitsOften(blocks: Int) -> Bool {
    let operations = layers.map(\.feedForwardOperations).max() ?? 0
    return blocks == 1 || Double(blocks * rows) * operations <= Self.operationsPerCommit
  }

  /// Bytes from source and scratch.
  private func reads(_ passes: Passes) -> Int { sourceReads(passes) + stateReads(passes) }

  // MARK: Disk

  private var stateBytes: Int {
    let raw = work.tokens * hidden * work.stateType.byteWidth
    return Int(saturating: Double(raw) * (work.stateType == .bf16 ? Self.compression : 1))
  }

  /// Two generations of hidden states; with Gram matrices, what one step leaves to the next, and those of a group.
  func scratchBytes(_ passes: Passes) -> Int {
    if work.calibratedLayers == 0 { return 0 }
    if !isGram { return 2 * stateBytes }
    func stored(_ channels: Int) -> Int {
      ActivationStatistics.gramRanges(channels).reduce(0) {
        $0 + Int(saturating: Double($1.count * ($1.count + 256) / 2 * 4) * Self.gramCompression)
      }
    }
    let input = isCompensated ? stored(hidden) : 0
    let group =
      layers.map { layer in
        let units = layer.mlp.units.sorted { $0.down.inputs > $1.down.inputs }
          .prefix(passes.unitsPerGroup)
        return units.count > 1 ? units.reduce(0) { $0 + stored($1.down.inputs) } : 0
      }.max() ?? 0
    return max(2 * stateBytes + input, stateBytes + input + group)
  }

  private func stateReads(_ passes: Passes) -> Int {
    work.source.spec.layers.prefix(work.calibratedLayers).reduce(0) { sum, layer in
      let groups = (layer.mlp.units.count + passes.unitsPerGroup - 1) / passes.unitsPerGroup
      return sum + (2 + groups) * stateBytes
    }
  }

  /// How often each weight is mapped; the proof's few tokens included.
  func sourceReads(_ passes: Passes) -> Int {
    let blocks = work.blocks.count
    let spec = work.source.spec
    // Once for their checksums, once for those to be compared, once to be written.
    var total = 3 * work.source.totalBytes
    for layer in spec.layers.prefix(work.calibratedLayers) {
      let isLast = layer.index + 1 == work.calibratedLayers
      let isSmoothed = !work.output.smoothings[layer.index].isEmpty
      let (attention, units, down) = (
        weightBytes[layer.index].attention, weightBytes[layer.index].units,
        weightBytes[layer.index].down
      )
      // Blocks, two for the search, two for the proof; the total holds the one for writing.
      if !passes.holdsAttention { total += (blocks + (isSmoothed ? 4 : 0)) * attention }
      if isSmoothed {
        // Gate and up share a search.
        total += 2 * (units - down)
        if !passes.holdsExperts { total += blocks * (units - down) + 2 * units + 2 * down }
      }
      if !isLast { total += (blocks + passes.blocksPerPass - 1) / passes.blocksPerPass * units }
    }
    return total
  }

  // MARK: Arithmetic

  private func operations(_ step: RunStep, _ total: (Operations) -> Double) -> Double {
    layerOperations.reduce(0) { sum, layer in
      switch step {
      case .load, .copy, .check: sum
      case .attend: sum + total(layer.attend)
      case .experts: sum + layer.units.reduce(0) { $0 + total($1) }
      case .advance: sum + total(layer.advance)
      }
    }
  }

  // MARK: Memory

  func steps(_ passes: Passes, only step: RunStep? = nil) -> [StepPlan] {
    var always = [
      MemoryUse("the process and its libraries", Self.processBytes),
      MemoryUse("names and headers", work.source.tensors.count * Self.tensorBytes),
      // Ids in blocks, and the sequences they were cut from.
      MemoryUse("calibration tokens", work.tokens * 16),
    ]
    var result: [StepPlan] = []
    func add(_ name: RunStep, _ moments: [Moment]) {
      if step == nil || step == name {
        result.append(
          StepPlan(
            name, always: always, moments: moments,
            operations: operations(name) { $0.total(tokens: work.tokens) },
            exactOperations: operations(name) { $0.exact(tokens: work.tokens) }))
      }
    }
    let base = always.reduce(0) { $0 + $1.bytes }
    add(
      .load,
      [
        Moment(
          buffers: [],
          mapped: [
            MemoryUse("tokenizer and data", Self.loading(work.loadingBytes, beyond: base)),
            MemoryUse(
              "names, being prepared", work.source.tensors.count * Self.preparedBytes),
          ])
      ])
    let linears = layers.flatMap(\.linears)
    let largestWeight = linears.map { $0.inputs * $0.outputs * 4 }.max() ?? 0
    always.append(
      MemoryUse(
        "threads and BLAS",
        work.threads * (Self.threadBytes + min(Self.packingBytes, largestWeight))))
    add(.copy, copying + embedding)
    add(.attend, layers.flatMap { attend($0, passes) })
    add(.experts, layers.flatMap { experts($0, passes) })
    add(.advance, layers.flatMap { advance($0, passes) })
    add(.check, [Moment(buffers: [], mapped: checking)])
    return result
  }

  /// What loading takes beyond what is planned anyway.
  ///
  /// - Parameter measured: the peak of the process when the plan was made; 0 where that is not known.
  static func loading(_ measured: Int, beyond base: Int) -> Int {
    measured > 0 ? max(0, measured + openingBytes - base) : 0
  }

  /// Reading source or output for their checksums.
  private static func checking(_ work: Workload) -> [MemoryUse] {
    let (outputs, model) = (work.output.tensors, work.source)
    let outputBytes = outputs.reduce(0) { $0 + $1.byteCount }
    let share = min(1, Double(work.shardBytes) / Double(max(1, outputBytes)))
    let around = min(Windows.pieceBytes, max(outputBytes, model.totalBytes) / 8)
    let largest = (outputs.map(\.byteCount) + model.tensors.map(\.byteCount)).max() ?? 0
    let checked = min(largest, Windows.checkedBytes)
    return [
      MemoryUse("windows of source or output", work.threads * (checked + around)),
      MemoryUse(
        "checksums and a header",
        outputs.count * checksumBytes + Int(saturating: Double(outputs.count) * share)
          * headerBytes),
    ]
  }

  private var isGram: Bool { work.gathersGrams }
  private var isCompensated: Bool { work.output.method == .compensated }

  /// The Gram matrices of an activation.
  private func grams(_ channels: Int) -> [MemoryUse] {
    isGram
      ? ActivationStatistics.gramRanges(channels).map {
        MemoryUse("Gram matrices", floats: $0.count * $0.count)
      } : []
  }
  private var block: MemoryUse { MemoryUse("hidden states of a block", floats: rows * hidden) }
  private var normed: MemoryUse { MemoryUse("normed input", floats: rows * hidden) }

  /// A product of a block with a Linear's weight in the run's engine.
  private func product(_ linear: LinearSpec, rows: Int) -> [MemoryUse] {
    if work.engine == .f32 || !work.source.isBF16(linear) {
      return [tiles(linear)]
    }
    let tiles = BF16Products.weightTiles(
      rows: linear.outputs, tokens: rows, threads: work.threads)
    let activations = BF16Products.activationBytes(tokens: rows, depth: linear.inputs)
    return [
      MemoryUse("packed activations", MemoryBudget.footprint(activations)),
      MemoryUse("packed weights", tiles.count * MemoryBudget.footprint(tiles.bytes)),
    ]
  }

  /// Adding a block to a Gram matrix.
  private func gram(channels: Int, rows: Int) -> [MemoryUse] {
    if work.engine == .f32 || !isGram { return [] }
    let channels = ActivationStatistics.gramRanges(channels).map(\.count).max() ?? 0
    let tiles = BF16Products.gramTiles(channels: channels, threads: work.threads)
    let activations = BF16Products.gramBytes(tokens: rows, channels: channels)
    return [
      MemoryUse("packed activations", MemoryBudget.footprint(activations)),
      MemoryUse("packed weights", tiles.count * MemoryBudget.footprint(tiles.bytes)),
    ]
  }

  /// A product with a Linear's weight in float32, tile by tile on every thread.
  private func tiles(_ linear: LinearSpec) -> MemoryUse {
    let tile = Gemm.tileRows(linear.outputs, columns: linear.inputs)
    let count = min(work.threads, (linear.outputs + tile - 1) / tile)
    return MemoryUse(
      "weight tiles", count: count, floats: min(tile, linear.outputs) * linear.inputs)
  }

  /// The products of the proof's few tokens, in float32.
  private func proof(_ linears: [LinearSpec]) -> [MemoryUse] {
    let largest = linears.map(tiles).max { $0.bytes < $1.bytes }
    let widest = linears.map { max($0.inputs, $0.outputs) }.max() ?? 0
    // Inputs, activations and outputs, before and after smoothing.
    let tokens = MemoryUse(
      "tokens of the proof", count: 6, floats: min(rows, Proof.tokens) * widest)
    return [tokens] + (largest.map { [$0] } ?? [])
  }

  /// What is mapped of Linears that are worked through one after the other in tiles of `rows` rows.
  private func mapped(_ linears: [LinearSpec], held: Bool, rows: (LinearSpec) -> Int) -> [MemoryUse]
  {
    let weights = work.source
    let bytes = linears.map(weights.byteCount)
    func tileBytes(_ linear: LinearSpec) -> Int {
      rows(linear) * linear.inputs * weights.byteWidth(linear)
    }
    // There is no more around them than the model has.
    let others = work.source.totalBytes - bytes.reduce(0, +)
    let around = MemoryUse("pages around them", max(0, min(Self.neighbourBytes, others / 8)))
    if held { return [MemoryUse("weights that stay mapped", bytes.reduce(0, +)), around] }
    let streamed = zip(linears, bytes).map { linear, whole in
      let tile = tileBytes(linear)
      return tile >= CheckpointWeights.releasedTile ? min(whole, work.threads * tile) : whole
    }
    // Small ones stay until all are done with.
    let small = zip(linears, bytes).filter { tileBytes($0.0) < CheckpointWeights.releasedTile }
      .reduce(0) { $0 + $1.1 }
    return [
      MemoryUse("mapped weights", max(small, streamed.max() ?? 0)), around,
    ]
  }

  private func productRows(_ linear: LinearSpec) -> Int {
    Gemm.tileRows(linear.outputs, columns: linear.inputs)
  }

  /// Reading and writing a block of states.
  private var scratch: (read: [MemoryUse], write: [MemoryUse]) {
    scratch(columns: hidden, width: work.stateType.byteWidth)
  }

  private func scratch(columns: Int, width: Int) -> (read: [MemoryUse], write: [MemoryUse]) {
    scratch(elements: rows * columns, width: width)
  }

  private func scratch(elements: Int, width: Int) -> (read: [MemoryUse], write: [MemoryUse]) {
    let use = ScratchSizes(elements: elements, width: width)
    let threads = min(work.threads, use.strips)
    return (
      [MemoryUse("strips of scratch", threads * MemoryBudget.footprint(use.readStripBytes))],
      [
        MemoryUse("strips of scratch", threads * MemoryBudget.footprint(use.writeStripBytes)),
        MemoryUse("a block to scratch", MemoryBudget.footprint(use.frameBytes)),
      ]
    )
  }

  private var embedding: [Moment] {
    work.calibratedLayers > 0 ? [Moment(buffers: [block] + scratch.write)] : []
  }

  /// Copying what stays as it is, and writing FP8 that stays unquantized as bf16.
  private static func copying(_ work: Workload) -> [Moment] {
    var largest = 0
    var decoded: [TensorSpec] = []
    for tensor in work.source.tensors {
      switch work.output.fates[tensor.name] {
      case .copied: largest = max(largest, tensor.byteCount)
      case .decoded: decoded.append(tensor)
      default: continue
      }
    }
    let window = MemoryUse("a window of the source", min(Windows.bytes, largest))
    return [Moment(buffers: [], mapped: [window])]
      + decoded.map { tensor in
        let (rows, columns) = (tensor.shape[0], tensor.shape[1])
        let tile = min(rows, WeightTile.rows) * columns
        let threads = min(work.threads, (rows + WeightTile.rows - 1) / WeightTile.rows)
        let mapped =
          WeightTile.rows * columns >= CheckpointWeights.releasedTile
          ? threads * tile : tensor.byteCount
        return Moment(
          buffers: [MemoryUse("weight tiles", count: threads, floats: tile)],
          mapped: [
            MemoryUse("mapped weights", mapped),
            MemoryUse("rows being written", threads * tile * DType.bf16.byteWidth),
          ])
      }
  }

  /// Searching scales for Linears that read `channels`, and rounding and writing Linears.
  private func searches(_ linears: [LinearSpec], held: [LinearSpec], isHeld: Bool) -> [Moment] {
    let inputs = linears.map(\.inputs).max() ?? 0
    let row = (rows: SmoothingSearch.tileRows, threads: work.threads)
    let tile = MemoryUse("weight tiles", count: row.threads, floats: row.rows * inputs)
    let errors = MemoryUse(
      "rows under search", count: isGram ? 2 * row.threads : row.threads,
      floats: isGram ? row.rows * inputs : inputs)
    let parts = linears.map { ($0.outputs + row.rows - 1) / row.rows * $0.inputs * 8 }.max() ?? 0
    let heap = MemoryUse(
      "candidate scales and sums", parts + (3 * work.gridPoints + 4) * inputs * 4)
    // Codes, words and scales of the rows that each thread packs.
    let packed = MemoryUse(
      "rows being packed",
      row.threads * (isCompensated ? Rounding.compensatedRows(work.engine) : row.rows) * inputs * 2)
    let mappedWeights = mapped(isHeld ? held : linears, held: isHeld) { _ in row.rows }
    return [
      Moment(buffers: [tile, errors], mapped: mappedWeights + [heap]),
      Moment(buffers: [tile], mapped: mappedWeights + [packed]),
    ]
  }

  /// The factors of the activation that some Linears read, beside its Gram matrices.
  private func factors(_ readers: [LinearSpec]) -> [MemoryUse] {
    if !isCompensated { return [] }
    return ActivationStatistics.gramRanges(readers[0].inputs).flatMap { range in
      GramFactor.byteCounts(
        channels: range.count, groupSizes: work.output.schemes.groupSizes(of: readers), work.engine
      ).map { MemoryUse("factors of Gram matrices", MemoryBudget.footprint($0)) }
    }
  }

  /// What stays of an activation's Gram matrices once they are factored.
  private func factored(_ readers: [LinearSpec]) -> [MemoryUse] {
    factors(readers) + (GramFactor.keepsGram(work.engine) ? grams(readers[0].inputs) : [])
  }

  /// Writing Gram matrices to scratch and reading them, and factoring them, while they are there.
  private func factoring(_ readers: [LinearSpec]) -> [[MemoryUse]] {
    if !isGram { return [] }
    let channels = readers[0].inputs
    let widest = ActivationStatistics.gramRanges(channels).map(\.count).max() ?? 0
    let stored = scratch(
      elements: min(widest, ActivationStatistics.storedRows) * widest, width: DType.f32.byteWidth)
    if !isCompensated { return [stored.read, stored.write] }
    let factor = UpperFactor.workFloats(widest)
    return [
      stored.read, stored.write,
      factors(readers) + [
        MemoryUse("panel of a factor", floats: factor.panel),
        MemoryUse("tiles of a factor", count: work.threads, floats: factor.tile),
      ],
      factors(readers),
    ]
  }

  /// Rounding what reads an activation, beside its factors.
  private func compensation(_ linear: LinearSpec) -> [MemoryUse] {
    if !isCompensated { return [] }
    let channels = linear.inputs
    let rows = CompensationRows(linear, threads: work.threads, work.engine)
    return [MemoryUse("weight tiles", count: rows.threads, floats: rows.rows * channels)]
      + Rounding.compensationBuffers(rows: rows.rows, channels: channels, work.engine).map {
        MemoryUse("rows being rounded", rows.threads * MemoryBudget.footprint($0))
      }
  }

  private func attend(_ layer: LayerSpec, _ passes: Passes) -> [Moment] {
    let attention = layer.attention
    let grams =
      self.grams(hidden) + attention.taps.flatMap { self.grams(layer.readers(at: $0)[0].inputs) }
    let weights = mapped(
      attention.linears, held: passes.holdsAttention, rows: productRows)
    func moment(_ buffers: [MemoryUse]) -> Moment {
      Moment(buffers: grams + buffers, mapped: weights)
    }
    let searched = searches(
      attention.linears + (layer.mlp.units.last?.linears ?? []), held: attention.linears,
      isHeld: passes.holdsAttention)
    var moments = searched.map { Moment(buffers: grams + $0.buffers, mapped: $0.mapped) }
    guard work.calibratedLayers > 0 else { return moments }
    // Activations are factored and their readers rounded one after the other.
    for (index, part) in attention.parts.enumerated() {
      moments += factoring(part.readers).map(moment)
      let later = attention.parts[(index + 1)...].flatMap { self.grams($0.readers[0].inputs) }
      moments += part.readers.map { linear in
        Moment(
          buffers: self.grams(hidden) + later + factored(part.readers) + compensation(linear),
          mapped: weights)
      }
    }
    moments += attention.moments.map { each in
      let held = each.buffers.map { MemoryUse($0.name, floats: rows * $0.width) }
      return moment([block] + held + uses(of: each.work))
    }
    moments += [
      moment([block] + scratch.read),
      moment([block, normed] + gram(channels: hidden, rows: rows)),
      moment(proof(attention.linears)),
      moment([block] + scratch.write),
      moment([block, normed]),
    ]
    if let router = layer.mlp.router {
      moments.append(
        moment([
          block, normed, MemoryUse("router scores", floats: rows * router.linear.outputs),
          tiles(router.linear),
        ]))
      let columns = 2 * router.expertsPerToken
      moments.append(
        moment(
          [block, normed, MemoryUse("routing", floats: rows * columns)]
            + scratch(columns: columns, width: 4).write))
    }
    return moments
  }

  /// What a moment of attention takes beside its buffers.
  private func uses(of work: AttentionMoment.Work) -> [MemoryUse] {
    switch work {
    case .product(let linear): product(linear, rows: rows)
    case .tap(let channels): gram(channels: channels, rows: rows)
    case .scores:
      [
        MemoryUse(
          "attention scores", count: self.work.threads,
          floats: min(CausalAttention.queryRows, self.work.longestSequence)
            * self.work.longestSequence)
      ]
    }
  }

  private func experts(_ layer: LayerSpec, _ passes: Passes) -> [Moment] {
    let units = layer.mlp.units.sorted { $0.gate.outputs > $1.gate.outputs }
    guard let unit = units.first else { return [] }
    let group = units.prefix(passes.unitsPerGroup)
    // The input's factor is made before everything else, and kept over all groups.
    let inputReaders = layer.readers(at: .mlpInput)
    let input = isCompensated ? factored(inputReaders) : []
    let grams = input + group.flatMap { self.grams($0.down.inputs) }
    let held = group.flatMap { [$0.gate, $0.up] } + [unit.down]
    let weights = mapped(
      passes.holdsExperts ? held : unit.linears, held: passes.holdsExperts, rows: productRows)
    let sums = MemoryUse(
      "statistics of the group", group.reduce(0) { $0 + 3 * 16 * $1.gate.outputs })
    func moment(_ buffers: [MemoryUse]) -> Moment {
      Moment(buffers: grams + buffers, mapped: weights + [sums])
    }
    let searched = searches(unit.linears, held: held, isHeld: passes.holdsExperts)
    var moments = searched.map {
      Moment(buffers: grams + $0.buffers, mapped: $0.mapped + [sums])
    }
    guard work.calibratedLayers > 0 else { return moments }
    moments += factoring(inputReaders).map {
      Moment(buffers: self.grams(hidden) + $0, mapped: weights)
    }
    moments += factoring([unit.down]).map(moment)
    // The factor of what the down projection reads is made before gate and up are rounded.
    let others = input + group.dropFirst().flatMap { self.grams($0.down.inputs) }
    moments += [unit.gate, unit.down].map {
      Moment(
        buffers: others + factored([unit.down]) + compensation($0), mapped: weights + [sums])
    }
    moments += [
      moment([block] + scratch.read), moment([block, normed]), moment(proof(unit.linears)),
    ]
    moments += statistics(of: unit, rows: rows).map { moment([normed] + $0) }
    if (work.expertTokens ?? work.tokens) < work.tokens, let expert = layer.mlp.routed.first {
      let gathered = min(rows, MLPSpec.gatheredRows)
      let input = MemoryUse("tokens of an expert", floats: gathered * hidden)
      moments += statistics(of: expert, rows: gathered).map { moment([normed, input] + $0) }
    }
    return moments
  }

  /// What the down projection of a unit reads, and adding it to statistics.
  private func statistics(of unit: GatedMLPSpec, rows: Int) -> [[MemoryUse]] {
    func activations(_ count: Int) -> MemoryUse {
      MemoryUse("activations of an expert", count: count, floats: rows * unit.gate.outputs)
    }
    return [
      [activations(2)] + product(unit.gate, rows: rows),
      [activations(1)] + gram(channels: unit.gate.outputs, rows: rows),
    ]
  }

  private func advance(_ layer: LayerSpec, _ passes: Passes) -> [Moment] {
    guard work.calibratedLayers > 0 else { return [] }
    // The proof's few tokens are all there is where no layer follows.
    let linears = layer.mlp.units.flatMap(\.linears)
    let proof = layer.mlp.units.last.map {
      Moment(
        buffers: [block] + self.proof(linears + layer.mlp.deciding)
          + scratch.read,
        mapped: mapped($0.linears, held: false, rows: productRows))
    }
    let proofs = [proof].compactMap(\.self)
    if work.calibratedLayers == 1 { return proofs }
    let count = passes.blocksPerPass
    // Any blocks that follow each other: a resumed run may begin a pass anywhere.
    let footprints = work.blocks.map { MemoryBudget.footprint($0 * hidden * 4) }
    var window = footprints.prefix(count).reduce(0, +)
    var largestWindow = window
    for next in footprints.indices.dropFirst(count) {
      window += footprints[next] - footprints[next - count]
      largestWindow = max(largestWindow, window)
    }
    let chosen = layer.mlp.router?.expertsPerToken ?? 0
    let states = MemoryUse("tokens in flight", largestWindow)
    let flight = [MemoryUse("tokens in flight", 2 * largestWindow)]
    // Each token's experts and weights, and the same by expert.
    let routing = MemoryUse("routing", count * rows * chosen * 48)
    func apply(_ unit: GatedMLPSpec, rows: Int, gathered: Int) -> [Moment] {
      let input = MemoryUse("tokens of an expert", floats: gathered * hidden)
      let weights = mapped(unit.linears, held: false, rows: productRows) + [routing]
      let inner = rows * unit.gate.outputs
      return [
        Moment(
          buffers: flight + [
            input, MemoryUse("activations of an expert", count: 2, floats: inner),
          ] + product(unit.gate, rows: rows), mapped: weights),
        Moment(
          buffers: flight + [
            input, MemoryUse("activations of an expert", floats: inner),
            MemoryUse("outputs of an expert", floats: rows * hidden),
          ] + product(unit.down, rows: rows), mapped: weights),
      ]
        + (unit.outputGate.map { gate in
          [
            Moment(
              buffers: flight + [
                MemoryUse("outputs of an expert", floats: rows * hidden),
                MemoryUse("gates of outputs", floats: rows), tiles(gate),
              ], mapped: weights)
          ]
        } ?? [])
    }
    var moments =
      proofs + [
        Moment(buffers: [states] + scratch.read), Moment(buffers: [states] + scratch.write),
      ]
    if let unit = layer.mlp.alwaysOn.max(by: { $0.gate.outputs < $1.gate.outputs }) {
      moments += apply(unit, rows: rows, gathered: 0)
    }
    if let unit = layer.mlp.routed.first {
      let gathered = min(rows, MLPSpec.gatheredRows)
      moments += apply(unit, rows: gathered, gathered: gathered)
    }
    return moments
  }
}

/// Bytes of a layer's weights.
private struct WeightBytes {
  let attention: Int
  let units: Int
  /// Down projections, which `units` holds, too.
  let down: Int

  init(_ layer: LayerSpec, _ source: CheckpointShapes) {
    func bytes(_ linears: [LinearSpec]) -> Int {
      linears.reduce(0) { $0 + source.byteCount($1) }
    }
    attention = bytes(layer.attention.linears)
    down = bytes(layer.mlp.units.map(\.down))
    units = down + bytes(layer.mlp.units.flatMap { [$0.gate, $0.up] })
  }
}

/// The rows of a Linear that each of some threads rounds at a time.
private struct CompensationRows {
  let rows: Int
  let threads: Int

  init(_ linear: LinearSpec, threads: Int, _ engine: Engine) {
    rows = min(linear.outputs, Rounding.compensatedRows(engine))
    self.threads = min(threads, (linear.outputs + rows - 1) / rows)
  }
}

/// The proof inside every run that smoothing keeps the function.
package enum Proof {
  /// At the beginning of the first sequence.
  package static let tokens = 8
}

/// A weight that is written unpacked.
package enum WeightTile {
  /// Decoded and encoded by each thread at a time.
  package static let rows = 64
}

/// How much of a mapped file is touched at a time.
package enum Windows {
  package static let bytes = 16 << 20
  /// What the kernel maps beside it at a touch: a huge page.
  static let pieceBytes = 2 << 20
  /// By each thread, while files are read for their checksums.
  package static let checkedBytes = 4 << 20
}
