// What a user sees while a run goes on: on terminals of any width, without one, and on one that knows no escapes.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

private let options = ["--calibration", fixtureCalibration, "--samples", "48", "--threads", "1"]

@Suite struct ProgressTests {
  /// What a run writes to stderr that was held up for more than a second in its middle: long enough for a time to be told.
  private func told(
    _ command: [String], terminal: Terminal? = nil, after mark: String = "layer 0 of 0-3: ",
    environment: [String] = []
  ) throws -> String {
    let program = try Program(command, environment: environment, errors: terminal?.path)
    let text = { try terminal.map { $0.text } ?? program.stderr }
    let isThere = try program.waitUntil { try text().contains(mark) }
    #expect(isThere)
    program.halt()
    usleep(1_300_000)
    program.send(SIGCONT)
    let outcome = try terminal.map { try program.wait(reading: $0) } ?? program.wait()
    #expect(outcome.end == .exit(0), "\(outcome)")
    return try text()
  }

  private func quantize(
    columns: Int?, environment: [String] = ["TERM=xterm", "NO_COLOR=1", "LC_ALL=C.UTF-8"],
    more: [String] = []
  ) throws -> String {
    try withTemporaryFolder { folder in
      try told(
        ["quantize", fixtureModel, "--output", "\(folder)/out"] + options + more,
        terminal: columns.map { try Terminal(columns: $0) }, environment: environment)
    }
  }

  /// The live line as it was, again and again.
  private func frames(_ text: String) -> [Substring] {
    text.split(separator: "\r\u{1B}[K").map { $0.prefix { $0 != "\r\n" && $0 != "\n" } }
      .filter { $0.first?.isNumber == true }
  }

