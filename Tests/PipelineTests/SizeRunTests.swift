// Runs to a size: one pass measures, one writes, and a file keeps what was measured.

import Calibration
import CompressedTensors
import JSON
import LinearAlgebra
import Models
import Pipeline
import Planning
import Quantization
import Recipes
import Reporting
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct SizeRunTests {
  private static let names = ["W4A16", "W8A16", "BF16"]

  private func options(
    _ output: String, _ target: SizeWish.Target, choices: [String] = names
  ) throws -> QuantizeOptions {
    var options = SmallRun.options(output)
    options.size = try SizeWish(target, options: choices.map { try SizeOption($0) })
      .grouped(by: 32)
    return options
  }

  /// Half-way between the smallest and the largest output.
  private func middle(_ output: String = "") throws -> QuantizeOptions {
    let sizing = try #require(SizedRun(options("", .meanBits(8))).measuring.sizing)
    return try options(output, .bytes((2 * sizing.smallestBytes + sizing.largestBytes) / 3))
  }

  private func measurements(_ output: String) throws -> [UInt8] {
    try FileSystem.readFile("\(output)/.sluice/measurements.json")
  }

  private func lines(_ path: String) throws -> [JSONObject] {
    try FileSystem.readFile(path).split(separator: UInt8(ascii: "\n")).compactMap {
      try JSONValue.parse(Array($0)).object
    }
  }

  private func tensorBytes(_ output: String) throws -> Int {
    try ShardedModel(folder: output).tensors.reduce(0) { $0 + $1.byteCount }
  }

  // MARK: What is written

  /// Also where it has scales of keys and values, which no pass that measures makes.
  @Test(arguments: [nil, CacheScheme.fp8, .fp8OfHeads])
  func `the output has the size that was named, and is sound`(cache: CacheScheme?) throws {
    try withTemporaryFolder { folder in
      var options = try middle(folder + "/out")
      options.cache = cache
      let run = try SizedRun(options)
      #expect(!run.isMeasured && run.passes.count == 2)
      var chosen: SizeRecord?
      var measured: [Int] = []
      try run.run { event in
        if case .chosen(let size) = event { chosen = size }
        if case .layerMeasured(let layer, _, _) = event { measured.append(layer) }
      }
      let size = try #require(chosen)
      guard case .bytes(let limit)? = options.size?.target else { return }
      #expect(measured == [0, 1])
      #expect(size.bytes <= limit)
      #expect(try size.bytes == tensorBytes(options.output))
      #expect(size.counts.count > 1 && size.groups.count == 9)
      #expect(size.groups.contains { $0.name == "model.layers.0.self_attn q_proj k_proj v_proj" })
      #expect(
        size.groups.contains { $0.name == "model.layers.1.mlp.experts gate_proj up_proj down_proj" }
      )
      let report = try VerifyModel(output: options.output, source: options.model, threads: 2).run()
      #expect(report.findings == [])
      // The records tell of it, the folder of the first pass is gone.
      #expect(!FileSystem.exists(options.output + "/.sluice/measuring"))
      let record = try lines(options.output + "/.sluice/choices.jsonl").compactMap {
        $0["size"]?.object.flatMap { SizeRecord($0) }
      }
      #expect(record == [size])
      let page = String(
        decoding: try FileSystem.readFile(options.output + "/.sluice/report.html"), as: UTF8.self)
      #expect(page.contains("The size that was asked for") && page.contains("<svg"))
    }
  }

  @Test func `what is written is what the chosen schemes give without a size`() throws {
    try withTemporaryFolder { folder in
      let options = try middle(folder + "/out")
      try SizedRun(options).run { _ in }
      var again = SmallRun.options(folder + "/again")
      let path = options.output + "/recipe.yaml"
      again.follow(try Recipe(path: path), file: path)
      again.damping = options.damping
      try SmallRun.run(again)
      let (first, second) = (
        try ShardedModel(folder: options.output), try ShardedModel(folder: again.output)
      )
      #expect(first.tensors.count == second.tensors.count)
      for tensor in first.tensors { #expect(second[tensor.name]?.bytes == tensor.bytes) }
    }
  }

  @Test func `bits are those of the weights that can be quantized, with their scales`() throws {
    let run = try SizedRun(options("", .meanBits(6)))
    let sizing = try #require(run.measuring.sizing)
    // The smallest is W4A16 in groups of 32 everywhere: 5 bits with scales in F32, and 16 bytes of shape a Linear.
    let weights = run.measuring.spec.layers.flatMap(\.linears)
    let count = weights.reduce(0) { $0 + $1.inputs * $1.outputs }
    #expect(
      sizing.limit - sizing.smallestBytes
        == count * 6 / 8 - (count * 5 / 8 + 16 * weights.count))
    #expect(
      sizing.largestBytes - sizing.smallestBytes
        == count * 4 - (count * 5 / 8 + 16 * weights.count))
  }

  @Test func `groups that no choice divides stay as they are`() throws {
    // 40 inputs of the down projections.
    try withTemporaryFolder { folder in
      var options = QuantizeOptions(
        model: fixturePath("forward/qwen2-tied"), output: folder + "/out", memory: 1 << 30,
        threads: 2)
      let path = folder + "/ids.jsonl"
      options.data.path = path
      let ids = (0..<16).map { "\($0 * 3 + 1)" }.joined(separator: ",")
      try replaceFile(path, with: Array("{\"input_ids\": [\(ids)]}\n".utf8))
      options.data.selection = RowSelection(samples: 2, sequenceLength: 16)
      options.size = try SizeWish(
        .meanBits(8), options: [SizeOption("W4A16"), SizeOption("W8A16")]
      ).grouped(by: 32)
      let run = try SizedRun(options)
      let record = try #require(run.writing.options.chosen?.record)
      let down = record.groups.filter { $0.name.hasSuffix("down_proj") }
      #expect(!down.isEmpty && down.allSatisfy { $0.choice == "BF16" && $0.loss == 0 })
      #expect(
        record.groups.filter { !$0.name.hasSuffix("down_proj") }.allSatisfy { $0.choice != "BF16" })
    }
  }

  // MARK: What is measured

  /// Of each Linear in both layers, the error under a choice is that of a whole run by that scheme alone.
  @Test(arguments: RoundingMethod.allCases)
  func `errors are those of runs by each scheme alone`(method: RoundingMethod) throws {
    try withTemporaryFolder { folder in
      var options = try options(folder + "/out", .meanBits(9), choices: ["W4A16", "W8A16"])
      options.rounding = method
      try QuantizeModel(SizedRun(options).measuring) { _ in }.run()
      let measured = try lines(options.output + "/.sluice/measuring/choices.jsonl").filter {
        $0["measured"] != nil
      }
      #expect(measured.count == 52)
      for (trial, name) in ["W4A16", "W8A16"].enumerated() {
        var alone = SmallRun.options("\(folder)/\(name)")
        alone.schemes = [try SizeOption(name).scheme?.grouped(by: 32)].compactMap { $0 }
        // A run that rounds to nearest has no errors of its own: one that clips tells them. What outputs have in common
        // is not part of a measurement.
        alone.rounding = method == .nearest ? .clip : method == .compensated ? .fast : method
        alone.expertWeighting = options.expertWeighting ?? (method.needsGram ? .blend : .all)
        try SmallRun.run(alone)
        let expected = try lines(alone.output + "/.sluice/choices.jsonl")
        var compared = 0
        for line in measured where line["trial"]?.int == trial {
          let same = try #require(
            expected.first { $0["linear"] == line["measured"] && $0["rounding"] != nil })
          #expect(line["error"] == same[method == .nearest ? "error_nearest" : "error"])
          let (error, signal) = (line["error"]?.double ?? 0, line["signal"]?.double ?? 0)
          #expect(error > 0 && error < (trial == 0 ? 0.1 : 0.001) * signal)
          compared += 1
        }
        #expect(compared == 26)
      }
    }
  }

  @Test func `memory, threads and interruptions change no measurement and no byte`() throws {
    try withTemporaryFolder { folder in
      var options = try middle(folder + "/0")
      try SizedRun(options).run { _ in }
      let expected = try SmallRun.contents(options.output)
      #expect(expected[".sluice/measurements.json"] != nil)
      let smallest = try SizedRun(options).passes.map(\.run.smallestBudget)
      let least = try max(
        SizedRun(middle()).measuring.run.smallestBudget, smallest.max() ?? 0)
      for (index, (threads, memory)) in [(1, 256 << 20), (3, 4 << 30), (1, least)].enumerated() {
        options.output = "\(folder)/\(index + 1)"
        options.threads = threads
        options.memory = memory
        try SizedRun(options).run { _ in }
        #expect(try SmallRun.contents(options.output) == expected)
      }
      options = try middle(folder + "/interrupted")
      var (stops, measuring) = (0, 0)
      while true {
        let interruption = Interruption()
        do {
          try SizedRun(options).run(interruption: interruption) { event in
            if case .progress = event { interruption.request() }
          }
          break
        } catch is Interrupted {
          stops += 1
          if try RunStatus(output: options.output).isMeasuring { measuring += 1 }
          try #require(stops < 1000)
        }
      }
      #expect(measuring > 5 && stops - measuring > 5)
      #expect(try SmallRun.contents(options.output) == expected)
    }
  }

  @Test(arguments: [1, 2], [RoundingMethod.compensated, .clip])
  func `a pass that measures does the operations of its plan`(
    threads: Int, method: RoundingMethod
  ) throws {
    try withTemporaryFolder { folder in
      var options = QuantizeOptions(
        model: fixturePath("glm4-moe-4m"), output: folder + "/out", memory: 1 << 40,
        threads: threads)
      options.data.path = fixturePath("calibration.jsonl")
      options.data.selection.samples = 24
      // Of other tokens it is only known how many there are.
      options.expertTokens = .all
      options.rounding = method
      options.size = try SizeWish(
        .meanBits(6), options: ["W4A16", "MXFP4A16"].map { try SizeOption($0) })
      let plan = try SizedRun(options).measuring
      let run = try QuantizeModel(plan) { _ in }
      try run.run()
      for kind in [Operation.Kind.search, .compensate, .round, .factor, .gram, .scores] {
        var planned: [Operation: Double] = [:]
        for step in RunStep.allCases {
          for (operation, times) in plan.run.uses[step]?.operations ?? [:]
          where operation.kind == kind {
            planned[operation, default: 0] += times
          }
        }
        let did = run.ledger.operations.filter { $0.key.kind == kind && $0.value > 0 }
        #expect(did == planned, "\(kind)")
      }
      for step in [RunStep.attend, .experts, .advance] {
        let planned = plan.run.uses[step]?.buffers ?? []
        #expect(
          Dictionary(uniqueKeysWithValues: planned.map { ($0.name, $0.bytes) })
            == run.usedBuffers[step] ?? [:], "\(step)")
      }
      #expect(plan.run.uses[.experts]?.traffic[.output] ?? 0 == 0)
    }
  }

  // MARK: Another size

  @Test func `another size needs no other measurement`() throws {
    try withTemporaryFolder { folder in
      var options = try middle(folder + "/out")
      try SizedRun(options).run { _ in }
      let measured = try measurements(options.output)
      guard case .bytes(let bytes)? = options.size?.target else { return }
      options = try self.options(options.output, .bytes(bytes - 4000))
      let error = #expect(throws: RunStateError.self) { try SizedRun(options).run { _ in } }
      let text = try #require(error).description
      #expect(text.contains("--target-size \(bytes), this run has \(bytes - 4000)"))
      #expect(text.contains("--restart") && text.hasSuffix("what was measured stays"))
      options.restarts = true
      let run = try SizedRun(options)
      #expect(run.isMeasured && run.passes.count == 1)
      try run.run { event in
        if case .layerMeasured = event { Issue.record("measured again") }
      }
      #expect(try measurements(options.output) == measured)
      #expect(try tensorBytes(options.output) <= bytes - 4000)
      // As in a folder of its own.
      var fresh = options
      fresh.output = folder + "/fresh"
      fresh.restarts = false
      try SizedRun(fresh).run { _ in }
      #expect(try SmallRun.contents(fresh.output) == SmallRun.contents(options.output))
      // Fewer choices are among those that were measured.
      options = try self.options(options.output, .bytes(bytes), choices: ["W8A16", "W4A16"])
      options.restarts = true
      #expect(try SizedRun(options).isMeasured)
    }
  }

  @Test func `measurements of other work are refused, and a restart measures anew`() throws {
    try withTemporaryFolder { folder in
      let options = try middle(folder + "/out")
      try QuantizeModel(SizedRun(options).measuring) { _ in }.run()
      #expect(try SizedRun(options).isMeasured)
      func refusal(_ change: (inout QuantizeOptions) throws -> Void) throws -> String {
        var other = options
        try change(&other)
        let error = #expect(throws: (any Error).self) { try SizedRun(other) }
        other.restarts = true
        #expect(try !SizedRun(other).isMeasured)
        return "\(try #require(error))"
      }
      #expect(try refusal { $0.rounding = .clip }.contains("--rounding compensated"))
      #expect(try refusal { $0.data.selection.samples = 7 }.contains("--samples"))
      #expect(try refusal { $0.ignore = ["model.layers.0.*"] }.contains("--ignore"))
      #expect(
        try refusal {
          $0.size = try SizeWish(.meanBits(9), options: [SizeOption("W4A16"), SizeOption("W5A16")])
            .grouped(by: 32)
        }.contains("W5A16 in groups of 32"))
      let path = options.output + "/.sluice/measurements.json"
      var bytes = try measurements(options.output)
      let place = try #require(bytes.firstRange(of: Array("share\": 0.".utf8))).upperBound
      bytes[place] = bytes[place] == UInt8(ascii: "1") ? UInt8(ascii: "2") : UInt8(ascii: "1")
      try replaceFile(path, with: bytes)
      #expect(try refusal { _ in }.contains("its checksum differs"))
    }
  }

  @Test func `a restart keeps measurements that the system fails to read`() throws {
    try withTemporaryFolder { folder in
      var options = try middle(folder + "/out")
      try QuantizeModel(SizedRun(options).measuring) { _ in }.run()
      let path = options.output + "/.sluice/measurements.json"
      // No one reads a folder as a file, whatever rights he has.
      try FileSystem.move(path, to: folder + "/away.json")
      try FileSystem.createFolder(path)
      options.restarts = true
      #expect(throws: SystemError.self) { try SizedRun(options) }
    }
  }

  @Test func `a source with other numbers than those that were measured is refused`() throws {
    try withTemporaryFolder { folder in
      try withCopiedFixture("awq/dense-first") { model in
        var options = try middle(folder + "/out")
        options.model = model
        try QuantizeModel(SizedRun(options).measuring) { _ in }.run()
        let file = model + "/model.safetensors"
        var bytes = try FileSystem.readFile(file)
        bytes[bytes.count - 2] ^= 1
        try FileSystem.remove(file)
        try replaceFile(file, with: bytes)
        let error = #expect(throws: SizeError.self) { try SizedRun(options).run { _ in } }
        #expect("\(try #require(error))".contains("not the one that was measured"))
      }
    }
  }

  // MARK: Refusals

  @Test func `sizes that cannot be are refused with what can`() throws {
    let sizing = try #require(SizedRun(options("", .meanBits(8))).measuring.sizing)
    let small = #expect(throws: SizeError.self) {
      try SizedRun(options("", .bytes(sizing.smallestBytes - 1)))
    }
    #expect("\(try #require(small))".contains("\(sizing.smallestBytes) bytes"))
    #expect(throws: Never.self) { try SizedRun(options("", .bytes(sizing.smallestBytes))) }
    let bits = #expect(throws: SizeError.self) { try SizedRun(options("", .meanBits(4.2))) }
    #expect("\(try #require(bits))".contains("5.03 bits for each weight"))
    let large = #expect(throws: SizeError.self) {
      try SizedRun(options("", .bytes(sizing.largestBytes)))
    }
    #expect("\(try #require(large))".contains("nothing to quantize"))
    // Without BF16 all get the best that there is.
    let best = try SizedRun(options("", .bytes(1 << 40), choices: ["W4A16", "W8A16"]))
    #expect(best.writing.options.chosen?.record.counts.map(\.choice) == ["W8A16"])
  }

  @Test func `choices that say nothing, or too much, are refused`() throws {
    func refusal(_ names: [String]) throws -> String {
      let error = #expect(throws: (any Error).self) {
        try SizedRun(options("", .meanBits(5), choices: names))
      }
      return "\(try #require(error))"
    }
    #expect(try refusal(["BF16"]).contains("quantizes nothing"))
    #expect(try refusal(["W4A16", "w4a16"]).contains("twice"))
    #expect(try refusal(["W4A16", "W4"]).contains("no scheme of compressed-tensors"))
    #expect(try refusal(["W4A16", "FP8_DYNAMIC"]).contains("quantizes activations"))
    #expect(try refusal(["MXFP6A16"]).contains("vLLM does not load it"))
  }

  @Test func `a folder with another run is refused`() throws {
    try withTemporaryFolder { folder in
      var plain = SmallRun.options(folder + "/out")
      try SmallRun.run(plain)
      let sized = try middle(plain.output)
      let error = #expect(throws: SizeError.self) { try SizedRun(sized) }
      #expect("\(try #require(error))".contains("has no measurements for --target-size"))
      // And the other way round: a pass that measures is not thrown away.
      plain.output = folder + "/sized"
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try SizedRun(middle(plain.output)).run(interruption: interruption) { event in
          if case .layerMeasured = event { interruption.request() }
        }
      }
      let other = #expect(throws: SizeError.self) { try SmallRun.run(plain) }
      #expect("\(try #require(other))".contains("measures for --target-size"))
      plain.restarts = true
      try SmallRun.run(plain)
      #expect(!FileSystem.exists(plain.output + "/.sluice/measuring"))
    }
  }
}
