// An output against the checkpoint it was made from: what was not quantized, and how far each Linear is.

internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

extension VerifyModel {
  static let tileRows = RoundingEvidence.tileRows

  /// What the comparison of some rows of a Linear holds: what they are, and what they should be.
  static func tileBuffers(columns: Int) -> [TaskBuffer] {
    [
      TaskBuffer("rows of the output", floats: tileRows * columns),
      TaskBuffer("rows of the source", floats: tileRows * columns),
    ]
  }

  /// - Parameters:
  ///   - linears: quantized ones that can be read.
  ///   - weights: of the output.
  func compare(
    with source: Checkpoint, _ linears: [LinearSpec], _ schemes: LinearSchemes,
    _ weights: CheckpointWeights, _ report: inout VerifyReport
  ) {
    begin(.source)
    let recorded = recordedSmoothings()
    let smoothed = SmoothedWeights(source.weights, recorded.smoothings)
    report.findings += recorded.findings + checkConfig(against: source)
    checkPlainTensors(source, smoothed, schemes, &report)
    var globals: [String: GlobalScale] = [:]
    for linear in linears {
      guard source.weights.find(linear.weight)?.shape == [linear.outputs, linear.inputs] else {
        report.findings.append(
          Finding(subject: linear.name, problem: "the source has no such Linear of that shape"))
        continue
      }
      guard let found = weights.codedWeight(linear),
        let quantizer = schemes.stored(linear)?.quantizer
      else { continue }
      let evidence = evidence(found, from: smoothed.weight(linear), quantizer)
      report.errors.append(
        LinearError(
          linear: linear.name, relative: evidence.relativeError, worstGroup: evidence.worstGroup))
      report.findings += evidence.faults.map { Finding(subject: linear.name, problem: "\($0)") }
      if quantizer.needsLargest {
        globals[linear.name] = GlobalScale(found: found.globalScale, largest: evidence.largest)
      }
      weights.release([linear])
      source.weights.release([linear])
      meter.add(bytes: bytes(of: linear) + source.weights.byteCount(linear))
    }
    report.errors.sort { $0.relative > $1.relative }
    report.findings += checkGlobalScales(
      globals, isOwn: FileSystem.exists(OutputFolder(path: config.folder).state))
  }

  /// What stands above the scales of a weight is made of the largest of all weights that share it.
  ///
  /// - Parameter isOwn: whether this program made the output; others may cut a range before it counts.
  private func checkGlobalScales(
    _ globals: [String: GlobalScale], isOwn: Bool
  ) -> [Finding] {
    let groups = config.spec.layers.flatMap(\.scaledTogether)
    let names = groups.map { $0.map(\.name) }
    let alone = globals.keys.filter { !names.joined().contains($0) }.sorted().map { [$0] }
    return (names + alone).flatMap { group -> [Finding] in
      let largest = group.compactMap { globals[$0]?.largest }.max() ?? 0
      let expected = WholeWeight.globalScale(largest: Float(largest))
      let fitting = (0.999 * expected)...((isOwn ? 1.001 : 5.05) * expected)
      return group.compactMap { name in
        guard let found = globals[name]?.found, largest > 0, !fitting.contains(found) else {
          return nil
        }
        return Finding(
          subject: name,
          problem: "the global scale is \(found), the source's largest weight asks for \(expected)")
      }
    }
  }

  /// What stands above the scales of a Linear, and the largest weight of its source.
  private struct GlobalScale {
    let found: Float
    let largest: Double
  }

  private func evidence(
    _ found: any CodedWeight, from source: any WeightRows, _ quantizer: WeightQuantizer
  ) -> RoundingEvidence {
    let tiles = ranges(of: source.rows, by: Self.tileRows)
    let buffers = Self.tileBuffers(columns: source.columns)
    let memory = backend.memory
    let parts = backend.map(tiles.count, each: buffers) { index in
      let rows = tiles[index]
      var evidence = RoundingEvidence(quantizer, globalScale: found.globalScale)
      evidence.add(
        found.matrix(rows, from: memory),
        from: source.matrix(rows, from: memory), firstRow: rows.lowerBound,
        scales: found.scales(of: rows), zeroPoints: found.zeroPoints(of: rows))
      return evidence
    }
    return parts.reduce(
      into: RoundingEvidence(quantizer, globalScale: found.globalScale)
    ) { $0.add($1) }
  }

  private func recordedSmoothings() -> (smoothings: [AppliedSmoothing], findings: [Finding]) {
    let path = config.folder + "/.sluice/" + OutputFolder.smoothingFile
    if !FileSystem.exists(path) { return ([], []) }
    do {
      let file = try SafetensorsFile(path: path)
      return (config.spec.layers.flatMap { file.recordedSmoothings($0.smoothings) }, [])
    } catch {
      return ([], [Finding(subject: ".sluice/" + OutputFolder.smoothingFile, problem: "\(error)")])
    }
  }

  /// Keys that tools write as they like.
  private static let freeKeys: Set<String> = [
    "transformers_version", "_name_or_path", "torch_dtype", "dtype",
  ]

