// Two model folders side by side: config.json, schemes, what is ignored, tensors, codes and the files beside them.

internal import CompressedTensors
internal import Glibc
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

package struct CompareModels {
  private let first: Side
  private let second: Side
  private let backend: Backend
  private let report: (_ share: Double, _ secondsLeft: Double?) -> Void

  /// One of the folders.
  private struct Side {
    let config: CheckpointConfig
    let quantization: QuantizationConfig?
    let schemes: LinearSchemes?
    let model: ShardedModel

    init(_ folder: String, accepting accepted: Set<String>) throws {
      try UnfinishedOutput.refuse(folder)
      config = try CheckpointConfig(folder: folder, accepting: accepted)
      let model = try ShardedModel(folder: folder)
      self.model = model
      quantization = try config.isQuantized ? config.quantization() : nil
      schemes = try quantization?.schemes(of: config.spec, file: config.file) {
        model[$0]?.dtype.isWeight == true
      }
    }

    func scheme(_ linear: LinearSpec) -> QuantizationScheme? { schemes?[linear] }

    /// The tensor with the codes of a Linear and the bits of a code, where it is quantized. One of another type or shape
    /// than its scheme asks for holds something else: numbers would be looked for behind its end.
    func codes(_ linear: LinearSpec) -> (tensor: StoredTensor, width: Int)? {
      guard let codec = schemes?.stored(linear)?.codec, let spec = codec.tensors.first,
        let tensor = model[spec.name], tensor.dtype == spec.dtype, tensor.shape == spec.shape
      else { return nil }
      return (tensor, codec.codeWidth)
    }

    /// Everything beside the weights and config.json; what begins with a dot is a tool's own.
    func files() throws -> [String] {
      try FileSystem.list(config.folder).filter { name in
        !name.hasPrefix(".") && name != OutputFolder.config && !OutputFolder.holdsWeights(name)
          && FileSystem.isFile("\(config.folder)/\(name)")
      }
    }
  }

  /// - Parameter report: sees what share of the bytes was read.
  package init(
    _ first: String, _ second: String, accepting accepted: Set<String> = [], threads: Int,
    report: @escaping (_ share: Double, _ secondsLeft: Double?) -> Void = { _, _ in }
  ) throws {
    self.first = try Side(first, accepting: accepted)
    self.second = try Side(second, accepting: accepted)
    try AcceptedKeyMissing.check(
      accepted, in: [self.first.config.config, self.second.config.config],
      file: self.first.config.file)
    backend = Backend(threads: threads, memory: MemoryBudget(limit: 0))
    self.report = report
  }

  package func run() throws -> Comparison {
    let names = (first.model.tensors.map(\.name), second.model.tensors.map(\.name))
    var result = Comparison(
      firstBytes: first.model.totalBytes, secondBytes: second.model.totalBytes,
      ignore: OneSided(first.quantization?.ignore ?? [], second.quantization?.ignore ?? []),
      tensors: OneSided(names.0, names.1),
      files: OneSided(try first.files(), try second.files()))
    result.config = configDifferences
    result.schemes = schemeDifferences
    let caches = [first, second].map { $0.quantization?.cache?.words ?? "as it is" }
    if caches[0] != caches[1] {
      result.cache = Difference(subject: "keys and values", first: caches[0], second: caches[1])
    }
    for name in try first.files() where !result.files.first.contains(name) {
      let sums = try [first, second].map {
        try FileSystem.checksum("\($0.config.folder)/\(name)").text
      }
      if sums[0] != sums[1] { result.changedFiles.append(name) }
    }
    compareTensors(&result)
    return result
  }

  private var configDifferences: [Difference] {
    let (ones, others) = (first.config.withoutQuantization, second.config.withoutQuantization)
    let keys = ones.keys + others.keys.filter { ones[$0] == nil }
    return keys.filter { ones[$0] != others[$0] }.map {
      func text(_ value: JSONValue?) -> String { value?.serialized() ?? "nothing" }
      return Difference(subject: $0, first: text(ones[$0]), second: text(others[$0]))
    }
  }

  /// Linears of both models that can be quantized.
  private var linears: [LinearSpec] {
    // Prediction layers, too, where one of them has theirs as they are.
    let known = Set(second.config.spec.predicting.quantizable.map(\.name))
    return first.config.spec.predicting.quantizable.filter { known.contains($0.name) }
  }

  private var schemeDifferences: [Difference] {
    linears.compactMap { linear in
      let (one, other) = (first.scheme(linear), second.scheme(linear))
      let same = one.map { one in other.map { one.isSame(as: $0) } ?? false } ?? (other == nil)
      if same { return nil }
      func text(_ scheme: QuantizationScheme?) -> String { scheme?.words ?? "as it is" }
      return Difference(subject: linear.name, first: text(one), second: text(other))
    }
  }

  // MARK: Tensors

  /// Two tensors of one type and shape.
  private struct Pair: Sendable {
    /// A module, where these are its codes; else a tensor.
    let name: String
    let isCode: Bool
    let first: StoredTensor
    let second: StoredTensor
    /// Bits of a number.
    let width: Int
    /// Numbers of a row.
    let columns: Int
  }

  private func compareTensors(_ result: inout Comparison) {
    var codes: [String: (linear: LinearSpec, width: Int)] = [:]
    for linear in linears {
      guard let one = first.codes(linear), let other = second.codes(linear),
        one.tensor.name == other.tensor.name
      else { continue }
      codes[one.tensor.name] = (linear, one.width)
    }
    var pairs: [Pair] = []
    for one in first.model.tensors {
      guard let other = second.model[one.name] else { continue }
      if one.dtype != other.dtype || one.shape != other.shape {
        func text(_ tensor: StoredTensor) -> String { "\(tensor.dtype.rawValue) \(tensor.shape)" }
        result.shapes.append(
          Difference(subject: one.name, first: text(one), second: text(other)))
        continue
      }
      let code = codes[one.name]
      pairs.append(
        Pair(
          name: code?.linear.name ?? one.name, isCode: code != nil, first: one, second: other,
          width: code?.width ?? 8 * one.dtype.byteWidth,
          columns: code?.linear.inputs ?? one.shape.last ?? 1))
    }
    let differences = compare(pairs)
    for (pair, differing) in zip(pairs, differences) {
      let rows = pair.first.shape.dropLast().reduce(1, *)
      let difference = NumberDifference(
        name: pair.name, count: rows * pair.columns, differing: differing)
      if pair.isCode {
        result.codes.append(difference)
      } else {
        result.comparedOthers += 1
        if differing > 0 { result.others.append(difference) }
      }
    }
    func farthest(_ one: NumberDifference, _ other: NumberDifference) -> Bool {
      (-one.share, one.name) < (-other.share, other.name)
    }
    result.codes.sort(by: farthest)
    result.others.sort(by: farthest)
  }

  /// How many numbers of each pair differ.
  private func compare(_ pairs: [Pair]) -> [Int] {
    let all = Double(max(1, pairs.reduce(0) { $0 + $1.first.byteCount }))
    let clock = Clock()
    var done = 0
    var result: [Int] = []
    for part in ranges(of: pairs.count, by: 64) {
      let pairs = pairs[part]
      result += backend.map(pairs.count) { index in
        let pair = pairs[pairs.startIndex + index]
        return pair.first.differingNumbers(
          from: pair.second, bits: pair.width, columns: pair.columns)
      }
      done += pairs.reduce(0) { $0 + $1.first.byteCount }
      let share = Double(done) / all
      report(share, clock.seconds > 1 ? clock.seconds * (1 - share) / max(share, 1e-9) : nil)
    }
    return result
  }
}

