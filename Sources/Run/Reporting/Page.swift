// The report for people: one page that needs nothing else, read from top to bottom.

internal import JSON

extension Report {
  /// The page as one self-contained file of HTML: no scripts, nothing loaded; light, dark, narrow and on paper.
  package var html: String {
    let page: HTML = """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta name="color-scheme" content="light dark">
      <meta name="generator" content="Sluice">
      <title>\(title) – quantization report</title>
      <style>
      \(styleSheet)
      </style>
      </head>
      <body>
      <main>
      \(header)\(coverageSection)\(distanceSection)\(sizeSection)\(errorSection)\(smoothingSection)\
      \(routingSection)\(costSection)\(layerSection)\(settingsSection)\(nextSection)</main>
      <footer>Written by Sluice\(subject.version.isEmpty ? "" : " " + subject.version). The same numbers, unrounded: <code>.sluice/report.json</code>; every \
      decision: <code>.sluice/choices.jsonl</code>, both in the output folder.</footer>
      </body>
      </html>

      """
    return page.text
  }

  private var title: String {
    String(subject.output.split(separator: "/").last ?? "output")
  }

  // MARK: What it came to

  private var header: HTML {
    """
    <header>
    <p class="eyebrow">Quantization report</p>
    <h1>\(title)</h1>
    <p class="lead">\(lead)</p>
    \(unfinished)<dl class="tiles" style="--columns:\(tiles.count <= 4 ? tiles.count : (tiles.count + 1) / 2)">
    \(tiles)</dl>
    \(legend)</header>

    """
  }

  private var lead: HTML {
    let quantized = counted(choices.linears.count, "Linear")
    let layers = subject.layers.words
    let smoothings =
      choices.smoothings.isEmpty ? "" : ", " + counted(choices.smoothings.count, "smoothing")
    return """
      <code>\(subject.architecture)</code> of \(layers) from <code>\(subject.modelName)</code>: \
      \(quantized) quantized\(schemes)\(smoothings). Layers and experts count \
      from 0, as in the names of tensors.
      """
  }

  /// ` to W4A16 in groups of 128`.
  private var schemes: String {
    let words = subject.schemeWords
    let further = subject.setting("--mtp").flatMap {
      $0 == words ? nil : ", prediction layers to \($0)"
    }
    return (words.map { " to \($0)" } ?? "") + (further ?? "")
  }

  /// What is quantized, and what is left.
  private var coverageSection: HTML? {
    if subject.quantized.isEmpty { return nil }
    let left = subject.left.map { item -> HTML in "<li>\(item)</li>\n" }
    return """
      <section id="coverage">
      <h2>What is quantized, and what is not</h2>
      <div class="pair">
      <div><h3>Quantized\(schemes)</h3>
      <ul><li>\(subject.quantized)</li></ul></div>
      <div><h3>Left as they are</h3>
      <ul>
      \(left)</ul></div>
      </div>
      </section>

      """
  }

  /// What plain rounding stands for: AWQ, where there are scales.
  var plainName: String { choices.smoothings.isEmpty ? "RTN" : "AWQ" }

  /// The words for errors, once for the whole page.
  private var legend: HTML? {
    if choices.linears.allSatisfy({ $0.left == nil }) && choices.smoothings.isEmpty { return nil }
    let awq: HTML? =
      choices.smoothings.isEmpty
      ? nil : "; <strong>AWQ</strong>: the same after AWQ's scales"
    return """
      <p class="note"><strong>Error</strong>: the mean squared change of a Linear's output over the \
      calibration tokens, less is better. <strong>RTN</strong>: each weight rounded to the nearest \
      code\(awq). <strong>As written</strong>: what the output holds.</p>

      """
  }

  private var unfinished: HTML? {
    guard case .unfinished(let step, let layer, let share) = subject.progress else { return nil }
    let place = layer.map { "\(subject.layers.place(of: $0)), \(step)" } ?? step
    let done = share.map { ", \(percent($0)) of the arithmetic is done" } ?? ""
    return """
      <p class="banner"><strong>Not finished.</strong> Next: \(place)\(done). What follows covers what \
      was committed; the same command goes on.</p>

      """
  }

