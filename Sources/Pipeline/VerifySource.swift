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
  /// Above this a Linear is not a rounding of its source: 4 bits with the worst possible groups stay below, also where
  /// weights make up for each other's errors.
  private static let largestError = 0.7

  /// - Parameters:
  ///   - linears: quantized ones that can be read.
  ///   - weights: of the output.
  func compare(
    with source: Checkpoint, _ linears: [LinearSpec], _ weights: CheckpointWeights,
    _ scheme: QuantScheme, _ report: inout VerifyReport
  ) {
    let recorded = recordedSmoothings()
    let smoothed = SmoothedWeights(source.weights, recorded.smoothings)
    report.findings += recorded.findings + checkConfig(against: source)
    checkPlainTensors(source, smoothed, &report)
    for linear in linears {
      guard source.model[linear.weight]?.shape == [linear.outputs, linear.inputs] else {
        report.findings.append(
          Finding(subject: linear.name, problem: "the source has no such Linear of that shape"))
        continue
      }
      let error = distance(
        weights.weight(linear), smoothed.weight(linear),
        scales: weights.vector(linear.name + ".weight_scale"), scheme)
      report.errors.append(
        LinearError(
          linear: linear.name, relative: error.relative, worstGroup: error.worstGroup))
      report.findings += findings(error, linear.name)
      weights.release([linear])
      source.weights.release([linear])
    }
    report.errors.sort { $0.relative > $1.relative }
  }

  private func findings(_ error: Distance, _ linear: String) -> [Finding] {
    if !(error.relative <= Self.largestError) {
      return [
        Finding(
          subject: linear, problem: "differs from the source by \(error.relative) of its size")
      ]
    }
    guard let far = error.firstFar else { return [] }
    return [
      Finding(
        subject: linear,
        problem: "\(error.farGroups) groups are no rounding of the source, the first in row "
          + "\(far.row), group \(far.group)")
    ]
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
    "quantization_config", "transformers_version", "_name_or_path", "torch_dtype", "dtype",
  ]

  private func checkConfig(against source: Checkpoint) -> [Finding] {
    let keys = source.config.entries.map(\.key) + config.config.entries.map(\.key)
    var seen = Self.freeKeys
    return keys.filter { seen.insert($0).inserted }.compactMap { key in
      let (found, expected) = (config.config[key], source.config[key])
      if found == expected { return nil }
      return Finding(
        subject: "config.json",
        problem: "`\(key)` is \(found?.serialized() ?? "missing"), the source's is "
          + (expected?.serialized() ?? "missing"))
    }
  }

  // MARK: Tensors that are not packed

  /// Everything that is not packed: identical, or what the smoothing scales make of it.
  private func checkPlainTensors(
    _ source: Checkpoint, _ smoothed: SmoothedWeights, _ report: inout VerifyReport
  ) {
    var (identical, rescaled, decoded) = (0, 0, 0)
    let consumers = config.spec.layers.flatMap(\.smoothings).flatMap(\.consumers)
    let producers = config.spec.layers.flatMap(\.linears)
    let specs = Dictionary((consumers + producers).map { ($0.weight, $0) }) { first, _ in first }
    // A scale of the output may have the name of one of the source's FP8.
    for tensor in survey.model.tensors where !source.isLeftOut(tensor.name) {
      guard let original = source.model[tensor.name] else {
        if config.spec.passesThrough(tensor.name) {
          report.findings.append(
            Finding(subject: tensor.name, problem: "the source has no such tensor"))
        }
        continue
      }
      if equal(tensor, original) {
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
      source.weights.release(weight: original)
    }
    for original in source.model.tensors
    where source.spec.passesThrough(original.name) && !source.isLeftOut(original.name)
      && survey.model[original.name] == nil && !survey.lost.contains(original.name)
    {
      report.findings.append(
        Finding(subject: original.name, problem: "is missing; the source has it"))
    }
    report.identicalTensors = identical
    report.rescaledTensors = rescaled
    report.decodedTensors = decoded
  }

  private func equal(_ a: StoredTensor, _ b: StoredTensor) -> Bool {
    guard a.dtype == b.dtype, a.shape == b.shape else { return false }
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
    _ tensor: StoredTensor, _ original: StoredTensor, _ linear: LinearSpec?,
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
    _ tensor: StoredTensor, _ original: StoredTensor, _ weights: CheckpointWeights
  ) -> Bool {
    original.dtype == .f8E4M3 && tensor.dtype == original.dtype.unscaled
      && tensor.shape == original.shape && holds(tensor, weights.rows(of: original))
  }

  private func holds(_ tensor: StoredTensor, _ weight: any WeightRows) -> Bool {
    let rowBytes = weight.columns * tensor.dtype.byteWidth
    return ranges(of: weight.rows, by: Self.tileRows).allSatisfy { rows in
      holds(
        tensor, weight.matrix(rows).encoded(as: tensor.dtype), at: rows.lowerBound * rowBytes)
    }
  }

  private func holds(_ tensor: StoredTensor, _ encoded: [UInt8], at start: Int) -> Bool {
    unsafe tensor.withBytes {
      unsafe $0[start..<start + encoded.count].elementsEqual(encoded)
    }
  }

  // MARK: Distance

  private static let tileRows = 64

  /// A group that lies farther away than rounding takes it: by more than a step of its scale, and more than all of its
  /// size.
  private static let farShare = 1.0
  /// The scale of a group over the one that its whole range has: a search clips to half of that at most, and twice
  /// fits it to the codes, by a fifth down or a quarter up.
  private static let scaleRatios = 0.25...2.0
  /// Smaller ranges may not be what a 16-bit scale can tell.
  private static let smallestScale = 1e-6

  /// How far a Linear is from what it should be a rounding of.
  private struct Distance {
    var difference = 0.0
    var size = 0.0
    var worstGroup = 0.0
    var farGroups = 0
    var firstFar: (row: Int, group: Int)?

    var relative: Double {
      size > 0 ? (difference / size).squareRoot() : difference > 0 ? .infinity : 0
    }

    mutating func add(_ other: Distance) {
      difference += other.difference
      size += other.size
      worstGroup = max(worstGroup, other.worstGroup)
      farGroups += other.farGroups
      firstFar = firstFar ?? other.firstFar
    }
  }

  /// - Parameter scales: `[rows, columns / groupSize]`.
  private func distance(
    _ quantized: any WeightRows, _ original: any WeightRows, scales: [Float], _ scheme: QuantScheme
  ) -> Distance {
    let groupSize = scheme.groupSize
    let steps = Double(1 << scheme.bits - 1)
    let tiles = ranges(of: original.rows, by: Self.tileRows)
    let groups = original.columns / groupSize
    let parts = workers.map(tiles.count) { index -> Distance in
      let (a, b) = (quantized.matrix(tiles[index]), original.matrix(tiles[index]))
      var result = Distance()
      for (offset, row) in tiles[index].enumerated() {
        let (x, y) = unsafe (a.row(offset), b.row(offset))
        for group in 0..<groups {
          var (difference, size) = (0.0, 0.0)
          var (lowest, highest) = (0.0, 0.0)
          for column in group * groupSize..<(group + 1) * groupSize {
            let (found, expected) = unsafe (Double(x[column]), Double(y[column]))
            difference += (found - expected) * (found - expected)
            size += expected * expected
            lowest = min(lowest, expected)
            highest = max(highest, expected)
          }
          result.difference += difference
          result.size += size
          let share = size > 0 ? (difference / size).squareRoot() : 0
          result.worstGroup = max(result.worstGroup, share)
          let step = Double(scales[row * groups + group])
          let whole =
            (scheme.isSymmetric ? 2 * max(-lowest, highest) : highest - lowest) / steps
          // Not `>`: a NaN must not hide.
          let isFar =
            !(difference <= Double(groupSize) * step * step) && !(share <= Self.farShare)
          if isFar || whole > Self.smallestScale && !Self.scaleRatios.contains(step / whole) {
            result.farGroups += 1
            result.firstFar = result.firstFar ?? (row, group)
          }
        }
      }
      return result
    }
    return parts.reduce(into: Distance()) { $0.add($1) }
  }
}
