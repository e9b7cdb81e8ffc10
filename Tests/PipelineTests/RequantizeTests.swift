// A finished output under other options: the bytes of a run from scratch, and the old one whole until then.

import Calibration
import CompressedTensors
import Pipeline
import Planning
import Quantization
import SystemIO
import Tensors
import Testing
import TestSupport

@Suite struct RequantizeTests {
  private static let request = RunRequest(folder: "/", words: [["quantize"]])

  private func options(_ folder: String, _ name: String) -> QuantizeOptions {
    var options = SmallRun.options("\(folder)/\(name)")
    options.keptStates = folder + "/kept"
    options.request = Self.request
    return options
  }

  private func w8a16(_ options: inout QuantizeOptions) {
    options.schemes = [IntegerScheme(.w8a16, groupSize: 32).scheme]
  }

  private func layer1(_ options: inout QuantizeOptions) {
    options.layerSchemes = [
      LayerScheme(layers: [1...1], text: "1", scheme: IntegerScheme(.w8a16, groupSize: 32).scheme)
    ]
  }

  /// The options of an output that is to take the place of another one.
  private func options(
    _ folder: String, for output: Requantization, _ change: (inout QuantizeOptions) -> Void
  ) -> QuantizeOptions {
    var options = options(folder, "")
    options.output = output.work
    options.replaces = output.output
    change(&options)
    return options
  }

  /// - Returns: the layers that were taken over.
  @discardableResult
  private func requantize(
    _ folder: String, exchanges: Bool = true, _ change: (inout QuantizeOptions) -> Void
  ) throws -> [Int] {
    let output = try Requantization(folder + "/out")
    let options = options(folder, for: output, change)
    var taken: [Int] = []
    let report = { (event: RunEvent) in
      if case .layerTakenOver(let layer, _) = event { taken.append(layer) }
    }
    if options.size != nil {
      let run = try SizedRun(options)
      try output.prepare(for: run.writing)
      try run.run(report: report)
    } else {
      let plan = try QuantizePlan(options)
      try output.prepare(for: plan)
      try QuantizeModel(plan, report: report).run()
    }
    try output.replace(exchanges: exchanges)
    return taken
  }

  /// What a run from scratch writes.
  private func expected(
    _ folder: String, _ change: (inout QuantizeOptions) -> Void
  ) throws -> [String: [UInt8]] {
    var options = SmallRun.options("\(folder)/scratch/out")
    change(&options)
    if options.size != nil {
      try SizedRun(options).run { _ in }
    } else {
      try SmallRun.run(options)
    }
    return try SmallRun.contents(options.output)
  }

  private func isClean(_ folder: String) throws -> Bool {
    try FileSystem.list(folder).allSatisfy { ["kept", "out", "scratch"].contains($0) }
  }

