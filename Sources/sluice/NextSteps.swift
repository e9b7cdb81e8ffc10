// What to do next: go on with a run, or with an output that is done check it, measure it, serve it.

internal import JSON
internal import Pipeline
internal import Reporting

struct NextSteps {
  let output: String
  /// As the user names it.
  let model: String
  /// Whether its distance to the model is known.
  let isMeasured: Bool
  /// Whether inference engines load it.
  let isServed: Bool

  private var steps: [(what: String, words: [String])] {
    let program = CommandLine.arguments.first ?? "sluice"
    var steps = [("verify", [program, "verify", output, "--source", model])]
    if !isMeasured {
      steps.append(
        ("evaluate", [program, "evaluate", output, "--reference", model, "--text", "texts.jsonl"]))
    }
    if isServed { steps.append(("serve", ["vllm", "serve", output])) }
    return steps
  }

  func tell() {
    if Console.level == .quiet { return }
    if Console.form == .json {
      return Console.event(
        "next",
        [
          (
            "commands",
            .array(steps.map { step in .array(step.words.map { .string($0) }) })
          )
        ])
    }
    let measure = isMeasured ? "" : ", measure it on texts of yours"
    Console.news("next: check it\(measure)\(isServed ? ", serve it" : "")")
    for step in steps { Console.error(command: shellText(step.words)) }
  }
}

/// The words of this command, to be given again: without what would start over.
var goingOn: [String] { CommandLine.arguments.filter { $0 != "--restart" } }
