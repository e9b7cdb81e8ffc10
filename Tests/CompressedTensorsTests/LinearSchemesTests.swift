// Which scheme a Linear has, against compressed-tensors; what is refused because its readers would not agree.

import CompressedTensors
import JSON
import Models
import Quantization
import SystemIO
import Testing
import TestSupport
import Transformer

@Suite struct LinearSchemesTests {
  private let w4 = IntegerScheme(.w4a16, groupSize: 32)
  private let w8 = IntegerScheme(.w8a16, groupSize: 32)

  // MARK: Reading

  /// A configuration, and the name of each Linear's group.
  private func peersCases() throws -> (
    linears: [LinearSpec], cases: [(name: String, config: JSONValue, groups: JSONObject)]
  ) {
    let bytes = try FileSystem.readFile(fixturePath("schemes/groups.json"))
    let file = try #require(try JSONValue.parse(bytes).object)
    let names = try #require(file["linears"]?.array).compactMap(\.string)
    let cases = try #require(file["cases"]?.object).entries.map { name, value in
      let value = try #require(value.object)
      return (name, try #require(value["config"]), try #require(value["groups"]?.object))
    }
    return (names.map { LinearSpec($0, inputs: 128, outputs: 128) }, cases)
  }

  @Test func `Linears are in the groups that compressed-tensors puts them in`() throws {
    let (linears, cases) = try peersCases()
    #expect(cases.count == 6 && linears.count == 24)
    for (name, block, groups) in cases {
      let config = try QuantizationConfig(block, file: "config.json")
      let schemes = try config.schemes(of: linears, file: "config.json")
      for linear in linears {
        let group = groups[linear.name]?.string.flatMap { Int($0.dropFirst("group_".count)) }
        #expect(schemes[linear] == group.map { config.groups[$0] }, "\(name): \(linear.name)")
      }
      // The ends of two and more groups are told apart, and something stays.
      #expect(groups.count > 0 && groups.count < linears.count, "\(name)")
    }
  }

