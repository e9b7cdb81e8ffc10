// Numbers against an independent computation (tools/fixtures/make_report_fixtures.py), and pages that are whole whatever is in them.

import JSON
import Reporting
import SystemIO
import TestSupport
import Testing

private func choices(_ lines: String) throws -> Choices {
  try Choices(lines: Array(lines.utf8), file: "choices.jsonl")
}

private func report(_ choices: Choices, progress: Progress = .finished, layers: Int = 4) -> Report {
  Report(
    subject: Subject(
      model: "models/<tiny> & co", output: "/data/out \"4\"", architecture: "TinyForCausalLM",
      layers: LayerCount(layers), sourceBytes: 9_523_296, outputBytes: 4_855_344, groupSize: 32,
      settings: [Setting("--loss", "gram"), Setting("--ignore", "")],
      command: ["sluice", "quantize", "models/<tiny> & co"], lastCommit: 1_709_210_096,
      progress: progress),
    choices: choices,
    cost: Cost(
      processes: 3, processorSeconds: 7261, threads: 2, budgetBytes: 256 << 20,
      scratchBytes: 9_777_805,
      steps: [
        StepCost(
          step: "copy", seconds: 0.04, peakBytes: 30 << 20, heapBytes: 5 << 20,
          mappedBytes: 24 << 20, plannedBytes: 35 << 20),
        StepCost(
          step: "experts", seconds: 4000, peakBytes: 300 << 20, heapBytes: 200 << 20,
          mappedBytes: 50 << 20, plannedBytes: nil),
      ]))
}

private let fixture = Result {
  let path = fixturePath("report/choices.jsonl")
  return report(try Choices(lines: FileSystem.readFile(path), file: path))
}

@Suite struct ReportTests {
  /// Where `found` is not what is expected: keys that are not expected are passed over, numbers may differ by rounding.
  private func difference(_ found: JSONValue?, _ expected: JSONValue, at place: String) -> String? {
    switch (found, expected) {
    case (.object(let found)?, .object(let expected)):
      return expected.entries.lazy
        .compactMap { difference(found[$0.key], $0.value, at: "\(place).\($0.key)") }.first
    case (.array(let found)?, .array(let expected)):
      if found.count != expected.count { return "\(place): \(found.count) of \(expected.count)" }
      return zip(found, expected).enumerated().lazy
        .compactMap { difference($1.0, $1.1, at: "\(place)[\($0)]") }.first
    case (.number(let found)?, .number(let expected)):
      let (one, other) = (found.double ?? .nan, expected.double ?? .nan)
      return abs(one - other) <= 1e-12 * abs(other) ? nil : "\(place): \(one), expected \(other)"
    default: return found == expected ? nil : "\(place): \(found as Any), expected \(expected)"
    }
  }

  @Test func `all numbers are those of an independent computation`() throws {
    let report = try fixture.get()
    let expected = try JSONValue.parse(FileSystem.readFile(fixturePath("report/expected.json")))
    #expect(difference(report.json, expected, at: "") == nil)
    // Through text and back, nothing is lost.
    let text = report.json.serialized(indent: 2)
    #expect(try JSONValue.parse(Array(text.utf8)) == report.json)
  }

  @Test func `the page is whole, and no name becomes part of it`() throws {
    let html = try fixture.get().html
    let page = try Markup(html)
    #expect(page.all("script").isEmpty)
    let codes = page.all("code").map(\.text)
    #expect(codes.contains { $0.contains("<script>alert(\"1\")</script>&'") })
    #expect(codes.contains("models/<tiny> & co"))
    // U+202E would turn the text after it around.
    #expect(!html.unicodeScalars.contains("\u{202E}"))
    #expect(codes.contains { $0.contains("\\u{202e}") })
    #expect(page.all("h1").map(\.text) == ["out \"4\""])
  }

  @Test func `nothing is loaded from anywhere`() throws {
    let html = try fixture.get().html
    let page = try Markup(html)
    for name in ["src", "href", "srcset", "data", "onload", "onclick"] {
      #expect(page.elements.allSatisfy { $0.attributes[name] == nil })
    }
    #expect(page.all("link").isEmpty && page.all("iframe").isEmpty)
    #expect(!html.contains("url(") && !html.contains("@import") && !html.contains("http"))
  }

