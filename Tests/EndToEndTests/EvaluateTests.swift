// sluice evaluate as a user sees it: numbers on stdout, progress and memory on stderr, nothing left behind.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct EvaluateTests {
  private func evaluate(_ more: [String]) throws -> Outcome {
    try Program.run(
      [
        "evaluate", fixtureModel, "--reference", fixtureModel, "--text", fixtureCalibration,
        "--samples", "8",
      ] + more)
  }

  @Test func numbersPositionsAndWorstTokensAreTold() throws {
    let outcome = try evaluate(["--worst", "2"])
    #expect(outcome.end == .exit(0), "\(outcome)")
    for text in ["KL to the reference", "same first choice: 100 %", "tokens seen", "1-15", "16-63"]
    {
      #expect(outcome.stdout.contains(text), "\(text) in \(outcome)")
    }
    #expect(outcome.stdout.split(separator: "\n").count { $0.hasPrefix("  KL ") } == 2)
    #expect(outcome.stderr.contains("layer 3 of 0-3") && outcome.stderr.contains("memory: peak"))
    #expect(!outcome.stderr.contains("\u{1B}"), "no live line without a terminal")
  }

  @Test func jsonHoldsAllOfIt() throws {
    let outcome = try evaluate(["--json", "--worst", "3"])
    let object = try #require(try JSONValue.parse(Array(outcome.stdout.utf8)).object)
    for key in [
      "tokens", "sequences", "nll", "perplexity", "reference_nll", "kl_mean", "kl_median", "kl_p99",
      "top1_agreement",
    ] { #expect(object[key]?.double != nil, "\(key)") }
    let buckets = try #require(object["by_tokens_seen"]?.array)
    #expect(buckets.count > 2)
    #expect(
      buckets.reduce(0) { $0 + ($1.object?["tokens"]?.int ?? 0) } == object["tokens"]?.int)
    let worst = try #require(object["worst"]?.array)
    #expect(worst.count == 3)
    for key in ["sequence", "tokens_seen", "kl", "nll", "context", "choice", "reference_choice"] {
      #expect(worst[0].object?[key] != nil, "\(key)")
    }
  }

  /// Rows that are the same, of the length at which a range of positions ends.
  @Test func `no range is the end of a sequence alone, and no context is shown twice`() throws {
    try withTemporaryFolder { folder in
      let ids = (0..<64).map { "\($0 * 7 % 100 + 3)" }.joined(separator: ", ")
      let rows = String(repeating: "{\"input_ids\": [\(ids)]}\n", count: 3)
      try write(rows.utf8, to: "\(folder)/rows.jsonl")
      let outcome = try Program.run([
        "evaluate", fixtureModel, "--text", "\(folder)/rows.jsonl", "--samples", "3", "--json",
        "--worst", "20",
      ])
      let object = try #require(try JSONValue.parse(Array(outcome.stdout.utf8)).object)
      let buckets = try #require(object["by_tokens_seen"]?.array).compactMap(\.object)
      #expect(buckets.map { $0["last"]?.int } == [15, 64])
      #expect(buckets.allSatisfy { $0["nll"]?.double != nil })
      let contexts = try #require(object["worst"]?.array).map { $0.object?["context_ids"] }
      #expect(contexts.count == 20)
      for (index, context) in contexts.enumerated() {
        #expect(!contexts[..<index].contains(context))
      }
    }
  }

  /// The smallest budget of the refusal is kept by the whole process, and changes no digit.
  @Test func theSmallestMemoryIsKept() throws {
    let refusal = try evaluate(["--memory", "29MiB"])
    #expect(refusal.end == .exit(1))
    let words = refusal.stderr.split(separator: " ").map(String.init)
    let place = try #require(words.firstIndex(of: "to"))
    let smallest = String(words[place + 1].prefix { $0 != "," && !$0.isNewline })
    let outcome = try evaluate(["--memory", smallest, "--json"])
    #expect(outcome.end == .exit(0), "\(outcome)")
    #expect(!outcome.stderr.contains("warning: the peak"), "\(outcome)")
    #expect(try evaluate(["--memory", "1GiB", "--json"]).stdout == outcome.stdout)
  }

  @Test func whoStopsItFindsNothingLeftBehind() throws {
    try withTemporaryFolder { folder in
      var end: Outcome.End
      repeat {
        let run = try Program([
          "evaluate", fixtureModel, "--text", fixtureCalibration, "--scratch", folder, "--threads",
          "1",
        ])
        try run.waitUntil { try run.stderr.contains("evaluating") }
        run.send(SIGINT)
        end = try run.wait().end
        #expect(try FileSystem.list(folder).isEmpty)
        // On a busy machine it may be over before the signal comes: then once more.
      } while end == .exit(0)
      #expect(end == .exit(130))
    }
  }

  @Test func optionsOutOfRangeAreUsageErrors() throws {
    for wrong in [["--worst", "-1"], ["--worst=-1"], ["--sequence-length", "1"]] {
      #expect(try evaluate(wrong).end == .exit(64), "\(wrong)")
    }
  }
}
