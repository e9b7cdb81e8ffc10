// Folders that are not what their config.json says.

import CompressedTensors
import JSON
import Models
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

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
}