  @Test func `those who do not see the plots are told what they show`() throws {
    let page = try Markup(try fixture.get().html)
    let drawings = page.all("svg")
    #expect(drawings.count > 15)
    for drawing in drawings {
      #expect(drawing.attributes["role"] == "img")
      #expect(drawing.attributes["aria-label"]?.isEmpty == false)
    }
    #expect(page.all("html").first?.attributes["lang"] == "en")
    #expect(page.all("caption").count == page.all("table").count)
    #expect(page.all("th").allSatisfy { ["row", "col"].contains($0.attributes["scope"]) })
    #expect(page.all("section").count == page.all("h2").count)
  }

  @Test func `the numbers of the page are those of the JSON, rounded`() throws {
    let report = try fixture.get()
    let page = try Markup(report.html)
    let rows = Dictionary(grouping: page.all("tr"), by: { $0.text }).keys
    // Computed by hand from expected.json: 0.45221….
    let tiles = page.all("dd").map(\.text)
    #expect(tiles.contains("45.2\u{202F}% of AWQ"))
    #expect(tiles.contains("4.64\u{202F}MiB 51\u{202F}% of 9.09\u{202F}MiB"))
    #expect(
      tiles.contains("1\u{202F}h 06\u{202F}min in 3 processes")
        || tiles.contains("1\u{202F}h 07\u{202F}min in 3 processes"))
    #expect(tiles.contains("600 tokens in 61 sequences"))
    #expect(rows.contains { $0.hasPrefix("<script>") && $0.contains("75\u{202F}%") })
    let thin = try #require(report.json.object?["thin_experts"]?.int)
    #expect(thin == 8)
    #expect(tiles.contains { $0.hasPrefix("8 of 36; ") })
    // What alarms is explained right there.
    let routing = try #require(page.all("section").first { $0.attributes["id"] == "routing" })
    let words = routing.text
    let explained = try #require(words.firstRange(of: "Thin data means fewer than 32 tokens"))
    let map = try #require(words.firstRange(of: "Tokens of each expert"))
    #expect(explained.lowerBound < map.lowerBound)
    #expect(report.json.object?["last_commit"]?.string == "2024-02-29T12:34:56Z")
  }

  @Test func `a run that was stopped says how far it is`() throws {
    let choices = try fixture.get().choices
    let stopped = report(
      choices, progress: .unfinished(step: "experts", layer: 2, share: 0.4137))
    let banner = try #require(
      try Markup(stopped.html).all("p").first { $0.attributes["class"] == "banner" })
    #expect(banner.text.contains("layer 2 of 0-3, experts, 41.4\u{202F}%"))
    #expect(stopped.json.object?["finished"] == false)
    #expect(stopped.json.object?["next_layer"]?.int == 2)
    #expect(try fixture.get().json.object?["finished"] == true)
  }

  @Test(arguments: [
    ("W4A16", "128", "W4A16 in groups of 128"), ("FP8_DYNAMIC", "none", "FP8_DYNAMIC"),
    (
      #"NVFP4A16, re:model\.layers\.(2|3|5)\..*=W8A16 in groups of 128"#, "128, 16",
      "NVFP4A16, W8A16 in groups of 128 for layers 2-3, 5"
    ),
    (
      #"re:(?!x)a=W4A16 in groups of 64, re:m\.(7)\..*=FP8"#, "64",
      "re:(?!x)a=W4A16 in groups of 64, FP8 for layer 7"
    ),
    (
      "BF16 for 1 group, W8A16 for 10 [e9b82100bfdb2be4]", "128", "BF16 for 1 group, W8A16 for 10"
    ),
  ])
  func `schemes are told without what tells them apart for the program`(
    scheme: String, groups: String, words: String
  ) throws {
    var report = try fixture.get()
    report.subject.quantized = "layers 1-3"
    report.subject.settings = [Setting("--scheme", scheme), Setting("--group-size", groups)]
    let page = try Markup(report.html)
    let lead = try #require(page.all("p").first { $0.attributes["class"] == "lead" }).text
    #expect(lead.contains(" quantized to \(words)"), "\(lead)")
    #expect(page.all("h3").map(\.text).contains("Quantized to \(words)"))
    report.subject.settings.append(Setting("--mtp", "W8A16 in groups of 32"))
    #expect(report.html.contains("prediction layers to W8A16 in groups of 32"))
  }

  @Test func `layers that predict are no layers of the model`() throws {
    let count = LayerCount(4, predictions: 2)
    #expect(count.words == "4 layers and 2 prediction layers")
    #expect(LayerCount(1).words == "1 layer")
    #expect(count.place(of: 3) == "layer 3 of 0-3")
    #expect(count.place(of: 4) == "prediction layer 4 of 4-5")
    #expect(LayerCount(4, predictions: 1).place(of: 4) == "prediction layer 4")
    let choices = try fixture.get().choices
    var stopped = report(choices, progress: .unfinished(step: "experts", layer: 5, share: 0.9))
    stopped.subject.layers = count
    #expect(stopped.html.contains("prediction layer 5 of 4-5, experts"))
    #expect(stopped.html.contains("of 4 layers and 2 prediction layers from"))
    let json = try #require(stopped.json.object)
    #expect(json["layers"]?.int == 4 && json["prediction_layers"]?.int == 2)
    #expect(LayerCount(json) == count)
  }

  @Test func `a command is broken between its words alone`() throws {
    var report = try fixture.get()
    report.subject.command = [
      "sluice", "quantize", "M", "--output", "/long/\(String(repeating: "x", count: 40))",
    ]
    report.subject.modelPath = "/data/GLM"
    #expect(report.html.contains("<span>--output</span> /long/x"))
    #expect(report.html.contains("<span>--source</span> <span>/data/GLM</span>"))
  }

  @Test func `a measurement without a reference hides none that has one`() throws {
    func record(_ reference: String?, samples: Int = 64) -> EvaluationRecord {
      EvaluationRecord(
        reference: reference, data: "texts.jsonl", samples: samples, sequenceLength: 128,
        packs: false,
        sequences: 64, tokens: 8192, nll: 5.12, referenceNLL: reference == nil ? nil : 5.1,
        divergence: reference.map { _ in
          .init(mean: 0.0004217, median: 0.0001502, percentile99: 0.006216, agreement: 0.9813)
        })
    }
    #expect(record("org/tiny").replaces(record(nil)) && record(nil).replaces(record(nil)))
    #expect(!record(nil).replaces(record("org/tiny")))
    #expect(!record("org/tiny").replaces(record(nil, samples: 8)))
    var report = try fixture.get()
    report.evaluations = [record("org/tiny"), record(nil, samples: 8)]
    #expect(try Markup(report.html).all("dt").map(\.text).contains("KL to the model"))
    #expect(report.html.contains("the KL divergence from the model is 0.000422"))
  }

  @Test func `what rounding leaves of a loss that is none stretches no axis`() throws {
    let points = [(100, 0.01), (200, 1e-4), (300, 1e-5), (400, 1e-18)]
    let size = SizeRecord(
      target: 250, bytes: 200, loss: 1e-4,
      frontier: points.map { .init(bytes: $0.0 << 20, loss: $0.1) },
      groups: [.init(name: "g", choice: "W4A16", bytes: 200, loss: 1e-4)])
    let html = report(try choices("{\"size\":\(size.json.serialized())}\n")).html
    let section = try #require(
      try Markup(html).all("section").first { $0.attributes["id"] == "size" }
    ).text
    #expect(section.contains("1e-05") && !section.contains("1e-1"), "\(section)")
    #expect(section.contains("300\u{202F}MiB") && !section.contains("400\u{202F}MiB"))
    #expect(html.contains("<span class=\"last\" style=\"left:100%\">"))
  }

  /// A budget that is far above what a run takes would leave empty bars.
  @Test func `bars of memory end at the most that was used or planned`() throws {
    var report = try fixture.get()
    report.cost.budgetBytes = 64 << 30
    #expect(report.html.contains("style=\"width:10%\"></i><b style=\"left:11.7%\"></b>"))
  }

  @Test func `what was not measured is not spoken of`() throws {
    let nearest = report(
      try choices(
        """
        {"layer":0,"linear":"model.layers.0.self_attn.q_proj","fate":"packed"}
        {"layer":0,"smoothing":"model.layers.0.input_layernorm","ratio":0.5,"duo_scaling":true,"loss_before":4.0,"loss_after":1.0,"unknown":[1]}

        """))
    var sections = try Markup(nearest.html).all("section").map { $0.attributes["id"] }
    #expect(sections == ["smoothing", "cost", "layers", "settings", "next"])
    #expect(nearest.html.contains("AWQ's scales leave 25\u{202F}% of the error of RTN"))
    let empty = report(try choices(""))
    sections = try Markup(empty.html).all("section").map { $0.attributes["id"] }
    #expect(sections == ["cost", "settings", "next"])
    #expect(empty.json.object?["linears"]?.object?["error_left"] == .null)
  }

  @Test func `the page says what was measured, who made it, what is left and what comes next`()
    throws
  {
    var report = try fixture.get()
    report.subject.quantized = "layers 1-3"
    report.subject.left = ["layer 0 (--ignore '<b>')", "routers"]
    report.subject.settings = [
      Setting("--scheme", "W4A16"), Setting("--max-shard-size", "5000000000"),
      Setting("--no-smoothing", "off"), Setting("n_grid", "20"),
    ]
    report.subject.version = "0.1.0"
    report.subject.processor = "AMD EPYC"
    report.evaluations = [
      EvaluationRecord(
        reference: "org/tiny", data: "org/texts[test]", samples: 64, sequenceLength: 128,
        packs: true, sequences: 64, tokens: 8192, nll: 5.12, referenceNLL: 5.121,
        divergence: .init(
          mean: 0.0004217, median: 0.0001502, percentile99: 0.006216, agreement: 0.9813))
    ]
    let page = try Markup(report.html)
    #expect(
      page.all("section").compactMap { $0.attributes["id"] }.prefix(2) == ["coverage", "distance"])
    #expect(page.all("section").last?.attributes["id"] == "next")
    let tiles = page.all("dd").map(\.text)
    #expect(tiles.contains("0.000422 98.1\u{202F}% of the choices are the same"), "\(tiles)")
    for text in ["0.1.0", "AMD EPYC", "W4A16", "4.66\u{202F}GiB", "searched for"] {
      #expect(tiles.contains(text), "\(text)")
    }
    // No raw names of options where there are words.
    let names = page.all("dt").map(\.text)
    #expect(names.contains("largest file") && names.contains("finished"))
    #expect(!names.contains { $0.hasPrefix("--") || $0.contains("_") }, "\(names)")
    #expect(
      page.all("li").map(\.text).prefix(3) == ["layers 1-3", "layer 0 (--ignore '<b>')", "routers"])
    let cells = page.all("td").map(\.text)
    #expect(cells.contains("168") && cells.contains("0.00622"), "\(cells)")
    let next = try #require(page.all("section").last).text
    #expect(
      next.contains("sluice verify '/data/out \"4\"' --source 'models/<tiny> & co'"), "\(next)")
    #expect(!next.contains("sluice evaluate"))
    let record = try #require(report.json.object?["evaluations"]?.array?.first)
    #expect(EvaluationRecord(record) == report.evaluations[0])
    // Every plot names its axes.
    let axes = page.all("p").filter { $0.attributes["class"] == "axes" }.map(\.text)
    #expect(axes.count == page.all("figure").count && axes.allSatisfy { $0.hasPrefix("Across: ") })
  }

  @Test func `errors are held against rounding to nearest`() throws {
    let bare = report(
      try choices(
        """
        {"layer":0,"linear":"model.layers.0.self_attn.q_proj","fate":"packed","error":1.0,"error_nearest":4.0}
        {"layer":1,"linear":"model.layers.1.self_attn.q_proj","fate":"packed","error":3.0,"error_nearest":4.0}
        {"layer":1,"linear":"model.layers.1.self_attn.k_proj","fate":"packed"}

        """))
    let page = try Markup(bare.html)
    let finding = page.all("p").first { $0.attributes["class"] == "finding" }?.text
    #expect(finding == "50\u{202F}% of the error of RTN is left.")
    #expect(page.all("dd").map(\.text).contains("50\u{202F}% of RTN"))
    let linears = try #require(bare.json.object?["linears"]?.object)
    #expect(linears["error_left"]?.double == 0.5)
    #expect(linears["measured"]?.int == 2)
  }

  @Test(arguments: [
    ("{\"layer\":1", "line 2"), ("[]", "no line of a run"), ("{\"layer\":1}", "no line of a run"),
    ("{\"layer\":1,\"routing\":[1,-2]}", "no line of a run"),
    ("{\"layer\":1,\"routing\":[1,\"2\"]}", "no line of a run"),
  ])
  func `a line that no run writes is refused by its number`(line: String, named: String) throws {
    let error = #expect(throws: ChoicesError.self) {
      try choices("{\"data\":{}}\n\(line)\n")
    }
    let text = "\(try #require(error))"
    #expect(text.contains("choices.jsonl: line 2") && text.contains(named), "\(text)")
  }

  @Test func `where there are no groups, none is a measure of thin data`() throws {
    var made = report(try choices("{\"layer\":0,\"routing\":[9,11,280]}\n"))
    #expect(made.thinExperts.map(\.expert) == [0, 1])
    #expect(made.html.contains("means fewer than 32 tokens of an expert's own (the group size) or"))
    made.subject.groupSize = nil
    #expect(made.thinExperts.map(\.expert) == [0])
    #expect(made.html.contains("means less than a tenth of the even share. It is no fault"))
    made.subject.settings = [Setting("--scheme", "FP8")]
    #expect(made.subject.schemeWords == "FP8")
  }

  @Test func `large numbers have three digits that count, and then naughts`() throws {
    var report = try fixture.get()
    report.evaluations = [
      EvaluationRecord(
        reference: nil, data: "texts.jsonl", samples: 1, sequenceLength: 8, packs: false,
        sequences: 1, tokens: 8, nll: 16.2491, referenceNLL: nil, divergence: nil)
    ]
    let cells = try Markup(report.html).all("td").map(\.text)
    #expect(cells.contains("11\u{202F}400\u{202F}000"), "\(cells)")
  }

  @Test func `an even router and one that knows a single expert`() {
    let even = RoutingBalance(LayerRouting(layer: 0, tokens: [500, 500, 500, 500]), groupSize: 128)
    #expect(abs(even.effectiveExperts - 4) < 1e-12)
    #expect(even.coefficientOfVariation == 0 && even.busiest == 1 && even.thin == [])
    let single = RoutingBalance(LayerRouting(layer: 0, tokens: [0, 2000, 0, 0]), groupSize: 128)
    #expect(abs(single.effectiveExperts - 1) < 1e-12)
    #expect(single.busiest == 4 && single.thin == [0, 2, 3] && single.unrouted == [0, 2, 3])
    // A tenth of the even share is 1,000 here, and more than a group.
    let rich = RoutingBalance(LayerRouting(layer: 0, tokens: [999, 1000, 28_001]), groupSize: 128)
    #expect(rich.thin == [0])
    let none = RoutingBalance(LayerRouting(layer: 0, tokens: [0, 0]), groupSize: 128)
    #expect(none.effectiveExperts == 0 && none.busiest == 0 && none.coefficientOfVariation == 0)
  }
}

