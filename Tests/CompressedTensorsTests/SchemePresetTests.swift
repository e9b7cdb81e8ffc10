// Presets against compressed-tensors' own, and which of them are written.

import CompressedTensors
import JSON
import Quantization
import SystemIO
import Testing
import TestSupport

@Suite struct SchemePresetTests {
  private func peers() throws -> JSONObject {
    let bytes = try FileSystem.readFile(fixturePath("schemes/presets.json"))
    return try #require(try JSONValue.parse(bytes).object)
  }

  @Test func `every preset has the values and the format of compressed-tensors`() throws {
    let peers = try peers()
    #expect(peers.count == 30)
    for (name, block) in peers.entries {
      let preset = try #require(SchemePreset.named(name), "\(name)")
      var expected = try QuantizationScheme(block)
      let format = expected.format
      expected.format = nil
      #expect(preset.scheme == expected, "\(name)")
      #expect(CompressionFormats.name(of: preset.scheme) == format, "\(name)")
    }
  }

  /// 0.19 has three less than 0.20.
  @Test func `all other presets are those of a later version`() throws {
    let known = try peers()
    let more = SchemePreset.all.map(\.name).filter { known[$0] == nil }
    #expect(more == ["MXFP4XFP8", "MXFP6A16", "MXFP6A8"])
    #expect(SchemePreset.all.count == 33)
  }

  @Test func `presets that a format writes are found by any case`() throws {
    let others = ["UNQUANTIZED"]
    #expect(
      CompressionFormats.presets.map(\.name)
        == SchemePreset.all.map(\.name).filter { !others.contains($0) })
    #expect(
      try SchemePreset.written("w4a16_asym")
        == IntegerScheme(.w4a16Asymmetric, groupSize: 128).scheme)
    for preset in IntegerScheme.Preset.allCases {
      #expect(
        try SchemePreset.written(preset.rawValue) == IntegerScheme(preset, groupSize: 128).scheme)
    }
  }

  @Test(arguments: [
    ("UNQUANTIZED", "not written yet, because of its `weights`"),
    ("W4A15", "no scheme of compressed-tensors"),
  ])
  func `a preset that is not written is refused with the reason and those that are`(
    name: String, reason: String
  ) {
    let error = #expect(throws: PresetProblem.self) { try SchemePreset.written(name) }
    #expect(
      error?.description
        == "'\(name)' is \(reason); choose one of "
        + CompressionFormats.presets.map(\.name).joined(separator: ", "))
  }

  @Test(arguments: [
    ("W4A8", "pack-quantized"), ("W4AFP8", "pack-quantized"), ("W2A4", "pack-quantized"),
    ("W8A8", "int-quantized"), ("FP8_BLOCK", "float-quantized"),
    ("NVFP4A16", "nvfp4-pack-quantized"),
    ("MXFP4", "mxfp4-pack-quantized"), ("MXFP6A8", "mxfp6-pack-quantized"),
    ("MXFP8", "mxfp8-quantized"),
  ])
  func `a preset is written in the format that vLLM loads`(name: String, format: String) throws {
    let scheme = try SchemePreset.written(name)
    #expect(CompressionFormats.name(of: scheme) == format)
    #expect(scheme.preset?.name == (name == "INT8" ? "W8A8" : name))
  }

  /// Those of the whole table, for Linears in general and for routed experts.
  @Test func `presets that vLLM does not load are known with the reason`() throws {
    func unloaded(forExperts: Bool) throws -> [String] {
      try CompressionFormats.presets.filter {
        CompressionFormats.loadingProblem(
          try SchemePreset.written($0.name), forExperts: forExperts) != nil
      }.map(\.name)
    }
    #expect(try unloaded(forExperts: false) == ["MXFP6A16", "MXFP6A8"])
    #expect(
      try unloaded(forExperts: true) == [
        "W2A8", "W3A8", "W4A8", "W5A8", "W6A8", "W7A8", "W2A4", "W3A4", "W4A4", "MXFP6A16",
        "MXFP6A8",
      ])
    // A code in each byte: as compressed-tensors stores them, and vLLM's experts on a CPU take them.
    for (name, isLoaded) in [("W4A8", true), ("W3A8", false), ("W4A4", false), ("W4AFP8", false)] {
      let bytes = try #require(SchemePreset.named(name)?.scheme)
      for forExperts in [false, true] {
        let problem = CompressionFormats.loadingProblem(bytes, forExperts: forExperts)
        #expect((problem == nil) == isLoaded, "\(name)")
        #expect(isLoaded || problem?.contains("pack-quantized") == true)
      }
    }
  }

  /// FP8 beside what is no W4AFP8, whatever has it.
  @Test func `packed integers beside floats are loaded in groups of 128 alone`() throws {
    let preset = try SchemePreset.written("W4AFP8")
    func problem(_ size: Int?, bits: Int = 4, inputs: QuantizationArguments? = nil) -> String? {
      var scheme = preset
      scheme.weights = QuantizationArguments(
        bits: bits, type: .int, strategy: size == nil ? .channel : .group, groupSize: size)
      if let inputs { scheme.inputActivations = inputs }
      return CompressionFormats.loadingProblem(scheme, forExperts: false)
    }
    #expect(problem(128) == nil)
    for size in [32, 64, 256, nil] { #expect(problem(size)?.contains("groups of 128") == true) }
    #expect(problem(128, bits: 8)?.contains("W4AFP8") == true)
    let others = try ["MXFP8", "FP8"].map {
      try #require(SchemePreset.written($0).inputActivations)
    }
    for inputs in others { #expect(problem(128, inputs: inputs)?.contains("W4AFP8") == true) }
  }

  @Test func `a scheme is called by its preset with any group size`() {
    #expect(IntegerScheme(.w4a16, groupSize: 32).scheme.name == "W4A16")
    #expect(IntegerScheme(.w4a16, groupSize: 32).scheme.words == "W4A16 in groups of 32")
    let other = IntegerScheme(bits: 8, groupSize: 64, isSymmetric: false).scheme
    #expect(other.name == "8 bits asymmetric")
    #expect(other.words == "8 bits asymmetric in groups of 64")
  }
}
