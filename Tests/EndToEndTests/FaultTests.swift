// Killed at every commit, failed at every sync, damaged in every file. tools/faults/fault_test does it at length.

import Glibc
import SystemIO
import Testing
import TestSupport

private let model = fixturePath("awq/dense-first")
/// One thread, so that the n-th system call is the same one in every run.
private let options = [
  "--calibration", "\(model)/calibration.jsonl", "--samples", "8", "--group-size", "32",
  "--max-shard-size", "100KB", "--threads", "1",
]

@Suite struct FaultTests {
  /// What an uninterrupted run writes, and the system calls it makes, as Tests/CFaultShim records them.
  private static let reference = Result {
    try withOutput { output in
      let trace = "\(FileSystem.resolved(output + "/.."))/trace"
      let outcome = try run(output, ["SLUICE_FAULT_TRACE=\(trace)"])
      try #require(outcome.end == .exit(0), "\(outcome)")
      let calls = String(decoding: try FileSystem.readFile(trace), as: UTF8.self)
      // The news, which are written by the clock, count nowhere.
      return (
        files: try result(output),
        calls: calls.split(separator: "\n").filter { !$0.contains("/progress.json") }
      )
    }
  }

  /// In a folder of the same name every time: faults are chosen by the names that calls are made on.
  private static func withOutput<R>(_ body: (String) throws -> R) throws -> R {
    try withTemporaryFolder { folder in
      let root = FileSystem.resolved(folder) + "/root"
      try FileSystem.createFolder(root)
      return try body(root + "/out")
    }
  }

  /// The program with the shim between it and the system.
  private static func run(
    _ output: String, _ environment: [String], _ more: [String] = [], as command: [String]? = nil
  ) throws -> Outcome {
    let products = Program.path.split(separator: "/").dropLast().joined(separator: "/")
    let root = output.split(separator: "/").dropLast().joined(separator: "/")
    return try Program.run(
      (command ?? self.command(output)) + more,
      environment: [
        "LD_PRELOAD=/\(products)/libCFaultShim.so", "SLUICE_FAULT_ROOT=/\(root)",
      ] + environment)
  }

  private static func command(_ output: String) -> [String] {
    ["quantize", model, "--output", output] + options
  }

