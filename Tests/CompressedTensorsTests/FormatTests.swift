// Every format against compressed-tensors: the bytes of what is rounded to nearest, and the numbers that bytes stand for.

import CompressedTensors
import JSON
import LinearAlgebra
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

/// A case of `fixtures/formats`.
struct StoredScheme: CustomTestStringConvertible, Sendable {
  let name: String

  static let all: [StoredScheme] = fixtures(in: "formats").filter {
    $0.hasSuffix(".safetensors") && $0 != "source.safetensors"
  }.map { StoredScheme(name: String($0.dropLast(".safetensors".count))) }

  var testDescription: String { name }

  func scheme() throws -> QuantizationScheme {
    let all = try JSONValue.parse(FileSystem.readFile(fixturePath("formats/schemes.json")))
    return try QuantizationScheme(try #require(all.object?[name]))
  }

  func file() throws -> SafetensorsFile {
    try SafetensorsFile(path: fixturePath("formats/\(name).safetensors"))
  }

  static func source() throws -> SafetensorsFile {
    try SafetensorsFile(path: fixturePath("formats/source.safetensors"))
  }
}

/// One of its Linears.
private struct StoredLinear {
  let weight: Matrix
  let linear: QuantizedLinear
  let decoded: [Float]

  static func all(of stored: StoredScheme) throws -> [StoredLinear] {
    let (file, source, scheme) = (try stored.file(), try StoredScheme.source(), try stored.scheme())
    return try source.tensors.compactMap { tensor in
      guard let decoded = file["decoded.\(tensor.name)"] else { return nil }
      let spec = LinearSpec(tensor.name, inputs: tensor.shape[1], outputs: tensor.shape[0])
      return StoredLinear(
        weight: try source.matrix(tensor.name, columns: spec.inputs),
        linear: QuantizedLinear(spec, scheme, dtype: .bf16), decoded: decoded.floats)
    }
  }
}

@Suite struct FormatTests {
  @Test func `every preset that is written has been stored by compressed-tensors`() throws {
    let schemes = try StoredScheme.all.map { try $0.scheme().weights }
    #expect(StoredScheme.all.count > 25)
    for preset in CompressionFormats.presets {
      #expect(schemes.contains(preset.scheme.weights), "\(preset.name)")
    }
  }

  @Test(arguments: StoredScheme.all)
  func `rounded to nearest, every tensor is compressed-tensors' to the byte`(
    stored: StoredScheme
  ) throws {
    let file = try stored.file()
    let linears = try StoredLinear.all(of: stored)
    #expect(!linears.isEmpty)
    let fused = stored.name.hasSuffix("-fused")
    let largest = try StoredScheme.source().tensors.flatMap(\.floats).map(\.magnitude).max()
    var seen = Set(
      linears.map { "decoded." + ($0.linear.tensors[0].name.split(separator: ".")[0]) })
    for each in linears {
      for threads in [1, 3] {
        let found = try packed(
          each.linear, each.weight, largest: fused ? largest : nil, threads: threads)
        for spec in each.linear.tensors {
          let expected = try #require(file[spec.name], "\(spec.name)")
          #expect(expected.dtype == spec.dtype && expected.shape == spec.shape, "\(spec.name)")
          let different = zip(found[spec.name] ?? [], expected.bytes).enumerated().filter {
            $1.0 != $1.1
          }
          #expect(different.isEmpty, "\(spec.name): \(different.prefix(5)) of \(different.count)")
          seen.insert(spec.name)
        }
      }
    }
    #expect(Set(file.tensors.map(\.name)).subtracting(seen) == [])
  }

  @Test(arguments: StoredScheme.all)
  func `stored weights are the numbers that compressed-tensors reads`(stored: StoredScheme) throws {
    let file = try stored.file()
    for each in try StoredLinear.all(of: stored) {
      let weight = try #require(each.linear.codec.decode { file[$0] })
      let values = weight.matrix(0..<weight.rows).values
      #expect(DType.bf16.rounded(values) == each.decoded)
      let part = 1..<min(weight.rows, 37)
      #expect(
        weight.matrix(part).values
          == Array(values[weight.columns..<part.upperBound * weight.columns]))
      #expect(each.linear.codec.faults({ file[$0] }, windowBytes: 64) == [])
    }
  }

