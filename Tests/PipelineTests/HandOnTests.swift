// Errors of a branch's Linears, handed on to its last projection: who is rounded otherwise for it, and who is not.

import CompressedTensors
import Pipeline
import Quantization
import Safetensors
import Testing
import TestSupport

@Suite struct HandOnTests {
  /// Tensors of two runs that differ.
  private func differences(
    _ folder: String, between first: RoundingMethod, and second: RoundingMethod,
    _ change: (inout QuantizeOptions) throws -> Void
  ) throws -> Set<String> {
    var shards: [SafetensorsFile] = []
    for method in [first, second] {
      var options = SmallRun.options("\(folder)/\(method)")
      options.rounding = method
      try change(&options)
      try SmallRun.run(options)
      shards.append(
        try SafetensorsFile(path: options.output + "/model-00001-of-00001.safetensors"))
    }
    var result: Set<String> = []
    for tensor in shards[0].tensors {
      let other = try #require(shards[1][tensor.name])
      if try tensor.firstDifference(from: other) != nil { result.insert(tensor.name) }
    }
    return result
  }

  /// Rows that share scales are not rounded in turn, so that nothing else differs.
  @Test func `last projections alone are rounded for errors before them`() throws {
    try withTemporaryFolder { folder in
      let found = try differences(folder, between: .compensated, and: .fast) {
        $0.schemes = [try SchemePreset.written("FP8_BLOCK")]
      }
      let last = ["self_attn.o_proj.weight", "down_proj.weight"]
      #expect(found.allSatisfy { name in last.contains { name.hasSuffix($0) } }, "\(found)")
      // Attention and the dense MLP, attention, shared experts and four routed ones.
      #expect(found.count == 2 + 1 + 1 + 4)
    }
  }

  @Test func `a last projection behind Linears that stay is rounded for what it was`() throws {
    try withTemporaryFolder { folder in
      let found = try differences(folder, between: .compensated, and: .fast) {
        $0.ignore = ["re:.*[qkv]_proj", "re:.*(gate|up)_proj"]
      }
      #expect(found.isEmpty, "\(found)")
    }
  }
}
