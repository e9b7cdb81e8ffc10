// Verify passes what a run wrote, and finds every fault that is planted in it.

import CompressedTensors
import JSON
import Pipeline
import Planning
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

@Suite struct VerifyModelTests {
  private let expert = "model.layers.1.mlp.experts.2.down_proj"
  private let ignored = "model.layers.0.mlp.down_proj.weight"

  private func report(
    source: Bool = true, checksums: Bool = true,
    options: (inout QuantizeOptions) -> Void = { _ in },
    planting plant: (SpoiledOutput) throws -> Void
  ) throws -> VerifyReport {
    try withTemporaryFolder { folder in
      let output = try SpoiledOutput(in: folder, options)
      if !checksums { try output.forgetChecksums() }
      try plant(output)
      return try output.verify(source: source)
    }
  }

  /// The subjects of what is found.
  private func subjects(
    source: Bool = true, checksums: Bool = true,
    options: (inout QuantizeOptions) -> Void = { _ in },
    planting plant: (SpoiledOutput) throws -> Void
  ) throws -> Set<String> {
    let report = try report(
      source: source, checksums: checksums, options: options, planting: plant)
    return Set(report.findings.map(\.subject))
  }

  /// Several shards.
  private func cut(_ options: inout QuantizeOptions) { options.maximumShardBytes = 40_000 }

  // MARK: Nothing wrong

  @Test func `a finished output has no findings`() throws {
    let report = try report { _ in }
    #expect(report.findings == [])
    #expect(report.rescaledTensors == 3)
    #expect(report.checkedTensors == report.tensors)
    #expect(report.errors.count == report.quantizedLinears)
    #expect(report.errors.allSatisfy { $0.relative > 0 && $0.relative < 0.4 })
    #expect(report.errors.allSatisfy { $0.worstGroup >= $0.relative })
  }

  @Test(arguments: [IntegerScheme.Preset.w4a16, .w4a16Asymmetric, .w8a16], [true, false])
  func `no scheme has findings`(preset: IntegerScheme.Preset, smooths: Bool) throws {
    let report = try report(options: {
      $0.schemes = [IntegerScheme(preset, groupSize: 32).scheme]
      $0.smooths = smooths
      cut(&$0)
    }) { _ in }
    #expect(report.findings == [])
    #expect(smooths || report.rescaledTensors == 0)
  }

  /// Compensation hands the errors of large groups on to small ones.
  @Test(
    arguments: [IntegerScheme.Preset.w4a16, .w4a16Asymmetric, .w8a16],
    [(0.1, 1), (0.01, 1), (0.01, 1000), (1, 1000)] as [(Float, Float)])
  func `groups and channels that differ much in size have no findings`(
    preset: IntegerScheme.Preset, sizes: (group: Float, channel: Float)
  ) throws {
    try withTemporaryFolder { folder in
      let source = try unevenModel(in: folder, group: sizes.group, channel: sizes.channel)
      for method in RoundingMethod.allCases {
        let output = try SpoiledOutput(in: "\(folder)/\(method)") {
          $0.model = source
          $0.ignore = []
          $0.schemes = [IntegerScheme(preset, groupSize: 32).scheme]
          $0.rounding = method
        }
        #expect(try output.verify().findings == [], "\(method)")
      }
    }
  }

  /// Some channels of an activation are always 0, so that smoothing would make rows of what produces them far larger than the
  /// others, which share a scale with them, or one above their own.
  @Test(arguments: ["NVFP4A16", "NVFP4", "FP8", "FP8_BLOCK"])
  func `smoothing loses no rows that share scales`(scheme: String) throws {
    try withTemporaryFolder { folder in
      let source = try quietRowsModel(in: folder)
      let scheme = try SchemePreset.written(scheme)
      var warnings: [RunWarning] = []
      let options = SpoiledOutput.options(folder) {
        $0.model = source
        $0.schemes = [scheme]
      }
      try SmallRun.run(options) { event in
        if case .warning(.rowsLost(let linear, let count, let all, let name)) = event {
          warnings.append(.rowsLost(linear: linear, count: count, of: all, scheme: name))
        }
      }
      #expect(warnings == [])
      let report = try VerifyModel(output: options.output, source: source, threads: 2).run()
      #expect(report.findings == [])
    }
  }

