// What a run says of the layers it quantizes and those it leaves.

import Calibration
import CompressedTensors
import Pipeline
import Quantization
import Testing
import TestSupport

@Suite struct CoverageTests {
  /// The fixture model has a dense layer, then three with 8 experts and a shared one.
  private func coverage(_ ignore: String...) throws -> Coverage {
    var options = SmallRun.options("/nowhere")
    options.model = fixturePath("glm4-moe-4m")
    options.data.path = fixturePath("calibration.jsonl")
    options.data.selection.samples = 1
    options.ignore = ignore
    return try QuantizePlan(options).coverage
  }

  @Test func `without patterns all layers are quantized, and what always stays is named`() throws {
    let all = try coverage()
    #expect(all.quantized == "layers 0-3")
    #expect(all.linears == 4 * 4 + 3 + 3 * 9 * 3)
    #expect(all.left.map(\.text) == ["routers, norms, embeddings, lm_head"])
  }

  @Test func `layers, parts of layers and experts are told in ranges with the pattern`() throws {
    let some = try coverage(
      "model.layers.[0-1].*", "*.o_proj", "re:.*experts\\.[2-5]\\.", "re:.*3\\.mlp\\.shared_experts"
    )
    #expect(some.quantized == "parts of layers 2-3")
    #expect(
      some.left.dropLast().map(\.text) == [
        "layers 0-1 (--ignore 'model.layers.[0-1].*')",
        "self_attn.o_proj of layers 2-3 (--ignore '*.o_proj')",
        "mlp.experts.2-5 of layers 2-3 (--ignore 're:.*experts\\.[2-5]\\.')",
        "mlp.shared_experts of layer 3 (--ignore 're:.*3\\.mlp\\.shared_experts')",
      ])
    let one = try coverage("re:.*experts\\.\\d+\\.down_proj", "model.layers.2.*")
    #expect(one.quantized == "layer 0, parts of layers 1, 3")
    #expect(
      one.left.first?.text
        == "mlp.experts.*.down_proj of layers 1-3 (--ignore 're:.*experts\\.\\d+\\.down_proj')")
  }

  @Test func `a prediction layer is named where its tensors are there`() throws {
    var options = SmallRun.options("/nowhere")
    options.model = fixturePath("forward/published-mtp-bf16")
    options.ignore = ["model.layers.0.*"]
    options.smooths = false
    options.rounding = .nearest
    let left = try QuantizePlan(options).coverage.left
    #expect(left.last?.why == "multi-token prediction", "\(left)")
    #expect(left.last?.what.hasPrefix("model.layers.") == true, "\(left)")
  }
}
