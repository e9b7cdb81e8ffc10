// The plan of a check: what it maps and holds at a time, from the shapes of the output and of its source.

internal import CompressedTensors
internal import LinearAlgebra
internal import Planning
internal import Safetensors
internal import Tensors
internal import Transformer

struct VerifyPlanner {
  let output: ShardedModel
  let source: CheckpointShapes?
  /// Of all layers, quantized or not.
  let linears: [LinearSpec]
  let threads: Int
  /// The peak of resident memory when output and source had been opened; 0 where that is not known.
  let loadingBytes: Int

  private static let name = "windows of output and source"

  /// - Throws: `BudgetTooSmall` with the budget that would do.
  func plan(budget: Int) throws(BudgetTooSmall) -> VerifyPlan {
    let tensors = output.tensors.count + (source?.tensors.count ?? 0)
    let always = [ResidentModel.process, ResidentModel.names(tensors)]
    let base = always.reduce(0) { $0 + $1.bytes }
    let largest = linears.map { $0.inputs * $0.outputs * 4 }.max() ?? 0
    let threadUse = ResidentModel.threads(threads, largestWeight: largest)
    func step(_ step: VerifyStep, _ more: [MemoryUse], _ use: StepUse = StepUse()) -> StepPlan<
      VerifyStep
    > {
      StepPlan(step, always: always + more, use: use, budget: budget)
    }
    let sums = ResidentModel.checking(
      threads: threads, outputs: output.tensors.count, share: 1,
      largest: output.tensors.map(\.byteCount).max() ?? 0, all: output.totalBytes)
    var steps = [
      step(.load, [ResidentModel.loading(loadingBytes, beyond: base)]),
      step(.checksums, [threadUse] + sums), step(.numbers, [threadUse], numbers),
    ]
    if let source {
      steps.append(
        step(
          .source, [threadUse, ResidentModel.pagesAround(others: source.totalBytes)],
          comparison(with: source)))
    }
    return try VerifyPlan(steps, budget: budget)
  }

  /// A window of one tensor, and its numbers in float32.
  private var numbers: StepUse {
    let ledger = Ledger()
    for tensor in output.tensors {
      let window = min(tensor.byteCount, Windows.checkedBytes)
      ledger.take(Self.name, window, from: .mapped)
      ledger.take("numbers", window / max(1, tensor.dtype.byteWidth) * 4, from: .heap)
      ledger.giveBack("numbers", window / max(1, tensor.dtype.byteWidth) * 4, to: .heap)
      ledger.giveBack(Self.name, window, to: .mapped)
    }
    var use = StepUse()
    use.add(ledger, times: 1)
    return use
  }

  private func comparison(with source: CheckpointShapes) -> StepUse {
    let ledger = Ledger()
    let backend = Backend(threads: threads, memory: MemoryBudget(isReal: false), ledger: ledger)
    for linear in linears {
      let stored = CompressionFormats.storedBytes(of: linear) { output[$0]?.byteCount }
      let mapped = stored + (source[linear.weight] == nil ? 0 : source.mappedBytes([linear]))
      ledger.take(Self.name, mapped, from: .mapped)
      let tiles = (linear.outputs + VerifyModel.tileRows - 1) / VerifyModel.tileRows
      backend.forEach(tiles, each: VerifyModel.tileBuffers(columns: linear.inputs)) { _ in }
      ledger.giveBack(Self.name, mapped, to: .mapped)
    }
    for tensor in output.tensors {
      ledger.take(Self.name, 2 * min(tensor.byteCount, Windows.checkedBytes), from: .mapped)
      ledger.giveBack(Self.name, 2 * min(tensor.byteCount, Windows.checkedBytes), to: .mapped)
    }
    var use = StepUse()
    use.add(ledger, times: 1)
    return use
  }
}
