// Prediction layers that are to be quantized with their model: whether they are there, and what targets mean them.

package import Models
package import Quantization
internal import Safetensors
internal import Tensors
internal import Transformer

/// Prediction layers that cannot be quantized.
package enum PredictionError: Error, CustomStringConvertible, Equatable {
  case none(file: String, architecture: String)
  /// They stay as they are.
  case undescribed(architecture: String)
  case notStored(folder: String, layer: String)
  case notLoaded(scheme: String, reason: String)

  package var description: String {
    switch self {
    case .none(let file, let architecture):
      "--mtp: \(file) names no prediction layers of this \(architecture), `num_nextn_predict_layers` in most classes; "
        + "leave it out"
    case .undescribed(let architecture):
      "--mtp: the prediction layers of \(architecture) stay as they are in the source: how its class joins them to the "
        + "model is not described yet; leave it out"
    case .notStored(let folder, let layer):
      "--mtp: \(folder): config.json names the prediction layer `\(layer)`, and no tensor of it is there; leave it out, or "
        + "give a checkpoint that has it"
    case .notLoaded(let scheme, let reason):
      "--mtp \(scheme): vLLM cannot load this: \(reason)"
    }
  }
}

extension CheckpointShapes {
  /// These shapes, with prediction layers among the others.
  ///
  /// - Throws: `PredictionError` where there are none, `CheckpointError` where they are not what config.json says.
  package func predicting() throws -> CheckpointShapes {
    let predicting = spec.predicting
    if !predicting.predicts {
      throw spec.predictionPrefixes.isEmpty
        ? PredictionError.none(file: folder + "/config.json", architecture: spec.architecture)
        : PredictionError.undescribed(architecture: spec.architecture)
    }
    for layer in spec.predictions {
      let prefix = layer.entrance?.prefix ?? ""
      if !tensors.contains(where: { $0.name.hasPrefix(prefix) }) {
        throw PredictionError.notStored(folder: folder, layer: String(prefix.dropLast()))
      }
    }
    let expected = spec.predictions.flatMap { layer in
      layer.claims + (layer.entrance?.claims ?? [])
    }
    let missing = expected.map(\.name).filter { self[$0] == nil }
    if !missing.isEmpty {
      throw CheckpointError.missing(
        folder: folder, count: missing.count, names: Array(missing.prefix(5)))
    }
    for claim in expected {
      let found = tensor(claim.name)
      guard found.shape == claim.shape, found.dtype.isWeight || found.dtype == .f8E4M3 else {
        throw CheckpointError.wrongShape(
          file: folder, tensor: claim.name,
          expected: "BF16, F16, F32 or F8_E4M3 \(claim.shape)",
          found: "\(found.dtype.rawValue) \(found.shape)")
      }
    }
    let known = Set(expected.map(\.name))
    let unclaimed = tensors.map(\.name).filter { name in
      spec.passesThrough(name) && !predicting.passesThrough(name) && !known.contains(name)
        && !isLeftOut(name)
    }
    if !unclaimed.isEmpty {
      throw CheckpointError.unclaimed(
        folder: folder, count: unclaimed.count, names: Array(unclaimed.prefix(5)))
    }
    return with(predicting)
  }

  /// These shapes, without prediction layers among the others.
  package var withoutPredictions: CheckpointShapes { with(spec.withoutPredictions) }
}

extension QuantizationScheme {
  /// This scheme for the prediction layers of a model, and for nothing else.
  ///
  /// - Parameter others: the schemes of the other layers.
  package func targetingPredictions(
    of spec: ModelSpec, beside others: [QuantizationScheme]
  ) -> QuantizationScheme {
    let layers = spec.predictions
    // A name is meant before any expression, which may leave numbers of layers open.
    if others.flatMap(\.targets).contains(where: { $0 != Self.linear }) {
      return targeting(layers.flatMap(\.linears).flatMap(\.modules))
    }
    var seen: Set<String> = []
    return targeting(
      layers.flatMap { layer in
        layer.linears.flatMap(\.modules).map {
          ModelPart.expression($0, behind: layer.entrance?.prefix ?? "")
        }
      }.filter { seen.insert($0).inserted })
  }
}
