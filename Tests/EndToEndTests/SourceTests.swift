// A source that someone changes, moves, cuts or clears away while a run works on it, or while it rests.

import Glibc
import SystemIO
import Testing
import TestSupport

private let options = [
  "--calibration", fixtureCalibration, "--samples", "16", "--memory", "256MiB",
]

@Suite struct SourceTests {
  private static let reference = Result {
    try withTemporaryFolder { folder in
      try quantize(to: "\(folder)/out", options)
      return try result("\(folder)/out")
    }
  }

  /// The model in files of its own.
  private func copyModel(to folder: String) throws {
    try FileSystem.createFolder(folder)
    for name in try FileSystem.list(fixtureModel) {
      try FileSystem.copyFile(from: "\(fixtureModel)/\(name)", to: "\(folder)/\(name)")
    }
  }

  private func command(_ folder: String) -> [String] {
    ["quantize", "\(folder)/model", "--output", "\(folder)/out"] + options
  }

  /// Calls `body` with a run that was halted, as a whole, when its first layer was done.
  private func withHaltedRun(_ body: (_ folder: String, Program) throws -> Void) throws {
    try withTemporaryFolder { folder in
      try copyModel(to: "\(folder)/model")
      try body(folder, Program.halted(command(folder), output: "\(folder)/out"))
    }
  }

  private func withStoppedRun(_ body: (_ folder: String) throws -> Void) throws {
    try withHaltedRun { folder, program in
      program.send(SIGINT)
      program.send(SIGCONT)
      let outcome = try program.wait()
      try #require(outcome.end == .exit(130), "\(outcome)")
      try body(folder)
    }
  }

