// What a command line promises beside its results: flags that have an effect or say that they have none, signals that are
// obeyed, streams that someone closed, and words that go on with what was stopped.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct FlagTests {
  @Test(arguments: [
    (["inspect", "M", "--save-tokens", "x.jsonl"], "--save-tokens is for a data set; add --model"),
    (["inspect", "M", "--samples", "3"], "--samples is for a data set; add --model"),
    (["inspect", "M", "--text-column", "c"], "--text-column is for a data set; add --model"),
    (["inspect", "x", "--model", "M", "--tensors"], "--tensors is for a model"),
    (["inspect", "--architectures", "--model", "M"], "--model does not go with --architectures"),
    (["inspect", "--architectures", "--tensors"], "--tensors does not go with --architectures"),
    (["evaluate", "M", "--text", "x", "-v"], "Unknown option '-v'"),
    (["verify", "M", "--verbose"], "has no option `--verbose`"),
    (["compare", "M", "N", "-v"], "Unknown option '-v'"),
  ])
  func `a flag that would have no effect is refused`(arguments: [String], reason: String) throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run(arguments, in: folder)
      #expect(outcome.end == .exit(64) && outcome.stdout == "", "\(outcome)")
      #expect(outcome.messages.first?.contains(reason) == true, "\(outcome)")
    }
  }

  @Test(arguments: [
    (["plan", "M", "--window", "1.5"], "expected a whole number, such as 4"),
    (["requantize", "O", "--layers", "40-"], "expected layers such as 40-59 or 0,2,40-59"),
    (["plan", "M", "--group-size", "many"], "or channel"),
  ])
  func `a value that is none is told of with one of its own kind`(
    arguments: [String], expected: String
  ) throws {
    let outcome = try Program.run(arguments)
    #expect(outcome.end == .exit(64), "\(outcome)")
    #expect(outcome.messages.first?.contains(expected) == true, "\(outcome)")
  }

  @Test func `flags that the others take all effect from get a warning`() throws {
    let damping = "warning: --damping is for --rounding compensated and fast"
    let calibration = "warning: --calibration is not read"
    let none = try Program.run(
      ["plan", fixtureModel, "--no-smoothing", "--damping", "0.01"] + quickly)
    #expect(none.stderr.contains(damping) && none.stderr.contains(calibration), "\(none)")
    let both = try Program.run(["plan", fixtureModel, "--damping", "0.01"] + quickly)
    #expect(both.end == .exit(0), "\(both)")
    #expect(!both.stderr.contains(damping) && !both.stderr.contains(calibration), "\(both)")
  }

  @Test(arguments: [
    ("[train]", ["[train]: expected a name before the bracket"]),
    ("empty[train]", ["(found none); there are no files of rows in it"]),
  ])
  func `a name of data that leads nowhere is told of with what lacks`(
    data: String, words: [String]
  ) throws {
    try withTemporaryFolder { folder in
      try FileSystem.createFolder("\(folder)/empty")
      expectRefusal(
        try Program.run(["plan", fixtureModel, "--calibration", data], in: folder), words)
    }
  }

  @Test func `a usage error that is found late is an event, too`() throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run([
        "quantize", fixtureModel, "-o", "\(folder)/out", "--scheme", "NVFP4A16", "--group-size",
        "64", "--log", "json",
      ])
      #expect(outcome.end == .exit(64), "\(outcome)")
      let event = try #require(try JSONValue.parse(Array(outcome.stderr.utf8)).object)
      #expect(event["event"]?.string == "error")
      let message = event["message"]?.string ?? ""
      #expect(message.hasPrefix("--group-size changes nothing of NVFP4A16"), "\(outcome)")
    }
  }
}

/// Groups of a float format are a part of the format; integers that come after it have their own.
@Suite struct GroupSizeTests {
  private let rest = ["--ignore", "model.layers.1.*"]

  private func writeRecipe(_ scheme: String, _ folder: String) throws -> [String] {
    try write("QuantizationModifier: {scheme: \(scheme)}".utf8, to: "\(folder)/r.yaml")
    return ["--recipe", "\(folder)/r.yaml"]
  }

