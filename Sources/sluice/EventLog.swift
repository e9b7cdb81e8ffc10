// Events as JSON: what `--log json` says of a run and of an evaluation. The Guide lists names and fields; scripts know
// them, so that a new meaning gets a new name.

internal import JSON
internal import LinearAlgebra
internal import Pipeline
internal import Planning
internal import Reporting

extension RunEvent {
  /// - Parameters:
  ///   - memory: what the process may take.
  ///   - threads: what it computes with.
  func fields(memory: Int, threads: Int) -> (name: String, fields: [(String, JSONValue)]) {
    switch self {
    case .started(let plan, let resumed):
      (
        "started",
        [
          ("resumed", .bool(resumed)), ("tokens", .int(plan.tokens)),
          ("source_bytes", .int(plan.sourceBytes)), ("output_bytes", .int(plan.outputBytes)),
          ("scratch_bytes", .int(plan.scratchBytes)), ("memory_bytes", .int(memory)),
          ("planned_bytes", .int(plan.peakBytes)), ("threads", .int(threads)),
          ("engine", .string(plan.engine.name)), ("cpu", .string(CPU.instructionSet)),
        ]
      )
    case .dataLoaded(let data): ("data", data.fields)
    case .covers(let coverage):
      (
        "coverage",
        [
          ("quantized", .string(coverage.quantized)), ("linears", .int(coverage.linears)),
          ("left", .array(coverage.left.map { .string($0.text) })),
        ]
      )
    case .keeps(let kept):
      (
        "kept_states",
        [
          ("folder", .string(kept.folder)), ("bytes", .int(kept.bytes)),
          ("new_bytes", .int(kept.addedBytes)), ("layers", .int(kept.layers)),
          ("whole_layers", .int(kept.wholeLayers)),
          ("layers_with_units", .int(kept.layersWithUnits)),
        ]
      )
    case .measuring(let groups, let choices):
      ("measuring", [("groups", .int(groups)), ("choices", .array(choices.map { .string($0) }))])
    case .layerTakenOver(let layer, let layers):
      ("layer_taken_over", [("layer", .int(layer))] + layers.fields)
    case .layerMeasured(let layer, let layers, let seconds):
      (
        "layer_measured",
        [("layer", .int(layer))] + layers.fields + [("seconds", .double(seconds))]
      )
    case .chosen(let size):
      (
        "chosen",
        [
          ("choice", .string(size.words)), ("bytes", .int(size.bytes)),
          ("target_bytes", .int(size.target)), ("predicted_loss", .double(size.loss)),
        ]
      )
    case .layerFinished(let layer):
      (
        "layer",
        [
          ("layer", .int(layer.layer))
        ] + layer.layers.fields + [
          ("linears", .int(layer.quantizedLinears)), ("smoothings", .int(layer.smoothings)),
          ("awq_error_left", .double(layer.lossRatio)),
          ("rounding_error_left", .double(layer.roundingRatio)),
          ("seconds", .double(layer.seconds)),
        ]
      )
    case .checking(let what):
      switch what {
      case .source(let bytes): ("checking", [("what", "source"), ("bytes", .int(bytes))])
      case .sourceAgain(let bytes):
        ("checking", [("what", "source_again"), ("bytes", .int(bytes))])
      case .output(_, let bytes): ("checking", [("what", "output"), ("bytes", .int(bytes))])
      }
    case .alreadyFinished(let output, let report, let bytes, let madeAgain):
      (
        "already_finished",
        [
          ("output", .string(output)), ("report", .string(report)), ("output_bytes", .int(bytes)),
          ("made_again", .array(madeAgain.map { .string($0) })),
        ]
      )
    case .finished(let summary): ("finished", summary.fields)
    case .progress, .warning: preconditionFailure("told in a way of their own")
    }
  }
}

extension DataSummary {
  var fields: [(String, JSONValue)] {
    [
      ("path", .text(path)), ("sequences", .int(sequences)), ("tokens", .int(tokens)),
      ("asked", .int(asked)), ("sequence_length", .int(sequenceLength)),
      ("cut_rows", .int(cutRows)), ("empty_rows", .int(emptyRows)),
      ("failed_rows", .int(failedRows)), ("first_failure", .text(firstFailure)),
    ]
  }
}

extension RunSummary {
  fileprivate var fields: [(String, JSONValue)] {
    [
      ("output", .string(output)), ("report", .string(report)),
      ("source_bytes", .int(sourceBytes)), ("output_bytes", .int(outputBytes)),
      ("scratch_bytes", .int(scratchBytes)),
      ("peak_bytes", .int(steps.map(\.bytes).max() ?? 0)), ("memory_bytes", .int(budget)),
      ("planned_bytes", .int(plan.peakBytes)), ("seconds", .double(wallSeconds)),
      ("processor_seconds", .double(processorSeconds)),
      (
        "steps",
        .array(
          steps.map { step in
            [
              "step": .string(step.step.rawValue), "seconds": .double(step.seconds),
              "peak_bytes": .int(step.bytes),
              "planned_bytes": .int(plan.step(step.step).bytes),
            ]
          })
      ),
    ]
  }
}
