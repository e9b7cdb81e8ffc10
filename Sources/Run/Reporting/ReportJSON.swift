// The report for programs: every number of the page, unrounded.

package import JSON

extension Report {
  private static let format = 2
  /// How many of the thinnest experts are listed, here and on the page.
  static let listed = 20

  package var json: JSONValue {
    let errors = ErrorSummary(choices.linears)
    let thin = thinExperts
    var object = JSONObject([
      ("format", .int(Self.format)), ("model", .string(subject.model)),
      ("output", .string(subject.output)), ("architecture", .string(subject.architecture)),
    ])
    for (key, value) in subject.layers.fields { object[key] = value }
    for (key, value) in progressEntries { object[key] = value }
    object["last_commit"] = .string(dateText(subject.lastCommit))
    object["version"] = .string(subject.version)
    object["processor"] = .string(subject.processor)
    object["evaluations"] = .array(evaluations.map(\.json))
    object["source_bytes"] = .int(subject.sourceBytes)
    object["output_bytes"] = .int(subject.outputBytes)
    object["quantized"] = .string(subject.quantized)
    object["left"] = .array(subject.left.map { .string($0) })
    object["settings"] = .object(
      JSONObject(subject.settings.map { ($0.name, .string($0.value)) }))
    object["command"] = .array(subject.command.map { .string($0) })
    object["data"] = choices.data?.json ?? .null
    if let size = choices.size { object["size"] = size.json }
    object["cost"] = cost.json
    object["linears"] = .object(JSONObject(entries(errors)))
    object["smoothings"] = .object(JSONObject(entries(SmoothingSummary(choices.smoothings))))
    object["rescaled_tensors"] = .int(choices.rescaledTensors)
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
    object["thin_experts"] = .int(thin.count)
    object["thinnest_experts"] = .array(thin.prefix(Self.listed).map(loadJSON))
    return .object(object)
  }

  private var progressEntries: [(String, JSONValue)] {
    switch subject.progress {
    case .finished: [("finished", true)]
    case .unfinished(let step, let layer, let share):
      [
        ("finished", false), ("next_step", .string(step)), ("next_layer", .int(layer)),
        ("share_done", .double(share)),
      ]
    }
  }

  private func layerJSON(_ layer: LayerSummary) -> JSONValue {
    [
      "layer": .int(layer.layer),
      "linears": .object(JSONObject(entries(layer.errors))),
      "smoothings": .object(JSONObject(entries(layer.smoothing))),
      "thin_experts": .int(layer.routing?.thin.count),
    ]
  }
}

private func entries(_ errors: ErrorSummary) -> [(String, JSONValue)] {
  [
    ("count", .int(errors.linears)), ("measured", .int(errors.measured)),
    ("error_left", .double(errors.left)),
    ("rows", .object(JSONObject(errors.rows.map { ($0.rounding, .int($0.count)) }))),
  ]
}

private func entries(_ smoothing: SmoothingSummary) -> [(String, JSONValue)] {
  [
    ("count", .int(smoothing.smoothings)), ("error_left", .double(smoothing.left)),
    ("unscaled", .int(smoothing.identities)),
    ("mean_exponent", .double(smoothing.meanExponent)),
    (
      "exponents",
      .array(
        smoothing.exponents.map {
          ["exponent": .double($0.exponent), "count": .int($0.count)]
        })
    ),
    (
      "worst",
      smoothing.worst.map {
        ["producer": .string($0.producer.text), "error_left": .double($0.left)]
      } ?? .null
    ),
  ]
}

private func loadJSON(_ load: ExpertLoad) -> JSONValue {
  [
    "layer": .int(load.layer),
    "expert": .int(load.expert),
    "tokens": .int(load.tokens),
    "even_shares": .double(load.share),
  ]
}

extension RoutingBalance {
  fileprivate var json: JSONValue {
    [
      "layer": .int(layer),
      "even_share": .double(evenShare),
      "effective_experts": .double(effectiveExperts),
      "coefficient_of_variation": .double(coefficientOfVariation),
      "busiest_even_shares": .double(busiest),
      "thin_limit": .double(thinLimit),
      "thin": .array(thin.map { .int($0) }),
      "unrouted": .array(unrouted.map { .int($0) }),
      "tokens": .array(tokens.map { .int($0) }),
    ]
  }
}

extension Cost {
  fileprivate var json: JSONValue {
    let steps = steps.map { step -> JSONValue in
      [
        "step": .string(step.step),
        "seconds": .double(step.seconds),
        "peak_bytes": .int(step.peakBytes),
        "heap_bytes": .int(step.heapBytes),
        "mapped_bytes": .int(step.mappedBytes),
        "planned_bytes": .int(step.plannedBytes),
      ]
    }
    return [
      "processes": .int(processes),
      "wall_seconds": .double(wallSeconds),
      "processor_seconds": .double(processorSeconds),
      "ranks": .int(ranks), "threads": .int(threads),
      "peak_bytes": .int(peakBytes),
      "budget_bytes": .int(budgetBytes),
      "scratch_bytes": .int(scratchBytes),
      "steps": .array(steps),
    ]
  }
}
