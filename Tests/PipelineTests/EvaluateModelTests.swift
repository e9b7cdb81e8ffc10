// Likelihood of the forward goldens, distance to a reference as transformers has it, and what must not matter.

import Calibration
import CompressedTensors
import Glibc
import JSON
import Pipeline
import Quantization
import Safetensors
import SystemIO
import Testing
import TestSupport

@Suite struct EvaluateModelTests {
  /// An evaluation over rows of ids.
  private func evaluate(
    _ model: String, reference: String? = nil, ids: [[Int]], memory: Int = 256 << 20,
    threads: Int = 2, worst: Int = 10
  ) throws -> Evaluation {
    try withTemporaryFolder { folder in
      let rows = ids.map { "{\"input_ids\":\($0)}" }
      let text = folder + "/ids.jsonl"
      try replaceFile(text, with: Array(rows.joined(separator: "\n").utf8))
      var options = EvaluateOptions(
        models: [model], reference: reference,
        data: CalibrationSource(
          path: text, selection: RowSelection(samples: 100, sequenceLength: 1000)),
        memory: memory, threads: threads, scratch: folder + "/scratch")
      options.worst = worst
      let result = try EvaluateModel(options).run()
      #expect(!FileSystem.exists(folder + "/scratch"))
      return result
    }
  }

  // MARK: Judged by transformers

  @Test(arguments: ["published-qk-norm", "two-groups-whole"])
  func `the likelihood is the one of transformers`(name: String) throws {
    let model = fixturePath("forward/" + name)
    let golden = try SafetensorsFile(path: model + "/golden.safetensors")
    let ids = try #require(golden["input_ids"])
    let length = ids.shape[1]
    let rows = (0..<ids.shape[0]).map {
      Array(ids.integers[$0 * length..<($0 + 1) * length])
    }
    let result = try evaluate(model, reference: model, ids: rows)
    let scores = try golden.floats("log_probabilities")
    let vocabulary = scores.count / (rows.count * length)
    var expected: [Double] = []
    for (sequence, row) in rows.enumerated() {
      for position in 0..<length - 1 {
        let place = sequence * length + position
        expected.append(-Double(scores[place * vocabulary + row[position + 1]]))
      }
    }
    let nll = expected.reduce(0, +) / Double(expected.count)
    #expect(abs(try #require(result.nll) - nll) < 1e-4)
    #expect(result.divergence?.mean == 0)
    #expect(result.divergence?.agreement == 1)
  }

  /// One checkpoint of evaluation.json.
  private struct Judged {
    let ids: [[Int]]
    let nll: [Double]
    let kl: [Double]
    let agreement: Double

    init(_ name: String) throws {
      let golden = try #require(
        JSONValue.parse(FileSystem.readFile(fixturePath("evaluation.json"))).object)
      func numbers(_ name: String, _ key: String) throws -> [Double] {
        let checkpoint = try #require(golden["checkpoints"]?.object?[name]?.object)
        return try #require(checkpoint[key]?.array).compactMap(\.double)
      }
      ids = try #require(golden["input_ids"]?.array).compactMap { $0.array?.compactMap(\.int) }
      nll = try numbers(name, "nll")
      kl = try numbers(name, "kl")
      let same = zip(try numbers("source", "choices"), try numbers(name, "choices"))
      agreement = Double(same.count { $0 == $1 }) / Double(kl.count)
    }

