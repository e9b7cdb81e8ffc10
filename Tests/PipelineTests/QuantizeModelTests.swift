// The run as a whole: the same bytes however it is cut, and nothing believed that was not committed.

import Calibration
import CompressedTensors
import Glibc
import JSON
import Models
import Pipeline
import Planning
import Quantization
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct QuantizeModelTests {
  @Test(arguments: [SmoothingLoss.diagonal, .gram])
  func `a run interrupted after every commit gives the bytes of one that was not`(
    loss: SmoothingLoss
  ) throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/whole")
      options.loss = loss
      try SmallRun.run(options)
      options.output = folder + "/cut"
      // Small enough for one expert at a time: as many commits as there are.
      options.memory = try QuantizePlan(options).run.smallestBudget
      var interruptions = 0
      try SmallRun.runInterrupted(options) { stopped in
        #expect(stopped.output == options.output)
        #expect(!FileSystem.exists(options.output + "/config.json"))
        interruptions += 1
        try #require(interruptions < 100)
      }
      // Copy; attend and advance of layer 0; attend and each unit of layer 1.
      #expect(interruptions >= 4)
      #expect(try SmallRun.contents(folder + "/whole") == SmallRun.contents(folder + "/cut"))
    }
  }

  @Test func `layer lines count what earlier processes did`() throws {
    func summary(_ event: RunEvent) -> LayerSummary? {
      if case .layerFinished(let layer) = event { layer } else { nil }
    }
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/whole")
      var whole: [LayerSummary] = []
      try SmallRun.run(options) { whole += summary($0).map { [$0] } ?? [] }
      options.output = folder + "/cut"
      options.memory = try QuantizePlan(options).run.smallestBudget
      var cut: [LayerSummary] = []
      var processes = 0
      var isDone = false
      while !isDone {
        processes += 1
        try #require(processes < 100)
        let interruption = Interruption()
        do {
          try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
            cut += summary(event).map { [$0] } ?? []
            if case .progress = event { interruption.request() }
          }.run()
          isDone = true
        } catch is Interrupted {}
      }
      #expect(processes > 4)
      #expect(cut.map(\.smoothings) == whole.map(\.smoothings))
      #expect(cut.map(\.smoothings).allSatisfy { $0 > 0 })
      #expect(cut.map(\.lossRatio) == whole.map(\.lossRatio))
      #expect(cut.map(\.roundingRatio) == whole.map(\.roundingRatio))
    }
  }

  @Test func `threads and memory leave every byte as it is`() throws {
    try withTemporaryFolder { folder in
      _ = try SmallRun.expectTheSameBytes(SmallRun.options(folder), in: folder)
    }
  }

  @Test func `going on under other options is refused by their name`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/out")
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          if case .progress = event { interruption.request() }
        }.run()
      }
      options.loss = .gram
      let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
      #expect("\(try #require(error))".contains("--loss diagonal, this run has gram"))
      options.restarts = true
      try SmallRun.run(options)
      #expect(FileSystem.exists(options.output + "/config.json"))
    }
  }

  /// Stops before the first step.
  private func stop(_ options: QuantizeOptions) throws {
    let interruption = Interruption()
    #expect(throws: Interrupted.self) {
      try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
        if case .progress = event { interruption.request() }
      }.run()
    }
  }

  @Test func `a state that names another's folder for scratch is refused, and nothing there goes`()
    throws
  {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/out")
      try stop(options)
      let photo = folder + "/photos/1.jpg"
      try FileSystem.createFolder(folder + "/photos")
      try replaceFile(photo, with: [1])
      let path = options.output + "/.sluice/state.json"
      var state = try RunState(readingFrom: path)
      state.scratch = folder + "/photos"
      try state.commit(to: path)
      let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
      let text = "\(try #require(error))"
      #expect(text.contains("/photos for scratch") && text.contains("--restart"))
      options.restarts = true
      try SmallRun.run(options)
      #expect(try FileSystem.readFile(photo) == [1])
    }
  }

  @Test func `a list of files that leads out of the output changes nothing there`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/outputs/out")
      options.model = folder + "/models/model"
      try FileSystem.createFolder(options.model)
      for name in try FileSystem.list(SmallRun.model) where !name.hasPrefix("golden") {
        try FileSystem.copyFile(
          from: SmallRun.model + "/" + name, to: options.model + "/" + name)
      }
      try SmallRun.run(options)
      // A file beside the model, as one that the output lacks.
      try replaceFile(folder + "/models/letter.txt", with: [65])
      let files = options.output + "/.sluice/files.txt"
      let line = "\(Checksum([65]).text) \"../letter.txt\"\n"
      let lines = try FileSystem.readFile(files) + Array(line.utf8)
      try replaceFile(files, with: lines)
      let path = options.output + "/.sluice/state.json"
      var state = try RunState(readingFrom: path)
      state.files = JournalMark(byteCount: lines.count, checksum: Checksum(lines).text)
      try state.commit(to: path)
      try SmallRun.run(options)
      #expect(!FileSystem.exists(folder + "/outputs/letter.txt"))
    }
  }

  @Test(arguments: [1, 2])
  func `a place in a state that no commit leaves is refused`(end: Int) throws {
    try withTemporaryFolder { folder in
      let options = SmallRun.options(folder + "/out")
      try stop(options)
      let path = options.output + "/.sluice/state.json"
      var state = try RunState(readingFrom: path)
      state.position = .experts(layer: 1, part: 0, unit: 2, end: end, block: 1)
      try state.commit(to: path)
      let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
      #expect("\(try #require(error))".contains("a place that this model does not have"))
    }
  }

  @Test func `a scratch folder that is gone is asked for, and none is made in its place`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/whole")
      try SmallRun.run(options)
      options.output = folder + "/out"
      options.scratch = folder + "/disk"
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          if case .progress(let progress) = event, progress.layer != nil { interruption.request() }
        }.run()
      }
      let disk = FileSystem.resolved(folder) + "/disk"
      let name = try #require(FileSystem.list(disk).first)
      let scratch = "\(disk)/\(name)"
      try FileSystem.move(scratch, to: folder + "/away")
      let error = #expect(throws: OutputFolderError.scratchGone(path: scratch)) {
        try SmallRun.run(options)
      }
      #expect("\(try #require(error))".contains("mount its disk or put the folder back"))
      #expect(try FileSystem.list(disk) == [])
      try FileSystem.move(folder + "/away", to: scratch)
      try SmallRun.run(options)
      #expect(try SmallRun.contents(folder + "/whole") == SmallRun.contents(options.output))
    }
  }

  @Test func `a state of another version is told by its format, and a restart clears up`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/out")
      options.scratch = folder + "/disk"
      try stop(options)
      let path = options.output + "/.sluice/state.json"
      var state = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
      state["format"] = .int(3)
      state["crc32"] = nil
      let text = JSONValue.object(state).serialized()
      state["crc32"] = .string(Checksum(Array(text.utf8)).text)
      try replaceFile(path, with: Array(JSONValue.object(state).serialized().utf8))
      let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
      let told = "\(try #require(error))"
      #expect(told.contains("in format 3, expected ") && told.contains("--restart"))
      #expect(told.hasSuffix("a finished output is whole as it is"))
      options.restarts = true
      options.scratch = nil
      try SmallRun.run(options)
      #expect(try FileSystem.list(folder + "/disk") == [])
    }
  }

  @Test func `a record that changes under a run is told with the way out`() throws {
    try withTemporaryFolder { folder in
      let options = SmallRun.options(folder + "/out")
      let error = #expect(throws: RunStateError.self) {
        try SmallRun.run(options) { event in
          if case .layerFinished = event {
            try? replaceFile(options.output + "/.sluice/files.txt", with: [1])
          }
        }
      }
      let text = "\(try #require(error))"
      #expect(text.contains("files.txt does not hold what was written to it"))
      #expect(text.hasSuffix("; \(startOverText)"))
    }
  }

  /// Of a run that stays, a timer went on a hundred times a second, and so did each of all runs of a process.
  @Test func `a run that is over keeps no file open`() throws {
    try withTemporaryFolder { folder in
      func open() throws -> [String] {
        try FileSystem.list("/proc/self/fd").compactMap { name in
          var target = [UInt8](repeating: 0, count: 4096)
          let count = unsafe target.withUnsafeMutableBytes {
            unsafe readlink(
              "/proc/self/fd/" + name, $0.baseAddress!.assumingMemoryBound(to: CChar.self),
              $0.count)
          }
          let path = String(decoding: target.prefix(max(0, count)), as: UTF8.self)
          return path.contains(folder) ? path : nil
        }
      }
      let model = folder + "/model"
      try GrownModel("published-qk-norm", dtype: .bf16, in: model)
      var options = SmallRun.options(folder + "/out")
      options.model = model
      options.data.path = model + "/ids.jsonl"
      options.data.selection.samples = 4
      try SmallRun.run(options)
      #expect(try open() == [])
      options.output = folder + "/cut"
      try SmallRun.runInterrupted(options) { _ in }
      #expect(try open() == [])
    }
  }

  @Test func `a finished run is not done again`() throws {
    try withTemporaryFolder { folder in
      let options = SmallRun.options(folder + "/out")
      try SmallRun.run(options)
      let before = try SmallRun.contents(options.output)
      var layers = 0
      try SmallRun.run(options) { if case .layerFinished = $0 { layers += 1 } }
      #expect(layers == 0)
      #expect(try SmallRun.contents(options.output) == before)
    }
  }

  @Test(arguments: ["model-00001-of-00001.safetensors", ".sluice/choices.jsonl"])
  func `an output whose files changed since is refused with the way out`(file: String) throws {
    try withTemporaryFolder { folder in
      let options = SmallRun.options(folder + "/out")
      try SmallRun.run(options)
      try replaceFile(options.output + "/" + file, with: [1, 2, 3])
      let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
      #expect("\(try #require(error))".contains("--restart"))
    }
  }

  @Test func `leaving out one of several Linears that are loaded as one is warned of`() throws {
    var options = SmallRun.options("")
    options.ignore = ["model.layers.1.self_attn.k_proj"]
    #expect(
      try QuantizePlan(options).warnings == [
        .splitsFused(module: "model.layers.1.self_attn.k_proj")
      ])
    options.ignore = ["model.layers.1.self_attn.[qkv]_proj"]
    #expect(try QuantizePlan(options).warnings == [])
  }

  /// Layer 0 has no experts.
  @Test(arguments: [
    (["model.layers.1.mlp.experts.*"], [1]), (["re:.*experts\\.2\\..*"], [1]),
    (["model.layers.0.*"], []), ([], []),
  ])
  func `experts that stay unquantized are warned of`(ignore: [String], layers: [Int]) throws {
    var options = SmallRun.options("")
    options.ignore = ignore
    let warnings = try QuantizePlan(options).warnings.filter { warning in
      if case .expertsStay = warning { true } else { false }
    }
    #expect(warnings == (layers.isEmpty ? [] : [.expertsStay(layers: layers)]))
    let text = RunWarning.expertsStay(layers: [1]).description
    #expect(text.contains("(layer 1)") && text.contains("transformers"))
  }

  @Test func `a folder that is a link is not copied along`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/out")
      options.model = folder + "/model"
      try FileSystem.createFolder(options.model + "/additional_chat_templates")
      for name in try FileSystem.list(SmallRun.model) where !name.hasPrefix("golden") {
        try FileSystem.copyFile(
          from: SmallRun.model + "/" + name, to: options.model + "/" + name)
      }
      try replaceFile(options.model + "/additional_chat_templates/a.jinja", with: [65])
      try #require(unsafe symlink(folder, options.model + "/link") == 0)
      try SmallRun.run(options)
      #expect(!FileSystem.exists(options.output + "/link"))
      #expect(
        try FileSystem.readFile(options.output + "/additional_chat_templates/a.jinja") == [65])
    }
  }

  @Test func `the proof names the smoothing of which any consumer is missing`() throws {
    let options = SmallRun.options("")
    let checkpoint = try Checkpoint(folder: options.model)
    var proven = 0
    for (layer, spec) in checkpoint.spec.layers.enumerated() {
      for (index, smoothing) in spec.smoothings.enumerated() where smoothing.consumers.count > 1 {
        for missing in smoothing.consumers.indices {
          try withTemporaryFolder { folder in
            var options = options
            options.output = folder + "/out"
            var broken = checkpoint
            broken.spec.layers[layer].smoothings[index].consumers.remove(at: missing)
            let plan = try QuantizePlan(options, checkpoint: broken)
            let error = #expect(
              throws: FunctionChanged.self, "without \(smoothing.consumers[missing].name)"
            ) {
              try QuantizeModel(plan) { _ in }.run()
            }
            #expect(error?.smoothing.contains(smoothing.producerName) == true)
            #expect(error?.layer == layer)
            proven += 1
          }
        }
      }
    }
    // q, k, v of both layers; gate and up of the dense MLP, the shared and all routed experts; the router.
    #expect(proven == 6 + 2 + 2 + 8 + 1)
  }

  @Test func `hidden states are gone at the end, and choices stay`() throws {
    try withTemporaryFolder { folder in
      let options = SmallRun.options(folder + "/out")
      try SmallRun.run(options)
      #expect(
        try FileSystem.list(options.output + "/.sluice")
          == [
            "checksums.txt", "choices.jsonl", "files.txt", "lock", "progress.json", "report.html",
            "report.json", "smoothing.safetensors", "source-checksums.txt", "state.json",
          ])
    }
  }
}