  /// One weight is so large that all others are lost beside it, whatever the smoothing: that is said.
  @Test func `rows that a scheme loses by itself are warned of`() throws {
    try withTemporaryFolder { folder in
      let source = try changedModel(in: folder) { name, _, place, value in
        name == expert + ".weight" && place == 3 ? 1e9 : value
      }
      var warnings: [String] = []
      let scheme = try SchemePreset.written("NVFP4A16")
      try SmallRun.run(
        SpoiledOutput.options(folder) {
          $0.model = source
          $0.schemes = [scheme]
        }
      ) { if case .warning(let warning) = $0 { warnings.append("\(warning)") } }
      let lost = warnings.filter { $0.contains("rows became 0") }
      #expect(lost.count == 1 && lost[0].hasPrefix("`\(expert)`: "))
      #expect(lost[0].contains("NVFP4A16") && lost[0].contains("--ignore"))
    }
  }

  private func quietRowsModel(in folder: String) throws -> String {
    // Rows of the gate that are zeros, and the rows of up that they silence large.
    try changedModel(in: folder) { name, columns, place, value in
      if place / columns % 8 > 0 { return value }
      return name.hasSuffix(".gate_proj.weight")
        ? 0 : name.hasSuffix(".up_proj.weight") ? 100 * value : value
    }
  }

  /// The small model, the first group of every row smaller and one hidden channel louder.
  private func unevenModel(in folder: String, group: Float, channel: Float) throws -> String {
    try changedModel(in: folder) { name, columns, place, value in
      let isSmall = name.hasSuffix("_proj.weight") && place % columns < 32
      let isLoud = name.hasSuffix("layernorm.weight") && place == 40
      return value * (isSmall ? group : 1) * (isLoud ? channel : 1)
    }
  }

  private func changedModel(
    in folder: String,
    _ change: (_ name: String, _ columns: Int, _ place: Int, _ value: Float) -> Float
  ) throws -> String {
    let path = folder + "/model"
    try FileSystem.createFolder(path)
    for name in try FileSystem.list(SmallRun.model) where !name.hasPrefix("golden") {
      try FileSystem.copyFile(from: "\(SmallRun.model)/\(name)", to: "\(path)/\(name)")
    }
    let file = try SafetensorsFile(path: SmallRun.model + "/model.safetensors")
    let tensors = file.tensors.map { stored in
      let values = unsafe stored.bytes.withUnsafeBytes {
        unsafe Array($0.bindMemory(to: Float.self))
      }.enumerated().map { change(stored.name, stored.shape.last ?? 1, $0, $1) }
      return LooseTensor(stored.name, stored.shape, values, as: .f32)
    }
    try LooseTensor.write(tensors, to: path + "/model.safetensors")
    return path
  }

  @Test func `a check tells how far it is`() throws {
    try withTemporaryFolder { folder in
      let output = try SpoiledOutput(in: folder)
      var seen: [VerifyProgress] = []
      _ = try VerifyModel(
        output: output.path, source: output.source, threads: 2, report: { seen.append($0) }
      ).run()
      let shares = seen.map(\.share)
      #expect(shares == shares.sorted() && shares[0] < 0.5)
      #expect(abs((shares.last ?? 0) - 1) < 0.1)
      var parts: [VerifyStep] = []
      for part in seen.map(\.part) where parts.last != part { parts.append(part) }
      #expect(parts == [.checksums, .numbers, .source])
    }
  }

  @Test(arguments: ["W4A16", "W4A16-G32", "W4A16_ASYM", "W8A16"])
  func `an output of the peer has no findings`(scheme: String) throws {
    let report = try VerifyModel(
      output: fixturePath("rtn/bf16/" + scheme), source: fixturePath("rtn/bf16/source"), threads: 2
    ).run()
    #expect(report.findings == [])
    #expect(report.checkedTensors == nil)
  }

  // MARK: Bytes

  @Test(arguments: [(true, false), (false, true)])
  func `a flipped nibble in an ignored layer is found`(source: Bool, checksums: Bool) throws {
    let found = try subjects(source: source, checksums: checksums) {
      try $0.change(ignored) { $0[5] ^= 0x10 }
    }
    #expect(found == [ignored])
  }

