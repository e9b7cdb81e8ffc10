// A run writes the same bytes with every number of threads and every budget of memory.

import LinearAlgebra
import SystemIO
import Testing
import TestSupport

/// Few rows, several token blocks, layer 0 left alone.
private let options = [
  "--calibration", fixtureCalibration, "--samples", "24", "--ignore", "model.layers.0.*",
]

@Suite struct SameBytesTests {
  private static let reference = Result {
    try withTemporaryFolder { folder in
      try quantize(to: "\(folder)/out", options + ["--threads", "2", "--memory", "512MiB"])
      return try result("\(folder)/out")
    }
  }

  private static let float32 = Result {
    try withTemporaryFolder { folder in
      let own = options + ["--engine", "f32", "--threads", "2", "--memory", "512MiB"]
      try quantize(to: "\(folder)/out", own)
      return try result("\(folder)/out")
    }
  }

  /// The amount that the refusal of a tiny budget tells the user to take, as it stands there.
  private func smallestMemory(_ options: [String]) throws -> String {
    try withTemporaryFolder { folder in
      let outcome = try Program.run(
        ["quantize", fixtureModel, "--output", "\(folder)/out", "--memory", "1MiB"] + options)
      let match = try #require(
        try outcome.stderr.firstMatch(of: Regex("raise --memory to ([0-9.]+MiB)")), "\(outcome)")
      return String(try #require(match.output[1].substring))
    }
  }

  @Test(arguments: ["1", "2", "3"], ["smallest", "256MiB", "2GiB"])
  func threadsAndMemoryChangeNothing(threads: String, memory: String) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let own = options + ["--threads", threads]
      let memory = memory == "smallest" ? try smallestMemory(own) : memory
      let run = try quantize(to: output, own + ["--memory", memory])
      #expect(!run.stderr.contains("over the budget"), "\(run)")
      #expect(differences(try result(output), try Self.reference.get()) == [])
    }
  }

  /// The engine that the reference does not have, where there are two.
  @Test(arguments: [("1", "smallest"), ("3", "256MiB")])
  func nothingChangesInFloat32Either(threads: String, memory: String) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let own = options + ["--engine", "f32", "--threads", threads]
      let memory = memory == "smallest" ? try smallestMemory(own) : memory
      let run = try quantize(to: output, own + ["--memory", memory])
      #expect(run.stderr.contains(Engine.f32.name))
      let first = try Self.float32.get()
      #expect(differences(first, try result(output)) == [])
      let differs = differences(first, try Self.reference.get()) != []
      #expect(differs == (Engine.best == .bf16))
    }
  }

  /// The products of the proof are then larger than those of the run; a plan that forgets them traps.
  @Test(arguments: Engine.allCases.filter(\.isAvailable).map(\.rawValue), ["1", "2", "8"])
  func aHandfulOfTokensFitsItsPlan(engine: String, threads: String) throws {
    try withTemporaryFolder { folder in
      try write("{\"input_ids\": [1, 2, 3]}\n".utf8, to: "\(folder)/ids.jsonl")
      try quantize(
        to: "\(folder)/out",
        ["--calibration", "\(folder)/ids.jsonl", "--engine", engine, "--threads", threads])
    }
  }

  @Test func theFolderForHiddenStatesChangesNothingAndIsLeftEmpty() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, options + ["--scratch", "\(folder)/scratch"])
      #expect(differences(try result(output), try Self.reference.get()) == [])
      #expect(try FileSystem.list("\(folder)/scratch") == [])
    }
  }

  @Test func severalShardsHoldTheSameForEveryMemory() throws {
    try withTemporaryFolder { folder in
      let own = options + ["--max-shard-size", "1MB"]
      try quantize(to: "\(folder)/small", own + ["--memory", try smallestMemory(own)])
      try quantize(to: "\(folder)/large", own + ["--memory", "1GiB", "--threads", "1"])
      let small = try result("\(folder)/small")
      #expect(small.keys.count { $0.hasPrefix("model-0") } > 3)
      #expect(differences(small, try result("\(folder)/large")) == [])
      let verify = try Program.run(["verify", "\(folder)/small", "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
    }
  }
}