  @Test(arguments: ["NVFP4A16", "MXFP4"])
  func `integers do not take the groups of a float format over from a recipe`(format: String) throws
  {
    try withTemporaryFolder { folder in
      let recipe = try writeRecipe(format, folder)
      let (plain, replaced, changed) = ("\(folder)/plain", "\(folder)/out", "\(folder)/changed")
      try quantize(to: plain, ["--no-smoothing", "--scheme", "W4A16"] + rest)
      try quantize(to: replaced, recipe + ["--scheme", "W4A16"] + rest)
      #expect(differencesBesideCard(try result(plain), try result(replaced)) == [])
      try quantize(to: changed, recipe + rest)
      let change = try Program.run(["requantize", changed, "--scheme", "W4A16"])
      #expect(change.end == .exit(0), "\(change)")
      #expect(differencesBesideCard(try result(plain), try result(changed)) == [])
      let verify = try Program.run(["verify", replaced, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
    }
  }

  @Test func `prediction layers have groups of their own beside a float format`() throws {
    try withTemporaryFolder { folder in
      let recipe = try writeRecipe("NVFP4A16", folder)
      let model = fixturePath("predictions/glm4-moe-one")
      let cases: [(String, [String])] = [("usual", []), ("named", ["--group-size", "32"])]
      for (name, more) in cases {
        let output = "\(folder)/\(name)"
        try quantize(model, to: output, recipe + ["--mtp", "W4A16"] + more)
        let verify = try Program.run(["verify", output])
        #expect(verify.end == .exit(0), "\(verify)")
      }
      let config = String(
        decoding: try FileSystem.readFile("\(folder)/named/config.json"), as: UTF8.self)
      #expect(config.contains("\"group_size\": 16") && config.contains("\"group_size\": 32"))
    }
  }

  @Test func `a size replaces the schemes of a recipe, and keeps its groups`() throws {
    try withTemporaryFolder { folder in
      let recipe = """
        QuantizationModifier:
          ignore: [lm_head]
          config_groups:
            group_0:
              targets: [Linear]
              weights: {num_bits: 4, type: int, symmetric: true, strategy: group, group_size: 64}
        """
      try write(recipe.utf8, to: "\(folder)/r.yaml")
      let output = "\(folder)/out"
      try quantize(
        to: output,
        quickly + [
          "--recipe", "\(folder)/r.yaml", "--target-bits", "6", "--choices", "W4A16,W8A16",
        ]
      )
      let inspect = try Program.run(["inspect", output])
      #expect(inspect.stdout.contains("in groups of 64"), "\(inspect)")
      #expect(!inspect.stdout.contains("in groups of 128"), "\(inspect)")
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
    }
  }
}

@Suite struct SignalTests {
  @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
  func `a signal ends what measures behind a run, and takes its scratch away`(signal: Int32) throws
  {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let command = [
        "quantize", fixtureModel, "-o", output, "--no-smoothing", "--evaluate-on",
        fixtureCalibration, "--samples", "64", "--threads", "1",
      ]
      var stopped: Outcome
      repeat {
        try FileSystem.remove(output)
        let program = try Program(command)
        let measures = try program.waitUntil { try program.stderr.contains("\nevaluating ") }
        #expect(measures)
        program.halt()
        program.send(signal)
        program.send(SIGCONT)
        stopped = try program.wait()
        // On a busy machine it may be over before the signal comes: then once more.
      } while stopped.end == .exit(0)
      #expect(stopped.end == .exit(130), "\(stopped)")
      #expect(stopped.stderr.contains("is finished; only measuring it is left"), "\(stopped)")
      let left = try FileSystem.list("\(output)/.sluice")
      #expect(!left.contains { $0.hasPrefix("sluice-evaluate-") }, "\(left)")
      let again = try Program.run(command)
      #expect(again.end == .exit(0) && again.stdout.contains("perplexity"), "\(again)")
    }
  }
}

@Suite struct StreamTests {
  /// A file that is opened takes the lowest number that is free.
  @Test(arguments: ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
  func `what someone closed is never one of the output's files`(closed: String) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let outcome = try Program.run(
        ["quantize", fixtureModel, "-o", output] + quickly, script: "exec \"$@\" \(closed)")
      #expect(outcome.end == .exit(0), "\(outcome)")
      #expect(differences(try result(output), try QuickRun.made.get().result) == [])
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
    }
  }

  /// What stands in the place of a closed stream takes nothing, as a closed one does.
  @Test func `results for a stream that is closed are an error`() throws {
    let outcome = try Program.run(["inspect", fixtureModel], script: "exec \"$@\" >&-")
    expectRefusal(outcome, ["standard output"])
  }