  /// As llm-compressor wrote them before there was a name for the type of scales.
  @Test(arguments: ["NVFP4A16", "MXFP4A16"])
  func `a type of scales that a file leaves out follows from its groups`(name: String) throws {
    let stored = StoredScheme(name: name)
    let scheme = try stored.scheme()
    let weights = try #require(scheme.weights)
    let old = QuantizationScheme(
      weights: QuantizationArguments(
        bits: 4, type: .float, strategy: weights.strategy, groupSize: weights.groupSize))
    let block = QuantizationConfig(groups: [old], ignore: []).json
    let read = try QuantizationConfig(block, file: "config.json")
    #expect(read.groups == [old])
    #expect(CompressionFormats.problem(writing: old)?.path == ["weights", "scale_dtype"])
    let file = try stored.file()
    let linear = QuantizedLinear(
      LinearSpec("plain", inputs: 256, outputs: 40), old, dtype: .bf16)
    let values = try #require(linear.codec.decode { file[$0] }).matrix(0..<40).values
    #expect(DType.bf16.rounded(values) == file["decoded.plain"]?.floats)
  }

  /// What makes a stored number none.
  @Test(arguments: [
    ("MXFP4A16", "weight_scale", 0xff as UInt8), ("MXFP8A16", "weight_scale", 0xff),
    ("NVFP4A16", "weight_scale", 0x7f), ("NVFP4A16", "weight_scale", 0),
    ("FP8_BLOCK", "weight", 0x7f),
    ("MXFP8A16", "weight", 0xff),
  ])
  func `a code that is no number is a fault`(name: String, part: String, code: UInt8) throws {
    let stored = StoredScheme(name: name)
    let each = try #require(try StoredLinear.all(of: stored).first { $0.weight.columns == 256 })
    try withTemporaryFolder { folder in
      var tensors = try stored.file().tensors.map {
        LooseTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
      }
      let place = try #require(tensors.firstIndex { $0.name == "plain.\(part)" })
      tensors[place].bytes[5] = code
      try LooseTensor.write(tensors, to: folder + "/model.safetensors")
      let file = try SafetensorsFile(path: folder + "/model.safetensors")
      let faults = each.linear.codec.faults({ file[$0] }, windowBytes: 1 << 20)
      #expect(faults.map(\.tensor) == ["plain.\(part)"])
      #expect(faults.first?.problem.contains("element 5 is") == true, "\(faults)")
    }
  }

  /// The numbers of the reference's table: packed codes of one row, and its scales.
  @Test(arguments: [
    ("NVFP4A16", "0018293ac3d4e5f6b3c3c4d5d5e5f6f7", "6c7e"),
    ("MXFP4A16", "00080808809191a1a2a2b2b3c4c4d5e5", "7f"),
    ("MXFP6A16", "000006a1200e03599407aab08e0bc5924cd5968de91cdff9", "7e"),
    ("MXFP8A16", "0032b245c94dd05355d85adb5de062e466e668e96aea6ced6eee70f274f475f6", "79"),
    ("FP8_DYNAMIC", "003aba4dd155d85b5de062e365e86aec6eee70f172f274f576f678fa7cfc7dfe", "003c"),
  ])
  func `the row of the table is rounded as it was`(name: String, codes: String, scales: String)
    throws
  {
    func hex(_ bytes: some Sequence<UInt8>) -> String {
      bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
    let each = try #require(
      try StoredLinear.all(of: StoredScheme(name: name)).first { $0.weight.rows == 2 })
    let found = try packed(each.linear, each.weight)
    let tensors = each.linear.tensors
    #expect(hex(try #require(found[tensors[0].name]).prefix(codes.count / 2)) == codes)
    #expect(hex(try #require(found[tensors[1].name]).prefix(scales.count / 2)) == scales)
    #expect(try #require(found[tensors[0].name]).dropFirst(codes.count / 2).allSatisfy { $0 == 0 })
    if name == "NVFP4A16" {
      // The table has 768; PyTorch's division of a number by a tensor is off by one rounding.
      let bytes = try #require(found["check.weight_global_scale"])
      let global = unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(as: Float.self) }
      #expect(global.bitPattern - (768 as Float).bitPattern <= 1)
      #expect(try #require(found[tensors[1].name]).suffix(2) == [0x20, 0x20])
    }
  }
}
