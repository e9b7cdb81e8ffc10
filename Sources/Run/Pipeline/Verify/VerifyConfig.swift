// config.json against the tensors, as vLLM reads it; and how the output can be split over several devices.

internal import CompressedTensors
internal import Models
internal import Quantization
internal import Safetensors
internal import Transformer

extension VerifyModel {
  /// vLLM quantizes every Linear that `ignore` does not name, and loads some of them as one.
  func checkConfig(_ quantization: QuantizationConfig, _ schemes: LinearSchemes) -> [Finding] {
    let ignored = Set(quantization.ignore)
    let spec = config.spec
    var findings: [Finding] = []
    let passed = survey.model.tensors.compactMap { spec.passedModule($0.name, shape: $0.shape) }
    let head = schemes[spec.head] == nil ? [spec.headName] : []
    let plain = spec.deciding.map(\.name) + passed + head
    for module in plain where !ignored.contains(module) {
      findings.append(Finding(subject: module, problem: "not quantized, but not in `ignore`"))
    }
    let modules = Set((spec.claims.map(\.name) + survey.model.tensors.map(\.name)).map(module))
      .union((spec.layers.flatMap(\.linears) + spec.deciding).flatMap(\.standsFor))
    for name in quantization.ignore where !modules.contains(name) && name != spec.headName {
      findings.append(
        Finding(subject: name, problem: "in `ignore`, but there is no such module"))
    }
    for group in spec.layers.flatMap(\.fusedGroups) {
      let plain = group.filter { schemes[$0] == nil }
      if let first = plain.first, plain.count < group.count {
        findings.append(
          Finding(
            subject: first.name,
            problem: "not quantized, but vLLM loads it together with Linears that are"))
      }
    }
    for case .splitsFused(let modules, let names)? in spec.layers.map(schemes.splitFused) {
      findings.append(
        Finding(
          subject: modules[1],
          problem: "\(names[1]), but vLLM loads it together with `\(modules[0])`, \(names[0])"))
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
  func tensorParallelism(
    _ linears: [LinearSpec], _ schemes: LinearSchemes
  ) -> (notes: [Finding], fitting: [Int]) {
    let quantized = Set(linears.map(\.name))
    let mixers = config.spec.layers.flatMap(\.branches).map(\.mixer)
    let (rowParallel, columnParallel) = (
      mixers.flatMap(\.splitByInputs), mixers.flatMap(\.splitByOutputs)
    )
    let cutRows = notes(rowParallel.filter { quantized.contains($0.name) }, \.inputs) { linear in
      // A scale for a whole row serves any part of it.
      let weights = schemes[linear]?.weights
      return (weights?.groupSize ?? weights?.block?.columns).map { ($0, "") }
    }
    let rows = cutRows.map { note in
      Finding(
        subject: note.kind,
        problem:
          "tensor parallelism of \(note.text) cuts its groups: \(note.size) input features in groups "
          + "of \(note.together)")
    }
    let cutColumns = notes(columnParallel.filter { quantized.contains($0.name) }, \.outputs) {
      linear in
      schemes.stored(linear)?.codec.outputsTogether.map { ($0.count, $0.what) }
    }
    let columns = cutColumns.map { note in
      Finding(
        subject: note.kind,
        problem: "tensor parallelism of \(note.text) cuts its \(note.what): \(note.size) output "
          + "features, \(note.together) to a word")
    }
    let cutting = Set((cutRows + cutColumns).flatMap(\.degrees))
    return (rows + columns, Self.degrees.filter { !cutting.contains($0) })
  }

  private struct SplitNote {
    let kind: String
    let size: Int
    /// Features that cannot be split, and what holds them.
    let together: Int
    let what: String
    let degrees: [Int]

    var text: String { degrees.map(String.init).joined(separator: ", ") }
  }

  /// Linears of one kind and size together, with the degrees that would cut them.
  private func notes(
    _ linears: [LinearSpec], _ size: KeyPath<LinearSpec, Int>,
    together: (LinearSpec) -> (count: Int, what: String)?
  ) -> [SplitNote] {
    var seen: Set<String> = []
    return linears.compactMap { linear in
      let kind = linear.name.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }
        .joined(separator: ".")
      let size = linear[keyPath: size]
      guard let (count, what) = together(linear), seen.insert("\(kind) \(size) \(count)").inserted
      else { return nil }
      let cutting = Self.degrees.filter { size % ($0 * count) != 0 }
      return cutting.isEmpty
        ? nil
        : SplitNote(
          kind: kind, size: size, together: count, what: what, degrees: cutting)
    }
  }
}