  @Test func `a flipped bit in a packed word is found by its checksum`() throws {
    let name = expert + ".weight_packed"
    #expect(try subjects(source: false) { try $0.change(name) { $0[9] ^= 1 } } == [name])
    #expect(
      try subjects(checksums: false) { try $0.change(name) { $0[9] ^= 1 } } == [],
      "one step of one weight is no more than another rounding")
  }

  @Test func `tensors of two experts that took each other's place are found`() throws {
    let other = "model.layers.1.mlp.experts.3.down_proj"
    let parts = [".weight_packed", ".weight_scale"]
    func swap(_ output: SpoiledOutput) throws {
      for part in parts { try output.swap(expert + part, other + part) }
    }
    #expect(try subjects(checksums: false, planting: swap) == [expert, other])
    #expect(
      try subjects(source: false, planting: swap)
        == Set([expert, other].flatMap { name in parts.map { name + $0 } }))
  }

  @Test func `a changed norm is found`() throws {
    let name = "model.layers.1.post_attention_layernorm.weight"
    #expect(try subjects(checksums: false) { try $0.change(name) { $0[2] ^= 0x10 } } == [name])
  }

  @Test func `recorded smoothing scales that changed are found`() throws {
    let report = try report { output in
      let path = output.path + "/.sluice/smoothing.safetensors"
      var bytes = try FileSystem.readFile(path)
      bytes[bytes.count - 1] ^= 0x01
      try replaceFile(path, with: bytes)
    }
    #expect(report.findings.contains { $0.subject.hasSuffix(".smoothing_scale") })
  }

  @Test func `checksums that were tampered with are found`() throws {
    let found = try subjects { output in
      let path = output.path + "/.sluice/checksums.txt"
      let lines = String(decoding: try FileSystem.readFile(path), as: UTF8.self)
        .split(separator: "\n").filter { !$0.hasSuffix(" " + ignored) }
      try replaceFile(
        path, with: Array((lines + ["?", "00000000 no.such"]).joined(separator: "\n").utf8))
    }
    #expect(found == [ignored, ".sluice/checksums.txt", "no.such"])
  }

  // MARK: Numbers

  @Test(arguments: [0, Float.nan, .infinity])
  func `a scale that is no scale is found`(value: Float) throws {
    let name = expert + ".weight_scale"
    let found = try subjects(source: false, checksums: false) { output in
      try output.change(name) { bytes in
        for byte in 0..<4 { bytes[byte] = UInt8(value.bitPattern >> (8 * UInt32(byte)) & 0xff) }
      }
    }
    #expect(found == [name])
  }

  /// Scales of few bits may have either sign where activations stay as they are.
  @Test(arguments: [("W4A16", false), ("W8A16", true), ("W4A8", true)])
  func `a scale below zero is a fault where nothing writes one`(
    scheme: String, isFault: Bool
  ) throws {
    try withTemporaryFolder { folder in
      let output = try SpoiledOutput(in: folder) {
        $0.schemes = [(try? SchemePreset.written(scheme).grouped(by: 32)) ?? $0.schemes[0]]
      }
      try output.forgetChecksums()
      try output.change(expert + ".weight_scale") { $0[3] |= 0x80 }
      let found = try output.verify(source: false).findings.map(\.subject)
      #expect(found == (isFault ? [expert + ".weight_scale"] : []))
    }
  }

  /// By a power of two, of a single group.
  @Test(arguments: [2, -2, 3, 30])
  func `a scale of another size is found without checksums`(exponents: Int) throws {
    let found = try subjects(checksums: false) { output in
      try output.change(expert + ".weight_scale") { bytes in
        let bits = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[20 + $1]) << UInt32(8 * $1) }
        let scaled = Float(bitPattern: bits) * (exponents < 0 ? 0.25 : Float(1 << exponents))
        for byte in 0..<4 {
          bytes[20 + byte] = UInt8(scaled.bitPattern >> (8 * UInt32(byte)) & 0xff)
        }
      }
    }
    #expect(found == [expert])
  }

  /// Where one number stands above all scales of a weight: a scale by itself, or that number.
  @Test(arguments: ["NVFP4A16", "NVFP4"], [true, false])
  func `a wrong scale of two levels is found without checksums`(
    scheme: String, smooths: Bool
  ) throws {
    try withTemporaryFolder { folder in
      let preset = try SchemePreset.written(scheme)
      let output = try SpoiledOutput(in: folder) {
        $0.schemes = [preset]
        $0.smooths = smooths
      }
      try output.forgetChecksums()
      #expect(try output.verify().findings == [])
      // E4M3 has three bits of fraction: three exponents below the largest.
      let scales = expert + ".weight_scale"
      var place = 0
      try output.change(scales) { bytes in
        let largest = try #require(bytes.max())
        place = try #require(bytes.firstIndex(of: largest))
        bytes[place] -= 24
      }
      #expect(try output.verify().findings.map(\.subject) == [expert])
      try output.change(scales) { $0[place] += 24 }
      for factor in [Float(1.05), 0.9, 2, 0.01] {
        let name = expert + ".weight_global_scale"
        func set(_ change: (Float) -> Float) throws {
          try output.change(name) { bytes in
            let bits = bytes.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            bytes = DType.f32.encoded([change(Float(bitPattern: bits))])
          }
        }
        var right: Float = 0
        try set {
          right = $0
          return $0 * factor
        }
        #expect(try Set(output.verify().findings.map(\.subject)) == [expert], "\(factor)")
        try set { _ in right }
      }
    }
  }

  @Test func `a number that is none is found in what is not quantized`() throws {
    let name = "model.norm.weight"
    let report = try report(source: false, checksums: false) {
      try $0.change(name) { $0.replaceSubrange(4..<8, with: [0, 0, 0xc0, 0x7f]) }
    }
    #expect(report.findings.map(\.subject) == [name])
    #expect(report.findings.first?.problem.contains("element 1 is nan") == true)
  }

  @Test func `a wrong recorded shape is found`() throws {
    let name = "model.layers.1.self_attn.q_proj.weight_shape"
    #expect(
      try subjects(source: false, checksums: false) { try $0.change(name) { $0[0] ^= 0x10 } }
        == [name])
  }

  @Test func `a packed source that says another shape than it has is refused`() throws {
    let name = "model.layers.1.self_attn.q_proj.weight_shape"
    try withTemporaryFolder { folder in
      let source = try SpoiledOutput(in: folder)
      try source.change(name) { $0[0] ^= 0x10 }
      var options = SmallRun.options(folder + "/again")
      options.model = source.path
      #expect {
        try SmallRun.run(options)
      } throws: { error in
        guard case QuantizeError.wrongStoredShape(_, name, let problem) = error else {
          return false
        }
        return problem.contains("expected")
      }
    }
  }

  // MARK: Tensors

  @Test func `an expert that is missing is found, tensor by tensor`() throws {
    let prefix = "model.layers.1.mlp.experts.3."
    let found = try subjects { output in
      try output.rewrite(output.shards[0]) { $0.removeAll { $0.name.hasPrefix(prefix) } }
      try output.mendIndex()
    }
    let parts = ["weight_packed", "weight_scale", "weight_shape"]
    #expect(
      found
        == Set(
          ["gate", "up", "down"].flatMap { name in parts.map { "\(prefix)\(name)_proj.\($0)" } }))
  }

  @Test func `a tensor that does not belong there is found`() throws {
    let found = try subjects { output in
      try output.rewrite(output.shards[0]) {
        $0.append(LooseTensor(name: "model.extra", dtype: .f32, shape: [1], bytes: [0, 0, 0, 0]))
      }
      try output.mendIndex()
    }
    #expect(found == ["model.extra"])
  }

  @Test func `a tensor of another type or shape is found`() throws {
    let (packed, norm) = (expert + ".weight_packed", "model.layers.1.input_layernorm.weight")
    let report = try report(checksums: false) { output in
      try output.rewrite(output.shards[0]) { tensors in
        for index in tensors.indices {
          if tensors[index].name == packed { tensors[index].dtype = .u32 }
          if tensors[index].name == norm { tensors[index].shape = [1] + tensors[index].shape }
        }
      }
    }
    #expect(Set(report.findings.map(\.subject)) == [packed, norm])
    #expect(report.findings.contains { $0.problem.contains("is U32") })
    #expect(!report.errors.contains { $0.linear == expert }, "it cannot be read")
  }

  @Test func `zero points out of place are found`() throws {
    let name = expert + ".weight_zero_point"
    let asymmetric: (inout QuantizeOptions) -> Void = {
      $0.schemes = [IntegerScheme(.w4a16Asymmetric, groupSize: 32).scheme]
    }
    let turned = try subjects(checksums: false, options: asymmetric) { output in
      try output.rewrite(output.shards[0]) { tensors in
        for index in tensors.indices where tensors[index].name == name {
          tensors[index].shape.reverse()
        }
      }
    }
    #expect(turned == [name])
    let symmetric = try subjects(source: false, options: asymmetric) {
      try $0.changeScheme { _, weights in weights["symmetric"] = true }
    }
    #expect(symmetric.contains(name), "a symmetric scheme has none")
  }

  @Test func `a prediction layer that is missing, or taken for quantized, is found`() throws {
    let prefix = "model.layers.2."
    let predicting: (inout QuantizeOptions) -> Void = {
      $0.model = fixturePath("forward/published-mtp-bf16")
      $0.smooths = false
      $0.ignore = ["model.layers.0.mlp.*"]
    }
    let missing = try subjects(options: predicting) { output in
      try output.rewrite(output.shards[0]) { $0.removeAll { $0.name.hasPrefix(prefix) } }
      try output.changeIgnore { $0.removeAll { $0.string?.hasPrefix(prefix) == true } }
      try output.mendIndex()
    }
    #expect(missing.count > 5 && missing.allSatisfy { $0.hasPrefix(prefix) })
    let taken = try subjects(options: predicting) {
      try $0.changeIgnore { $0.removeAll { $0.string?.hasPrefix(prefix) == true } }
    }
    #expect(taken.count > 2 && taken.allSatisfy { $0.hasPrefix(prefix) })
  }

  @Test func `FP8 that nothing scales is found`() throws {
    let name = "model.layers.2.self_attn.o_proj.weight"
    let report = try report(
      source: false, checksums: false,
      options: {
        $0.model = fixturePath("forward/published-mtp-bf16")
        $0.smooths = false
        $0.ignore = ["model.layers.0.mlp.*"]
      }
    ) { output in
      try output.rewrite(output.shards[0]) { tensors in
        for index in tensors.indices where tensors[index].name == name {
          tensors[index].dtype = .f8E4M3
          tensors[index].bytes.removeLast(tensors[index].bytes.count / 2)
        }
      }
      try output.mendIndex()
    }
    #expect(report.findings.map(\.subject) == [name])
    #expect(report.findings.first?.problem.contains("is FP8") == true)
  }

  // MARK: Files and index

  @Test func `a truncated shard is one finding, and the others are still checked`() throws {
    let report = try report(options: cut) { output in
      let shards = try output.shards
      try #require(shards.count > 2)
      let last = "\(output.path)/\(shards[shards.count - 1])"
      let norm = "model.layers.0.input_layernorm.weight"
      try output.change(norm) { $0[0] ^= 1 }
      try replaceFile(last, with: FileSystem.readFile(last).dropLast(7))
    }
    let found = Set(report.findings.map(\.subject))
    #expect(found.count == 2 && found.contains("model.layers.0.input_layernorm.weight"))
    #expect(found.contains { $0.hasSuffix(".safetensors") })
    #expect(!report.errors.isEmpty, "what can be read is compared")
  }

  @Test func `a shard that is missing or unknown is found`() throws {
    let missing = try report(source: false, options: cut) { output in
      try FileSystem.remove("\(output.path)/\(output.shards[1])")
    }
    #expect(missing.findings.count == 1 && missing.findings[0].problem.contains("is missing"))
    let unknown = try subjects(options: cut) { output in
      try FileSystem.copyFile(
        from: "\(output.path)/\(output.shards[0])", to: output.path + "/old.safetensors")
    }
    #expect(unknown == ["old.safetensors"])
  }

  @Test func `an index that leads to the wrong shard is found`() throws {
    let found = try subjects(options: cut) { output in
      try output.changeIndex { $0[ignored] = .string(try output.shards[2]) }
    }
    #expect(found == [ignored])
  }

  @Test func `an index that lists too much or too little is found`() throws {
    let found = try subjects { output in
      try output.changeIndex {
        $0[ignored] = nil
        $0["no.such"] = .string(try output.shards[0])
      }
    }
    #expect(found == [ignored, "no.such"])
  }

  @Test func `a tensor in two shards is found`() throws {
    let found = try subjects(options: cut) { output in
      let shards = try output.shards
      var copies: [LooseTensor] = []
      try output.rewrite(shards[0]) { copies = [$0[0]] }
      try output.rewrite(shards[1]) { $0 += copies }
    }
    #expect(found.count == 1)
  }

  @Test func `an index that is gone or damaged is found`() throws {
    let index = "model.safetensors.index.json"
    let gone = try subjects(options: cut) { try FileSystem.remove("\($0.path)/\(index)") }
    #expect(gone == [index])
    let damaged = try subjects(options: cut) {
      try replaceFile("\($0.path)/\(index)", with: Array("{".utf8))
    }
    #expect(damaged == [index])
  }

  @Test func `a total that the tensors do not have is found`() throws {
    let found = try subjects { output in
      try output.changeJSON("model.safetensors.index.json") {
        $0["metadata"] = .object(JSONObject([("total_size", 12)]))
      }
    }
    #expect(found == ["model.safetensors.index.json"])
  }

  // MARK: config.json

  @Test func `a router that config json does not ignore is found`() throws {
    let name = "model.layers.1.mlp.gate"
    #expect(
      try subjects { try $0.changeIgnore { $0.removeAll { $0 == .string(name) } } } == [name])
  }

  @Test func `a Linear that config json calls quantized and that is not is found`() throws {
    let name = "model.layers.0.self_attn.q_proj"
    let found = try subjects { try $0.changeIgnore { $0.removeAll { $0 == .string(name) } } }
    #expect(found.isSuperset(of: [name + ".weight", name + ".weight_packed"]))
    #expect(found.contains("model.layers.0.self_attn.k_proj"), "the three are loaded as one")
  }

  @Test func `a quantized Linear that config json ignores is found`() throws {
    let found = try subjects { try $0.changeIgnore { $0.append(.string(expert)) } }
    #expect(found.isSuperset(of: [expert, expert + ".weight", expert + ".weight_packed"]))
  }

  @Test func `an ignored module that is not there is found`() throws {
    #expect(
      try subjects { try $0.changeIgnore { $0.append("model.layers.9.mlp.gate") } }
        == ["model.layers.9.mlp.gate"])
  }

  @Test func `a scheme that the tensors do not have is found`() throws {
    let wrong: [(String, JSONValue)] = [
      ("group_size", 64), ("num_bits", 8), ("symmetric", false),
    ]
    for (key, value) in wrong {
      let found = try subjects { try $0.changeScheme { $1[key] = value } }
      #expect(found.count > 10 && found.contains { $0.hasPrefix(expert) }, "\(key)")
    }
  }

  @Test func `a scheme that cannot be read is a finding, and bytes are still checked`() throws {
    let found = try subjects { output in
      try output.changeScheme { group, _ in group["targets"] = ["Embedding"] }
      try output.change(ignored) { $0[0] ^= 1 }
    }
    #expect(found == ["config.json", ignored])
  }

  @Test func `a config entry that is not the source's is found`() throws {
    let report = try report { output in
      try output.changeJSON("config.json") { $0["routed_scaling_factor"] = 3 }
    }
    #expect(report.findings.map(\.subject) == ["config.json"])
    #expect(report.findings[0].problem.contains("`routed_scaling_factor` is 3"))
  }

  // MARK: Everything at once, notes, refusals

  @Test func `faults do not hide each other`() throws {
    let found = try subjects(options: cut) { output in
      try output.change(ignored) { $0[5] ^= 0x10 }
      try output.change(expert + ".weight_scale") { $0.replaceSubrange(0..<4, with: [0, 0, 0, 0]) }
      try output.changeIgnore { $0.removeAll { $0 == "lm_head" } }
      try output.changeJSON("model.safetensors.index.json") { $0["metadata"] = nil }
      try output.changeJSON("config.json") { $0["rope_theta"] = 5 }
    }
    #expect(found.isSuperset(of: [ignored, expert + ".weight_scale", "lm_head", "config.json"]))
  }

  @Test func `a split that would cut a group is a note`() throws {
    let report = try VerifyModel(
      output: fixturePath("rtn/bf16/W4A16-G32"), source: nil, threads: 1
    ).run()
    #expect(report.findings == [])
    #expect(report.notes.count == 4)
    #expect(
      report.notes.contains {
        $0.subject == "model.layers.*.mlp.experts.*.down_proj"
          && $0.problem
            == "tensor parallelism of 8 cuts its groups: 128 input features in groups of 32"
      })
  }

  @Test func `what is no output is refused`() throws {
    #expect(throws: NotQuantized.self) {
      try VerifyModel(output: SmallRun.model, source: nil, threads: 1)
    }
  }
}