@Suite struct LargeReportTests {
  private static let layers = 92
  private static let experts = 160

  /// As many experts as GLM-4.7 has.
  private static let large = Result {
    var generator = SeededGenerator(seed: 1)
    var lines = ""
    for layer in 0..<layers {
      var tokens = (0..<experts).map { _ in Int.random(in: 100...9000, using: &generator) }
      tokens[layer] = 0
      lines += "{\"layer\":\(layer),\"routing\":\(tokens)}\n"
      for expert in 0..<experts {
        lines += """
          {"layer":\(layer),"linear":"model.layers.\(layer).mlp.experts.\(expert).down_proj",\
          "fate":"packed","error":0.01,"error_nearest":0.02,"rows":{"nearest":3}}

          """
      }
    }
    return report(try choices(lines), layers: layers)
  }

  @Test func `a page of 92 layers of 160 experts stays small`() throws {
    let report = try Self.large.get()
    let html = report.html
    #expect(html.utf8.count < 400_000)
    let page = try Markup(html)
    #expect(page.all("tr").count < 250)
    #expect(page.elements.count < 4000)
    #expect(report.json.object?["linears"]?.object?["count"]?.int == 92 * 160)
  }

  /// `M3 5h2v1h-2z` is two cells of row 5, from expert 3 on.
  @Test func `every expert is one cell of the map, in the colour of its load`() throws {
    let report = try Self.large.get()
    var cells: [[Int]: String] = [:]
    for path in try Markup(report.html).all("path") {
      guard let style = path.attributes["class"], style.hasPrefix("load"),
        let drawn = path.attributes["d"]
      else { continue }
      for run in drawn.split(separator: "M") {
        let numbers = run.split { !$0.isNumber }.compactMap { Int($0) }
        for expert in numbers[0]..<numbers[0] + numbers[2] {
          #expect(cells.updateValue(style, forKey: [numbers[1], expert]) == nil)
        }
      }
    }
    #expect(cells.count == Self.layers * Self.experts)
    for (layer, balance) in report.balances.enumerated() {
      #expect(cells[[layer, layer]] == "load0")
      for expert in balance.thin where expert != layer {
        #expect(cells[[layer, expert]] == "load1")
      }
      let busiest = try #require(
        balance.tokens.indices.max { balance.tokens[$0] < balance.tokens[$1] })
      #expect(cells[[layer, busiest]] == (balance.busiest < 2 ? "load4" : "load5"))
    }
  }
}

