// Scales of keys and values: what the peer finds on the same tokens, checked, and served as the peer's model computes.

import Calibration
import CompressedTensors
import JSON
import Pipeline
import Planning
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct CacheTests {
  private static let source = fixturePath("awq/moe-only")

  private func options(
    _ output: String, _ cache: CacheScheme?, scheme: String = "FP8_DYNAMIC"
  ) throws -> QuantizeOptions {
    var options = SmallRun.options(output)
    options.model = Self.source
    options.data.path = Self.source + "/calibration.jsonl"
    options.data.selection.samples = 8
    options.schemes = [try SchemePreset.written(scheme).grouped(by: 32)]
    options.cache = cache
    return options
  }

  private func json(_ name: String) throws -> JSONObject {
    try #require(JSONValue.parse(FileSystem.readFile(fixturePath("schemes/\(name)"))).object)
  }

  /// What is stored beside each attention.
  private func scales(_ folder: String) throws -> [String: StoredTensor] {
    let tensors = try ShardedModel(folder: folder).tensors.filter {
      $0.name.hasSuffix(".k_scale") || $0.name.hasSuffix(".v_scale")
    }
    return Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0) })
  }

  // MARK: The peer

  @Test(arguments: [(CacheScheme.fp8, "kv-tensor"), (.fp8OfHeads, "kv-head")])
  func `names, types, shapes, config and scales are those of the peer`(
    cache: CacheScheme, name: String
  ) throws {
    try withTemporaryFolder { folder in
      var options = try options("\(folder)/out", cache)
      options.smooths = false
      options.rounding = .nearest
      try SmallRun.run(options)
      let found = try scales(options.output)
      let numbers = try #require(try json("static.json")[name]?.object).entries
      let peer = try #require(try json("cache.json")[cache.rawValue]?.object)
      let tensors = try #require(peer["tensors"]?.object).entries
      #expect(found.count == 4 && tensors.map(\.key).sorted() == found.keys.sorted())
      for (tensor, what) in tensors {
        let stored = try #require(found[tensor])
        #expect(stored.dtype.rawValue == what.object?["dtype"]?.string)
        #expect(stored.shape == what.object?["shape"]?.array?.compactMap(\.int))
      }
      for (tensor, expected) in numbers {
        let values = try #require(found[tensor]?.floats)
        let expected = expected.array?.compactMap(\.double) ?? []
        #expect(values.count == expected.count)
        for (one, other) in zip(values, expected) {
          #expect(abs(Double(one) / other - 1) < 1e-6, "\(tensor): \(one), expected \(other)")
        }
      }
      let config = try JSONValue.parse(FileSystem.readFile(options.output + "/config.json"))
      #expect(
        config.object?["quantization_config"]?.object?["kv_cache_scheme"]
          == peer["kv_cache_scheme"])
    }
  }

  /// Likelihood and divergence as transformers and compressed-tensors compute them.
  @Test(arguments: [nil, CacheScheme.fp8, .fp8OfHeads])
  func `an evaluation keeps keys and values as the scheme says`(cache: CacheScheme?) throws {
    try withTemporaryFolder { folder in
      var options = try options("\(folder)/out", cache, scheme: "W8A16")
      options.smooths = false
      options.rounding = .nearest
      try SmallRun.run(options)
      let found = try evaluate(options.output, reference: Self.source, in: folder).all
      let all = try json("cache.json")
      let peer = try #require(all[cache?.rawValue ?? "none"]?.object)
      let nll = try #require(peer["nll"]?.double)
      let divergence = try #require(peer["kl"]?.double)
      #expect(abs(try #require(found.nll) - nll) < 2e-6)
      #expect(abs(try #require(found.divergence).mean - divergence) < 2e-7)
      // What is compared is larger than what is allowed.
      let without = try #require(all["none"]?.object?["kl"]?.double)
      #expect(cache == nil || abs(divergence - without) > 1e-3)
    }
  }

  /// A checkpoint whose weights are FP8 is read in another way.
  @Test(arguments: ["FP8_DYNAMIC", "NVFP4A16"])
  func `an evaluation keeps keys and values of any weights`(scheme: String) throws {
    try withTemporaryFolder { folder in
      var found: [Double] = []
      for cache in [nil, CacheScheme.fp8] {
        var options = try options("\(folder)/\(found.count)", cache, scheme: scheme)
        options.smooths = false
        options.rounding = .nearest
        try SmallRun.run(options)
        found.append(try #require(try evaluate(options.output, in: folder).all.nll))
      }
      #expect(found[0] != found[1] && abs(found[0] - found[1]) < 0.1)
    }
  }

  private func evaluate(
    _ model: String, reference: String? = nil, in folder: String
  ) throws -> Evaluation {
    var data = CalibrationSource(
      path: Self.source + "/calibration.jsonl",
      selection: RowSelection(samples: 8, sequenceLength: 4096))
    data.addsSpecialTokens = false
    return try EvaluateModel(
      EvaluateOptions(
        models: [model], reference: reference, data: data, memory: 1 << 30, threads: 2,
        scratch: folder + "/scratch")
    ).run()
  }

  // MARK: The run

  @Test(arguments: CacheScheme.allCases)
  func `bytes depend on neither memory nor stops`(cache: CacheScheme) throws {
    try withTemporaryFolder { folder in
      var options = try options("\(folder)/a", cache, scheme: "W4A16")
      options.data.path = SmallRun.calibration
      options.model = SmallRun.model
      let expected = try SmallRun.expectTheSameBytes(options, in: folder)
      options.threads = 1
      var stops = 0
      try SmallRun.runInterrupted(options) { _ in stops += 1 }
      #expect(stops > 4)
      #expect(try SmallRun.contents(options.output) == expected)
      let report = try VerifyModel(output: options.output, source: options.model, threads: 2).run()
      #expect(report.findings == [])
      #expect(report.checkedTensors == report.tensors)
    }
  }

  /// Tokens are read in blocks, and statistics go on from a commit between two of them.
  @Test func `bytes do not depend on a stop between two blocks of tokens`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/a")
      options.model = fixturePath("glm4-moe-4m")
      options.data.path = fixturePath("calibration.jsonl")
      options.data.selection.samples = 40
      options.ignore = ["model.layers.[1-3].*"]
      options.smooths = false
      options.rounding = .nearest
      options.cache = .fp8OfHeads
      let plan = try QuantizePlan(options)
      #expect(plan.run.tokens > 4096 && plan.run.calibratedLayers == 4)
      try SmallRun.run(options)
      let expected = try SmallRun.contents(options.output)
      options.output = folder + "/b"
      try SmallRun.runInterrupted(options) { _ in }
      #expect(try SmallRun.contents(options.output) == expected)
      #expect(try scales(options.output).count == 8)
    }
  }

  /// AWQ divides values by what it multiplies the output projection with: what is cached is smaller then, or larger.
  @Test func `scales are those of smoothed values`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/smoothed")
      options.cache = .fp8OfHeads
      options.rounding = .nearest
      try SmallRun.run(options)
      let smoothed = try scales(options.output)
      let recorded = try SafetensorsFile(
        path: options.output + "/.sluice/smoothing.safetensors")
      // The same model with the scales of values in its weights.
      let source = folder + "/source"
      try FileSystem.createFolder(source)
      for name in try FileSystem.list(options.model) where !name.hasSuffix(".safetensors") {
        try replaceFile(
          "\(source)/\(name)", with: try FileSystem.readFile("\(options.model)/\(name)"))
      }
      var (folded, changed) = (0, 0)
      let tensors = try ShardedModel(folder: options.model).tensors.map { tensor -> LooseTensor in
        let layer = tensor.name.split(separator: ".").prefix(3).joined(separator: ".")
        let scale = recorded[layer + ".self_attn.v_proj.smoothing_scale"]?.floats
        let columns = tensor.shape.last ?? 1
        var values = tensor.dtype.isWeight ? tensor.floats : []
        if let scale, tensor.name.contains(".v_proj.") {
          let rows = tensor.shape.count == 1 ? 1 : columns
          for index in values.indices { values[index] /= scale[index / rows] }
          folded += 1
        } else if let scale, tensor.name.hasSuffix(".o_proj.weight") {
          for index in values.indices { values[index] *= scale[index % columns] }
          folded += 1
        } else {
          return LooseTensor(
            name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.bytes)
        }
        return LooseTensor(tensor.name, tensor.shape, values, as: .f32)
      }
      #expect(folded >= 4)
      try LooseTensor.write(tensors, to: source + "/model.safetensors")
      var plain = options
      plain.smooths = false
      plain.output = folder + "/plain"
      try SmallRun.run(plain)
      plain.model = source
      plain.output = folder + "/folded"
      try SmallRun.run(plain)
      let (unsmoothed, expected) = (
        try scales(folder + "/plain"), try scales(folder + "/folded")
      )
      for (name, tensor) in smoothed {
        let other = try #require(expected[name]).floats
        for (one, two) in zip(tensor.floats, other) {
          #expect(abs(one / two - 1) < 0.01, "\(name): \(one), expected \(two)")
        }
        if name.hasSuffix("v_scale") {
          let before = try #require(unsmoothed[name]).floats
          changed += zip(tensor.floats, before).count { abs($0 / $1 - 1) > 0.05 }
        }
      }
      #expect(changed > 0)
    }
  }

  @Test func `a run for scales of keys and values alone reads its data`() throws {
    try withTemporaryFolder { folder in
      var options = try options(folder + "/out", .fp8, scheme: "W4A16")
      options.smooths = false
      options.rounding = .nearest
      let plan = try QuantizePlan(options)
      #expect(plan.run.tokens > 0 && plan.run.calibratedLayers == 2)
      #expect(plan.coverage.quantized == "layers 0-1, keys and values")
      options.cache = nil
      #expect(try QuantizePlan(options).run.tokens == 0)
    }
  }

  @Test func `another scheme of keys and values does not go on where one stopped`() throws {
    try withTemporaryFolder { folder in
      var options = try options(folder + "/out", .fp8)
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          if case .progress = event { interruption.request() }
        }.run()
      }
      for (cache, asked) in [(CacheScheme?.none, "(nothing)"), (.fp8OfHeads, "fp8_head")] {
        options.cache = cache
        let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
        #expect(
          error
            == .otherOptions(
              path: options.output + "/.sluice/state.json", option: "--kv-cache", written: "fp8",
              asked: asked))
      }
    }
  }

  @Test(arguments: [
    "deepseek-v2-lite", "deepseek-v3-kimi-k2", "deepseek-v3-fp8-blocks", "glm4-moe-lite-published",
  ])
  func `attention that keeps a latent is refused before work`(model: String) throws {
    var options = try options("/nowhere", .fp8, scheme: "FP8_DYNAMIC")
    options.model = fixturePath("forward/" + model)
    for (isFromRecipe, origin) in [(false, "--kv-cache"), (true, "r.yaml: kv_cache_scheme")] {
      options.recipe = "r.yaml"
      options.cacheIsFromRecipe = isFromRecipe
      #expect(
        throws: OutputPlanError.noCache(origin: origin, module: "model.layers.0.self_attn")
      ) { try QuantizePlan(options) }
    }
  }

  // MARK: Sources that have such scales

  @Test(arguments: ["FP8_DYNAMIC", "W4A16"])
  func `scales of a source are left out, and found anew where they are asked for`(
    scheme: String
  ) throws {
    try withTemporaryFolder { folder in
      var first = try options(folder + "/first", .fp8, scheme: scheme)
      first.smooths = false
      first.rounding = .nearest
      try SmallRun.run(first)
      for cache in [nil, CacheScheme.fp8OfHeads] {
        var second = try options("\(folder)/\(cache?.rawValue ?? "none")", cache, scheme: "W8A16")
        second.model = first.output
        let plan = try QuantizePlan(second)
        #expect(plan.warnings.contains(.activationScalesDropped(count: 4)))
        try SmallRun.run(second)
        #expect(try scales(second.output).count == (cache == nil ? 0 : 4))
        let report = try VerifyModel(output: second.output, source: second.model, threads: 2).run()
        #expect(report.findings == [])
      }
    }
  }

  // MARK: Faults

  private static let tensor = "model.layers.1.self_attn.v_scale"

  private func spoiled(_ folder: String, _ cache: CacheScheme? = .fp8) throws -> SpoiledOutput {
    let output = try SpoiledOutput(in: folder) { $0.cache = cache }
    return output
  }

  @Test(arguments: [Float.nan, .infinity, 0, -1])
  func `a stored scale that is none is found, and nothing is evaluated with it`(
    number: Float
  ) throws {
    try withTemporaryFolder { folder in
      let output = try spoiled(folder, .fp8OfHeads)
      #expect(try output.verify().findings == [])
      try output.change(Self.tensor) { bytes in
        let width = bytes.count / 4
        bytes.replaceSubrange(
          width..<2 * width, with: (width == 4 ? DType.f32 : .bf16).encoded([number]))
      }
      try output.forgetChecksums()
      let findings = try output.verify().findings
      #expect(findings.map(\.subject) == [Self.tensor])
      #expect(findings.first?.problem == "element 1 is \(number)")
      let error = #expect(throws: ActivationProblem.self) {
        try evaluate(output.path, in: folder)
      }
      guard case .wrongCache(_, Self.tensor, "element 1 is \(number)") = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test func `a scale of another shape or type, without a tensor, or changed is found`() throws {
    try withTemporaryFolder { folder in
      let output = try spoiled(folder)
      let shard = try #require(try output.shards.first)
      func findings(_ change: (inout [LooseTensor]) -> Void) throws -> [String] {
        let file = "\(output.path)/\(shard)"
        let kept = try FileSystem.readFile(file)
        try output.rewrite(shard, change)
        let found = try output.verify().findings.filter { $0.subject == Self.tensor }
        let error = #expect(throws: (any Error).self) { try evaluate(output.path, in: folder) }
        #expect("\(String(describing: error))".contains(Self.tensor))
        try replaceFile(file, with: kept)
        return found.map(\.problem)
      }
      let place = { (tensors: [LooseTensor]) in
        tensors.firstIndex { $0.name == Self.tensor } ?? 0
      }
      let shape = try findings { $0[place($0)].shape = [1, 1] }
      #expect(shape.contains { $0.contains("[1, 1], expected BF16, F16 or F32 [1]") }, "\(shape)")
      let type = try findings {
        let index = place($0)
        $0[index].dtype = $0[index].dtype == .bf16 ? .i16 : .i32
      }
      #expect(type.contains { $0.contains("expected BF16, F16 or F32 [1]") }, "\(type)")
      #expect(try !findings { $0.remove(at: place($0)) }.isEmpty)
      // What is a number still, and not the one that was written.
      try output.change(Self.tensor) { $0[0] ^= 1 }
      #expect(try output.verify().findings.map(\.subject) == [Self.tensor])
    }
  }

  @Test func `a scheme without scales, and scales without a scheme, are found`() throws {
    try withTemporaryFolder { folder in
      let output = try spoiled(folder)
      var scheme: JSONValue?
      try output.changeQuantization {
        scheme = $0["kv_cache_scheme"]
        $0["kv_cache_scheme"] = .null
      }
      let stray = try output.verify(source: false).findings
      #expect(stray.count == 4)
      #expect(
        stray.allSatisfy { $0.problem == "does not belong to a model of this config.json" })
      let plain = try spoiled(folder + "/plain", nil)
      #expect(try plain.verify().findings == [])
      try plain.changeQuantization { $0["kv_cache_scheme"] = scheme }
      let missing = try plain.verify().findings
      #expect(missing.count == 4 && missing.allSatisfy { $0.problem == "is missing" })
    }
  }

  /// Keys, values, and what a refusal names.
  @Test(
    arguments: [
      ("num_bits", 4, "kv_cache_scheme.num_bits"), ("type", "int", "kv_cache_scheme.type"),
      ("strategy", "channel", "kv_cache_scheme.strategy"),
      ("symmetric", false, "kv_cache_scheme.symmetric"),
      ("dynamic", true, "kv_cache_scheme.dynamic"), ("x", 1, "kv_cache_scheme.x"),
    ] as [(String, JSONValue, String)])
  func `another scheme of keys and values in a config is refused by its key`(
    key: String, value: JSONValue, named: String
  ) throws {
    let scheme = try #require(try json("cache.json")["fp8"]?.object?["kv_cache_scheme"]?.object)
    let groups = [IntegerScheme(.w4a16, groupSize: 32).scheme]
    var block = try #require(
      QuantizationConfig(groups: groups, ignore: [], cache: .fp8).json.object)
    #expect(block["kv_cache_scheme"] == .object(scheme))
    #expect(try QuantizationConfig(.object(block), file: "c").cache == .fp8)
    var changed = scheme
    changed[key] = value
    block["kv_cache_scheme"] = .object(changed)
    let error = #expect(throws: QuantizationConfigError.self) {
      try QuantizationConfig(.object(block), file: "c")
    }
    #expect(error?.key == named)
  }
}
