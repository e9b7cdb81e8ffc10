// The numbers in an output, looked at by themselves: scales, recorded shapes, and that nothing is NaN.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

extension VerifyModel {
  /// Tokenizer, templates and whatever else the run copied: one that is gone is a finding. One that was changed is a note,
  /// since its owner may have meant to.
  func checkSideFiles() -> (findings: [Finding], notes: [Finding]) {
    let folder = OutputFolder(path: config.folder)
    let own = [OutputFolder.config, OutputFolder.index, OutputFolder.recipe]
    var (findings, notes): ([Finding], [Finding]) = ([], [])
    for (name, checksum) in folder.sideFiles((try? FileSystem.readFile(folder.files)) ?? [])
    where !own.contains(name) {
      let path = "\(folder.path)/\(name)"
      if !FileSystem.exists(path) {
        findings.append(
          Finding(
            subject: name, problem: "is missing; the command that made the output copies it again"))
      } else if (try? FileSystem.checksum(path).text) != checksum {
        notes.append(Finding(subject: name, problem: "is not as the run copied it"))
      }
    }
    return (findings, notes)
  }

  /// - Parameters:
  ///   - linears: quantized ones that can be read.
  ///   - expected: every tensor there should be.
  func checkContents(_ linears: [LinearSpec], _ expected: [TensorExpectation]) -> [Finding] {
    var findings: [Finding] = []
    meter.part = .numbers
    for linear in linears {
      findings += checkScales(linear) + checkShape(linear)
      meter.add(bytes: bytes(of: linear))
    }
    for want in expected where want.linear == nil {
      guard let tensor = survey.model[want.name], want.fits(tensor) else { continue }
      findings += checkFinite(tensor)
      meter.add(bytes: tensor.byteCount)
    }
    for tensor in survey.model.tensors where config.spec.passesThrough(tensor.name) {
      meter.add(bytes: tensor.byteCount)
      if tensor.dtype.isWeight { findings += checkFinite(tensor) }
      if tensor.dtype == .f8E4M3 {
        findings.append(
          Finding(
            subject: tensor.name,
            problem: "is FP8, and nothing in config.json says how it is scaled"
          ))
      }
    }
    return findings
  }

  /// Bytes of a quantized Linear in the output, whether they are all read or not.
  func bytes(of linear: LinearSpec) -> Int {
    CheckpointWeights.parts.reduce(0) { $0 + (survey.model[linear.name + $1]?.byteCount ?? 0) }
  }

  private func checkScales(_ linear: LinearSpec) -> [Finding] {
    guard let tensor = survey.model[linear.name + ".weight_scale"] else { return [] }
    var bad: (count: Int, first: (Int, Float)?) = (0, nil)
    forEachPart(of: tensor) { start, values in
      for (index, value) in values.enumerated() where !(value > 0 && value.isFinite) {
        bad.count += 1
        bad.first = bad.first ?? (start + index, value)
      }
    }
    return bad.first.map { place, value in
      [
        Finding(
          subject: tensor.name,
          problem: "element \(place) is \(value)\(bad.count > 1 ? ", \(bad.count) in all" : "")")
      ]
    } ?? []
  }

  private func checkShape(_ linear: LinearSpec) -> [Finding] {
    guard let tensor = survey.model[linear.name + ".weight_shape"] else { return [] }
    let recorded = unsafe tensor.withBytes { bytes in
      (0..<2).map { unsafe bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self) }
    }
    tensor.release()
    if recorded == [Int64(linear.outputs), Int64(linear.inputs)] { return [] }
    return [
      Finding(
        subject: tensor.name,
        problem: "says \(recorded), expected \([linear.outputs, linear.inputs])")
    ]
  }

  private func checkFinite(_ tensor: StoredTensor) -> [Finding] {
    var first: (Int, Float)?
    forEachPart(of: tensor) { start, values in
      if first != nil { return }
      // The sum tells for all at once: it is a number where all are, unless it overflows.
      if values.reduce(0, { $0 + abs($1) }).isFinite { return }
      first = values.firstIndex { !$0.isFinite }.map { (start + $0, values[$0]) }
    }
    return first.map { [Finding(subject: tensor.name, problem: "element \($0) is \($1)")] } ?? []
  }

  /// The elements of a weight or scale in float32, a window at a time.
  private func forEachPart(of tensor: StoredTensor, _ body: (Int, [Float]) -> Void) {
    let width = tensor.dtype.byteWidth
    for part in ranges(of: tensor.byteCount / width, by: Windows.checkedBytes / width) {
      let values = unsafe tensor.withBytes { bytes in
        unsafe [Float](unsafeUninitializedCapacity: part.count) { result, count in
          if let from = bytes.baseAddress, let to = result.baseAddress {
            unsafe tensor.dtype.decode(from + part.lowerBound * width, count: part.count, into: to)
          }
          count = part.count
        }
      }
      tensor.release(bytes: part.lowerBound * width..<part.upperBound * width)
      body(part.lowerBound, values)
    }
  }
}
