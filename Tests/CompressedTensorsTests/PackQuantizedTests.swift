// Rounded and packed Linears against those that llm-compressor saved.

import CompressedTensors
import JSON
import LinearAlgebra
import Models
import Quantization
import Safetensors
import Synchronization
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

/// A scheme of `fixtures/rtn/bf16`, and the share of codes in which bf16 quotients may differ from float32 ones.
struct PeerRounding: CustomTestStringConvertible, Sendable {
  let folder: String
  let scheme: IntegerScheme
  let differing: Double

  static let all = [
    PeerRounding(folder: "W4A16", scheme: IntegerScheme(.w4a16, groupSize: 128), differing: 0.01),
    PeerRounding(
      folder: "W4A16-G32", scheme: IntegerScheme(.w4a16, groupSize: 32), differing: 0.02),
    PeerRounding(
      folder: "W4A16_ASYM", scheme: IntegerScheme(.w4a16Asymmetric, groupSize: 128), differing: 0.01
    ),
    PeerRounding(folder: "W8A16", scheme: IntegerScheme(.w8a16, groupSize: 128), differing: 0.12),
  ]

  var testDescription: String { folder }

  func model() throws -> ShardedModel {
    try ShardedModel(folder: fixturePath("rtn/bf16/" + folder))
  }

  /// Element j of a word lies in bits `bits * j` of it, plus 2^(bits-1).
  func unpack(_ words: [Int]) -> [Int] {
    words.flatMap { word in
      (0..<32 / scheme.bits).map { element in
        let bits = UInt32(truncatingIfNeeded: word) >> UInt32(element * scheme.bits)
        return Int(bits & (1 << scheme.bits - 1)) - 1 << (scheme.bits - 1)
      }
    }
  }
}

func source() throws -> Checkpoint {
  try Checkpoint(folder: fixturePath("rtn/bf16/source"))
}

/// The tensors of a Linear as `QuantizedLinear.round` hands them out, put together.
func packed(
  _ linear: QuantizedLinear, _ weight: any WeightRows, by rounding: Rounding = .nearest,
  largest: Float? = nil, threads: Int = 2
) throws -> [String: [UInt8]] {
  let parts = Mutex<[String: [UInt8]]>(
    Dictionary(
      uniqueKeysWithValues: linear.tensors.map {
        ($0.name, [UInt8](repeating: 0xee, count: $0.byteCount))
      }))
  try unsafe linear.round(
    weight, by: rounding, largest: largest, backend: Backend(threads: threads)
  ) { bytes, name, offset in
    let bytes = unsafe Array(bytes)
    parts.withLock { $0[name]!.replaceSubrange(offset..<offset + bytes.count, with: bytes) }
  }
  return parts.withLock { $0 }
}

@Suite struct PackQuantizedTests {
  @Test(arguments: PeerRounding.all)
  func scalesZeroPointsAndShapesAreThePeersToTheByte(peer: PeerRounding) throws {
    let (source, model) = (try source(), try peer.model())
    for linear in source.spec.layers.flatMap(\.linears) {
      let packedLinear = peer.scheme.linear(linear, dtype: .bf16)
      let found = try packed(packedLinear, source.weights.weight(linear))
      for spec in packedLinear.tensors {
        let expected = try #require(model[spec.name])
        #expect(expected.dtype == spec.dtype && expected.shape == spec.shape, "\(spec.name)")
        if !spec.name.hasSuffix(".weight_packed") {
          #expect(found[spec.name] == expected.bytes, "\(spec.name)")
        }
      }
    }
  }

  @Test(arguments: PeerRounding.all)
  func codesDifferFromThePeersOnlyWhereItRoundedQuotientsToBFloat16(peer: PeerRounding) throws {
    let (source, model) = (try source(), try peer.model())
    var (different, all) = (0, 0)
    for linear in source.spec.layers.flatMap(\.linears) {
      let name = linear.name + ".weight_packed"
      let found = try packed(
        peer.scheme.linear(linear, dtype: .bf16), source.weights.weight(linear))
      let words = try unsafe #require(found[name]).withUnsafeBytes { bytes in
        unsafe bytes.bindMemory(to: Int32.self).map { Int($0) }
      }
      let expected = peer.unpack(try #require(model[name]).integers)
      let differences = zip(peer.unpack(words), expected).map { abs($0 - $1) }
      #expect(differences.max() ?? 0 <= 1, "\(name)")
      different += differences.filter { $0 != 0 }.count
      all += differences.count
    }
    #expect(Double(different) < peer.differing * Double(all))
    #expect(all > 0 && different > 0, "equal codes would mean that the peer's files were made anew")
  }

  @Test(arguments: PeerRounding.all)
  func packedWeightsDecodeToCodesLessZeroPointsTimesScales(peer: PeerRounding) throws {
    let checkpoint = try Checkpoint(folder: fixturePath("rtn/bf16/" + peer.folder))
    for linear in checkpoint.spec.layers.flatMap(\.linears) {
      let tensor = { checkpoint.weights.tensor(linear.name + $0) }
      let codes = peer.unpack(tensor(".weight_packed").integers)
      let scales = tensor(".weight_scale").floats
      let groups = linear.inputs / peer.scheme.groupSize
      var zeros = [Int](repeating: 0, count: linear.outputs * groups)
      if !peer.scheme.isSymmetric {
        let words = tensor(".weight_zero_point").integers
        for row in 0..<linear.outputs {
          for group in 0..<groups {
            let codes = peer.unpack([words[row / 8 * groups + group]])
            zeros[row * groups + group] = codes[row % 8]
          }
        }
      }
      let expected = codes.indices.map { index -> Float in
        let (row, column) = (index / linear.inputs, index % linear.inputs)
        let group = row * groups + column / peer.scheme.groupSize
        return Float(codes[index] - zeros[group]) * scales[group]
      }
      let weight = checkpoint.weights.weight(linear)
      #expect(weight.rows == linear.outputs && weight.columns == linear.inputs)
      #expect(weight.matrix(0..<weight.rows).values == expected, "\(linear.name)")
      #expect(weight.matrix(5..<7).values == Array(expected[5 * linear.inputs..<7 * linear.inputs]))
    }
  }

