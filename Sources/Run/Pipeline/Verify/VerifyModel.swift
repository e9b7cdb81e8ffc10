// Read an output back: is every tensor there, consistent with config.json, as it was written, and what the source says
// it must be? As many findings as can be told, however broken the folder is.

internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
package import Planning
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

package struct VerifyModel {
  let config: CheckpointConfig
  let survey: ModelSurvey
  let source: Checkpoint?
  let backend: Backend
  let meter: VerifyMeter
  package let plan: VerifyPlan

  /// - Parameters:
  ///   - memory: bytes of resident memory, everything included.
  ///   - residentPeak: what this process took at most so far, where it does nothing else.
  /// - Throws: where there is nothing to check: no config.json that describes a quantized model, no file of tensors, or
  ///   a source that is not whole; `BudgetTooSmall` with the budget that would do.
  package init(
    output: String, source: String?, accepting accepted: Set<String> = [], threads: Int,
    memory: Int = .max, residentPeak: () -> Int = { 0 },
    report: @escaping (VerifyProgress) -> Void = { _ in }
  ) throws {
    try UnfinishedOutput.refuse(output)
    config = try CheckpointConfig(folder: output, accepting: accepted)
    if !config.isQuantized { throw NotQuantized(folder: output) }
    survey = try ModelSurvey(folder: output)
    let predicts = config.spec.predicts
    self.source = try source.map { folder in
      var source = try Checkpoint(folder: folder, accepting: accepted)
      source.spec = predicts ? source.spec.predicting : source.spec.withoutPredictions
      return source
    }
    try AcceptedKeyMissing.check(
      accepted, in: [config.config] + (self.source.map { [$0.config] } ?? []), file: config.file)
    backend = Backend(threads: threads, memory: MemoryBudget(limit: 0))
    plan = try VerifyPlanner(
      output: survey.model, source: self.source.map { CheckpointShapes($0) },
      linears: config.spec.quantizable, threads: threads,
      loadingBytes: residentPeak()
    ).plan(budget: memory)
    let bytes = survey.model.totalBytes
    meter = VerifyMeter(
      bytes: bytes * (FileSystem.exists(OutputFolder(path: output).checksums) ? 2 : 1)
        + (self.source.map { bytes + $0.model.totalBytes } ?? 0), report)
  }

  package func run() throws -> VerifyReport {
    var report = VerifyReport(
      tensors: survey.model.tensors.count,
      findings: survey.problems.map { Finding(subject: $0.subject, problem: $0.problem) })
    let quantization: QuantizationConfig
    let schemes: LinearSchemes
    do {
      guard let read = try config.quantization() else { throw NotQuantized(folder: config.folder) }
      quantization = read
      schemes = try read.schemes(of: config.spec, file: config.file) { [survey] in
        survey.model[$0]?.dtype.isWeight == true
      }
    } catch let error as QuantizationConfigError {
      report.findings.append(
        Finding(
          subject: "config.json",
          problem:
            "`quantization_config.\(error.key)` is \(error.found), expected \(error.expected)"
        ))
      report.findings += checkTotals() + checkSums(expected: [], &report)
      return report
    }
    let expected = config.spec.expectationsOfOutput(schemes)
    let linears = soundLinears(expected, schemes)
    report.quantizedLinears = linears.count
    report.findings += checkConfig(quantization, schemes) + checkTensors(expected) + checkTotals()
    report.findings += checkSums(expected: expected, &report)
    report.findings += checkContents(linears, schemes, expected)
    let sideFiles = checkSideFiles()
    let split = tensorParallelism(linears, schemes)
    report.findings += sideFiles.findings
    report.notes =
      sideFiles.notes + config.spec.notes.map { Finding(subject: "config.json", problem: "\($0)") }
      + split.notes
    report.fittingDegrees = split.fitting
    if let source {
      compare(
        with: source, linears, schemes,
        try CheckpointWeights(survey.model, schemes: schemes), &report)
    }
    if let unplanned = backend.memory.unplanned { throw unplanned }
    return report
  }

  /// What the buffers of the last step took at their most.
  package var peakBuffers: Int { backend.memory.peak }

  /// Buffers of the step that begins may take what its plan says.
  func begin(_ step: VerifyStep) {
    let planned = plan.step(step)
    backend.memory.setLimit(planned.bufferBytes, kept: planned.keptBytes)
    ResidentMemory.returnFreedMemory()
    meter.part = step
  }

  /// The quantized Linears that can be read: every tensor is there and of the right shape.
  private func soundLinears(
    _ expected: [TensorExpectation], _ schemes: LinearSchemes
  ) -> [LinearSpec] {
    let unsound = Set(
      expected.filter { want in !(survey.model[want.name].map(want.fits) ?? false) }
        .compactMap(\.module))
    return config.spec.quantizable.filter {
      schemes[$0] != nil && !unsound.contains($0.name)
    }
  }

  /// Every tensor that must be there is, and nothing else.
  private func checkTensors(_ expected: [TensorExpectation]) -> [Finding] {
    var findings: [Finding] = []
    for want in expected {
      guard let tensor = survey.model[want.name] else {
        if !survey.lost.contains(want.name) {
          findings.append(Finding(subject: want.name, problem: "is missing"))
        }
        continue
      }
      if !want.fits(tensor) {
        findings.append(
          Finding(
            subject: want.name,
            problem: "is \(tensor.dtype.rawValue) \(tensor.shape), expected \(want.text)"))
      }
    }
    let names = Set(expected.map(\.name))
    for tensor in survey.model.tensors
    where !names.contains(tensor.name) && !config.spec.passesThrough(tensor.name) {
      findings.append(
        Finding(subject: tensor.name, problem: "does not belong to a model of this config.json"))
    }
    return findings
  }

  /// The index's sums, where there are any.
  private func checkTotals() -> [Finding] {
    guard let metadata = survey.metadata, survey.lost.isEmpty else { return [] }
    let total = metadata["total_size"]?.int
    if total == survey.model.totalBytes { return [] }
    return [
      Finding(
        subject: ModelSurvey.indexFile,
        problem: "`total_size` is \(total.map(String.init) ?? "missing"), the tensors hold "
          + "\(survey.model.totalBytes) bytes")
    ]
  }

  // MARK: Checksums

  /// Every tensor that the run wrote against what it wrote.
  private func checkSums(
    expected: [TensorExpectation], _ report: inout VerifyReport
  ) -> [Finding] {
    let folder = OutputFolder(path: config.folder)
    guard FileSystem.exists(folder.checksums) else { return [] }
    let name = ".sluice/checksums.txt"
    guard let lines = try? FileSystem.readFile(folder.checksums) else {
      return [Finding(subject: name, problem: "cannot be read")]
    }
    let sums = Checksums(lines: lines)
    begin(.checksums)
    let share = survey.model.totalBytes / max(1, sums.entries.count)
    let scales = try? SafetensorsFile(path: "\(folder.work)/\(OutputFolder.smoothingFile)")
    let model = survey.model
    let listed = Set(sums.entries.map { String($0.tensor) })
    report.checkedTensors = model.tensors.count { listed.contains($0.name) }
    var findings = sums.malformed.map {
      Finding(subject: name, problem: "line \($0) is no checksum and name")
    }
    let changes = sums.changes(
      backend: backend, progress: { meter.add(bytes: $0 * share) }
    ) { model[$0] ?? scales?[$0] }
    findings += changes.map {
      Finding(
        subject: $0.tensor, problem: "has the checksum \($0.found), written was \($0.written)")
    }
    let known = Set(expected.map(\.name)).union(survey.lost)
    for tensor in sums.entries.map({ String($0.tensor) })
    where model[tensor] == nil && scales?[tensor] == nil && !known.contains(tensor) {
      findings.append(Finding(subject: tensor, problem: "was written, and is not there"))
    }
    let unlisted = expected.map(\.name).filter { model[$0] != nil && !listed.contains($0) }
    return findings
      + unlisted.map {
        Finding(subject: $0, problem: "has no checksum, as if it was never written")
      }
  }
}