@Suite struct StyleTests {
  /// The variables of each palette in their order: light, dark, paper.
  private func palettes() throws -> [[String: String]] {
    let style = try #require(try Markup(try fixture.get().html).all("style").first).text
    return style.components(separatedBy: ":root {").dropFirst().map { block in
      var colours: [String: String] = [:]
      for entry in block.prefix(while: { $0 != "}" }).split(separator: ";") {
        let parts = entry.split(separator: ":").map { $0.filter { !$0.isWhitespace } }
        if parts.count == 2, parts[0].hasPrefix("--") { colours[parts[0]] = parts[1] }
      }
      return colours
    }
  }

  /// Source: WCAG 2.2, "relative luminance".
  private func luminance(_ colour: String) -> Double {
    var digits = Array(colour.dropFirst())
    if digits.count == 3 { digits = digits.flatMap { [$0, $0] } }
    let channels = stride(from: 0, to: 6, by: 2).map { start -> Double in
      let value = Double(Int(String(digits[start...start + 1]), radix: 16) ?? 0) / 255
      return value <= 0.04045 ? value / 12.92 : power((value + 0.055) / 1.055)
    }
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
  }

  /// value^2.4 as the fifth root of value^12, by Newton's method.
  private func power(_ value: Double) -> Double {
    let target = (0..<12).reduce(1.0) { product, _ in product * value }
    return (0..<60).reduce(1.0) { root, _ in
      (4 * root + target / (root * root * root * root)) / 5
    }
  }

  private func contrast(_ one: String, _ other: String) -> Double {
    let (first, second) = (luminance(one), luminance(other))
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)
  }

  @Test func `text and marks can be read in light, in dark and on paper`() throws {
    let palettes = try palettes()
    #expect(palettes.count == 3)
    #expect(Set(palettes[0].keys) == Set(palettes[1].keys))
    #expect(Set(palettes[0].keys) == Set(palettes[2].keys))
    #expect(abs(contrast("#000", "#fff") - 21) < 1e-9)
    for colours in palettes {
      for paper in ["--paper", "--raised"] {
        for text in ["--ink", "--muted"] {
          #expect(contrast(try #require(colours[text]), try #require(colours[paper])) >= 4.5)
        }
      }
      for mark in ["--after", "--before", "--over", "--clipped", "--other"] {
        #expect(contrast(try #require(colours[mark]), try #require(colours["--paper"])) >= 3)
      }
    }
  }
}

extension String {
  fileprivate func components(separatedBy separator: String) -> [Substring] {
    var parts: [Substring] = []
    var rest = self[...]
    while let found = rest.firstRange(of: separator) {
      parts.append(rest[..<found.lowerBound])
      rest = rest[found.upperBound...]
    }
    return parts + [rest]
  }
}