  @Test(arguments: [6, 20, 40, 80, 140])
  func `a bar fits the terminal with percent, time, layer, step and rate`(columns: Int) throws {
    let text = try quantize(columns: columns)
    // NO_COLOR is obeyed.
    #expect(!text.contains("\u{1B}[3"))
    let frames = frames(text)
    #expect(!frames.isEmpty)
    for frame in frames {
      #expect(frame.count < columns, "\(frame)")
      #expect(frame.contains(#/^\d+ %/#), "\(frame)")
    }
    // All at once.
    let whole =
      columns < 80
      ? #/^\d+ % ━*╸?─* [0-9.]+[a-z0-9.]* 1/3 [a-z]+ \d+/s$/#
      : #/^\d+ %  ━*╸?─*  ETA \d.*  layer 1 of 0-3  [a-z]+  .*\d+ tokens/s/#
    #expect(frames.contains { $0.contains(whole) } == (columns >= 40), "\(frames)")
    let times = frames.filter { $0.contains(#/^\d+ %  [0-9.]+[smhd]/#) }
    #expect(times.isEmpty == (columns != 20), "\(frames)")
    if columns >= 140 { #expect(frames.contains { $0.hasSuffix("iB") }, "\(frames)") }
  }

  @Test
  func
    `colours are there where nothing speaks against them, and lines where the locale knows them`()
    throws
  {
    let text = try quantize(columns: 80, environment: ["TERM=xterm", "NO_COLOR=", "LC_ALL=C"])
    #expect(text.contains("\u{1B}[32m#") && text.contains("\u{1B}[2m-"), "\(text)")
    #expect(text.contains("\u{1B}[32mdone:\u{1B}[0m "), "\(text)")
    #expect(!text.contains("━"))
  }

  /// The end of a run says what comes next, in words that can be given as they are.
  @Test func `news are few, usual or many, or events, and the end tells what to do next`() throws {
    try withTemporaryFolder { folder in
      func run(_ name: String, _ more: [String]) throws -> Outcome {
        let outcome = try Program.run(
          ["quantize", fixtureModel, "--output", "\(folder)/\(name)"] + quickly + more)
        #expect(outcome.end == .exit(0) && outcome.stdout == "", "\(outcome)")
        return outcome
      }
      let usual = try run("usual", [])
      let verify = "  \(Program.path) verify \(folder)/usual --source \(fixtureModel)"
      #expect(usual.messages.contains(Substring(verify)), "\(usual)")
      #expect(usual.stderr.contains("  vllm serve \(folder)/usual\n"), "\(usual)")
      #expect(usual.stderr.contains("next: check it"), "\(usual)")
      #expect(!usual.stderr.contains("mapped files"), "\(usual)")
      #expect(try run("few", ["--quiet"]).stderr == "")
      let many = try run("many", ["-v"])
      #expect(many.stderr.contains(#/\nlayer 2 of 0-3, experts: .*iB of memory\n/#), "\(many)")
      #expect(many.stderr.contains("mapped files"), "\(many)")

      let messages = try run("events", ["--log", "json"]).messages
      let events = try messages.map { line in
        try #require(try JSONValue.parse(Array(line.utf8)).object, "\(line)")
      }
      let names = events.map { $0["event"]?.string }
      #expect(names.first == "started" && names.last == "next", "\(names)")
      for name in ["coverage", "data", "checking", "progress", "layer", "finished"] {
        #expect(names.contains(name), "\(names)")
      }
      #expect(events.allSatisfy { $0["time"]?.string?.hasSuffix("Z") == true })
      let layers = events.filter { $0["event"]?.string == "layer" }
      #expect(layers.map { $0["layer"]?.int } == [0, 1, 2, 3])
      #expect(layers.allSatisfy { $0["rounding_error_left"]?.double != nil })
      try expectInGuide(messages)
    }
  }

  @Test func `an error is an event, too, and so is a stop`() throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run(
        ["quantize", "\(folder)/none", "--output", "\(folder)/out", "--log", "json"])
      #expect(outcome.end == .exit(1))
      let event = try #require(try JSONValue.parse(Array(outcome.stderr.utf8)).object)
      #expect(event["event"]?.string == "error")
      #expect(event["message"]?.string?.contains("none") == true)

      var stopped: Outcome
      repeat {
        try FileSystem.remove("\(folder)/out")
        let run = try Program(
          ["quantize", fixtureModel, "--output", "\(folder)/out", "--log", "json"] + options)
        try run.waitUntil { try run.stderr.contains("\"layer\"") }
        run.send(SIGINT)
        stopped = try run.wait()
        // On a busy machine it may be done before the signal comes: then once more.
      } while stopped.end == .exit(0)
      #expect(stopped.end == .exit(130), "\(stopped)")
      let last = try #require(stopped.messages.last)
      let interrupted = try #require(try JSONValue.parse(Array(last.utf8)).object)
      #expect(interrupted["event"]?.string == "interrupted")
      #expect(interrupted["command"]?.array?.count == 13, "\(last)")
    }
  }

  @Test(arguments: [nil, 80])
  func `without a terminal, or on a dumb one, a line tells time, percent and what is left`(
    columns: Int?
  ) throws {
    let start = ContinuousClock.now
    let text = try quantize(columns: columns, environment: ["TERM=dumb"])
    let time = ContinuousClock.now - start
    #expect(!text.contains("\u{1B}"))
    let stamped =
      #/(?m)^\d{4}-\d\d-\d\dT(\d\d):(\d\d):(\d\d)Z  \d+ %  ETA \d.*  layer \d of 0-3  [a-z]+/#
    let stamps = text.matches(of: stamped).map { match in
      [match.1, match.2, match.3].reduce(0) { $0 * 60 + (Int($1) ?? 0) }
    }
    // One line a minute, the first as soon as there is a time to tell: how many depends on how busy the machine is.
    #expect(!stamps.isEmpty, "\(text)")
    if time < .seconds(60) { #expect(stamps.count == 1, "\(text)") }
    for (before, after) in zip(stamps, stamps.dropFirst()) {
      // Midnight may lie between them; and a stamp is a whole second that is read after the minute was measured.
      let seconds = (after - before + 86_400) % 86_400
      #expect(seconds >= 59, "\(text)")
    }
  }

  @Test(arguments: [40, 50, 80, 140])
  func `lines that are too long for a terminal are cut at words`(columns: Int) throws {
    let command = ["plan", fixtureModel, "--no-such"]
    func words(_ text: String) -> [Substring] {
      text.split { $0 == " " || $0.isNewline }
    }
    // Where there is no terminal each line is whole.
    let terminal = try Terminal(columns: columns)
    let plain = try Program.run(command).stderr
    let program = try Program(command, environment: ["NO_COLOR=1"], errors: terminal.path)
    _ = try program.wait()
    let text = terminal.text
    // A command can be copied.
    #expect(text.contains("`sluice help plan`"), "\(text)")
    #expect(words(text) == words(plain), "\(text)")
    for line in text.split(whereSeparator: \.isNewline) {
      #expect(line.count <= columns || !line.dropFirst(2).contains(" "), "\(line)")
    }
  }

  @Test func `an evaluation tells its progress in the same way`() throws {
    let command = [
      "evaluate", fixtureModel, "--text", fixtureCalibration, "--samples", "48", "--threads", "1",
    ]
    let terminal = try Terminal(columns: 40)
    let frames = frames(
      try told(
        command, terminal: terminal, after: "layer 0 of 0-3, ",
        environment: ["TERM=xterm", "NO_COLOR=1", "LC_ALL=C"]))
    #expect(
      frames.contains { $0.contains(#/^\d+ % #*-* [0-9.]+[a-z0-9]* \d/3 glm4-moe-4m$/#) },
      "\(frames)")
    #expect(frames.allSatisfy { $0.count < 40 }, "\(frames)")
    let plain = try told(command, after: "layer 0 of 0-3, ")
    #expect(plain.contains(#/(?m)^\d{4}-\S+Z  \d+ %  ETA \d/#), "\(plain)")
  }
}
