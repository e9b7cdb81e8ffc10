// What a plan says of kept states: what is there, what is made, and the room that it takes.

internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import SystemIO
internal import Tensors
internal import Transformer

/// Of a run with `--keep-states`.
package struct KeptSummary: Sendable, Equatable {
  package let folder: String
  /// What lies there already.
  package var heldBytes = 0
  /// What will, as far as shapes tell.
  package var bytes = 0
  /// Layers that the calibration tokens run through.
  package var layers = 0
  /// Of them, those whose second half can begin at once.
  package var wholeLayers = 0
  /// Those of the others whose units must see all tokens.
  package var layersWithUnits = 0

  /// What this run adds.
  package var addedBytes: Int { max(0, bytes - heldBytes) }

  package var words: String {
    let all = counted(layers, "layer")
    // Shapes do not tell how well states are packed; what is there does.
    let isWhole = wholeLayers == layers
    let folder = "\(folder): \(bytesText(isWhole ? heldBytes : bytes))"
    if layers == 0 { return "nothing, as this run looks at no data" }
    if wholeLayers == 0, heldBytes == 0 {
      return "\(folder) for input states and statistics of \(all), which other runs then find"
    }
    let added = addedBytes > 0 && !isWhole ? ", \(bytesText(addedBytes)) of it new" : ""
    if isWhole { return "\(folder)\(added); all that \(all) need is there" }
    return "\(folder)\(added); \(wholeLayers) of \(all) are there, "
      + "\(layers - wholeLayers - layersWithUnits) go through attention again, and "
      + "\(layersWithUnits) through their experts, too"
  }
}

extension KeptPart {
  /// What of the part's second half waits for tokens.
  struct Missing: Equatable {
    /// Statistics of its first half.
    var attend = false
    /// Those of its units, or its output.
    var units = false
  }

  var missing: Missing {
    let taps = inputs.output.taps[layer.index].filter { Attend.sees($0, part) }
    let entries =
      taps.map { inputs.gatheredKind($0, of: layer).entry($0.name) }
      + OutputGradients.entries(inputs, layer, part)
      + [StatisticsKind(channels: inputs.spec.hiddenSize).entry("stream")]
    return Missing(attend: !hasAttend(entries), units: needsPass)
  }

  /// Bytes of all that is kept of the part in the end, but its input.
  var byteCount: Int {
    let taps = Set(inputs.output.taps[layer.index])
    let units = part.units.indices.flatMap { unit in
      part.tokens.map { branch in
        taps.contains(branch.tap(.hidden(unit)))
          ? UnitStatistics.kinds(inputs, layer, branch, unit: unit).map(\.kind) : []
      } ?? []
    }
    return taps.filter { Attend.sees($0, part) }.reduce(0) {
      $0 + inputs.gatheredKind($1, of: layer).byteCount
    }
      + (OutputGradients.kinds(inputs, layer, part).map(\.kind) + units).reduce(0) {
        $0 + $1.byteCount
      }
  }
}

extension KeptSummary {
  /// - Parameters:
  ///   - inputs: of the run, where only shapes are known.
  ///   - stateBytes: of all tokens where each has one state.
  init(_ kept: KeptStates, _ inputs: StepInputs, stateBytes: Int) {
    folder = kept.folder
    heldBytes = FileSystem.folderSize(kept.folder)
    layers = inputs.calibratedLayers
    for layer in inputs.layers.prefix(inputs.calibratedLayers) {
      let parts = layer.parts.compactMap { inputs.kept(layer, $0) }
      bytes += parts.reduce(0) { $0 + $1.byteCount + $1.part.statesBefore * stateBytes }
      let missing = parts.map(\.missing)
      if missing.contains(where: \.units) {
        layersWithUnits += 1
      } else if !missing.contains(where: \.attend) {
        wholeLayers += 1
      }
    }
    bytes = max(bytes, heldBytes)
  }
}
