// What comes of a task of a window, gathered until it is done: nothing of it counts before.

internal import Calibration
internal import CompressedTensors
internal import JSON
internal import Planning
internal import Quantization
internal import Reporting
internal import Safetensors
internal import SystemIO
internal import Transformer

/// Memory and progress of a process.
protocol StepMeter: AnyObject {
  func begin(_ step: RunStep)
  func noteMemory()
  func noteBlock(_ block: Int, _ step: RunStep, layer: Int)
}

final class TaskResults: StepResults {
  private(set) var record = TaskRecord()
  private let folder: OutputFolder
  private let writers: [ShardWriter]
  private let meter: any StepMeter
  private let interruption: Interruption
  private let report: (RunEvent) -> Void

  init(
    _ folder: OutputFolder, _ writers: [ShardWriter], meter: any StepMeter,
    interruption: Interruption, report: @escaping (RunEvent) -> Void
  ) {
    self.folder = folder
    self.writers = writers
    self.meter = meter
    self.interruption = interruption
    self.report = report
  }

  /// A task begins at its beginning.
  var resumption: Resumption { Resumption() }

  func note(_ choice: Choice) { record.choices.append(choice.json.serialized()) }
  func note(measured line: String) { record.choices.append(line) }
  func warn(_ warning: RunWarning) { report(.warning(warning)) }
  func noteMemory() { meter.noteMemory() }

  func noteBlock(_ block: Int, _ step: RunStep, layer: Int) {
    meter.noteBlock(block, step, layer: layer)
  }

  func noteUnit(layer: Int) { meter.noteMemory() }

  func recordChecksums(of linears: [LinearSpec]?) {
    for (tensor, checksum) in writers.flatMap({ $0.takeChecksums(of: linears) }) {
      record.checksums.append(Checksums.line(tensor, checksum))
    }
  }

  /// Nothing is committed before the task is done; who wants to stop need not wait for that.
  func commitIfDue(
    _ position: RunPosition, _ writers: [StatesWriter], statistics: [ActivationStatistics],
    keepsStatistics: Bool, isDue: Bool
  ) throws {
    if interruption.isRequested { throw Interrupted(output: folder.path) }
  }

  func recordedSmoothings(
    of layer: LayerSpec, in output: OutputPlan
  ) throws -> [AppliedSmoothing] { try folder.recordedSmoothings(of: layer, in: output) }

  /// Makes the task's tensors durable, and then its record.
  func finish(_ task: WindowTask, seconds: Double) throws {
    recordChecksums(of: nil)
    for writer in writers { try writer.synchronize() }
    record.seconds = seconds
    try record.write(task, in: folder.tasks)
  }
}

extension OutputFolder {
  /// The scales that were written for the smoothings of a layer.
  func recordedSmoothings(
    of layer: LayerSpec, in output: OutputPlan
  ) throws -> [AppliedSmoothing] {
    let smoothings = output.smoothings[layer.index]
    if smoothings.isEmpty { return [] }
    let file = try SafetensorsFile(path: work + "/" + Self.smoothingFile)
    return file.recordedSmoothings(smoothings) { output.scaleTensor($0) }
  }
}
