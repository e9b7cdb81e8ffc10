// Folders that are not what their config.json says.

import CompressedTensors
import JSON
import Models
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct CheckpointTests {
  private let fixture = "forward/local-experts-f16"

  private var specs: [TensorSpec] {
    get throws {
      try SafetensorsFile(path: fixturePath(fixture + "/model.safetensors")).tensors.map {
        TensorSpec(name: $0.name, dtype: $0.dtype, shape: $0.shape)
      }
    }
  }

  /// A copy of the fixture with other tensors.
  private func withTensors(_ specs: [TensorSpec], _ body: (String) throws -> Void) throws {
    try withCopiedFixture(fixture) { folder in
      // Contents do not matter: opening reads headers only.
      let shard = ShardLayout(singleFile: "model.safetensors", tensors: specs).shards[0]
      let zeros = [UInt8](repeating: 0, count: shard.byteCount - shard.header.count)
      try replaceFile(folder + "/model.safetensors", with: shard.header + zeros)
      try body(folder)
    }
  }

  private func expect(
    _ expected: CheckpointError, for folder: String, _ location: SourceLocation = #_sourceLocation
  ) {
    #expect(throws: expected, sourceLocation: location) { try Checkpoint(folder: folder) }
  }

  @Test(arguments: [
    "forward/published-qk-norm", "forward/published-mtp-bf16", "forward/local-experts-f16",
    "rtn/bf16/source", "rtn/bf16/W4A16", "rtn/bf16/W4A16-G32", "rtn/bf16/W4A16_ASYM",
    "rtn/bf16/W8A16", "awq/dense-first", "awq/moe-only", "glm4-moe-4m",
  ])
  func everyFixtureOpens(name: String) throws {
    let checkpoint = try Checkpoint(folder: fixturePath(name))
    let isPacked = name.contains("W4") || name.contains("W8")
    #expect((checkpoint.quantization != nil) == isPacked)
  }

  @Test func aFolderThatIsNotThereIsRefused() throws {
    try withTemporaryFolder { folder in
      expect(.notAFolder(path: folder + "/no"), for: folder + "/no")
      try replaceFile(folder + "/file", with: [1])
      expect(.notAFolder(path: folder + "/file"), for: folder + "/file")
    }
  }

  @Test func aFolderWithoutConfigIsRefused() throws {
    try withTemporaryFolder { expect(.noConfig(path: $0), for: $0) }
  }

  @Test func aConfigThatIsNoObjectIsRefused() throws {
    try withCopiedFixture(fixture) { folder in
      let file = folder + "/config.json"
      try replaceFile(file, with: Array("[]".utf8))
      expect(.badConfig(file: file, problem: "expected an object, found array"), for: folder)
      try replaceFile(file, with: Array("{\"a\": }".utf8))
      let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
      guard case .badConfig(file, _) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test func missingTensorsAreCountedAndTheFirstFiveNamed() throws {
    let gone = "model.layers.2.mlp.gate.e_score_correction_bias"
    try withTensors(specs.filter { $0.name != gone }) { folder in
      expect(.missing(folder: folder, count: 1, names: [gone]), for: folder)
    }
    try withTensors(specs.filter { !$0.name.contains("norm") }) { folder in
      let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
      guard case .missing(_, let count, let names) = error else { return }
      #expect(count == 17 && names.count == 5)
      #expect(error?.description.contains(" and 12 more; ") == true)
    }
  }

  @Test func tensorsThatNoDescriptionClaimsAreRefused() throws {
    let extra = TensorSpec(name: "model.layers.0.mlp.extra.weight", dtype: .f16, shape: [1])
    try withTensors(specs + [extra]) { folder in
      expect(.unclaimed(folder: folder, count: 1, names: [extra.name]), for: folder)
    }
    // A layer behind the last one and the one multi-token-prediction layer.
    let beyond = TensorSpec(name: "model.layers.5.enorm.weight", dtype: .f16, shape: [32])
    try withTensors(specs + [beyond]) { folder in
      expect(.unclaimed(folder: folder, count: 1, names: [beyond.name]), for: folder)
    }
  }

  @Test func tensorsOfAPredictionLayerMayBeThere() throws {
    let extra = TensorSpec(name: "model.layers.4.enorm.weight", dtype: .f16, shape: [32])
    try withTensors(specs + [extra]) { _ = try Checkpoint(folder: $0) }
  }

  /// In every format whose weights are no FP8: what they are made of cannot be said in the output.
  @Test(arguments: ["W4A16", "NVFP4A16", "MXFP4A16", "W8A8"])
  func `prediction layers that are stored as codes are refused by name`(preset: String) throws {
    let scheme = try SchemePreset.written(preset).grouped(by: 32)
    let config = QuantizationConfig(groups: [scheme], ignore: ["re:.*"])
    let linear = LinearSpec("model.layers.4.eh_proj", inputs: 64, outputs: 32)
    let codes = QuantizedLinear(linear, scheme, dtype: .bf16).tensors
    try withTensors(specs + codes) { folder in
      let file = folder + "/config.json"
      var object = try #require(JSONValue.parse(FileSystem.readFile(file)).object)
      object["quantization_config"] = config.json
      try replaceFile(file, with: Array(JSONValue.object(object).serialized().utf8))
      let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
      switch error {
      // Scales in FP8 are looked at first.
      case .codedPrediction(_, let tensor)?, .wrongFP8(_, let tensor, _, _)?:
        #expect(tensor.hasPrefix("model.layers.4.eh_proj.weight_"))
      default: Issue.record("\(String(describing: error))")
      }
    }
  }

  @Test func `what is wrong with a checkpoint is said with the next step`() {
    let all: [CheckpointError] = [
      .notAFolder(path: "a"), .noConfig(path: "a"), .badConfig(file: "a", problem: "b"),
      .missing(folder: "a", count: 1, names: ["b"]),
      .unclaimed(folder: "a", count: 1, names: ["b"]), .codedPrediction(file: "a", tensor: "b"),
      .wrongShape(file: "a", tensor: "b", expected: "c", found: "d"),
      .wrongFP8(file: "a", tensor: "b", expected: "c", found: "d"),
      .otherHead(file: "a", tensor: "b", embedding: "c", difference: "d"),
      .wrongShare(file: "a", tensor: "b", expected: "c", found: "d"),
      .ambiguousShape(file: "a", tensor: "b", found: "c", readings: ["d"]),
      .otherFormat(folder: "a", tensor: "b", format: "c"),
      .otherPrefix(folder: "a", expected: "b", found: "c"),
      .tooLarge(file: "a", tensor: "b", shape: [1]),
    ]
    for error in all {
      let step = error.description.split(separator: "; ").dropFirst().last ?? ""
      #expect(step.split(separator: " ").count > 3, "\(error)")
      #expect(!error.description.hasSuffix("."))
    }
  }

  @Test func aTensorOfAnotherShapeOrTypeIsRefused() throws {
    let name = "model.layers.1.self_attn.k_proj.weight"
    for (dtype, shape) in [(DType.f16, [32, 31]), (.f16, [32 * 32]), (.i32, [32, 32])] {
      let edited = try specs.map {
        $0.name == name ? TensorSpec(name: name, dtype: dtype, shape: shape) : $0
      }
      try withTensors(edited) { folder in
        expect(
          .wrongShape(
            file: folder + "/model.safetensors", tensor: name,
            expected: "BF16, F16 or F32 [32, 32]", found: "\(dtype.rawValue) \(shape)"),
          for: folder)
      }
    }
  }

  @Test func aQuantizedCheckpointNeedsItsPackedTensors() throws {
    try withCopiedFixture("rtn/bf16/W4A16_ASYM") { folder in
      let file = folder + "/config.json"
      let text = String(decoding: try FileSystem.readFile(file), as: UTF8.self)
      try replaceFile(
        file, with: Array(text.replacing("\"symmetric\": false", with: "\"symmetric\": true").utf8))
      let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
      guard case .unclaimed(_, _, let names) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(names.allSatisfy { $0.hasSuffix(".weight_zero_point") })
      try replaceFile(
        file, with: Array(text.replacing("\"group_size\": 128", with: "\"group_size\": 64").utf8))
      guard
        case .wrongShape = #expect(
          throws: CheckpointError.self, performing: { try Checkpoint(folder: folder) })
      else {
        Issue.record("another group size was accepted")
        return
      }
    }
  }

  @Test func errorsOfTheConfigAndTheBlockComeThrough() throws {
    try withCopiedFixture(fixture) { folder in
      let file = folder + "/config.json"
      let text = String(decoding: try FileSystem.readFile(file), as: UTF8.self)
      try replaceFile(file, with: Array(text.replacing("\"silu\"", with: "\"gelu\"").utf8))
      #expect(throws: ConfigError.self) { try Checkpoint(folder: folder) }
      let quantized = text.replacing(
        "{\n", with: "{\n\"quantization_config\": {\"quant_method\": \"fp8\"},", maxReplacements: 1)
      try replaceFile(file, with: Array(quantized.utf8))
      #expect(throws: QuantizationConfigError.self) { try Checkpoint(folder: folder) }
    }
  }

  // MARK: What tools write

  private func edit(_ file: String, _ edits: [(String, JSONValue)]) throws {
    var config = try #require(try JSONValue.parse(FileSystem.readFile(file)).object)
    for (key, value) in edits { config[key] = value }
    try replaceFile(file, with: Array(JSONValue.object(config).serialized().utf8))
  }

  @Test func `numbers that Python writes stand in a config`() throws {
    try withCopiedFixture(fixture) { folder in
      let file = folder + "/config.json"
      let text = String(decoding: try FileSystem.readFile(file), as: UTF8.self)
      try replaceFile(
        file,
        with: Array(
          text.replacing("{\n", with: "{\n\"top_p\": Infinity, \"top_k\": NaN,", maxReplacements: 1)
            .utf8))
      #expect(
        try Checkpoint(folder: folder).config["top_p"]?.serialized() == "Infinity")
    }
  }

  @Test func `an unknown key is accepted by name`() throws {
    try withCopiedFixture(fixture) { folder in
      try edit(folder + "/config.json", [("moon_phase", 3)])
      #expect(throws: ConfigError.self) { try Checkpoint(folder: folder) }
      let checkpoint = try Checkpoint(folder: folder, accepting: ["moon_phase"])
      #expect(checkpoint.notes.count == 1 && checkpoint.notes[0].contains("`moon_phase` = 3"))
    }
  }

  // MARK: Tied heads

  /// A copy of a tied model with a head in its file, made of the embedding by `change`.
  private func withHead(
    _ change: (inout LooseTensor) -> Void, _ body: (String) throws -> Void
  ) throws {
    try withCopiedFixture("forward/qwen2-tied") { folder in
      let path = folder + "/model.safetensors"
      var tensors = try SafetensorsFile(path: path).tensors.map {
        LooseTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
      }
      var head = try #require(tensors.first { $0.name == "model.embed_tokens.weight" })
      head.name = "lm_head.weight"
      change(&head)
      tensors.append(head)
      try LooseTensor.write(tensors, to: path)
      try body(folder)
    }
  }

  @Test func `a stored head that is the embedding once more is left out with a note`() throws {
    try withHead({ _ in }) { folder in
      let checkpoint = try Checkpoint(folder: folder)
      #expect(checkpoint.redundantHead == "lm_head.weight")
      #expect(checkpoint.notes.count == 1 && checkpoint.notes[0].contains("once more"))
      let plan = try OutputPlan(
        CheckpointShapes(checkpoint), schemes: [IntegerScheme(.w4a16, groupSize: 32).scheme],
        ignoring: [],
        smooths: false)
      #expect(plan.fates["lm_head.weight"] == .dropped)
      #expect(!plan.tensors.contains { $0.name == "lm_head.weight" })
    }
  }

  @Test func `a stored head that differs from the embedding it is tied to is refused`() throws {
    func refusal(_ change: (inout LooseTensor) -> Void) throws -> String {
      var text = ""
      try withHead(change) { folder in
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
        guard case .otherHead = error else {
          Issue.record("\(String(describing: error))")
          return
        }
        text = error?.description ?? ""
      }
      return text
    }
    let last = try refusal { $0.bytes[$0.bytes.count - 1] ^= 1 }
    #expect(last.contains("`tie_word_embeddings` is true") && last.contains("differ from row"))
    let shape = try refusal {
      $0.shape[0] -= 1
      $0.bytes.removeLast($0.bytes.count / ($0.shape[0] + 1))
    }
    #expect(shape.contains("not BF16"))
  }

  // MARK: Layouts that are not read yet

  private func refusal(
    _ fixture: String, _ rename: (TensorSpec) -> TensorSpec?
  ) throws -> CheckpointError? {
    var refusal: CheckpointError?
    try withCopiedFixture(fixture) { folder in
      let path = folder + "/model.safetensors"
      let specs = try SafetensorsFile(path: path).tensors.map {
        TensorSpec(name: $0.name, dtype: $0.dtype, shape: $0.shape)
      }
      var seen: Set<String> = []
      let renamed = specs.compactMap(rename).filter { seen.insert($0.name).inserted }
      let shard = ShardLayout(singleFile: "model.safetensors", tensors: renamed).shards[0]
      let zeros = [UInt8](repeating: 0, count: shard.byteCount - shard.header.count)
      try replaceFile(path, with: shard.header + zeros)
      refusal = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
    }
    return refusal
  }

  @Test(arguments: ["", "language_model.model."])
  func `names with another beginning are told from missing ones`(prefix: String) throws {
    let error = try refusal("forward/qwen3-tied") { spec in
      TensorSpec(
        name: prefix + spec.name.dropFirst("model.".count), dtype: spec.dtype, shape: spec.shape)
    }
    guard case .otherPrefix(_, "model.embed_tokens.weight", prefix + "embed_tokens.weight") = error
    else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test(arguments: [("weight_scale_2", "ModelOpt"), ("qweight", "GPTQ")])
  func `tensors of another quantization tool are told by its name`(part: String, tool: String)
    throws
  {
    let error = try refusal("forward/qwen3-tied") { spec in
      spec.name.hasSuffix("layers.0.mlp.down_proj.weight")
        ? TensorSpec(
          name: spec.name.dropLast("weight".count) + part, dtype: spec.dtype, shape: spec.shape)
        : spec
    }
    #expect(error?.description.contains(tool) == true && "\(error!)".contains("not read yet"))
  }

  @Test func `the file of another quantization tool is told by its name`() throws {
    try withCopiedFixture(fixture) { folder in
      try replaceFile(
        folder + "/hf_quant_config.json",
        with: Array("{\"quantization\": {\"quant_algo\": \"NVFP4\"}}".utf8))
      let error = #expect(throws: QuantizationConfigError.self) { try Checkpoint(folder: folder) }
      #expect(error?.description.contains("ModelOpt's NVFP4") == true)
      try FileSystem.remove(folder + "/hf_quant_config.json")
      try edit(
        folder + "/config.json",
        [
          (
            "quantization_config",
            .object(JSONObject([("quant_method", "modelopt"), ("quant_algo", "FP8")]))
          )
        ])
      let other = #expect(throws: QuantizationConfigError.self) { try Checkpoint(folder: folder) }
      #expect(other?.description.contains("ModelOpt's FP8 format") == true)
    }
  }
  // MARK: Numbers that nothing can be computed from

  @Test func `tied tensors without dimensions are refused`() throws {
    try withHead({ _ in }) { folder in
      let path = folder + "/model.safetensors"
      var tensors = try SafetensorsFile(path: path).tensors.map {
        LooseTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
      }
      for index in tensors.indices
      where ["lm_head.weight", "model.embed_tokens.weight"].contains(tensors[index].name) {
        tensors[index].shape = []
        tensors[index].bytes = (0..<tensors[index].dtype.byteWidth).map { UInt8($0 + index) }
      }
      try LooseTensor.write(tensors, to: path)
      #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
    }
  }

  @Test(arguments: [
    "hidden_size", "num_attention_heads", "head_dim", "vocab_size", "intermediate_size",
  ])
  func `sizes whose products no number holds are refused`(key: String) throws {
    for name in ["rtn/bf16/W4A16", "rtn/bf16/source"] {
      try withCopiedFixture(name) { folder in
        let path = folder + "/config.json"
        var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
        for other in ["hidden_size", "head_dim", key] {
          config[other] = .number(JSONNumber(1 << 26))
        }
        config["num_key_value_heads"] = config["num_attention_heads"]
        try replaceFile(path, with: Array(JSONValue.object(config).serialized().utf8))
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
        guard case .tooLarge? = error else {
          Issue.record("\(String(describing: error))")
          return
        }
      }
    }
  }
}