extension StoredTensor {
  /// How many numbers differ from those of a tensor of the same type and shape: number j of a row lies in the bits from
  /// `bits * j` on, the lowest of a byte first. Reads both a window at a time, and lets them go.
  func differingNumbers(from other: StoredTensor, bits: Int, columns: Int) -> Int {
    let rows = max(1, shape.dropLast().reduce(1, *))
    let rowBytes = byteCount / rows
    if rowBytes == 0 { return 0 }
    var count = 0
    for window in ranges(of: rows, by: max(1, Windows.checkedBytes / rowBytes)) {
      unsafe withBytes { own in
        unsafe other.withBytes { others in
          for row in window {
            let place = row * rowBytes..<(row + 1) * rowBytes
            unsafe count += differing(
              UnsafeRawBufferPointer(rebasing: own[place]),
              UnsafeRawBufferPointer(rebasing: others[place]), bits: bits, count: columns)
          }
        }
      }
      let bytes = window.lowerBound * rowBytes..<window.upperBound * rowBytes
      release(bytes: bytes)
      other.release(bytes: bytes)
    }
    return count
  }
}

/// How many numbers of two rows differ.
private func differing(
  _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, bits: Int, count: Int
) -> Int {
  guard let one = first.baseAddress, let other = second.baseAddress,
    unsafe memcmp(one, other, first.count) != 0
  else { return 0 }
  var result = 0
  if bits >= 8 {
    let width = bits / 8
    for number in 0..<count
    where unsafe memcmp(one + number * width, other + number * width, width) != 0 { result += 1 }
    return result
  }
  let mask = UInt16(1) << UInt16(bits) - 1
  for number in 0..<count {
    let (byte, shift) = (bits * number / 8, bits * number % 8)
    var change = unsafe UInt16(first[byte] ^ second[byte])
    if byte + 1 < first.count { unsafe change |= UInt16(first[byte + 1] ^ second[byte + 1]) << 8 }
    if change >> UInt16(shift) & mask != 0 { result += 1 }
  }
  return result
}
