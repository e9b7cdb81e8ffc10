// Mappings of recipes against the smoothings of a model.

import CompressedTensors
import Models
import Pipeline
import Recipes
import Testing
import TestSupport
import Transformer

@Suite struct ResolveMappingsTests {
  /// A dense layer and one with experts; as many key-value heads as heads.
  private let spec: ModelSpec
  /// Three layers, the first dense; fewer key-value heads than heads.
  private let grouped: ModelSpec

  init() throws {
    spec = try Checkpoint(folder: fixturePath("awq/dense-first")).spec
    grouped = try Checkpoint(folder: fixturePath("forward/published-qk-norm")).spec
  }

  private func resolve(
    _ mappings: [(String, [String])], of spec: ModelSpec? = nil, hook: String? = nil
  ) throws -> ResolvedMappings {
    try ResolvedMappings(
      mappings.map {
        RecipeMapping(smoothLayer: $0.0, balanceLayers: $0.1, activationHookTarget: hook)
      }, of: spec ?? self.spec, file: "r.yaml")
  }

  private func refusal(
    _ mappings: [(String, [String])], of spec: ModelSpec? = nil, hook: String? = nil
  ) -> MappingError.Problem? {
    let error = #expect(throws: MappingError.self) { try resolve(mappings, of: spec, hook: hook) }
    #expect(error?.description.hasPrefix("r.yaml: mapping of `\(error?.mapping ?? "")`: ") == true)
    return error?.problem
  }

  private func producers(_ spec: ModelSpec) -> Set<String> {
    Set(spec.layers.flatMap(\.smoothings).map(\.producerName))
  }

  private let attention = (
    "re:.*input_layernorm$", ["re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$"]
  )
  private let values = ("re:.*v_proj$", ["re:.*o_proj$"])
  private let hidden = ("re:.*up_proj$", ["re:.*down_proj$"])
  private let feedForward = (
    "re:.*post_attention_layernorm$",
    ["re:.*mlp.gate$", "re:.*mlp.*gate_proj$", "re:.*mlp.*up_proj$"]
  )

  @Test func `mappings that name everything smooth everything without a note`() throws {
    let resolved = try resolve([attention, values, hidden, feedForward])
    #expect(resolved.producers == producers(spec))
    #expect(resolved.notes == [])
  }