    /// Sequence and tokens seen of every position, in order.
    var places: [(sequence: Int, seen: Int)] {
      ids.enumerated().flatMap { row in (1...row.element.count).map { (row.offset, $0) } }
    }
  }

  private func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

  private func isNear(_ found: Double?, _ expected: Double) -> Bool {
    found.map { abs($0 - expected) <= 1e-3 * abs(expected) } ?? false
  }

  @Test(arguments: ["W4A16", "W4A16-G32", "W4A16_ASYM", "W8A16"])
  func `the divergence is the one of transformers, and so is every part of it`(scheme: String)
    throws
  {
    let judged = try Judged(scheme)
    let result = try evaluate(
      fixturePath("rtn/bf16/" + scheme), reference: fixturePath("rtn/bf16/source"),
      ids: judged.ids)
    let divergence = try #require(result.divergence)
    let sorted = judged.kl.sorted()
    #expect(result.tokens == judged.kl.count)
    #expect(isNear(result.nll, mean(judged.nll)))
    #expect(isNear(result.all.referenceNLL, mean(try Judged("source").nll)))
    #expect(isNear(divergence.mean, mean(judged.kl)))
    #expect(isNear(divergence.median, sorted[sorted.count / 2 - 1]))
    #expect(isNear(divergence.percentile99, sorted[Int(0.99 * Double(sorted.count)) - 1]))
    #expect(isNear(divergence.largest, try #require(sorted.last)))
    #expect(abs(divergence.agreement - judged.agreement) < 0.004)

    let places = judged.places
    #expect(result.buckets.map(\.first) == [1, 16, 64, 256])
    #expect(result.buckets.map(\.last) == [15, 63, 255, 300])
    for bucket in result.buckets {
      let inside = zip(places, judged.kl).filter {
        bucket.first...bucket.last ~= $0.0.seen
      }.map(\.1)
      #expect(bucket.statistics.positions == inside.count)
      #expect(isNear(bucket.statistics.divergence?.mean, mean(inside)), "\(bucket.first)")
    }
    let order = judged.kl.indices.sorted { judged.kl[$0] > judged.kl[$1] }.prefix(3)
    for (worst, index) in zip(result.worst, order) {
      #expect(worst.sequence == places[index].sequence && worst.seen == places[index].seen)
      #expect(isNear(worst.divergence, judged.kl[index]))
      let row = judged.ids[worst.sequence]
      #expect(worst.context.map(Int.init) == row.prefix(worst.seen).suffix(32))
      #expect(
        worst.next.map { Int($0.token) } == (worst.seen < row.count ? row[worst.seen] : nil))
      #expect(worst.choice.text == nil, "there is no tokenizer")
    }
  }

  @Test func `without a reference the least likely tokens are the worst`() throws {
    let judged = try Judged("W4A16")
    let result = try evaluate(fixturePath("rtn/bf16/W4A16"), ids: judged.ids, worst: 3)
    #expect(result.divergence == nil && result.all.referenceNLL == nil)
    #expect(result.worst.count == 3)
    #expect(isNear(result.worst[0].nll, try #require(judged.nll.max())))
    #expect(isNear(result.worst[0].next?.probability, exp(-(try #require(judged.nll.max())))))
  }

  // MARK: What must not matter

  @Test func `neither threads nor memory change a digit`() throws {
    let model = fixturePath("glm4-moe-4m")
    let ids = (0..<9).map { row in (0..<301).map { (row * 7919 + $0 * $0 * 31) % 2048 } }
    let ours = fixturePath("glm4-moe-4m")
    try withTemporaryFolder { folder in
      var options = QuantizeOptions(
        model: ours, output: folder + "/out", memory: 256 << 20, threads: 2)
      // Without a path the rounding would be calibrated on all of the built-in chats.
      options.data.path = fixturePath("calibration.jsonl")
      options.data.selection.samples = 8
      options.smooths = false
      try SmallRun.run(options)
      let expected = try evaluate(options.output, reference: model, ids: ids)
      #expect(expected.divergence?.mean ?? 0 > 1e-4)
      for (memory, threads) in [(1 << 30, 1), (72 << 20, 1), (72 << 20, 5), (96 << 20, 3)] {
        let found = try evaluate(
          options.output, reference: model, ids: ids, memory: memory, threads: threads)
        #expect(found == expected, "\(memory) bytes, \(threads) threads")
      }
    }
  }

  @Test func `tokens are spelled where there is a tokenizer`() throws {
    let result = try evaluate(fixturePath("glm4-moe-4m"), ids: [[100, 200, 300, 400]], worst: 1)
    let worst = try #require(result.worst.first)
    #expect(worst.contextText?.isEmpty == false)
    #expect(worst.next?.text?.isEmpty == false && worst.choice.text?.isEmpty == false)
  }

  @Test func `smoothing keeps the model nearer to its reference than plain rounding does`() throws {
    try withTemporaryFolder { folder in
      func divergence(smooths: Bool) throws -> Double {
        var options = QuantizeOptions(
          model: fixturePath("glm4-moe-4m"), output: "\(folder)/\(smooths)", memory: 256 << 20,
          threads: 2)
        options.data.path = fixturePath("calibration.jsonl")
        options.data.selection.samples = 48
        options.smooths = smooths
        options.rounding = .nearest
        options.ignore = ["model.layers.0.*"]
        try SmallRun.run(options)
        let evaluation = try EvaluateModel(
          EvaluateOptions(
            models: [options.output], reference: options.model,
            data: CalibrationSource(
              path: fixturePath("calibration.jsonl"),
              selection: RowSelection(samples: 8, sequenceLength: 128)),
            memory: 256 << 20, threads: 2, scratch: folder + "/scratch")
        ).run()
        return try #require(evaluation.divergence).mean
      }
      let (smoothed, plain) = try (divergence(smooths: true), divergence(smooths: false))
      #expect(smoothed < 0.3 * plain, "KL \(smoothed) against \(plain)")
    }
  }

  // MARK: What is kept of it

  /// Two that end together would each replace what the other one wrote.
  @Test func `an evaluation is added to an output when no other process writes there`() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/out"
      try SmallRun.run(SmallRun.options(output))
      let options = EvaluateOptions(
        models: [output], reference: nil,
        data: CalibrationSource(
          path: SmallRun.calibration, selection: RowSelection(samples: 2, sequenceLength: 100)),
        memory: 256 << 20, threads: 2, scratch: folder + "/scratch")
      let result = try EvaluateModel(options).run()
      var lock = try FileLock(path: output + "/.sluice/lock")
      try #require(lock != nil)
      let error = #expect(throws: EvaluationNotKept(path: output)) {
        try EvaluationFile.add(result, of: output, options)
      }
      #expect("\(try #require(error))".contains("another process is writing there"))
      #expect(!EvaluationFile.holds(options, of: output))
      lock = nil
      #expect(try EvaluationFile.add(result, of: output, options) != nil)
      #expect(EvaluationFile.holds(options, of: output))
    }
  }

  // MARK: What is refused

  @Test func `weights that are not numbers are told by checkpoint and position`() throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      let source = fixturePath("rtn/bf16/W4A16")
      try FileSystem.createFolder(model)
      for name in try FileSystem.list(source) {
        try FileSystem.copyFile(from: "\(source)/\(name)", to: "\(model)/\(name)")
      }
      let path = model + "/model.safetensors"
      let range = try #require(SafetensorsFile(path: path)["model.norm.weight"]).range
      var bytes = try FileSystem.readFile(path)
      bytes.replaceSubrange(range.prefix(2), with: [0xc0, 0x7f])
      try replaceFile(path, with: bytes)
      #expect(throws: EvaluationError.nonFinite(folder: model, sequence: 0, position: 1)) {
        try evaluate(model, ids: [[1, 2, 3]])
      }
    }
  }

  @Test func `models side by side come to what each comes to alone`() throws {
    let (one, other) = (fixturePath("rtn/bf16/W4A16"), fixturePath("rtn/bf16/W8A16"))
    let reference = fixturePath("rtn/bf16/source")
    try withTemporaryFolder { folder in
      let text = folder + "/ids.jsonl"
      try replaceFile(
        text, with: Array("{\"input_ids\":[1,2,3,4,5,6,7]}\n{\"input_ids\":[9,8,7]}\n".utf8))
      var options = EvaluateOptions(
        models: [one, other], reference: reference,
        data: CalibrationSource(
          path: text, selection: RowSelection(samples: 100, sequenceLength: 1000)),
        memory: 256 << 20, threads: 2, scratch: folder + "/scratch")
      let both = try EvaluateModel(options).runAll()
      #expect(both.count == 2 && both[0] != both[1])
      for (index, model) in [one, other].enumerated() {
        options.models = [model]
        #expect(try EvaluateModel(options).run() == both[index])
      }
    }
  }

  @Test func `checkpoints of different vocabularies are not compared`() throws {
    let folder = fixturePath("rtn/bf16/W4A16")
    #expect(
      throws: EvaluationError.otherVocabulary(folder: folder, model: 32, reference: 2048)
    ) {
      try evaluate(
        folder, reference: fixturePath("glm4-moe-4m"), ids: [[1, 2]])
    }
  }
}