  /// Rows that are no whole tile, and a number of rows that fills no word of zero points.
  @Test(arguments: PeerRounding.all, [1, 7, 8, 255, 256, 257, 521])
  func everyRowIsPackedOnceAtAnyNumberOfThreads(peer: PeerRounding, rows: Int) throws {
    var generator = SeededGenerator(seed: 51)
    let weight = generator.matrix(rows, 128)
    let linear = LinearSpec("m", inputs: 128, outputs: rows)
    let packedLinear = peer.scheme.linear(linear, dtype: .f16)
    let results = try [1, 2, 7].map { try packed(packedLinear, weight, threads: $0) }
    #expect(results[0] == results[1] && results[0] == results[2])
    let rounded = try peer.scheme.round(weight, rows: 0..<rows, dtype: .f16)
    let found = try #require(results[0]["m.weight_packed"])
    let words = unsafe found.withUnsafeBytes {
      unsafe $0.bindMemory(to: Int32.self).map { Int($0) }
    }
    #expect(peer.unpack(words) == rounded.codes.map { Int($0) })
    #expect(results[0]["m.weight_scale"] == DType.f16.encoded(rounded.scales))
    #expect(
      results[0]["m.weight_shape"]
        == [rows, 128].flatMap { size in (0..<8).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }
        })
    guard let zeros = results[0]["m.weight_zero_point"] else {
      #expect(peer.scheme.isSymmetric)
      return
    }
    let groups = 128 / peer.scheme.groupSize
    let zeroWords = unsafe zeros.withUnsafeBytes {
      unsafe $0.bindMemory(to: UInt32.self).map { Int($0) }
    }
    for row in 0..<(rows + 7) / 8 * 8 {
      for group in 0..<groups {
        let code = peer.unpack([zeroWords[row / 8 * groups + group]])[row % 8]
        // Behind the last row the bits are zero, which reads as -8.
        #expect(code == (row < rows ? Int(rounded.zeroPoints[row * groups + group]) : -8))
      }
    }
  }

  @Test func aNaNIsNamedByRowAndColumn() {
    var generator = SeededGenerator(seed: 52)
    let weight = generator.matrix(300, 128)
    unsafe weight.row(299)[17] = .nan
    let linear = IntegerScheme(.w4a16, groupSize: 32).linear(
      LinearSpec("m", inputs: 128, outputs: 300), dtype: .bf16)
    #expect(throws: NonFiniteWeight(row: 299, column: 17)) { try packed(linear, weight) }
  }

  @Test func anErrorOfTheWriterEndsTheRounding() {
    struct Full: Error, Equatable {}
    var generator = SeededGenerator(seed: 53)
    let weight = generator.matrix(600, 128)
    let linear = IntegerScheme(.w4a16, groupSize: 32).linear(
      LinearSpec("m", inputs: 128, outputs: 600), dtype: .bf16)
    #expect(throws: Full()) {
      try unsafe linear.round(weight, backend: Backend(threads: 2)) { _, name, offset in
        if name == "m.weight_scale", offset > 0 { throw Full() }
      }
    }
  }

  /// Two that are finite, and one in the middle that is not.
  @Test(arguments: [1, 3])
  func `Linears in one loop become what each becomes by itself`(threads: Int) throws {
    var generator = SeededGenerator(seed: 54)
    let scheme = IntegerScheme(.w4a16, groupSize: 32)
    let names = ["gate", "bad", "up"]
    let linears = names.enumerated().map { place, name in
      let spec = LinearSpec(name, inputs: 128, outputs: 90 + 64 * place)
      return (scheme.linear(spec, dtype: .bf16), generator.matrix(spec.outputs, 128))
    }
    unsafe linears[1].1.base[7] = .nan
    let roundings: [Rounding] = [.nearest, .nearest, .clip([Float](repeating: 1, count: 128))]
    let parts = Mutex<[String: [Int: [UInt8]]]>([:])
    let results = unsafe QuantizedLinear.round(
      zip(linears, roundings).map {
        LinearToRound($0.0, $0.1, by: $1, largest: nil, largestInput: 0)
      }, backend: Backend(threads: threads)
    ) { bytes, name, offset in
      let bytes = unsafe Array(bytes)
      parts.withLock { $0[name, default: [:]][offset] = bytes }
    }
    #expect(throws: NonFiniteWeight(row: 0, column: 7)) { try results[1].get() }
    for place in [0, 2] {
      let (linear, weight) = linears[place]
      for (name, bytes) in try packed(linear, weight, by: roundings[place]) {
        let found = parts.withLock { $0[name] ?? [:] }.sorted { $0.key < $1.key }
        #expect(found.flatMap(\.value) == bytes, "\(name)")
      }
      let alone = try unsafe linear.round(
        weight, by: roundings[place], backend: Backend(threads: 1)
      ) { _, _, _ in }
      #expect(try results[place].get() == alone)
    }
  }
}