  private var tiles: [HTML] {
    let isFinished = subject.progress == .finished
    var tiles = [
      tile(
        isFinished ? "Size" : "Size, planned", size(subject.outputBytes),
        "\(percent(Double(subject.outputBytes) / Double(max(1, subject.sourceBytes)))) of "
          + size(subject.sourceBytes))
    ]
    if let distance = lastDistance?.divergence {
      tiles.append(
        tile(
          "KL to the model", figure(distance.mean),
          "\(percent(distance.agreement)) of the choices are the same"))
    }
    let errors = ErrorSummary(choices.linears)
    if let left = errors.left {
      tiles.append(tile("Error as written", percent(left), "of \(plainName)"))
    }
    if let left = SmoothingSummary(choices.smoothings).left {
      tiles.append(tile("Error of AWQ", percent(left), "of RTN"))
    }
    if let tokens = choices.data?.tokens, let rows = choices.data?.sequences {
      tiles.append(tile("Calibration", whole(tokens), "tokens in \(counted(rows, "sequence"))"))
    }
    let experts = choices.routings.reduce(0) { $0 + $1.tokens.count }
    if experts > 0 {
      let thin = thinExperts.count
      tiles.append(
        tile(
          "Experts with thin data", whole(thin),
          "of \(whole(experts))"
            + (thin == 0 ? "" : "; the section on experts says what that means")))
    }
    tiles.append(
      tile("Peak memory", size(cost.peakBytes), "of \(size(cost.budgetBytes)) allowed"))
    tiles.append(
      tile(
        "Time", duration(cost.wallSeconds),
        cost.processes > 1 ? "in \(whole(cost.processes)) processes" : "in one process"))
    return tiles
  }

  private func tile(_ name: String, _ value: String, _ note: String) -> HTML {
    "<div><dt>\(name)</dt><dd>\(value) <small>\(note)</small></dd></div>\n"
  }

  // MARK: How it was asked for

  private var settingsSection: HTML {
    let settings = subject.settings.compactMap(words).map { setting -> HTML in
      "<div><dt>\(setting.name)</dt><dd>\(setting.value)</dd></div>\n"
    }
    let data = (choices.data?.words ?? []).map { entry -> HTML in
      "<div><dt>\(entry.name)</dt><dd>\(entry.value)</dd></div>\n"
    }
    let asked: HTML? =
      subject.command.isEmpty
      ? nil : "<pre class=\"scroll\" tabindex=\"0\">\(command(subject.command))</pre>\n"
    return """
      <section id="settings">
      <h2>How it was asked for</h2>
      \(asked)<dl class="facts">
      <div><dt>model</dt><dd>\(subject.modelPath)</dd></div>
      <div><dt>output</dt><dd>\(subject.output)</dd></div>
      <div><dt>\(subject.progress == .finished ? "finished" : "last commit")</dt>\
      <dd>\(dateText(subject.lastCommit))</dd></div>
      \(fact("Sluice", subject.version))\(fact("processor", subject.processor))\(settings)</dl>
      \(data.isEmpty ? nil : "<h3>Calibration data</h3>\n<dl class=\"facts\">\n\(data)</dl>\n" as HTML)\
      </section>

      """
  }

  private func fact(_ name: String, _ value: String) -> HTML? {
    value.isEmpty ? nil : "<div><dt>\(name)</dt><dd>\(value)</dd></div>\n"
  }

  /// A command that is broken between its words alone.
  private func command(_ words: [String]) -> HTML {
    let words = words.map { word -> HTML in
      word.count > 32 ? "\(shellText([word])) " : "<span>\(shellText([word]))</span> "
    }
    return "<code>\(words)</code>"
  }

  // MARK: What comes next

  private var nextSection: HTML {
    if subject.progress != .finished {
      return """
        <section id="next">
        <h2>What to do next</h2>
        <p class="finding">Give the command of the run again: it goes on from the last commit.</p>
        </section>

        """
    }
    var steps: [(why: String, words: [String])] = [
      (
        "Check that the output is whole, and what tensor parallelism fits it:",
        ["sluice", "verify", subject.output, "--source", subject.modelPath]
      )
    ]
    if evaluations.isEmpty {
      steps.append(
        (
          "Measure how far it is from the model, on texts that it was not calibrated on:",
          [
            "sluice", "evaluate", subject.output, "--reference", subject.modelPath, "--text",
            "texts.jsonl",
          ]
        ))
    }
    if !thinExperts.isEmpty {
      steps.append(
        (
          "Experts with thin data: calibrate on more, or on more varied, data, and compare:",
          ["sluice", "compare", subject.output, "other-output"]
        ))
    }
    steps.append(("Serve it:", ["vllm", "serve", subject.output]))
    let items = steps.map { step -> HTML in
      """
      <li>\(step.why)
      <pre class="scroll" tabindex="0">\(command(step.words))</pre></li>

      """
    }
    return """
      <section id="next">
      <h2>What to do next</h2>
      <ol>
      \(items)</ol>
      </section>

      """
  }
}
