// Memory from the first byte: whatever the data and the model hold, the peak stays within --memory.

import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct PeakTests {
  private static let memory = 64 << 20

  /// What the command says and takes, with 64 MiB.
  private func run(_ arguments: [String]) throws -> Outcome {
    let (outcome, peak) = try Program(arguments + ["--memory", "64MiB"]).waitForPeak()
    #expect(peak > 4 << 20 && peak <= Self.memory, "\(peak >> 20) MiB: \(outcome)")
    return outcome
  }

  private func text(_ byteCount: Int) -> [UInt8] {
    let line = Array("Some words in a row, and 2 numbers: 37.\n".utf8)
    return Array(repeatElement(line, count: byteCount / line.count).joined())
  }

  private let short = ["--samples", "1", "--sequence-length", "32"]

  @Test func `a check stays within the memory that it says is enough`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let made = try Program.run(
        ["quantize", fixtureModel, "--output", output, "--rounding", "nearest"] + short)
      #expect(made.end == .exit(0), "\(made)")
      try expectEnough(["verify", output, "--source", fixtureModel])
    }
  }

  /// What a command refuses 8 MiB with is enough for it.
  private func expectEnough(_ arguments: [String]) throws {
    let refused = try Program.run(arguments + ["--memory", "8MiB"])
    #expect(refused.end == .exit(1), "\(refused)")
    let match = try #require(
      try refused.stderr.firstMatch(of: Regex("raise --memory to ([0-9]+)")), "\(refused)")
    let number = try #require(match.output[1].substring)
    let smallest = try #require(Int(number)) + 1
    let (outcome, peak) = try Program(arguments + ["--memory", "\(smallest)MiB"]).waitForPeak()
    #expect(outcome.end == .exit(0), "\(outcome)")
    #expect(peak <= smallest << 20, "\(peak >> 10) KiB of \(smallest) MiB: \(outcome)")
  }

  @Test(
    arguments: ["calibration.jsonl", "datasets/chats.datasets.parquet"],
    [[], ["--recipe", fixturePath("recipes/glm-4.7-awq.yaml")]])
  func `a run stays within the memory that it says is enough, whatever it reads`(
    data: String, recipe: [String]
  ) throws {
    try withTemporaryFolder { folder in
      try expectEnough(
        [
          "quantize", fixtureModel, "--output", "\(folder)/out", "--threads", "1", "--samples", "8",
          "--sequence-length", "128", "--calibration", fixturePath(data),
        ] + recipe)
    }
  }

  /// Nothing of the model, of the process and of what is too small to be planned may be forgotten: here is no room for it.
  @Test(arguments: [
    (1, ["--samples", "24"]), (2, ["--samples", "4", "--sequence-length", "256"]),
    (2, ["--samples", "24"]), (4, ["--samples", "4", "--sequence-length", "256"]),
  ])
  func `no step takes more than its plan in the smallest memory that works`(
    threads: Int, data: [String]
  ) throws {
    try withTemporaryFolder { folder in
      let arguments =
        ["quantize", fixtureModel, "--output", "\(folder)/out", "--threads", "\(threads)"] + data
      let refused = try Program.run(arguments + ["--memory", "1MiB"])
      let advice = try #require(
        refused.stderr.firstMatch(of: #/raise --memory to ([0-9.]+MiB)/#), "\(refused)")
      let run = try Program.run(
        arguments + ["--memory", String(advice.output.1), "--log", "json"])
      #expect(run.end == .exit(0) && !run.stderr.contains("over the budget"), "\(run)")
      let line = try #require(
        run.stderr.split(separator: "\n").first { $0.contains("\"finished\"") })
      let steps = try #require(try JSONValue.parse(Array(line.utf8)).object?["steps"]?.array)
      #expect(steps.count >= 5)
      for step in steps.compactMap(\.object) {
        let (peak, planned) = (step["peak_bytes"]?.size ?? .max, step["planned_bytes"]?.size ?? 0)
        #expect(
          peak <= planned, "\(step["step"]?.string ?? ""): \(peak >> 10) of \(planned >> 10) KiB")
      }
    }
  }

  @Test func aTextOf40MBIsCutBeforeItIsTokenized() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/long.txt"
      try write(text(40 << 20), to: path)
      try write(text(2000), to: "\(folder)/short.txt")
      var data: [String: String] = [:]
      for name in ["long", "short"] {
        let flags = ["--calibration", "\(folder)/\(name).txt"] + short
        let outcome = try run(["quantize", fixtureModel, "--output", "\(folder)/\(name)"] + flags)
        #expect(outcome.end == .exit(0), "\(outcome)")
        data[name] = "\(outcome.messages.first { $0.hasPrefix("data:") } ?? "")"
        #expect(try run(["plan", fixtureModel] + flags).end == .exit(0))
        let evaluated = try run(
          ["evaluate", fixtureModel, "--text", "\(folder)/\(name).txt"] + short)
        #expect(evaluated.end == .exit(0), "\(evaluated)")
      }
      // The first 32 tokens are the same ones.
      #expect(data["long"]?.replacing("long", with: "short") == data["short"])
      // Both name the file of the data.
      #expect(
        differences(try result("\(folder)/long"), try result("\(folder)/short"))
          == ["README.md", "choices.jsonl"])
      // All of it together is many sequences, and their end is cut, too.
      let packed = ["--calibration", path, "--pack", "--samples", "100", "--sequence-length", "64"]
      #expect(try run(["plan", fixtureModel] + packed).end == .exit(0))
    }
  }

  @Test func aLineOf4MBIsReadAndOneOf40MBRefused() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/rows.jsonl"
      func line(_ count: Int) -> [UInt8] {
        Array("{\"text\": \"".utf8) + text(count).map { $0 == 10 ? 32 : $0 } + Array("\"}\n".utf8)
      }
      try write(line(4 << 20), to: path)
      #expect(try run(["plan", fixtureModel, "--calibration", path] + short).end == .exit(0))
      try write(line(10) + line(40 << 20), to: path)
      expectRefusal(
        try run(["plan", fixtureModel, "--calibration", path, "--samples", "2"]),
        ["\(path): line 2", "found more", "raise --memory"])
      expectRefusal(
        try run(["evaluate", fixtureModel, "--text", path, "--samples", "2"]),
        ["\(path): line 2", "found more", "raise --memory"])
    }
  }

  @Test func aTextWithoutAPlaceToCutItIsRefusedByName() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/a.txt"
      try write([UInt8](repeating: UInt8(ascii: "a"), count: 20 << 20), to: path)
      expectRefusal(
        try run(["plan", fixtureModel, "--calibration", path] + short), [path, "raise --memory"])
    }
  }

  @Test(arguments: [("num_hidden_layers", "4"), ("n_routed_experts", "8")])
  func aCountOfABillionIsHeldAgainstTheTensors(key: String, value: String) throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try model.change(
        "config.json", replacing: "\"\(key)\": \(value)", with: "\"\(key)\": 1000000000")
      for command in [
        ["plan", model.path], ["evaluate", model.path, "--text", fixtureCalibration],
      ] {
        expectRefusal(try run(command), ["config.json", key, "1000000000", "tensors"])
      }
      expectRefusal(
        try Program.run(["inspect", model.path]), ["config.json", key, "1000000000", "tensors"])
    }
  }

  /// `env` starts the command that follows it: here one that leaves the program a single processor.
  @Test(.enabled(if: FileSystem.exists("/usr/bin/taskset")))
  func threadsAreNoMoreThanTheProcessMayRunOn() throws {
    try withTemporaryFolder { folder in
      let status = String(decoding: try FileSystem.readFile("/proc/self/status"), as: UTF8.self)
      let line = try #require(
        status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") })
      let first = try #require(line.split { !$0.isNumber }.first)
      let outcome = try Program.run(
        ["quantize", fixtureModel, "--output", "\(folder)/out", "--no-smoothing"],
        environment: ["taskset", "-c", String(first)])
      #expect(outcome.stderr.contains(" 1 thread"), "\(outcome)")
    }
  }

  @Test func aHeaderOfMillionsOfValuesIsRefused() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let shard = "model-00001-of-00006.safetensors"
      let zeros = Array(repeatElement(Array("0,".utf8), count: 5_000_000).joined())
      let header =
        Array("{\"x\":{\"dtype\":\"BF16\",\"shape\":[".utf8) + zeros
        + Array("0],\"data_offsets\":[0,0]}}".utf8)
      let length = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) }
      try write(length + header, to: "\(model.path)/\(shard)")
      for command in [
        ["plan", model.path], ["evaluate", model.path, "--text", fixtureCalibration],
      ] {
        expectRefusal(try run(command), [shard, "header", "MiB of memory", "raise --memory"])
      }
    }
  }
  /// Tokenizers that are short to write and large in memory: what they take is known before they are read.
  @Test(arguments: ["many tokens", "long tokens", "nested pieces"])
  func `what a tokenizer takes is told from its file`(kind: String) throws {
    for (size, isRead) in [(1, true), (5, false)] {
      try withTemporaryFolder { folder in
        let model = try SpoiledModel("\(folder)/model")
        try FileSystem.remove("\(model.path)/tokenizer.json")
        let (name, bytes) = tokenizer(kind, size)
        try write(bytes, to: "\(model.path)/\(name)")
        try write(text(2000), to: "\(folder)/a.txt")
        let outcome = try run(["plan", model.path, "--calibration", "\(folder)/a.txt"] + short)
        let isTold = "\(outcome)".contains("the tokenizer")
        #expect(isTold != isRead, "\(outcome)")
        if !isRead { expectRefusal(outcome, ["the tokenizer", "--memory"]) }
      }
    }
  }

  private func tokenizer(_ kind: String, _ size: Int) -> (name: String, bytes: [UInt8]) {
    let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".utf8)
    func json(_ model: String) -> (String, [UInt8]) {
      ("tokenizer.json", Array("{\"version\":\"1.0\",\"model\":{\(model)}}".utf8))
    }
    func word(_ number: Int, _ count: Int) -> String {
      var state = UInt64(number)
      return String(
        decoding: (0..<count).map { _ -> UInt8 in
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          return letters[Int(state >> 33) % letters.count]
        }, as: UTF8.self)
    }
    switch kind {
    case "many tokens":
      let tokens = (0..<40_000 * size).map { number in
        let digits = [number % 62, number / 62 % 62, number / 3844].map { letters[$0] }
        return "\"\(String(decoding: digits, as: UTF8.self))\":\(number)"
      }
      return json("\"type\":\"BPE\",\"merges\":[],\"vocab\":{\(tokens.joined(separator: ","))}")
    case "long tokens":
      let tokens = (0..<300 * size).map { "[\"\(word($0, 1000))\",-1]" }
      return json(
        "\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[\(tokens.joined(separator: ","))]")
    default:
      func varint(_ value: Int) -> [UInt8] {
        value < 128 ? [UInt8(value)] : [UInt8(value & 127 | 128), UInt8(value >> 7)]
      }
      func piece(_ text: [UInt8], _ kind: UInt8) -> [UInt8] {
        let message = [0x0A] + varint(text.count) + text + [0x18, kind]
        return [0x0A] + varint(message.count) + message
      }
      let pieces = letters.prefix(2 * size).flatMap { letter in
        (1...512).flatMap { piece([UInt8](repeating: letter, count: $0), 1) }
      }
      return ("tokenizer.model", piece(Array("<unk>".utf8), 2) + pieces + [0x12, 0x02, 0x18, 0x02])
    }
  }
}
