// What a branch does between its norms: the kinds that are known, and what the rest of the program asks of any of them.

/// What a branch does between its norms. Each kind is a file of its own.
package enum Mixer: Sendable, Equatable {
  /// Along the sequence.
  case sequence(SequenceMixer)
  /// On each token by itself.
  case tokens(MLPSpec)
}

extension Mixer {
  /// Every Linear whose weight can be quantized, in the order of the forward pass.
  package var linears: [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.linears
    case .tokens(let mlp): mlp.units.flatMap(\.linears)
    }
  }

  /// Everything that reads the mixer's input, be it quantized or not.
  var inputReaders: [LinearSpec] {
    switch self {
    case .sequence(let mixer):
      mixer.readers(at: .input) + mixer.deciding.filter { $0.place == .input }.map(\.linear)
    case .tokens(let mlp): mlp.inputReaders
    }
  }

  /// Linears that decide, on weights of units or on what is attended to: never quantized.
  package var deciding: [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.deciding.map(\.linear)
    case .tokens(let mlp): mlp.deciding
    }
  }

  /// Linears that decide and do not read what is at a place as it is: other activations, or that by way of a norm.
  package func decidingElsewhere(than place: Tap.Place) -> [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.deciding.filter { $0.place != place }.map(\.linear)
    case .tokens(let mlp): mlp.strands == nil && place == .input ? [] : mlp.deciding
    }
  }

  /// Where activations meet Linears, in the order of the forward pass.
  var places: [Tap.Place] {
    switch self {
    case .sequence(let mixer): mixer.parts.map(\.place)
    case .tokens(let mlp): mlp.inputPlaces + mlp.units.indices.map { .hidden($0) }
    }
  }

  func readers(at place: Tap.Place) -> [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.readers(at: place)
    case .tokens(let mlp):
      if case .hidden(let unit) = place {
        [mlp.unit(unit).down]
      } else {
        mlp.units(at: place).flatMap(\.readers)
      }
    }
  }

  /// Smoothings within the mixer.
  func smoothings(of branch: Int) -> [Smoothing] {
    switch self {
    case .sequence(let mixer): mixer.smoothings(of: branch)
    case .tokens(let mlp): mlp.smoothings(of: branch)
    }
  }

  var fusedGroups: [[LinearSpec]] {
    switch self {
    case .sequence(let mixer): mixer.fusedGroups
    case .tokens(let mlp): [mlp.routed.flatMap(\.linears)] + mlp.alwaysOn.map(\.readers)
    }
  }

  var shape: String {
    switch self {
    case .sequence(let mixer): "\(mixer.linears.map { [$0.inputs, $0.outputs] }) \(mixer.shape)"
    case .tokens(let mlp):
      "\(mlp.units.map(\.up.outputs)) \(mlp.alwaysOn.count) \(mlp.units.count { $0.gate == nil })"
        + (mlp.strands == nil ? "" : " strands")
        + (mlp.latent.map { " latent \($0.down.outputs)" } ?? "")
    }
  }

  /// Linears that inference engines split over devices along their inputs.
  package var splitByInputs: [LinearSpec] {
    switch self {
    case .sequence(let mixer): [mixer.output]
    case .tokens(let mlp): mlp.units.map(\.down)
    }
  }

  /// Linears that inference engines split over devices along their outputs.
  package var splitByOutputs: [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.splitByHeads
    case .tokens(let mlp): mlp.units.flatMap(\.readers)
    }
  }
}