  private func checkConfig(against source: Checkpoint) -> [Finding] {
    let own = CheckpointConfig.config(config.config, quantized: nil)
    let original = CheckpointConfig.config(source.config, quantized: nil)
    let keys = original.entries.map(\.key) + own.entries.map(\.key)
    var seen = Self.freeKeys
    return keys.filter { seen.insert($0).inserted }.compactMap { key in
      let (found, expected) = (own[key], original[key])
      if found == expected { return nil }
      return Finding(
        subject: "config.json",
        problem: "`\(key)` is \(found?.serialized() ?? "missing"), the source's is "
          + (expected?.serialized() ?? "missing"))
    }
  }

  // MARK: Tensors of what is not quantized

  /// Everything of what is not quantized: identical, or what the smoothing scales make of it.
  private func checkPlainTensors(
    _ source: Checkpoint, _ smoothed: SmoothedWeights, _ schemes: LinearSchemes,
    _ report: inout VerifyReport
  ) {
    var (identical, rescaled, decoded) = (0, 0, 0)
    let consumers = config.spec.layers.flatMap(\.smoothings).flatMap(\.consumers)
    let producers = config.spec.layers.flatMap(\.linears)
    let specs = Dictionary((consumers + producers).map { ($0.weight, $0) }) { first, _ in first }
    let quantized = Set(
      config.spec.expectationsOfOutput(schemes).filter { $0.module != nil }.map(\.name))
    for tensor in survey.model.tensors where !quantized.contains(tensor.name) {
      guard let original = source.weights.find(tensor.name) else {
        if config.spec.passesThrough(tensor.name) {
          report.findings.append(
            Finding(subject: tensor.name, problem: "the source has no such tensor"))
        }
        continue
      }
      if equal(tensor, original, source.weights) {
        identical += 1
      } else if decodes(tensor, original, source.weights) {
        decoded += 1
      } else if explained(tensor, original, specs[tensor.name], smoothed) {
        rescaled += 1
      } else {
        report.findings.append(
          Finding(
            subject: tensor.name,
            problem: "differs from the source, and no recorded smoothing explains it"))
      }
      tensor.release()
      source.weights.release(original)
      meter.add(bytes: tensor.byteCount + original.byteCount)
    }
    for original in source.weights.names
    where source.spec.passesThrough(original) && !source.isLeftOut(original)
      && survey.model[original] == nil && !survey.lost.contains(original)
    {
      report.findings.append(
        Finding(subject: original, problem: "is missing; the source has it"))
    }
    report.identicalTensors = identical
    report.rescaledTensors = rescaled
    report.decodedTensors = decoded
  }

  private func equal(
    _ a: StoredTensor, _ original: StoredParameter, _ weights: CheckpointWeights
  ) -> Bool {
    guard !original.isCoded, a.dtype == original.dtype, a.shape == original.shape else {
      return false
    }
    guard let b = original.tensor else {
      return a.shape.count == 2
        ? holds(a, weights.rows(of: original))
        : holds(a, a.dtype.encoded(weights.vector(original.name)), at: 0)
    }
    return ranges(of: a.byteCount, by: Windows.checkedBytes).allSatisfy { part in
      defer {
        a.release(bytes: part)
        b.release(bytes: part)
      }
      return unsafe a.withBytes { first in
        unsafe b.withBytes { second in unsafe first[part].elementsEqual(second[part]) }
      }
    }
  }

  private func explained(
    _ tensor: StoredTensor, _ original: StoredParameter, _ linear: LinearSpec?,
    _ smoothed: SmoothedWeights
  ) -> Bool {
    guard tensor.dtype == original.dtype.unscaled, tensor.shape == original.shape,
      tensor.dtype.isWeight
    else { return false }
    if tensor.shape.count == 1 {
      return holds(tensor, tensor.dtype.encoded(smoothed.vector(tensor.name)), at: 0)
    }
    guard let linear, tensor.shape == [linear.outputs, linear.inputs] else { return false }
    return holds(tensor, smoothed.weight(linear))
  }

  private func decodes(
    _ tensor: StoredTensor, _ original: StoredParameter, _ weights: CheckpointWeights
  ) -> Bool {
    (original.dtype == .f8E4M3 || original.isCoded) && tensor.dtype == original.dtype.unscaled
      && tensor.shape == original.shape && holds(tensor, weights.rows(of: original))
  }

  private func holds(_ tensor: StoredTensor, _ weight: any WeightRows) -> Bool {
    let rowBytes = weight.columns * tensor.dtype.byteWidth
    return ranges(of: weight.rows, by: Self.tileRows).allSatisfy { rows in
      holds(
        tensor, weight.matrix(rows, from: backend.memory).encoded(as: tensor.dtype),
        at: rows.lowerBound * rowBytes)
    }
  }

  private func holds(_ tensor: StoredTensor, _ encoded: [UInt8], at start: Int) -> Bool {
    unsafe tensor.withBytes {
      unsafe $0[start..<start + encoded.count].elementsEqual(encoded)
    }
  }
}
