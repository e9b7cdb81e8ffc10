// The report for programs: every number of the page, unrounded.

package import JSON

extension Report {
  private static let format = 1
  /// How many of the worst are listed, here and on the page.
  static let listed = 20

  package var json: JSONValue {
    let errors = ErrorSummary(choices.linears)
    let thin = thinExperts
    var object = JSONObject([
      ("format", int(Self.format)), ("model", .string(subject.model)),
      ("output", .string(subject.output)), ("architecture", .string(subject.architecture)),
      ("layers", int(subject.layers)),
    ])
    for (key, value) in progressEntries { object[key] = value }
    object["last_commit"] = .string(dateText(subject.lastCommit))
    object["source_bytes"] = int(subject.sourceBytes)
    object["output_bytes"] = int(subject.outputBytes)
    object["quantized"] = .string(subject.quantized)
    object["left"] = .array(subject.left.map { .string($0) })
    object["settings"] = .object(
      JSONObject(subject.settings.map { ($0.name, .string($0.value)) }))
    object["command"] = .array(subject.command.map { .string($0) })
    object["data"] = choices.data.map { .object($0) } ?? .null
    object["cost"] = cost.json
    object["linears"] = .object(JSONObject(entries(errors)))
    object["smoothings"] = .object(JSONObject(entries(SmoothingSummary(choices.smoothings))))
    object["rescaled_tensors"] = int(choices.rescaledTensors)
    object["by_layer"] = .array(byLayer.map(layerJSON))
    object["by_kind"] = .array(
      byKind.map {
        .object(JSONObject([("kind", .string($0.kind))] + entries(ErrorSummary($0.linears))))
      })
    object["by_smoothing"] = .array(
      bySmoothing.map {
        .object(
          JSONObject([("kind", .string($0.kind))] + entries(SmoothingSummary($0.smoothings))))
      })
    object["routing"] = .array(balances.map(\.json))
    object["thin_experts"] = int(thin.count)
    object["thinnest_experts"] = .array(thin.prefix(Self.listed).map(loadJSON))
    object["worst_linears"] = .array(worstLinears(Self.listed).map(linearJSON))
    return .object(object)
  }

  private var progressEntries: [(String, JSONValue)] {
    switch subject.progress {
    case .finished: [("finished", true)]
    case .unfinished(let step, let layer, let share):
      [
        ("finished", false), ("next_step", .string(step)), ("next_layer", optional(layer)),
        ("share_done", optional(share)),
      ]
    }
  }

  private func layerJSON(_ layer: LayerSummary) -> JSONValue {
    .object(
      JSONObject([
        ("layer", int(layer.layer)), ("linears", .object(JSONObject(entries(layer.errors)))),
        ("smoothings", .object(JSONObject(entries(layer.smoothing)))),
        ("thin_experts", optional(layer.routing?.thin.count)),
      ]))
  }
}

private func entries(_ errors: ErrorSummary) -> [(String, JSONValue)] {
  [
    ("count", int(errors.linears)), ("measured", int(errors.measured)),
    ("relative_error_nearest", optional(errors.nearest)),
    ("relative_error", optional(errors.chosen)), ("error_left", optional(errors.left)),
    ("worst", errors.worst.map(linearJSON) ?? .null),
    ("rows", .object(JSONObject(errors.rows.map { ($0.rounding, int($0.count)) }))),
  ]
}

private func entries(_ smoothing: SmoothingSummary) -> [(String, JSONValue)] {
  [
    ("count", int(smoothing.smoothings)), ("error_left", optional(smoothing.left)),
    ("unscaled", int(smoothing.identities)),
    ("mean_exponent", optional(smoothing.meanExponent)),
    (
      "exponents",
      .array(
        smoothing.exponents.map {
          .object(JSONObject([("exponent", number($0.exponent)), ("count", int($0.count))]))
        })
    ),
    (
      "worst",
      smoothing.worst.map {
        .object(
          JSONObject([("producer", .string($0.producer.text)), ("error_left", optional($0.left))]))
      } ?? .null
    ),
  ]
}

private func linearJSON(_ linear: LinearChoice) -> JSONValue {
  .object(
    JSONObject([
      ("linear", .string(linear.name.text)),
      ("relative_error_nearest", optional(linear.relative?.nearest)),
      ("relative_error", optional(linear.relative?.chosen)),
    ]))
}

private func loadJSON(_ load: ExpertLoad) -> JSONValue {
  .object(
    JSONObject([
      ("layer", int(load.layer)), ("expert", int(load.expert)), ("tokens", int(load.tokens)),
      ("even_shares", number(load.share)),
    ]))
}

extension RoutingBalance {
  fileprivate var json: JSONValue {
    .object(
      JSONObject([
        ("layer", int(layer)), ("even_share", number(evenShare)),
        ("effective_experts", number(effectiveExperts)),
        ("coefficient_of_variation", number(coefficientOfVariation)),
        ("busiest_even_shares", number(busiest)), ("thin_limit", number(thinLimit)),
        ("thin", .array(thin.map(int))), ("unrouted", .array(unrouted.map(int))),
        ("tokens", .array(tokens.map(int))),
      ]))
  }
}

extension Cost {
  fileprivate var json: JSONValue {
    let steps = steps.map { step -> JSONValue in
      .object(
        JSONObject([
          ("step", .string(step.step)), ("seconds", number(step.seconds)),
          ("peak_bytes", int(step.peakBytes)), ("heap_bytes", int(step.heapBytes)),
          ("mapped_bytes", int(step.mappedBytes)), ("planned_bytes", optional(step.plannedBytes)),
        ]))
    }
    return .object(
      JSONObject([
        ("processes", int(processes)), ("wall_seconds", number(wallSeconds)),
        ("processor_seconds", number(processorSeconds)), ("threads", int(threads)),
        ("peak_bytes", int(peakBytes)), ("budget_bytes", int(budgetBytes)),
        ("scratch_bytes", int(scratchBytes)), ("steps", .array(steps)),
      ]))
  }
}

private func int(_ value: Int) -> JSONValue { .number(JSONNumber(value)) }

private func number(_ value: Double) -> JSONValue {
  .finite(value)
}

private func optional(_ value: Int?) -> JSONValue { value.map(int) ?? .null }

private func optional(_ value: Double?) -> JSONValue { value.map(number) ?? .null }
