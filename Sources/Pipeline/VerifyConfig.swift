// config.json against the tensors, as vLLM reads it; and how the output can be split over several devices.

internal import CompressedTensors
internal import Models
internal import Quantization
internal import Safetensors
internal import Transformer

extension VerifyModel {
  /// vLLM quantizes every Linear that `ignore` does not name, and loads some of them as one.
  func checkConfig(_ quantization: QuantizationConfig) -> [Finding] {
    let ignored = Set(quantization.ignore)
    let spec = config.spec
    var findings: [Finding] = []
    let passed = survey.model.tensors.compactMap { spec.passedModule($0.name, shape: $0.shape) }
    let plain = spec.layers.flatMap(\.mlp.deciding).map(\.name) + passed + ["lm_head"]
    for module in plain where !ignored.contains(module) {
      findings.append(Finding(subject: module, problem: "not quantized, but not in `ignore`"))
    }
    let modules = Set((spec.claims.map(\.name) + survey.model.tensors.map(\.name)).map(module))
    for name in quantization.ignore where !modules.contains(name) && name != "lm_head" {
      findings.append(
        Finding(subject: name, problem: "in `ignore`, but there is no such module"))
    }
    for group in spec.layers.flatMap(\.fusedGroups) {
      let plain = group.filter { ignored.contains($0.name) }
      if let first = plain.first, plain.count < group.count {
        findings.append(
          Finding(
            subject: first.name,
            problem: "not quantized, but vLLM loads it together with Linears that are"))
      }
    }
    return findings
  }

  private func module(_ tensor: String) -> String {
    String(tensor.prefix(upTo: tensor.lastIndex(of: ".") ?? tensor.endIndex))
  }

  /// Devices that a layer is commonly split over.
  private static let degrees = [2, 4, 8]

  /// Linears whose groups a split would cut: those that vLLM splits along their inputs, and, where zero points are packed
  /// along outputs, those that it splits there.
  ///
  /// Source: vLLM's `RowParallelLinear`, `ColumnParallelLinear` and `FusedMoE`; vllm#41511.
  func tensorParallelNotes(_ linears: [LinearSpec], _ scheme: QuantScheme) -> [Finding] {
    let quantized = Set(linears.map(\.name))
    let rowParallel = config.spec.layers.flatMap {
      [$0.attention.output] + $0.mlp.units.map(\.down)
    }
    let columnParallel = config.spec.layers.flatMap { layer in
      layer.attention.splitByHeads
        + layer.mlp.units.flatMap { [$0.gate, $0.up] }
    }
    let rows = notes(rowParallel.filter { quantized.contains($0.name) }, \.inputs) { size, degree in
      size % (degree * scheme.groupSize) != 0
    }.map { kind, size, degrees in
      Finding(
        subject: kind,
        problem:
          "tensor parallelism of \(degrees) cuts its groups: \(size) input features in groups "
          + "of \(scheme.groupSize)")
    }
    if scheme.isSymmetric { return rows }
    let columns = notes(columnParallel.filter { quantized.contains($0.name) }, \.outputs) {
      size, degree in size % (degree * scheme.codesPerWord) != 0
    }.map { kind, size, degrees in
      Finding(
        subject: kind,
        problem: "tensor parallelism of \(degrees) cuts its packed zero points: \(size) output "
          + "features, \(scheme.codesPerWord) to a word")
    }
    return rows + columns
  }

  /// Linears of one kind and size together, with the degrees that would cut them.
  private func notes(
    _ linears: [LinearSpec], _ size: KeyPath<LinearSpec, Int>, cuts: (Int, Int) -> Bool
  ) -> [(kind: String, size: Int, degrees: String)] {
    var seen: Set<String> = []
    return linears.compactMap { linear in
      let kind = linear.name.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }
        .joined(separator: ".")
      let size = linear[keyPath: size]
      guard seen.insert("\(kind) \(size)").inserted else { return nil }
      let cutting = Self.degrees.filter { cuts(size, $0) }.map(String.init)
      return cutting.isEmpty ? nil : (kind, size, cutting.joined(separator: ", "))
    }
  }
}