  @Test func `groups are written as compressed-tensors writes them`() throws {
    for (name, block, _) in try peersCases().cases {
      let config = try QuantizationConfig(block, file: "config.json")
      let written = try #require(config.json.object)
      for (key, value) in try #require(block.object).entries {
        #expect(written[key] == value, "\(name): \(key)")
      }
      #expect(try QuantizationConfig(config.json, file: "config.json") == config, "\(name)")
    }
  }

  // MARK: Writing

  private func schemes(
    _ groups: QuantizationScheme..., of fixture: String = "glm4-moe-4m",
    ignoring ignored: Set<String> = []
  ) throws -> LinearSchemes {
    let spec = try Checkpoint(folder: fixturePath(fixture)).spec
    return try LinearSchemes(
      writing: groups, of: spec.layers.flatMap(\.linears), ignoring: ignored, origin: "--scheme")
  }

  @Test func `groups with names come first, and those without Linears are left out`() throws {
    let name = "model.layers.0.mlp.down_proj"
    let found = try schemes(
      w4.targeting("Linear"), w8.targeting("re:.*layers.0.*q_proj"),
      IntegerScheme(.w8a16, groupSize: 64).targeting(name),
      ignoring: ["model.layers.0.self_attn.q_proj"])
    #expect(found.schemes.map(\.targets) == [[name], ["Linear"]])
    let merged = try schemes(
      w4.targeting("Linear"), w8.targeting("re:.*o_proj"), w8.targeting(name, "re:.*o_proj"))
    #expect(merged.schemes.map(\.targets) == [["re:.*o_proj", name], ["Linear"]])
    let all = try schemes(w4.targeting("Linear"), w8.targeting("re:.*"))
    #expect(all.schemes.map(\.targets) == [["re:.*"]])
  }

  @Test func `a Linear that readers would give two schemes is refused`() throws {
    let module = "model.layers.0.self_attn.o_proj"
    func refusal(_ first: QuantizationScheme, _ second: QuantizationScheme) throws -> String {
      let error = #expect(throws: SchemeTargetError.self) { try schemes(first, second) }
      return error?.description ?? ""
    }
    #expect(
      try refusal(w4.targeting("re:.*self_attn.*"), w8.targeting("re:.*o_proj"))
        == "--scheme: `\(module)` is meant by 're:.*o_proj' (W8A16 in groups of 32) and by "
        + "'re:.*self_attn.*' (W4A16 in groups of 32); make one of the targets narrower")
    #expect(try refusal(w4.targeting("Linear"), w8.targeting("Linear")).contains("'Linear'"))
    #expect(try refusal(w4.targeting(module), w8.targeting(module)).contains("'\(module)'"))
    // A name in each, and each has an expression that means the other's: no order serves both.
    let other = "model.layers.0.self_attn.q_proj"
    #expect(
      try refusal(w4.targeting(module, "re:.*0.*q_proj"), w8.targeting(other, "re:.*0.*o_proj"))
        .contains("make one of the targets narrower"))
    // One scheme by two targets is one.
    _ = try schemes(w4.targeting("re:.*self_attn.*"), w4.targeting("re:.*o_proj"))
  }

  @Test func `a target that means no Linear is refused`() {
    for target in ["re:.*qkv_proj", "model.layers.9.mlp.up_proj", "model.norm"] {
      #expect(
        throws: SchemeTargetError.matchesNothing(origin: "--scheme", target: target)
      ) { try schemes(w4.targeting("Linear"), w8.targeting(target)) }
    }
  }

  // MARK: What is loaded as one

  @Test(arguments: [
    ("re:.*q_proj$", "q_proj", "k_proj"),
    ("re:.*1.*shared_experts.up_proj$", "gate_proj", "up_proj"),
    ("re:.*experts\\.3\\..*", "experts.0.gate_proj", "experts.3.gate_proj"),
    ("re:.*experts\\.[0-9]+\\.down_proj$", "gate_proj", "down_proj"),
  ])
  func `Linears that vLLM loads as one have one scheme`(
    target: String, first: String, second: String
  ) throws {
    let source = try CheckpointShapes(Checkpoint(folder: fixturePath("glm4-moe-4m")))
    let error = #expect(throws: SchemeTargetError.self) {
      try OutputPlan(
        source, schemes: [w4.scheme, w8.targeting(target)], ignoring: [], smooths: false)
    }
    guard case .splitsFused(let modules, let schemes) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(modules[0].hasSuffix(first) && modules[1].hasSuffix(second), "\(modules)")
    #expect(Set(schemes) == ["W4A16 in groups of 32", "W8A16 in groups of 32"])
    #expect(error?.description.contains("vLLM loads `\(modules[0])`") == true)
  }

  @Test func `what vLLM loads by itself may have its own scheme`() throws {
    let source = try CheckpointShapes(Checkpoint(folder: fixturePath("glm4-moe-4m")))
    let plan = try OutputPlan(
      source, schemes: [w4.scheme, w8.targeting("re:.*(o_proj|shared_experts.down_proj)$")],
      ignoring: [], smooths: false)
    #expect(plan.schemes.schemes.count == 2)
  }

  // MARK: Parts of a model

  @Test(arguments: [
    "glm4-moe-4m", "forward/deepseek-v3-moonlight", "forward/qwen2-moe-window-step",
  ])
  func `the parts of a model are its Linears, each once`(fixture: String) throws {
    let spec = try Checkpoint(folder: fixturePath(fixture)).spec
    let linears = spec.layers.flatMap(\.linears)
    let groups = try ModelPart.allCases.enumerated().compactMap { index, part in
      let targets = try part.targets(of: spec)
      return targets.isEmpty
        ? nil
        : IntegerScheme(bits: 4, groupSize: 1 << index, isSymmetric: true).scheme
          .targeting(targets)
    }
    let found = try LinearSchemes(writing: groups, of: linears, ignoring: [], origin: "")
    for layer in spec.layers {
      let isSparse = layer.mlp.router != nil
      for (group, part) in [
        (layer.attention.linears, ModelPart.attention),
        (layer.mlp.routed.flatMap(\.linears), .experts),
        (layer.mlp.alwaysOn.flatMap(\.linears), isSparse ? .shared : .dense),
      ] {
        let size = ModelPart.allCases.firstIndex(of: part).map { 1 << $0 }
        #expect(group.allSatisfy { found.groupSize(of: $0) == size }, "\(part)")
      }
    }
    #expect(groups.flatMap(\.targets).allSatisfy { $0.hasPrefix("re:") })
  }

  @Test func `a part that a model does not have is no target`() throws {
    let spec = try Checkpoint(folder: fixturePath("forward/llama-plain")).spec
    #expect(throws: SchemeTargetError.matchesNothing(origin: "--scheme", target: "experts")) {
      try IgnorePattern.targets("experts", of: spec, origin: "--scheme")
    }
    #expect(
      try IgnorePattern.targets("*.o_proj", of: spec, origin: "--scheme")
        == [#"re:.*\.o_proj$"#])
  }
}
