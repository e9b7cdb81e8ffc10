// The numbers in an output, looked at by themselves: scales, recorded shapes, and that nothing is NaN.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
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
  func checkContents(
    _ linears: [LinearSpec], _ schemes: LinearSchemes, _ expected: [TensorExpectation]
  ) -> [Finding] {
    var findings: [Finding] = []
    begin(.numbers)
    for linear in linears {
      let codec = schemes.stored(linear)?.codec
      findings += (codec?.faults({ survey.model[$0] }, windowBytes: Windows.checkedBytes) ?? [])
        .map { Finding(subject: $0.tensor, problem: $0.problem) }
      meter.add(bytes: bytes(of: linear))
    }
    if let scheme = schemes.cache { findings += checkCaches(scheme, expected) }
    for want in expected where want.module == nil {
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

  /// Scales of keys and values, where their type and shape are right.
  private func checkCaches(
    _ scheme: CacheScheme, _ expected: [TensorExpectation]
  ) -> [Finding] {
    let sound = Set(
      expected.filter { want in survey.model[want.name].map(want.fits) == true }.map(\.name))
    var findings: [Finding] = []
    for cache in config.spec.layers.flatMap(\.caches).map(\.cache) {
      for part in KeyValueCache.Part.allCases {
        let name = CacheScheme.tensorName(part, of: cache)
        guard sound.contains(name), let tensor = survey.model[name] else { continue }
        meter.add(bytes: tensor.byteCount)
        if let problem = scheme.fault(tensor, heads: cache.heads) {
          findings.append(Finding(subject: name, problem: problem))
        }
      }
    }
    return findings
  }

  /// Bytes of a quantized Linear in the output, whether they are all read or not.
  func bytes(of linear: LinearSpec) -> Int {
    CompressionFormats.storedBytes(of: linear) { survey.model[$0]?.byteCount }
  }

  private func checkFinite(_ tensor: StoredTensor) -> [Finding] {
    var first: (Int, Float)?
    tensor.forEachPart(windowBytes: Windows.checkedBytes) { start, values in
      if first != nil { return }
      // The sum tells for all at once: it is a number where all are, unless it overflows.
      if values.reduce(0, { $0 + abs($1) }).isFinite { return }
      first = values.firstIndex { !$0.isFinite }.map { (start + $0, values[$0]) }
    }
    return first.map { [Finding(subject: tensor.name, problem: "element \($0) is \($1)")] } ?? []
  }
}
