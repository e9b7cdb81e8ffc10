// Read an output back: is every tensor there, consistent with config.json, and what the source says it must be?

internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// Something wrong with an output.
package struct Finding: Sendable, Equatable {
  package let subject: String
  package let problem: String
}

/// How far a quantized Linear is from its source, as norm of the difference over norm of the weight.
package struct LinearError: Sendable, Equatable {
  package let linear: String
  package let relative: Double
}

package struct VerifyReport: Sendable, Equatable {
  package let tensors: Int
  package let quantizedLinears: Int
  /// Tensors equal to the source's to the byte; nil without a source.
  package let identicalTensors: Int?
  /// Tensors that the recorded smoothing scales explain to the byte; nil without a source.
  package let rescaledTensors: Int?
  package let findings: [Finding]
  /// Of every quantized Linear, worst first; empty without a source.
  package let errors: [LinearError]
}

/// A folder that is not an output.
package struct NotQuantized: Error, CustomStringConvertible, Equatable {
  package let folder: String
  package var description: String {
    "\(folder): config.json has no `quantization_config`; give the output of sluice quantize"
  }
}

package struct VerifyModel {
  private let output: Checkpoint
  private let source: Checkpoint?
  private let workers: Workers

  /// Above this a Linear is not a rounding of its source: 4 bits with the worst possible groups stay below.
  private static let largestError = 0.5

  /// - Throws: at once where a folder is no checkpoint: what is missing or misshapen is named then.
  package init(output: String, source: String?, threads: Int) throws {
    self.output = try Checkpoint(folder: output)
    if self.output.quantization == nil { throw NotQuantized(folder: output) }
    self.source = try source.map { try Checkpoint(folder: $0) }
    workers = Workers(threads: threads)
  }

  private var linears: [LinearSpec] {
    let ignored = Set(output.quantization?.ignore ?? [])
    return output.spec.layers.flatMap(\.linears).filter { !ignored.contains($0.name) }
  }

  package func run() throws -> VerifyReport {
    var findings = try checkConfig() + checkIndex() + checkScales()
    guard let source else {
      return VerifyReport(
        tensors: output.model.tensors.count, quantizedLinears: linears.count,
        identicalTensors: nil, rescaledTensors: nil, findings: findings, errors: [])
    }
    let smoothed = SmoothedWeights(source.weights, try recordedSmoothings())
    let (identical, rescaled, differing) = checkPlainTensors(source, smoothed)
    findings += differing
    let errors = linears.map { linear in
      LinearError(
        linear: linear.name,
        relative: relativeError(output.weights.weight(linear), smoothed.weight(linear)))
    }
    findings += errors.filter { !($0.relative <= Self.largestError) }.map {
      Finding(
        subject: $0.linear, problem: "differs from the source by \($0.relative) of its size")
    }
    return VerifyReport(
      tensors: output.model.tensors.count, quantizedLinears: linears.count,
      identicalTensors: identical, rescaledTensors: rescaled, findings: findings,
      errors: errors.sorted { $0.relative > $1.relative })
  }

  /// vLLM quantizes every Linear that `ignore` does not name, and loads some of them as one.
  private func checkConfig() -> [Finding] {
    let ignored = Set(output.quantization?.ignore ?? [])
    var findings: [Finding] = []
    let plain = output.spec.layers.compactMap(\.mlp.router?.linear.name) + ["lm_head"]
    for module in plain where !ignored.contains(module) {
      findings.append(Finding(subject: module, problem: "not quantized, but not in `ignore`"))
    }
    for layer in output.spec.layers {
      for group in layer.fusedGroups {
        let plain = group.filter { ignored.contains($0.name) }
        if !plain.isEmpty, plain.count < group.count {
          findings.append(
            Finding(
              subject: plain[0].name,
              problem: "not quantized, but vLLM loads it together with Linears that are"))
        }
      }
    }
    return findings
  }

  private func checkIndex() throws -> [Finding] {
    let path = output.folder + "/model.safetensors.index.json"
    if !FileSystem.exists(path) { return [] }
    let index = try JSONValue.parse(FileSystem.readFile(path))
    let total = index.object?["metadata"]?.object?["total_size"]?.int
    if total == output.model.totalBytes { return [] }
    return [
      Finding(
        subject: path,
        problem: "`total_size` is \(total.map(String.init) ?? "missing"), the tensors hold "
          + "\(output.model.totalBytes) bytes")
    ]
  }

  private func checkScales() -> [Finding] {
    linears.compactMap { linear in
      let scales = output.weights.vector(linear.name + ".weight_scale")
      output.weights.tensor(linear.name + ".weight_scale").release()
      if let bad = scales.firstIndex(where: { !($0 > 0 && $0.isFinite) }) {
        return Finding(
          subject: linear.name + ".weight_scale", problem: "element \(bad) is \(scales[bad])")
      }
      let shape = output.weights.tensor(linear.name + ".weight_shape")
      let recorded = unsafe shape.withBytes { bytes in
        (0..<2).map { unsafe bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self) }
      }
      if recorded != [Int64(linear.outputs), Int64(linear.inputs)] {
        return Finding(
          subject: shape.name,
          problem: "says \(recorded), expected \([linear.outputs, linear.inputs])")
      }
      return nil
    }
  }

  private func recordedSmoothings() throws -> [AppliedSmoothing] {
    let path = output.folder + "/.sluice/" + OutputFolder.smoothingFile
    if !FileSystem.exists(path) { return [] }
    let file = try SafetensorsFile(path: path)
    return output.spec.layers.flatMap { file.recordedSmoothings($0.smoothings) }
  }

  /// Everything that is not packed: identical, or what the smoothing scales make of it.
  private func checkPlainTensors(
    _ source: Checkpoint, _ smoothed: SmoothedWeights
  ) -> (identical: Int, rescaled: Int, findings: [Finding]) {
    var (identical, rescaled) = (0, 0)
    var findings: [Finding] = []
    let consumers = output.spec.layers.flatMap(\.smoothings).flatMap(\.consumers)
    let producers = output.spec.layers.flatMap(\.linears)
    let specs = Dictionary((consumers + producers).map { ($0.weight, $0) }) { first, _ in first }
    for tensor in output.model.tensors {
      guard let original = source.model[tensor.name] else { continue }
      defer {
        tensor.release()
        original.release()
      }
      if equal(tensor, original) {
        identical += 1
      } else if explained(tensor, original, specs[tensor.name], smoothed) {
        rescaled += 1
      } else {
        findings.append(
          Finding(
            subject: tensor.name,
            problem: "differs from the source, and no recorded smoothing explains it"))
      }
    }
    return (identical, rescaled, findings)
  }

  private func equal(_ a: StoredTensor, _ b: StoredTensor) -> Bool {
    a.dtype == b.dtype && a.shape == b.shape
      && (unsafe a.withBytes { first in unsafe b.withBytes { unsafe first.elementsEqual($0) } })
  }

  private func explained(
    _ tensor: StoredTensor, _ original: StoredTensor, _ linear: LinearSpec?,
    _ smoothed: SmoothedWeights
  ) -> Bool {
    guard tensor.dtype == original.dtype, tensor.shape == original.shape, tensor.dtype.isWeight
    else { return false }
    let values =
      tensor.shape.count == 1
      ? smoothed.vector(tensor.name)
      : linear.map { smoothed.weight($0).matrix(0..<$0.outputs).values } ?? []
    return unsafe tensor.withBytes { unsafe $0.elementsEqual(tensor.dtype.encoded(values)) }
  }

  private func relativeError(_ quantized: any WeightRows, _ original: any WeightRows) -> Double {
    let tiles = ranges(of: original.rows, by: 64)
    let sums = workers.map(tiles.count) { index -> (Double, Double) in
      let (a, b) = (quantized.matrix(tiles[index]).values, original.matrix(tiles[index]).values)
      return zip(a, b).reduce(into: (0.0, 0.0)) { sums, pair in
        sums.0 += Double(pair.0 - pair.1) * Double(pair.0 - pair.1)
        sums.1 += Double(pair.1) * Double(pair.1)
      }
    }
    let (difference, size) = sums.reduce((0.0, 0.0)) { ($0.0 + $1.0, $0.1 + $1.1) }
    return size > 0 ? (difference / size).squareRoot() : difference > 0 ? .infinity : 0
  }
}