  /// Runs with a fault, looks at how that ended, then insists that the same command gives the bytes of the reference.
  private func interrupt(
    _ fault: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ check: (Outcome, String) throws -> Void
  ) throws {
    let reference = try Self.reference.get()
    try Self.withOutput { output in
      try check(try Self.run(output, ["SLUICE_FAULT=\(fault)"]), output)
      if FileSystem.exists("\(output)/config.json") {
        #expect(
          differences(try result(output), reference.files) == [], "\(fault): unfinished",
          sourceLocation: sourceLocation)
      }
      let second = try Program.run(Self.command(output))
      #expect(second.end == .exit(0), "\(fault): \(second)", sourceLocation: sourceLocation)
      #expect(
        differences(try result(output), reference.files) == [], "\(fault)",
        sourceLocation: sourceLocation)
    }
  }

  @Test(arguments: ["kill-before", "kill-after"])
  func aKillAtAnyCommitLosesNothing(action: String) throws {
    let commits = try Self.reference.get().calls.count {
      $0.hasPrefix("rename 0 ") && $0.hasSuffix("/state.json")
    }
    try #require(commits > 6)
    for number in 1...commits {
      try interrupt("\(action) rename \(number) 0 /.sluice/state.json") { outcome, _ in
        #expect(outcome.end == .signal(SIGKILL), "commit \(number): \(outcome)")
      }
    }
  }

  /// Calls that change the disk.
  private static let changes = [
    "open", "mkdir", "write", "pwrite", "ftruncate", "posix_fallocate", "rename", "unlink", "rmdir",
  ]

  /// Between any two calls that change the disk, from the first one of a run to its first commit.
  @Test func aKillAtAnyMomentOfABeginningLosesNothing() throws {
    let names = Self.changes
    let calls = try Self.reference.get().calls
      .filter { call in names.contains { call.hasPrefix("\($0) ") } }
    let commit = calls.firstIndex { $0.hasPrefix("rename ") && $0.hasSuffix("/state.json") }
    let kills = try #require(commit) + 2
    #expect(kills > 15)
    for number in 1...kills {
      try interrupt("kill-before \(names.joined(separator: "+")) \(number)") { outcome, _ in
        #expect(outcome.end == .signal(SIGKILL), "\(number): \(outcome)")
      }
    }
  }

  /// It times the disk with a small file in the folder that a run will write to.
  @Test func aKillOfAPlanDoesNotKeepARunOutOfItsFolder() throws {
    try Self.withOutput { output in
      try FileSystem.createFolder(output)
      let killed = try Self.run(
        output, ["SLUICE_FAULT=kill-after open 1"],
        as: ["plan", model, "--output", output] + options)
      try #require(killed.end == .signal(SIGKILL), "\(killed)")
      try #require(try !FileSystem.list(output).isEmpty)
      let second = try Program.run(Self.command(output))
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(try result(output), try Self.reference.get().files) == [])
    }
  }

  /// Between any two calls that change the disk, from the first one of a restart to its first commit.
  @Test func aKillAtAnyMomentOfARestartLosesNothing() throws {
    let reference = try Self.reference.get().files
    let names = Self.changes
    let finished = try Self.withOutput { output in
      try #require(try Self.run(output, []).end == .exit(0))
      let trace = "\(FileSystem.resolved(output + "/.."))/trace"
      let files = try Self.files(of: output)
      let again = try Self.run(output, ["SLUICE_FAULT_TRACE=\(trace)"], ["--restart"])
      try #require(again.end == .exit(0), "\(again)")
      let calls = String(decoding: try FileSystem.readFile(trace), as: UTF8.self)
        .split(separator: "\n").filter { call in names.contains { call.hasPrefix("\($0) ") } }
        .filter { !$0.contains("/progress.json") }
      let commit = calls.firstIndex { $0.hasPrefix("rename ") && $0.hasSuffix("/state.json") }
      return (files: files, kills: try #require(commit) + 2)
    }
    #expect(finished.kills > 30)
    for number in 1...finished.kills {
      try Self.withOutput { output in
        try Self.put(finished.files, into: output)
        let fault = "kill-before \(names.joined(separator: "+")) \(number)"
        let killed = try Self.run(output, ["SLUICE_FAULT=\(fault)"], ["--restart"])
        try #require(killed.end == .signal(SIGKILL), "\(number): \(killed)")
        // What tells of a finished output is there whole, or not at all.
        let status = try Program.run(["status", output])
        if FileSystem.exists("\(output)/config.json") || status.stdout.contains("finished") {
          #expect(differences(try result(output), reference) == [], "\(number): \(status)")
        }
        let second = try Program.run(Self.command(output))
        #expect(second.end == .exit(0), "\(number): \(second)")
        #expect(differences(try result(output), reference) == [], "\(number)")
        #expect(!FileSystem.exists("\(output)/.sluice/beginning"), "\(number)")
      }
    }
  }

  @Test(arguments: ["fsync", "fdatasync", "rename", "posix_fallocate", "mkdir"])
  func anyCallThatMakesDurableMayFailAndStopsTheRun(call: String) throws {
    let calls = try Self.reference.get().calls.filter { $0.hasPrefix("\(call) 0 ") }
    // By the name of what is called on. The report may fail.
    var counts: [Substring: Int] = [:]
    for line in calls { counts[line.split(separator: "/").last ?? "", default: 0] += 1 }
    for name in ["report.html", "report.json"] { counts[name[...]] = nil }
    try #require(!counts.isEmpty)
    for (name, count) in counts {
      for number in 1...count {
        try interrupt("fail \(call) \(number) \(EIO) /\(name)") { outcome, output in
          let folder = String(output.dropLast("/out".count))
          expectRefusal(outcome, [folder, "\(call) failed: Input/output error"])
        }
      }
    }
  }

  /// The first write that finds no room is a short one.
  @Test func aDiskMayBeFullFromAnyMomentOn() throws {
    let names = ["open", "mkdir", "write", "pwrite", "ftruncate", "posix_fallocate"]
    let all = try Self.reference.get().calls
    // What comes after the last commit is news.
    let end = try #require(all.lastIndex { $0.hasSuffix("/.sluice/state.json") })
    let calls = all[..<end].count { call in names.contains { call.hasPrefix("\($0) ") } }
    try #require(calls > 100)
    for number in stride(from: 1, through: calls, by: 12) {
      try interrupt("full \(names.joined(separator: "+")) \(number) \(ENOSPC)") { outcome, _ in
        expectRefusal(outcome, ["No space left on device", "free some space"])
        let hasBegun = outcome.stderr.contains("starting:")
        #expect(outcome.stderr.contains("is kept, and the same command") == hasBegun, "\(outcome)")
      }
    }
  }

  enum Damage: CaseIterable {
    case changedFirst, changedLast, cut, emptied, lengthened, removed

    func callAsFunction(_ bytes: [UInt8]) -> [UInt8]? {
      var bytes = bytes
      switch self {
      case .changedFirst: bytes[0] ^= 1
      case .changedLast: bytes[bytes.count - 1] ^= 4
      case .cut: bytes.removeLast((bytes.count + 1) / 2)
      case .emptied: bytes = []
      case .lengthened: bytes += [0, 1, 2, 3]
      case .removed: return nil
      }
      return bytes
    }
  }

  /// What a run leaves that is killed after its fifth commit, by path in the output.
  private static let stopped = Result {
    try withOutput { output in
      let outcome = try run(output, ["SLUICE_FAULT=kill-after rename 5 0 /.sluice/state.json"])
      try #require(outcome.end == .signal(SIGKILL), "\(outcome)")
      return try files(of: output)
    }
  }

  /// By path in the output.
  private static func files(of output: String) throws -> [String: [UInt8]] {
    var files: [String: [UInt8]] = [:]
    for case (let path, let bytes?) in try contents(output) {
      files[String(path.dropFirst(output.count + 1))] = bytes
    }
    return files
  }

  private static func put(_ files: [String: [UInt8]], into output: String) throws {
    try FileSystem.createFolder("\(output)/.sluice/scratch")
    for (name, bytes) in files { try write(bytes, to: "\(output)/\(name)") }
  }

  /// Goes on from the stopped run with one file changed: undone, or refused by name with a way out.
  private func expectUnused(_ damaged: [UInt8]?, as path: String, _ damage: String) throws {
    let reference = try Self.reference.get().files
    try Self.withOutput { output in
      try Self.put(try Self.stopped.get().filter { $0.key != path }, into: output)
      if let damaged { try write(damaged, to: "\(output)/\(path)") }
      let second = try Program.run(Self.command(output))
      if second.end != .exit(0) {
        expectRefusal(second, [output, "--restart"])
        let third = try Program.run(Self.command(output) + ["--restart"])
        #expect(third.end == .exit(0), "\(path) \(damage): \(third)")
      }
      #expect(differences(try result(output), reference) == [], "\(path) \(damage)")
    }
  }

  @Test(
    arguments: Damage.allCases,
    ["scratch/", "state.json", ".safetensors", "choices.jsonl", "checksums.txt", "files.txt"])
  func damageIsNeverUsed(damage: Damage, part: String) throws {
    let files = try Self.stopped.get().filter { $0.key.contains(part) }
    try #require(!files.isEmpty)
    for (path, bytes) in files { try expectUnused(damage(bytes), as: path, "\(damage)") }
  }

  /// What is there is as good as it was.
  @Test(arguments: ["checksums.txt", "choices.jsonl"])
  func aFileThatTheSystemFailsToOpenIsNotCalledChanged(name: String) throws {
    let reference = try Self.reference.get().files
    try Self.withOutput { output in
      try Self.put(try Self.stopped.get(), into: output)
      let failed = try Self.run(output, ["SLUICE_FAULT=fail open 1 \(EIO) /.sluice/\(name)"])
      expectRefusal(
        failed,
        ["/.sluice/\(name): open failed: Input/output error; check the disk and give the same"])
      #expect(!failed.stderr.contains("--restart"), "\(failed)")
      let second = try Program.run(Self.command(output))
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(try result(output), reference) == [])
    }
  }

  /// In the last tensor that was committed.
  @Test(arguments: ["model-0", "smoothing."])
  func aCommittedTensorThatChangedIsNeverUsed(part: String) throws {
    let reference = try Self.reference.get().files
    for (path, bytes) in try Self.stopped.get() where path.contains(part) {
      let wanted = try #require(reference[path.split(separator: "/").last.map(String.init) ?? ""])
      let last = bytes.indices.last { bytes[$0] == wanted[$0] && bytes[$0] != 0 }
      var bytes = bytes
      bytes[try #require(last)] ^= 1
      try expectUnused(bytes, as: path, "changed")
    }
  }
}
