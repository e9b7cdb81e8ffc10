// What reads the residual stream decides on the codes of what errors reach it from.

import Glibc
import Pipeline
import Planning
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

  /// What a run says where a byte of its source becomes another one while the first layer is in work.
  private func error(changing name: String, in folder: String) throws -> SourceChanged {
    let model = folder + "/model"
    try SmallRun.copy(SmallRun.model, to: model, changing: "no tensor") { _ in }
    let tensor = try #require(ShardedModel(folder: model)[name])
    let bytes = [tensor.bytes[0] ^ 1]
    // In place: a new file would be another one.
    let file = unsafe open(tensor.file.path, O_WRONLY | O_CLOEXEC, 0)
    defer { close(file) }
    var options = SmallRun.options(folder + "/out")
    options.model = model
    var written = 0
    return try #require(
      #expect(throws: SourceChanged.self) {
        try SmallRun.run(options) { event in
          guard case .progress(let progress) = event, progress.step == .attend, written == 0 else {
            return
          }
          written = unsafe pwrite(file, bytes, 1, tensor.range.lowerBound)
        }
      })
  }

  @Test(arguments: ["mlp.gate.weight", "post_attention_layernorm.weight"])
  func `a layer whose rounding read other bytes of a later one is not committed`(
    name: String
  ) throws {
    try withTemporaryFolder { folder in
      let error = try error(changing: "model.layers.1.\(name)", in: folder)
      guard case .tensor(_, "model.layers.1.\(name)", _, _) = error else {
        Issue.record("\(error)")
        return
      }
      let state = try RunState(readingFrom: folder + "/out/.sluice/state.json")
      #expect(state.position == .attend(layer: 0, part: 0, block: 0))
    }
  }

  @Test func `a head that changed ends the run before its output is whole`() throws {
    try withTemporaryFolder { folder in
      let error = try error(changing: "lm_head.weight", in: folder)
      guard case .readThroughout(_, "lm_head.weight", _, _) = error else {
        Issue.record("\(error)")
        return
      }
      #expect("\(error)".contains("every layer") && "\(error)".contains("--restart"))
      #expect(!FileSystem.exists(folder + "/out/config.json"))
    }
  }

  @Test func `rows that do not make up for each other do not ask who reads them`() throws {
    #expect(try changed(by: "lm_head.weight", rounding: .fast).isEmpty)
  }
}