  @Test func `a mapping smooths the layers that it names and no others`() throws {
    let resolved = try resolve([
      (
        "re:.*layers\\.1\\.input_layernorm$",
        attention.1.map { "re:.*layers\\.1" + $0.dropFirst(3) }
      ),
      ("model.layers.0.mlp.up_proj", ["model.layers.0.mlp.down_proj"]),
    ])
    #expect(
      resolved.producers == ["model.layers.1.input_layernorm", "model.layers.0.mlp.up_proj"])
    #expect(resolved.notes == [])
  }

  /// The peer's own mappings for this architecture forget the shared experts, and stop at a dense layer.
  @Test func `readers that the peer's mappings leave out are compensated with a note`() throws {
    let recipe = try Recipe(path: fixturePath("recipes/peer-torch-device.yaml"))
    let mappings = try #require(recipe.mappings)
    let resolved = try ResolvedMappings(mappings, of: spec, file: "r.yaml")
    let dense = "model.layers.0.post_attention_layernorm"
    #expect(resolved.producers == producers(spec).subtracting([dense]))
    let shared = "model.layers.1.mlp.shared_experts."
    let name = "re:.*post_attention_layernorm$"
    #expect(
      resolved.notes == [
        .completed(mapping: name, readers: [shared + "gate_proj", shared + "up_proj"]),
        .unread(mapping: name, producers: [dense]),
      ])
    #expect(resolved.notes[0].description.contains("are compensated, too"))
    #expect(resolved.notes[1].description.contains("`\(dense)`; not smoothed"))
  }

  @Test func `values of grouped queries are left alone with a note, as in the peer`() throws {
    let resolved = try resolve([attention, values], of: grouped)
    #expect(resolved.producers == Set((0..<3).map { "model.layers.\($0).input_layernorm" }))
    #expect(
      resolved.notes == [
        .incompatible(
          mapping: "re:.*v_proj$",
          producers: (0..<3).map { "model.layers.\($0).self_attn.v_proj" })
      ])
    #expect(resolved.notes[0].description.contains("not smoothed, as in llm-compressor"))
  }

  @Test func `a producer that the description does not know is refused`() {
    #expect(
      refusal([("model.layers.0.self_attn.q_proj", ["model.layers.0.self_attn.o_proj"])])
        == .unknownProducer(
          "model.layers.0.self_attn.q_proj", readers: ["model.layers.0.self_attn.o_proj"]))
    #expect(
      refusal([("re:.*q_norm$", ["re:.*o_proj$"])], of: grouped)
        == .unknownProducer(
          "model.layers.0.self_attn.q_norm", readers: ["model.layers.0.self_attn.o_proj"]))
    // Fewer outputs than inputs alone do not make it a value projection of another layer.
    #expect(
      refusal(
        [("model.layers.0.self_attn.v_proj", ["model.layers.1.self_attn.o_proj"])], of: grouped)
        == .unknownProducer("model.layers.0.self_attn.v_proj", readers: []))
  }

  @Test func `a layer that does not read what is smoothed is refused`() {
    #expect(
      refusal([("re:.*input_layernorm$", ["re:.*q_proj$", "re:.*o_proj$"])])
        == .notAReader(
          "model.layers.0.self_attn.o_proj", of: "model.layers.0.input_layernorm"))
    #expect(
      refusal([("model.layers.1.input_layernorm", ["re:.*q_proj$"])])
        == .notAReader("model.layers.0.self_attn.q_proj", of: "model.layers.1.input_layernorm"))
    // In the dense layer there is none of them, in the other they read another norm.
    #expect(
      refusal([("model.layers.0.input_layernorm", ["re:.*experts.*gate_proj$"])])
        == .notAReader(
          "model.layers.1.mlp.shared_experts.gate_proj", of: "model.layers.0.input_layernorm"))
  }

  @Test func `a producer in two mappings is refused`() {
    #expect(
      refusal([attention, ("model.layers.1.input_layernorm", ["model.layers.1.self_attn.q_proj"])])
        == .producedTwice("model.layers.1.input_layernorm"))
  }

  @Test func `names that match nothing are refused with the file`() {
    for (mapping, part) in [
      (("re:.*ln_1$", ["re:.*q_proj$"]), "r.yaml: smooth_layer 're:.*ln_1$' matches no module"),
      (("re:.*up_proj$", ["re:.*fc2$"]), "r.yaml: balance_layers 're:.*fc2$' matches no module"),
      (("input_layernorm", ["re:.*q_proj$"]), "smooth_layer 'input_layernorm' matches no"),
      (("re:(", ["re:.*q_proj$"]), "r.yaml: smooth_layer 're:(': not a regular expression"),
      // A norm of a multi-token-prediction layer, which is copied.
      (("model.layers.2.input_layernorm", ["re:.*q_proj$"]), "matches no module"),
    ] {
      let error = #expect(throws: IgnorePatternError.self) { try resolve([mapping]) }
      #expect(error?.description.contains(part) == true, "\(String(describing: error))")
    }
  }

  @Test func `a hook is one of the readers, or refused`() throws {
    let layer = "model.layers.1.self_attn."
    let mapping = (
      "model.layers.1.input_layernorm", ["q_proj", "k_proj", "v_proj"].map { layer + $0 }
    )
    #expect(try resolve([mapping], hook: "q_proj").producers == [mapping.0])
    #expect(refusal([mapping], hook: "o_proj") == .unknownHook("o_proj"))
  }
}