  @Test func `a reader of news that goes away leaves no scratch behind`() throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run(
        ["evaluate", fixtureModel, "--text", fixtureCalibration, "--scratch", folder],
        script: "\"$@\" 2>&1 >/dev/null | head -n 1")
      #expect(outcome.end == .exit(0) && outcome.stdout.hasPrefix("data: "), "\(outcome)")
      #expect(try FileSystem.list(folder) == [])
    }
  }

  @Test func `results reach a slow reader whose pipe lets no write wait`() throws {
    let words = ["inspect", fixtureCalibration, "--model", fixtureModel, "--json"]
    let expected = try Program.run(words).stdout
    var ends: [Int32] = [0, 0]
    let made = unsafe pipe(&ends)
    try #require(made == 0)
    let (reading, writing) = (ends[0], ends[1])
    defer { close(reading) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    _ = fcntl(writing, F_SETFL, O_NONBLOCK)
    // F_SETPIPE_SZ, which Swift's Glibc module does not show: the smallest pipe that there is.
    let size = fcntl(writing, 1031, 4096)
    #expect(size > 0 && Int(size) < expected.utf8.count)

    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_adddup2(&actions, writing, STDOUT_FILENO)
    var argv: [UnsafeMutablePointer<CChar>?] = unsafe ([Program.path] + words).map {
      unsafe strdup($0)
    }
    unsafe argv.append(nil)
    defer { unsafe argv.forEach { unsafe free($0) } }
    var pid: pid_t = 0
    let code = unsafe posix_spawn(&pid, Program.path, &actions, nil, argv, environ)
    close(writing)
    try #require(code == 0)

    var (text, buffer): ([UInt8], [UInt8]) = ([], Array(repeating: 0, count: 1000))
    while text.count < expected.utf8.count {
      usleep(2000)
      let count = unsafe read(reading, &buffer, buffer.count)
      if count <= 0 { break }
      text += buffer[..<count]
    }
    var status: Int32 = 0
    while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
    #expect(status == 0)
    #expect(String(decoding: text, as: UTF8.self) == expected)
  }

  /// Characters of two columns.
  @Test(arguments: [30, 44, 60, 100])
  func `a bar with a wide name fits the terminal`(columns: Int) throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/量化模型的测试名称🦥")
      let terminal = try Terminal(columns: columns)
      let program = try Program(
        ["evaluate", model.path, "--text", fixtureCalibration, "--samples", "16"],
        environment: ["TERM=xterm", "NO_COLOR=1", "LC_ALL=C.UTF-8"], errors: terminal.path)
      let outcome = try program.wait(reading: terminal)
      #expect(outcome.end == .exit(0), "\(outcome)")
      let frames = terminal.text.split(separator: "\r\u{1B}[K")
        .map { $0.prefix { $0 != "\r\n" && $0 != "\n" } }.filter { $0.first?.isNumber == true }
      #expect(!frames.isEmpty)
      for frame in frames {
        let width = frame.reduce(0) { $0 + ($1.isASCII || "━╸─".contains($1) ? 1 : 2) }
        #expect(width < columns, "\(frame)")
      }
    }
  }
}

@Suite struct WayOnTests {
  @Test func `a requantize that was stopped goes on with what status says, from anywhere`() throws {
    try withTemporaryFolder { folder in
      let (there, here) = ("\(folder)/there", "\(folder)/here")
      for name in [there, here] { try FileSystem.createFolder(name) }
      try FileSystem.copyFile(from: fixtureCalibration, to: "\(there)/rows.jsonl")
      let machine = ["--memory", "256MiB", "--threads", "1"]
      let made = try Program.run(
        ["quantize", fixtureModel, "-o", "out", "--calibration", "rows.jsonl", "--samples", "24"]
          + machine, in: there)
      #expect(made.end == .exit(0), "\(made)")
      let files = try outputFiles("\(there)/out")
      var stopped: Outcome
      repeat {
        for name in ["out", ".out.requantize"] { try FileSystem.remove("\(there)/\(name)") }
        try writeOutput(files, to: "\(there)/out")
        let program = try Program(
          ["requantize", "../there/out", "--scheme", "W8A16", "--scratch", "states"] + machine,
          in: here)
        try program.waitForFirstLayer()
        program.halt()
        program.send(SIGINT)
        program.send(SIGCONT)
        stopped = try program.wait()
        // On a busy machine it may be over before the signal comes: then once more.
      } while stopped.end == .exit(0)
      try #require(stopped.end == .exit(130), "\(stopped)")

      func status(_ words: [String]) throws -> Outcome {
        try Program.run(["status"] + words, in: here)
      }
      let work = "../there/.out.requantize/out"
      let old = try status(["../there/out"])
      #expect(
        old.stdout.hasSuffix("\nanother one is being made: sluice status \(work)\n"), "\(old)")
      let text = try status([work, "--json"]).stdout
      let object = try #require(try JSONValue.parse(Array(text.utf8)).object)
      let command = try #require(object["command"]?.array).compactMap(\.string)
      let named = try #require(object["folder"]?.string)
      #expect(command.contains("\(FileSystem.resolved(there))/out"), "\(command)")
      #expect(command.contains("\(FileSystem.resolved(here))/states"), "\(command)")
      let again = try Program.run(Array(command.dropFirst()), in: named)
      #expect(again.end == .exit(0) && again.stderr.contains("going on"), "\(again)")
      #expect(!FileSystem.exists("\(there)/states"))
      #expect(try !status(["../there/out"]).stdout.contains("another one"))
    }
  }

  @Test func `what a requantize has anew and what it has as before is told as that`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, ["--no-smoothing", "--samples", "4"])
      let change = try Program.run(
        ["requantize", "out", "--rounding", "clip", "--keep-states", "new"], in: folder)
      #expect(change.end == .exit(0), "\(change)")
      #expect(
        change.stderr.contains("new is new: all is calibrated, and the states are kept there"),
        "\(change)")
      #expect(!change.stderr.contains("is gone"), "\(change)")
      #expect(
        change.stderr.contains("note: calibrating with the built-in chats, as the output was\n"),
        "\(change)")
      #expect(!change.stderr.contains("takes your own"), "\(change)")
      try FileSystem.remove("\(folder)/new")
      let lost = try Program.run(["requantize", "out", "--rounding", "fast"], in: folder)
      #expect(lost.end == .exit(0) && lost.stderr.contains("new is gone"), "\(lost)")
    }
  }
}
