// The result of sluice evaluate, as text and as JSON.

internal import JSON
internal import Pipeline

extension Evaluation {
  /// Columns of the lines that show a position in context.
  private static let width = 100

  var text: String {
    var lines = ["\(counted(tokens, "token")) in \(counted(sequences, "sequence"))"]
    lines.append("NLL \(number(all.nll)), perplexity \(number(all.perplexity))")
    if let divergence = all.divergence {
      lines[1] +=
        " (reference: NLL \(number(all.referenceNLL)), perplexity \(number(all.referencePerplexity)))"
      lines.append(
        "KL to the reference: mean \(rounded(divergence.mean)), median "
          + "\(rounded(divergence.median)), 99th percentile \(rounded(divergence.percentile99))")
      lines.append("same first choice: \(percent(divergence.agreement))")
    }
    if buckets.count > 1 { lines += [""] + table }
    if !worst.isEmpty { lines += ["", worstTitle] + worst.flatMap(Self.lines) }
    return lines.joined(separator: "\n")
  }

  /// A row for each range of positions.
  private var table: [String] {
    let hasReference = all.divergence != nil
    let head =
      ["tokens seen", "positions", "NLL"]
      + (hasReference ? ["KL mean", "KL median", "KL p99", "same choice"] : [])
    let rows = buckets.map { bucket -> [String] in
      let statistics = bucket.statistics
      let distance =
        statistics.divergence.map {
          [
            rounded($0.mean), rounded($0.median), rounded($0.percentile99), percent($0.agreement),
          ]
        } ?? []
      return [
        "\(bucket.first)-\(bucket.last)", grouped(statistics.positions), number(statistics.nll),
      ] + distance
    }
    return ([head] + rows).map { cells in
      let padded = cells.dropLast().map {
        $0 + String(repeating: " ", count: max(1, 13 - $0.count))
      }
      return padded.joined() + (cells.last ?? "")
    }
  }

  private var worstTitle: String {
    all.divergence == nil ? "least likely tokens:" : "farthest from the reference:"
  }

  private static func lines(_ position: WorstPosition) -> [String] {
    let measure =
      position.divergence.map { "KL \(rounded($0))" }
      ?? position.nll.map { "NLL \(rounded($0))" } ?? ""
    let head =
      "  \(measure)  sequence \(position.sequence), \(counted(position.seen, "token")) seen: "
    let before =
      position.contextText.map(visible) ?? position.context.map(String.init).joined(separator: " ")
    let room = max(20, width - head.count)
    let cut = before.count > room ? "…" + before.suffix(room - 1) : before
    let choices =
      (position.next.map { ["then \(spelled($0))"] } ?? ["the end"])
      + (position.referenceChoice.map { ["reference \(spelled($0))"] } ?? [])
      + ["model \(spelled(position.choice))"]
    return [head + cut, "      " + choices.joined(separator: "; ")]
  }

  private static func spelled(_ token: SpelledToken) -> String {
    let text = token.text.map { "“\(visible($0))”" } ?? "token \(token.token)"
    return "\(text) \(percent(token.probability))"
  }

  /// On one line.
  private static func visible(_ text: String) -> String {
    String(
      text.unicodeScalars.map { scalar -> String in
        switch scalar {
        case "\n": "\\n"
        case "\r": "\\r"
        case "\t": "\\t"
        default: scalar.properties.generalCategory == .control ? "\u{FFFD}" : String(scalar)
        }
      }.joined())
  }

  // MARK: JSON

  var json: JSONValue {
    var object = Self.object(all)
    object["sequences"] = .number(JSONNumber(sequences))
    object["by_tokens_seen"] = .array(
      buckets.map { bucket in
        var entry = JSONObject([
          ("first", .number(JSONNumber(bucket.first))), ("last", .number(JSONNumber(bucket.last))),
        ])
        for (key, value) in Self.object(bucket.statistics).entries { entry[key] = value }
        return .object(entry)
      })
    object["worst"] = .array(worst.map(Self.json))
    return .object(object)
  }

  /// `tokens` counts positions.
  private static func object(_ statistics: PositionStatistics) -> JSONObject {
    var object = JSONObject([
      ("tokens", .number(JSONNumber(statistics.positions))), ("nll", json(statistics.nll)),
      ("perplexity", json(statistics.perplexity)),
    ])
    if let divergence = statistics.divergence {
      object["reference_nll"] = json(statistics.referenceNLL)
      object["reference_perplexity"] = json(statistics.referencePerplexity)
      object["kl_mean"] = jsonNumber(divergence.mean)
      object["kl_median"] = jsonNumber(divergence.median)
      object["kl_p99"] = jsonNumber(divergence.percentile99)
      object["kl_max"] = jsonNumber(divergence.largest)
      object["top1_agreement"] = jsonNumber(divergence.agreement)
    }
    return object
  }

  private static func json(_ position: WorstPosition) -> JSONValue {
    var object = JSONObject([
      ("sequence", .number(JSONNumber(position.sequence))),
      ("tokens_seen", .number(JSONNumber(position.seen))), ("kl", json(position.divergence)),
      ("nll", json(position.nll)), ("reference_nll", json(position.referenceNLL)),
      ("context_ids", .array(position.context.map { .number(JSONNumber(Int($0))) })),
      ("context", position.contextText.map { .string($0) } ?? .null),
      ("next", position.next.map(json) ?? .null), ("choice", json(position.choice)),
    ])
    object["reference_choice"] = position.referenceChoice.map(json) ?? .null
    return .object(object)
  }

  private static func json(_ token: SpelledToken) -> JSONValue {
    .object(
      JSONObject([
        ("id", .number(JSONNumber(Int(token.token)))),
        ("text", token.text.map { .string($0) } ?? .null),
        ("probability", jsonNumber(token.probability)),
      ]))
  }

  private static func json(_ value: Double?) -> JSONValue { value.map(jsonNumber) ?? .null }
}

private func number(_ value: Double?) -> String { value.map(rounded) ?? "none" }

private func percent(_ share: Double) -> String { "\(rounded(100 * share)) %" }
