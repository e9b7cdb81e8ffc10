// What reads the residual stream decides on the codes of what errors reach it from.

import Pipeline
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

@Suite struct StreamReadersTests {
  /// Names of Linears whose codes differ where a tensor of the source does, without their layers and experts.
  private func changed(by name: String, rounding: RoundingMethod) throws -> Set<String> {
    try withTemporaryFolder { folder in
      // Some channels are read much more than others.
      try SmallRun.copy(SmallRun.model, to: folder + "/model", changing: name) { values in
        for index in values.indices where index % 64 < 16 { values[index] *= 8 }
      }
      let codes = try [SmallRun.model, folder + "/model"].enumerated().map { number, model in
        var options = SmallRun.options("\(folder)/\(number)")
        options.model = model
        options.rounding = rounding
        try SmallRun.run(options)
        return Dictionary(
          uniqueKeysWithValues: try ShardedModel(folder: options.output).tensors.filter {
            $0.name.hasSuffix(".weight_packed")
          }.map { ($0.name, $0.bytes) })
      }
      #expect(codes[0].count == codes[1].count && !codes[0].isEmpty)
      return Set(
        codes[0].keys.filter { codes[0][$0] != codes[1][$0] }.map { name in
          String(name.split(separator: ".").dropLast().last ?? "")
        })
    }
  }

  @Test func `the head decides on the codes of all that comes before it`() throws {
    #expect(
      try changed(by: "lm_head.weight", rounding: .compensated) == [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
      ])
  }

  @Test func `rows that do not make up for each other do not ask who reads them`() throws {
    #expect(try changed(by: "lm_head.weight", rounding: .fast).isEmpty)
  }
}