  @Test(arguments: [true, false])
  func `another scheme comes to the bytes of a run from scratch`(exchanges: Bool) throws {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      #expect(try requantize(folder, exchanges: exchanges, w8a16) == [])
      #expect(try SmallRun.contents(folder + "/out") == expected(folder, w8a16))
      #expect(try isClean(folder))
      // And back, from what the first run kept.
      #expect(try requantize(folder, exchanges: exchanges) { _ in } == [])
      try FileSystem.remove(folder + "/scratch")
      #expect(try SmallRun.contents(folder + "/out") == expected(folder) { _ in })
    }
  }

  @Test func `a run to a size comes to the bytes of one from scratch`() throws {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      let size = try SizeWish(
        .meanBits(6), options: [SizeOption("W4A16"), SizeOption("W8A16")]
      ).grouped(by: 32)
      try requantize(folder) { $0.size = size }
      #expect(try SmallRun.contents(folder + "/out") == expected(folder) { $0.size = size })
    }
  }

  /// The other one is copied, scales, checksums, choices and all.
  @Test func `layers that do not change are taken over`() throws {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      #expect(try requantize(folder, layer1) == [0])
      let files = try SmallRun.contents(folder + "/out")
      #expect(files == (try expected(folder, layer1)))
      // As somebody would type it.
      try FileSystem.remove(folder + "/scratch")
      let typed = try expected(folder) {
        $0.schemes.append(
          IntegerScheme(.w8a16, groupSize: 32).targeting(#"re:model\.layers\.(1)\..*"#))
      }
      #expect(files == typed)
      // Another ignore list leaves the other layer as it is.
      let ignore = { (options: inout QuantizeOptions) in
        layer1(&options)
        options.ignore = ["model.layers.0.self_attn.*"]
      }
      #expect(try requantize(folder, ignore) == [1])
      try FileSystem.remove(folder + "/scratch")
      #expect(try SmallRun.contents(folder + "/out") == expected(folder, ignore))
    }
  }

  @Test func `without kept states all is calibrated again, and the bytes are the same`() throws {
    try withTemporaryFolder { folder in
      var first = options(folder, "out")
      first.keptStates = nil
      try SmallRun.run(first)
      // The tokens have to go through layer 0; nobody needs what comes behind layer 1.
      let change = { (options: inout QuantizeOptions) in
        layer1(&options)
        options.keptStates = nil
      }
      #expect(try requantize(folder, change) == [])
      #expect(try SmallRun.contents(folder + "/out") == expected(folder, layer1))
    }
  }

  @Test func `a run that takes layers over does what its plan says`() throws {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      let output = try Requantization(folder + "/out")
      let plan = try QuantizePlan(options(folder, for: output, layer1))
      let run = try QuantizeModel(plan) { _ in }
      try run.run()
      for step in [RunStep.copy, .attend, .experts, .advance] {
        let use = try #require(plan.run.uses[step])
        func named(_ uses: [MemoryUse]) -> [String: Int] {
          Dictionary(uniqueKeysWithValues: uses.map { ($0.name, $0.bytes) })
        }
        #expect(named(use.buffers) == run.usedBuffers[step] ?? [:], "\(step)")
        let pages = run.usedPages[step] ?? [:]
        #expect(named(use.others.filter { pages[$0.name] != nil }) == pages, "\(step)")
      }
    }
  }

  @Test(arguments: [true, false])
  func `the old output is whole until the new one is, wherever it is stopped`(
    takesOver: Bool
  ) throws {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      let before = try SmallRun.contents(folder + "/out")
      let change = takesOver ? layer1 : w8a16
      var stops = 0
      while true {
        let output = try Requantization(folder + "/out")
        var options = options(folder, for: output, change)
        options.memory = try QuantizePlan(options).run.smallestBudget
        let plan = try QuantizePlan(options)
        try output.prepare(for: plan)
        let interruption = Interruption()
        do {
          try QuantizeModel(plan, interruption: interruption) { event in
            switch event {
            case .progress, .layerTakenOver: interruption.request()
            default: break
            }
          }.run()
        } catch is Interrupted {
          stops += 1
          try #require(stops < 100)
          #expect(try SmallRun.contents(folder + "/out") == before)
          continue
        }
        #expect(try SmallRun.contents(folder + "/out") == before)
        // Killed before the exchange: the new one is found.
        break
      }
      #expect(stops >= 2)
      var works = 0
      let output = try Requantization(folder + "/out")
      let plan = try QuantizePlan(options(folder, for: output, change))
      try output.prepare(for: plan)
      try QuantizeModel(plan) { if case .started = $0 { works += 1 } }.run()
      #expect(works == 0)
      try output.replace()
      #expect(try SmallRun.contents(folder + "/out") == expected(folder, change))
      #expect(try isClean(folder))
    }
  }

  /// On a file system that cannot exchange folders there is a moment without either.
  @Test func `an output that is between two names gets one`() throws {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      let before = try SmallRun.contents(folder + "/out")
      let beside = folder + "/.out.requantize"
      try FileSystem.createFolder(beside)
      try FileSystem.move(folder + "/out", to: beside + "/old")
      #expect(try Requantization(folder + "/out").keptStates == folder + "/kept")
      #expect(try SmallRun.contents(folder + "/out") == before)
      // The new one was whole by then.
      try FileSystem.createFolder(beside)
      try FileSystem.move(folder + "/out", to: beside + "/out")
      try FileSystem.createFolder(beside + "/old")
      let output = try Requantization(folder + "/out")
      #expect(try SmallRun.contents(folder + "/out") == before)
      #expect(output.isDone(try QuantizePlan(options(folder, for: output) { _ in })))
      try output.clean()
      #expect(try isClean(folder))
    }
  }

  @Test func `what was replaced and is still there is no new output`() throws {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      try requantize(folder, w8a16)
      // As a process leaves it that was killed behind the exchange.
      let output = try Requantization(folder + "/out")
      try SmallRun.run(options(folder, for: output) { _ in })
      let change = { (options: inout QuantizeOptions) in options.ignore = ["*.o_proj"] }
      let plan = try QuantizePlan(options(folder, for: output, change))
      try output.prepare(for: plan)
      #expect(!FileSystem.exists(output.work))
    }
  }

  /// What the layer behind it begins with.
  @Test func `kept states behind a layer that is taken over are made again where they are damaged`()
    throws
  {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      let states = folder + "/kept/hidden-1.zst"
      var bytes = try FileSystem.readFile(states)
      bytes[bytes.count / 2] ^= 4
      try replaceFile(states, with: bytes)
      let error = try #require(
        #expect(throws: KeptError.self) { try requantize(folder, layer1) })
      #expect("\(error)".contains("hidden-1.zst: not as it was kept, and removed"))
      #expect(try requantize(folder, layer1) == [])
      #expect(try SmallRun.contents(folder + "/out") == expected(folder, layer1))
    }
  }

  @Test func `an old output that was damaged is not taken over`() throws {
    try withTemporaryFolder { folder in
      try SmallRun.run(options(folder, "out"))
      let shard = folder + "/out/model-00001-of-00001.safetensors"
      var bytes = try FileSystem.readFile(shard)
      let header = 8 + (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
      for place in stride(from: header, to: bytes.count, by: 61) { bytes[place] ^= 1 }
      try replaceFile(shard, with: bytes)
      let error = try #require(
        #expect(throws: ReuseError.self) { try requantize(folder, layer1) })
      #expect("\(error)".contains("--anew") && "\(error)".contains("not as it was written"))
      try requantize(folder) {
        layer1(&$0)
        $0.replaces = nil
      }
      #expect(try SmallRun.contents(folder + "/out") == expected(folder, layer1))
    }
  }

  @Test func `what cannot be changed is refused with the way out`() throws {
    try withTemporaryFolder { folder in
      func refusal(_ body: () throws -> Void) throws -> String {
        "\(try #require(#expect(throws: (any Error).self) { try body() }))"
      }
      #expect(try refusal { _ = try Requantization(folder + "/none") }.contains("no such folder"))
      try FileSystem.createFolder(folder + "/foreign")
      #expect(
        try refusal { _ = try Requantization(folder + "/foreign") }.contains(
          "name the folder that sluice quantize wrote"))
      var options = options(folder, "out")
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          if case .progress = event { interruption.request() }
        }.run()
      }
      #expect(
        try refusal { _ = try Requantization(folder + "/out") }.contains("its run is not done"))
      options.restarts = true
      try SmallRun.run(options)
      let output = try Requantization(folder + "/out")
      #expect(try refusal { _ = try Requantization(folder + "/out") }.contains("another process"))
      var other = self.options(folder, for: output, layer1)
      other.layerSchemes = [
        LayerScheme(layers: [1...2], text: "1-2", scheme: other.schemes[0])
      ]
      #expect(
        try refusal { _ = try QuantizePlan(other) }.contains(
          "--layers 1-2: the model has the layers 0 to 1"))
    }
  }

  @Test func `schemes with targets of their own keep them outside of the layers`() throws {
    var options = SmallRun.options("")
    options.schemes.append(
      IntegerScheme(.w4a16Asymmetric, groupSize: 32).targeting(#"re:.*self_attn\..*"#))
    layer1(&options)
    let groups = try QuantizePlan(options).options.schemes
    #expect(
      groups.map(\.targets) == [
        ["Linear"], [#"re:(?!model\.layers\.(1)\..*).*self_attn\..*"#],
        [#"re:model\.layers\.(1)\..*"#],
      ])
  }
}
