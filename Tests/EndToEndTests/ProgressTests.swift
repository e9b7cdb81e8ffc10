// What a user sees while a run goes on: on terminals of any width, without one, and on one that knows no escapes.

import Glibc
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
    for _ in 0..<20_000 {
      if try text().contains(mark) { break }
      usleep(1000)
    }
    program.send(SIGSTOP)
    usleep(1_300_000)
    program.send(SIGCONT)
    if let terminal {
      // A terminal holds little: it is read until the program ends.
      for _ in 0..<60_000 {
        if terminal.text.contains(command[0] == "quantize" ? "report:" : "memory: peak") { break }
        usleep(1000)
      }
    }
    let outcome = try program.wait()
    #expect(outcome.end == .exit(0), "\(outcome)")
    return try text()
  }

  private func quantize(
    columns: Int?, environment: [String] = ["TERM=xterm"]
  ) throws -> String {
    try withTemporaryFolder { folder in
      try told(
        ["quantize", fixtureModel, "--output", "\(folder)/out"] + options,
        terminal: columns.map { try Terminal(columns: $0) }, environment: environment)
    }
  }

  /// The live line as it was, again and again.
  private func frames(_ text: String) -> [Substring] {
    text.split(separator: "\r\u{1B}[K").map { $0.prefix { $0 != "\r\n" && $0 != "\n" } }
      .filter { $0.first?.isNumber == true }
  }

  @Test(arguments: [6, 20, 40, 80, 140])
  func `percent and time come first and no line is wider than the terminal`(columns: Int) throws {
    let frames = frames(try quantize(columns: columns))
    #expect(!frames.isEmpty)
    for frame in frames {
      #expect(frame.count < columns, "\(frame)")
      #expect(frame.contains(#/^\d+ %/#), "\(frame)")
    }
    let times = frames.filter { $0.contains(#/^\d+ %  ETA \d/#) }
    #expect(times.isEmpty == (columns < 16), "\(frames)")
    #expect(frames.contains { $0.contains("layer 1 of 0-3") } == (columns >= 40), "\(frames)")
    if columns >= 140 { #expect(frames.contains { $0.hasSuffix("iB") }, "\(frames)") }
  }

  @Test(arguments: [nil, 80])
  func `without a terminal, or on a dumb one, a line tells time, percent and what is left`(
    columns: Int?
  ) throws {
    let text = try quantize(columns: columns, environment: ["TERM=dumb"])
    #expect(!text.contains("\u{1B}"))
    let stamped = #/(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  \d+ %  ETA \d.*  layer \d of 0-3  [a-z]+/#
    // One line a minute, the first as soon as there is a time to tell.
    #expect(text.matches(of: stamped).count == 1, "\(text)")
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
    let program = try Program(command, errors: terminal.path)
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
      try told(command, terminal: terminal, after: "layer 0 of 0-3, ", environment: ["TERM=xterm"]))
    #expect(frames.contains { $0.contains(#/^\d+ %  ETA \d/#) }, "\(frames)")
    #expect(frames.allSatisfy { $0.count < 40 }, "\(frames)")
    let plain = try told(command, after: "layer 0 of 0-3, ")
    #expect(plain.contains(#/(?m)^\d{4}-\S+Z  \d+ %  ETA \d/#), "\(plain)")
  }
}
