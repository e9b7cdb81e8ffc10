// sluice compare, and sluice evaluate of several models: what differs, and by how much.

import JSON
import Safetensors
import SystemIO
import Testing
import TestSupport

@Suite struct CompareTests {
  private func compare(_ first: String, _ second: String) throws -> (Outcome, JSONObject) {
    let outcome = try Program.run(["compare", first, second])
    let told = try Program.run(["compare", first, second, "--json"])
    #expect(told.end == outcome.end)
    return (outcome, try #require(try JSONValue.parse(Array(told.stdout.utf8)).object))
  }

  @Test func `outputs are held against each other, and measured in one pass`() throws {
    try withTemporaryFolder { folder in
      let ignore = ["--no-smoothing", "--ignore", "model.layers.0.*"]
      let (plain, same, wide) = ("\(folder)/plain", "\(folder)/same", "\(folder)/wide")
      try quantize(to: plain, ignore)
      try quantize(to: same, ignore)
      try quantize(to: wide, ["--no-smoothing", "--scheme", "experts=W8A16"])

      let (equal, none) = try compare(plain, same)
      #expect(equal.end == .exit(0) && equal.stdout.hasSuffix("the same\n"), "\(equal)")
      #expect(none["same"] == true && equal.stdout.contains("codes: the same in 93 Linears"))

      // Three codes of one Linear: two in one word, and one that is two bits from its old value.
      let shard = try #require(
        try ShardedModel(folder: same)["model.layers.2.mlp.experts.1.up_proj.weight_packed"])
      let file = shard.file.path
      var bytes = try FileSystem.readFile(file)
      for (offset, change) in [(0, UInt8(0x11)), (9, 0x30)] {
        bytes[shard.range.lowerBound + offset] ^= change
      }
      try write(bytes, to: file)
      let (changed, found) = try compare(plain, same)
      #expect(changed.end == .exit(1) && changed.stdout.hasSuffix("they differ\n"))
      #expect(changed.stdout.contains("in 1 of 93 Linears"), "\(changed)")
      let codes = try #require(found["codes"]?.array).compactMap(\.object)
      #expect(codes.count == 93)
      #expect(codes[0]["name"]?.string == "model.layers.2.mlp.experts.1.up_proj")
      #expect(codes[0]["differing"]?.int == 3)
      #expect(codes[1...].allSatisfy { $0["differing"]?.int == 0 })

      let (other, all) = try compare(plain, wide)
      #expect(other.end == .exit(1))
      for text in [
        "schemes: as it is and W4A16 in groups of 128: 7 Linears",
        "W4A16 in groups of 128 and W8A16 in groups of 128: 72 Linears, the first `model.layers.1.",
        "`ignore`: 7 modules in the first alone: `model.layers.0.", "tensors: ", "sizes: 4.",
      ] { #expect(other.stdout.contains(text), "\(text) in \(other)") }
      #expect(all["schemes"]?.array?.count == 79)

      // Of a model itself and an output: everything that was quantized.
      let (source, _) = try compare(fixtureModel, plain)
      #expect(
        source.stdout.contains("schemes: as it is and W4A16 in groups of 128: 93 Linears"),
        "\(source)")

      let evaluate = ["evaluate", plain, wide, "--text", fixtureCalibration, "--samples", "4"]
      let table = try Program.run(evaluate + ["--reference", fixtureModel])
      #expect(table.end == .exit(0), "\(table)")
      #expect(table.stdout.contains("; reference glm4-moe-4m: NLL "), "\(table)")
      let head = #/\nmodel  size +perplexity +KL mean +KL p99 +same choice\nplain  4\.\d+ MiB +/#
      #expect(table.stdout.contains(head), "\(table)")
      let json = try Program.run(evaluate + ["--json"])
      let models = try #require(
        try JSONValue.parse(Array(json.stdout.utf8)).object?["models"]?.array)
      #expect(models.map { $0.object?["model"]?.string } == [plain, wide])
      // The report of each tells of it, and what verify finds is as before.
      for output in [plain, wide] {
        let report = try Program.run(["report", output, "--json"])
        let object = try #require(try JSONValue.parse(Array(report.stdout.utf8)).object)
        let records = try #require(object["evaluations"]?.array).compactMap(\.object)
        #expect(records.count == 2)
        #expect(records[0]["kl_mean"]?.double.map { $0 > 0 } == true)
        #expect(records[1]["kl_mean"] == .null)
        #expect(try Program.run(["verify", output]).end == .exit(0))
      }
    }
  }

  /// Alike on both sides, so that its numbers are looked at.
  @Test func `a tensor of another shape than its scheme asks for is compared as it is stored`()
    throws
  {
    try withTemporaryFolder { folder in
      let outputs = ["\(folder)/one", "\(folder)/other"]
      let name = "model.layers.1.mlp.experts.1.up_proj.weight_packed"
      for (number, output) in outputs.enumerated() {
        try quantize(
          fixturePath("awq/dense-first"), to: output, ["--no-smoothing", "--group-size", "32"])
        let model = try ShardedModel(folder: output)
        let place = try #require(model[name]).file.path
        let tensors = model.tensors.map { tensor in
          tensor.name == name
            ? LooseTensor(
              name: name, dtype: tensor.dtype, shape: [1, 1], bytes: [UInt8(number), 0, 0, 0])
            : LooseTensor(
              name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.bytes)
        }
        try LooseTensor.write(tensors, to: place)
      }
      let (outcome, found) = try compare(outputs[0], outputs[1])
      #expect(outcome.end == .exit(1), "\(outcome)")
      let others = try #require(found["other_tensors"]?.array).compactMap(\.object)
      #expect(others.map { $0["name"]?.string } == [name])
      #expect(others.first?["count"]?.int == 1 && others.first?["differing"]?.int == 1)
      let codes = try #require(found["codes"]?.array).compactMap(\.object)
      #expect(!codes.isEmpty && codes.allSatisfy { $0["differing"]?.int == 0 })
    }
  }

  @Test func `what cannot be compared is refused`() throws {
    expectRefusal(
      try Program.run(["compare", fixtureModel, "/no/such"]), ["/no/such", "no such folder"])
    try withTemporaryFolder { folder in
      try write("{}".utf8, to: "\(folder)/config.json")
      expectRefusal(try Program.run(["compare", fixtureModel, folder]), [folder])
    }
  }
}
