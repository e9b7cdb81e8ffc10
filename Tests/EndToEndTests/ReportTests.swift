// The report of a run: there at its end, true to the record, the same after an interruption, made again by `sluice report`.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

private let model = fixturePath("awq/dense-first")
private let options = [
  "--calibration", "\(model)/calibration.jsonl", "--samples", "8", "--group-size", "32",
]

private func command(_ output: String, _ more: [String] = []) -> [String] {
  ["quantize", model, "--output", output] + options + more
}

@Suite struct ReportTests {
  /// With the shim between the program and the system.
  private func run(_ output: String, fault: String, _ more: [String] = []) throws -> Outcome {
    let products = Program.path.split(separator: "/").dropLast().joined(separator: "/")
    return try Program.run(
      command(output, ["--threads", "1"] + more),
      environment: [
        "LD_PRELOAD=/\(products)/libCFaultShim.so",
        "SLUICE_FAULT_ROOT=\(FileSystem.resolved(output + "/.."))", "SLUICE_FAULT=\(fault)",
      ])
  }

  private func text(_ path: String) throws -> String {
    String(decoding: try FileSystem.readFile(path), as: UTF8.self)
  }

  private func json(_ path: String) throws -> JSONObject {
    try #require(try JSONValue.parse(FileSystem.readFile(path)).object)
  }

  /// What does not depend on when, where and how often a run was started.
  private func lasting(_ path: String) throws -> JSONObject {
    var report = try json(path)
    for key in ["cost", "last_commit", "output", "command"] { report[key] = nil }
    return report
  }

  private func lines(_ output: String) throws -> [JSONObject] {
    try text("\(output)/.sluice/choices.jsonl").split(separator: "\n").map {
      try #require(try JSONValue.parse(Array($0.utf8)).object)
    }
  }