  private func expectSameBytes(
    _ folder: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let second = try Program.run(command(folder))
    #expect(second.end == .exit(0), "\(second)", sourceLocation: sourceLocation)
    #expect(
      differencesBesideCard(try result("\(folder)/out"), try Self.reference.get()) == [],
      sourceLocation: sourceLocation)
  }

  private func place(of tensor: String) throws -> (shard: String, range: Range<Int>) {
    try withTemporaryFolder { folder in
      try SpoiledModel("\(folder)/model").place(of: tensor)
    }
  }

  /// Writes into a file without making a new one; its time is set back where `isSecret`.
  private func write(_ bytes: [UInt8], at offset: Int, of path: String, isSecret: Bool) throws {
    var status = stat()
    try #require(unsafe stat(path, &status) == 0)
    let file = unsafe open(path, O_WRONLY | O_CLOEXEC)
    defer { close(file) }
    try #require(unsafe pwrite(file, bytes, bytes.count, offset) == bytes.count)
    let times = [status.st_atim, status.st_mtim]
    if isSecret { try #require(unsafe utimensat(AT_FDCWD, path, times, 0) == 0) }
  }

  private func change(_ path: String, _ body: ([UInt8]) -> [UInt8]) throws {
    let old = FileSystem.exists(path) ? try FileSystem.readFile(path) : []
    try replaceFile(path, with: body(old))
  }

  /// One bit: of what was used, of what is used by and by, and of what is only copied.
  @Test(arguments: [
    "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.experts.5.down_proj.weight",
    "model.layers.3.mlp.experts.7.up_proj.weight", "model.layers.2.mlp.gate.weight",
    "model.layers.3.post_attention_layernorm.weight", "lm_head.weight", "model.norm.weight",
  ])
  func aBitThatChangedWhileTheRunRestedIsNoticed(tensor: String) throws {
    let (shard, range) = try place(of: tensor)
    try withStoppedRun { folder in
      let path = "\(folder)/model/\(shard)"
      let offset = range.lowerBound + range.count / 2
      let good = try FileSystem.readFile(path)[offset]
      try write([good ^ 1], at: offset, of: path, isSecret: false)
      let before = try contents("\(folder)/out")
      let refused = try Program.run(command(folder))
      expectRefusal(refused, [path, "`\(tensor)`", "put the file back", "--restart"])
      #expect(!refused.stderr.contains(" of 0-3: "), "\(refused)")
      #expect(
        differences(
          before.compactMapValues { $0 }, try contents("\(folder)/out").compactMapValues { $0 }
        ).allSatisfy { $0.hasSuffix("/ended.txt") || $0.hasSuffix("/progress.json") })
      try write([good], at: offset, of: path, isSecret: false)
      try expectSameBytes(folder)
    }
  }

  /// Signs of nearly all numbers of a shard, as another training run would have them.
  @Test func aShardThatChangedInMostOfItsPagesIsNoticed() throws {
    try withStoppedRun { folder in
      let path = "\(folder)/model/model-00005-of-00006.safetensors"
      let good = try FileSystem.readFile(path)
      var bytes = good
      let pages = bytes.count / 4096
      for page in 0..<pages where page >= 8 && page % (pages / 15) != 0 {
        for place in stride(from: page * 4096 + 1, to: (page + 1) * 4096, by: 2) {
          bytes[place] ^= 0x80
        }
      }
      for isSecret in [false, true] {
        try write(bytes, at: 0, of: path, isSecret: isSecret)
        expectRefusal(try Program.run(command(folder)), [path, "--restart"])
      }
      try write(good, at: 0, of: path, isSecret: false)
      try expectSameBytes(folder)
    }
  }

  /// Its time tells nothing: the layer that read it does, before anything is done.
  @Test func aBitThatChangedInSecretIsNoticedBeforeTheEnd() throws {
    let tensor = "model.layers.3.mlp.experts.7.up_proj.weight"
    let (shard, range) = try place(of: tensor)
    for whileRunning in [true, false] {
      try withHaltedRun { folder, program in
        let path = "\(folder)/model/\(shard)"
        let good = try FileSystem.readFile(path)[range.lowerBound]
        if !whileRunning { program.send(SIGINT) }
        try write([good ^ 1], at: range.lowerBound, of: path, isSecret: true)
        program.send(SIGCONT)
        let first = try program.wait()
        let refused = whileRunning ? first : try Program.run(command(folder))
        expectRefusal(refused, [path, "`\(tensor)`", "--restart"])
        #expect(!FileSystem.exists("\(folder)/out/config.json"))
        try write([good], at: range.lowerBound, of: path, isSecret: true)
        try expectSameBytes(folder)
      }
    }
  }

  @Test func aModelThatWasCopiedOrMovedOrTouchedGoesOn() throws {
    try withStoppedRun { folder in
      try copyModel(to: "\(folder)/copy")
      try FileSystem.remove("\(folder)/model")
      try #require(unsafe rename("\(folder)/copy", "\(folder)/model") == 0)
      let second = try Program.run(command(folder))
      #expect(second.end == .exit(0), "\(second)")
      #expect(second.stderr.contains("the source was moved or written"), "\(second)")
      #expect(differencesBesideCard(try result("\(folder)/out"), try Self.reference.get()) == [])
    }
    try withStoppedRun { folder in
      try #require(unsafe rename("\(folder)/model", "\(folder)/elsewhere") == 0)
      let second = try Program.run(
        ["quantize", "\(folder)/elsewhere", "--output", "\(folder)/out"] + options)
      #expect(second.end == .exit(0), "\(second)")
      #expect(!second.stderr.contains("the source was moved or written"), "\(second)")
      #expect(differencesBesideCard(try result("\(folder)/out"), try Self.reference.get()) == [])
    }
  }

  /// Longer, shorter, of another layout, gone.
  @Test func otherFilesThanAtTheBeginningAreRefusedByName() throws {
    try withStoppedRun { folder in
      let shard = "\(folder)/model/model-00004-of-00006.safetensors"
      let good = try FileSystem.readFile(shard)
      try change(shard) { $0 + Array(repeating: 0, count: 512) }
      expectRefusal(try Program.run(command(folder)), [shard])
      // Two tensors of one shape change names: as many bytes, other places.
      let names = [3, 4].map { Array("experts.\($0).gate_proj.weight".utf8) }
      try change(shard) { _ in
        var bytes = good
        let places = names.compactMap { bytes.firstRange(of: $0) }
        guard places.count == 2 else { return bytes }
        bytes.replaceSubrange(places[0], with: names[1])
        bytes.replaceSubrange(places[1], with: names[0])
        return bytes
      }
      expectRefusal(
        try Program.run(command(folder)), [shard, "lists other tensors", "--restart"])
      try FileSystem.remove(shard)
      expectRefusal(try Program.run(command(folder)), ["model-00004-of-00006", "download"])
      try change(shard) { _ in good }
      try expectSameBytes(folder)
    }
  }

  /// Cut in place: pages that are mapped are gone.
  @Test(arguments: ["quantize", "evaluate"])
  func aShardCutUnderARunEndsItWithItsName(task: String) throws {
    try withHaltedRun { folder, halted in
      var program = halted
      if task == "evaluate" {
        halted.send(SIGKILL)
        _ = try halted.wait()
        program = try Program.halted([
          "evaluate", "\(folder)/model", "--text", fixtureCalibration, "--samples", "64",
          "--scratch", "\(folder)/scratch",
        ])
      }
      let shards = try FileSystem.list("\(folder)/model").filter { $0.hasSuffix(".safetensors") }
        .map { "\(folder)/model/\($0)" }
      let good = try shards.map { try FileSystem.readFile($0) }
      for shard in shards { try #require(unsafe truncate(shard, 40_000) == 0) }
      program.send(SIGCONT)
      let ended = try program.wait()
      expectRefusal(ended, ["\(folder)/model/model-0", "was cut", "40000", "same command again"])
      if task == "evaluate" { return }
      let status = try Program.run(["status", "\(folder)/out"])
      #expect(status.stdout.contains("because      \(folder)/model/model-0"), "\(status)")
      for (shard, bytes) in zip(shards, good) {
        try write(bytes, at: 0, of: shard, isSecret: false)
      }
      try expectSameBytes(folder)
    }
  }

  /// The output has had it from the start.
  @Test func sideFilesRemovedOnTheWayAreInTheOutputAllTheSame() throws {
    try withHaltedRun { folder, program in
      for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        try FileSystem.remove("\(folder)/model/\(name)")
      }
      program.send(SIGCONT)
      let outcome = try program.wait()
      #expect(outcome.end == .exit(0), "\(outcome)")
      #expect(differencesBesideCard(try result("\(folder)/out"), try Self.reference.get()) == [])
    }
  }
}
