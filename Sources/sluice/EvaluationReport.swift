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
    return ([head] + rows).map(row)
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

  /// Text that stands on one line.
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
    object["sequences"] = .int(sequences)
    object["by_tokens_seen"] = .array(
      buckets.map { bucket in
        var entry = JSONObject([
          ("first", .int(bucket.first)), ("last", .int(bucket.last)),
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
      ("tokens", .int(statistics.positions)), ("nll", .double(statistics.nll)),
      ("perplexity", .double(statistics.perplexity)),
    ])
    if let divergence = statistics.divergence {
      object["reference_nll"] = .double(statistics.referenceNLL)
      object["reference_perplexity"] = .double(statistics.referencePerplexity)
      object["kl_mean"] = .double(divergence.mean)
      object["kl_median"] = .double(divergence.median)
      object["kl_p99"] = .double(divergence.percentile99)
      object["kl_max"] = .double(divergence.largest)
      object["top1_agreement"] = .double(divergence.agreement)
    }
    return object
  }

  private static func json(_ position: WorstPosition) -> JSONValue {
    var object = JSONObject([
      ("sequence", .int(position.sequence)),
      ("tokens_seen", .int(position.seen)), ("kl", .double(position.divergence)),
      ("nll", .double(position.nll)), ("reference_nll", .double(position.referenceNLL)),
      ("context_ids", .array(position.context.map { .int(Int($0)) })),
      ("context", .text(position.contextText)),
      ("next", position.next.map(json) ?? .null), ("choice", json(position.choice)),
    ])
    object["reference_choice"] = position.referenceChoice.map(json) ?? .null
    return .object(object)
  }

  private static func json(_ token: SpelledToken) -> JSONValue {
    [
      "id": .int(Int(token.token)),
      "text": .text(token.text),
      "probability": .double(token.probability),
    ]
  }

}

func number(_ value: Double?) -> String { value.map(rounded) ?? "none" }

func percent(_ share: Double) -> String { "\(rounded(100 * share)) %" }