  @Test func aFinishedRunIsReportedAsItsRecordSays() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, ["--calibration", fixtureCalibration, "--samples", "16"])
      let report = try json("\(output)/.sluice/report.json")
      let lines = try lines(output)
      #expect(report["finished"] == true)
      #expect(report["data"] == lines.first?["data"])
      let packed = lines.count { $0["fate"]?.string == "packed" }
      #expect(packed > 90)
      #expect(report["linears"]?.object?["count"]?.int == packed)
      let smoothings = lines.count { $0["smoothing"] != nil }
      #expect(report["smoothings"]?.object?["count"]?.int == smoothings)
      // Each layer with a router once; each token goes to as many experts as config.json says.
      let routings = lines.filter { $0["routing"] != nil }
      #expect(routings.compactMap { $0["layer"]?.int } == [1, 2, 3])
      #expect(
        report["routing"]?.array?.map { $0.object?["tokens"] } == routings.map { $0["routing"] })
      let tokens = try #require(lines.first?["data"]?.object?["tokens"]?.int)
      let chosen = try #require(try json("\(fixtureModel)/config.json")["num_experts_per_tok"]?.int)
      for routing in routings {
        let counts = try #require(routing["routing"]?.array).compactMap(\.int)
        #expect(counts.reduce(0, +) == tokens * chosen)
      }
      // The smoothings of experts know their own counts.
      for line in lines {
        guard let routed = line["routed_tokens"]?.int, let layer = line["layer"]?.int,
          let name = line["smoothing"]?.string,
          let expert = name.split(separator: ".").compactMap({ Int($0) }).last
        else { continue }
        let routing = try #require(routings.first { $0["layer"]?.int == layer })
        #expect(routing["routing"]?.array?[expert].int == routed)
      }
      let cost = try #require(report["cost"]?.object)
      #expect(cost["processes"]?.int == 1)
      #expect(
        cost["steps"]?.array?.compactMap { $0.object?["step"]?.string }
          == ["load", "copy", "attend", "experts", "advance", "check"])
      #expect((cost["wall_seconds"]?.double).map { $0 > 0.05 && $0 < 600 } == true)
      #expect((cost["peak_bytes"]?.int).map { $0 > 10 << 20 && $0 < 1 << 30 } == true)
      let page = try text("\(output)/.sluice/report.html")
      #expect(page.contains("<h1>out</h1>") && page.contains("id=\"routing\""))
      #expect(page.hasSuffix("</html>\n"))
    }
  }

  @Test func anInterruptionChangesNothingButTheCost() throws {
    try withTemporaryFolder { folder in
      let root = FileSystem.resolved(folder)
      let whole = "\(root)/whole"
      #expect(try Program.run(command(whole)).end == .exit(0))
      let cut = "\(root)/cut"
      // After the start and the copy: within the layers.
      for number in [3, 2, 1] {
        let killed = try run(cut, fault: "kill-after rename \(number) 0 /.sluice/state.json")
        #expect(killed.end == .signal(SIGKILL), "\(killed)")
      }
      #expect(!FileSystem.exists("\(cut)/.sluice/report.html"))
      let stopped = try Program.run(["report", cut, "--json"])
      let partial = try #require(try JSONValue.parse(Array(stopped.stdout.utf8)).object)
      #expect(partial["finished"] == false)
      #expect((partial["share_done"]?.double).map { $0 > 0 && $0 < 1 } == true)
      #expect(partial["cost"]?.object?["processes"]?.int == 3)
      let before = try #require(partial["cost"]?.object?["wall_seconds"]?.double)

      #expect(try Program.run(command(cut)).end == .exit(0))
      let report = "\(cut)/.sluice/report.json"
      #expect(try lasting(report) == lasting("\(whole)/.sluice/report.json"))
      let cost = try #require(try json(report)["cost"]?.object)
      #expect(cost["processes"]?.int == 4)
      #expect((cost["wall_seconds"]?.double).map { $0 > before } == true)
    }
  }

  @Test func theCommandMakesTheSameFilesAgain() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let copy = "\(folder)/copy.html"
      #expect(try Program.run(command(output, ["--report", copy])).end == .exit(0))
      let names = ["report.html", "report.json"].map { "\(output)/.sluice/\($0)" }
      let before = try names.map { try FileSystem.readFile($0) }
      #expect(try FileSystem.readFile(copy) == before[0])
      for name in names { try FileSystem.remove(name) }
      let made = try Program.run(["report", output])
      #expect(made.stdout == "\(names[0])\n", "\(made)")
      #expect(try names.map { try FileSystem.readFile($0) } == before)
      let printed = try Program.run(["report", output, "--json"])
      #expect(Array(printed.stdout.utf8) == before[1])
      let elsewhere = "\(folder)/elsewhere.html"
      #expect(try Program.run(["report", output, "--output", elsewhere]).stdout == "")
      #expect(try FileSystem.readFile(elsewhere) == before[0])
      // Given again, the finished run has nothing to do but this.
      try FileSystem.remove(names[0])
      #expect(try Program.run(command(output)).end == .exit(0))
      #expect(try names.map { try FileSystem.readFile($0) } == before)
    }
  }

  @Test func aReportThatCannotBeWrittenFailsNoRun() throws {
    try withTemporaryFolder { folder in
      let output = "\(FileSystem.resolved(folder))/out"
      let outcome = try run(output, fault: "fail rename 1 \(EIO) /report.html")
      #expect(outcome.end == .exit(0), "\(outcome)")
      #expect(outcome.stderr.contains("warning: the output is complete, but its report"))
      #expect(outcome.stderr.contains("rename failed: Input/output error"))
      #expect(FileSystem.exists("\(output)/config.json"))
      #expect(!FileSystem.exists("\(output)/.sluice/report.html"))
      #expect(try Program.run(["report", output]).end == .exit(0))
      #expect(FileSystem.exists("\(output)/.sluice/report.html"))
    }
  }

  @Test func aPlaceThatCannotBeWrittenIsRefusedBeforeWorkStarts() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      for (place, named) in [
        ("\(folder)/none/report.html", "there is no folder"), (folder, "not a file"),
        ("\(folder)/", "not a file"), ("/dev/null", "not a file"),
        ("/proc/report.html", "open failed"),
      ] {
        let outcome = try Program.run(command(output, ["--report", place]))
        expectRefusal(outcome, [place, named])
        #expect(!FileSystem.exists(output))
      }
      // The output folder itself will be there.
      let page = "\(output)/report.html"
      #expect(try Program.run(command(output, ["--report", page])).end == .exit(0))
      #expect(FileSystem.exists(page))
    }
  }

  @Test func whatIsNoRunOrStillGoesOnIsRefused() throws {
    try withTemporaryFolder { folder in
      expectRefusal(try Program.run(["report", "\(folder)/none"]), ["none", "no such folder"])
      expectRefusal(try Program.run(["report", folder]), [folder, "not an output of Sluice"])
      let output = "\(folder)/out"
      #expect(try Program.run(command(output)).end == .exit(0))
      do {
        let lock = try #require(try FileLock(path: "\(output)/.sluice/lock"))
        expectRefusal(try Program.run(["report", output]), [output, "--output PATH"])
        // Elsewhere it may be written at any time.
        let other = try Program.run(["report", output, "--output", "\(folder)/r.html"])
        #expect(other.end == .exit(0), "\(other)")
        withExtendedLifetime(lock) {}
      }
      try write("{\"layer\":1}\n".utf8, to: "\(output)/.sluice/choices.jsonl")
      expectRefusal(try Program.run(["report", output]), ["choices.jsonl", "--restart"])
    }
  }
}
