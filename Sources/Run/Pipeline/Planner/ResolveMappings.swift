// The mappings of a recipe against the smoothings that a model's description knows.

package import CompressedTensors
package import Models
package import Recipes
internal import Transformer

/// A mapping that asks for what Sluice would not do.
package struct MappingError: Error, CustomStringConvertible, Equatable {
  package enum Problem: Sendable, Equatable {
    case unknownProducer(String, readers: [String])
    case notAReader(String, of: String)
    case producedTwice(String)
    case unknownHook(String)
  }

  package let file: String
  /// The mapping's `smooth_layer`.
  package let mapping: String
  package let problem: Problem

  package var description: String {
    "\(file): mapping of `\(mapping)`: " + sentence
  }

  private var sentence: String {
    switch problem {
    case .unknownProducer(let module, let readers):
      "this architecture has no smoothing from `\(module)`"
        + (readers.isEmpty ? "" : " to `\(readers[0])`") + "; leave the mapping out"
    case .notAReader(let module, let producer):
      "`\(module)` does not read what `\(producer)` produces; take it out of `balance_layers`"
    case .producedTwice(let producer):
      "`\(producer)` is smoothed by a mapping before it, too; leave one of them out"
    case .unknownHook(let hook):
      "`activation_hook_target` is `\(hook)`, none of the layers that read the activation; leave it out"
    }
  }
}

/// Something that was done differently than a mapping says, and that stops nothing.
package enum MappingNote: Sendable, Equatable, CustomStringConvertible {
  /// Readers of the same activation that the mapping leaves out.
  case completed(mapping: String, readers: [String])
  /// One output channel feeds several input channels, as the values of grouped queries do.
  case incompatible(mapping: String, producers: [String])
  /// Producers of whose readers the mapping names none.
  case unread(mapping: String, producers: [String])

  package var description: String {
    func some(_ names: [String]) -> String {
      names.prefix(3).map { "`\($0)`" }.joined(separator: ", ")
        + (names.count > 3 ? " and \(names.count - 3) more" : "")
    }
    return switch self {
    case .completed(let mapping, let readers):
      "mapping of `\(mapping)` leaves out \(some(readers)); they read the same activation and are compensated, too"
    case .incompatible(let mapping, let producers):
      "mapping of `\(mapping)` does not fit \(some(producers)), whose outputs are repeated before they are read; "
        + "not smoothed, as in llm-compressor"
    case .unread(let mapping, let producers):
      "mapping of `\(mapping)` names no reader of \(some(producers)); not smoothed"
    }
  }
}

/// The producers that a recipe's mappings smooth.
package struct ResolvedMappings: Sendable, Equatable {
  package let producers: Set<String>
  package let notes: [MappingNote]
  /// Patterns that catch more layers or experts than they spell.
  package let openNumbers: [OpenNumber]

  /// Layers are resolved one by one. Names in `mappings` must match something; a producer's readers are those of the
  /// model's description, whether all of them are named or not.
  ///
  /// - Parameter file: the recipe, for errors.
  package init(_ mappings: [RecipeMapping], of spec: ModelSpec, file: String) throws {
    let modules = Modules(spec)
    var producers: Set<String> = []
    var notes: [MappingNote] = []
    for mapping in mappings {
      let name = mapping.smoothLayer
      func refusal(_ problem: MappingError.Problem) -> MappingError {
        MappingError(file: file, mapping: name, problem: problem)
      }
      let smoothed = try modules.matching(name, "\(file): smooth_layer")
      var named: Set<String> = []
      for pattern in mapping.balanceLayers {
        named.formUnion(try modules.matching(pattern, "\(file): balance_layers"))
      }
      var (left, incompatible, unread): ([String], [String], [String]) = ([], [], [])
      var readable: Set<String> = []
      for module in smoothed {
        guard let smoothing = modules.smoothings[module] else {
          let readers = modules.sameLayer(as: module, named)
          guard modules.isRepeated(module, into: readers) else {
            throw refusal(.unknownProducer(module, readers: readers))
          }
          incompatible.append(module)
          readable.formUnion(readers)
          continue
        }
        let readers = smoothing.consumers.map(\.name)
        readable.formUnion(readers)
        if named.isDisjoint(with: readers) {
          unread.append(module)
          continue
        }
        if !producers.insert(module).inserted {
          throw refusal(.producedTwice(module))
        }
        if let hook = mapping.activationHookTarget,
          !readers.contains(where: { $0 == hook || $0.hasSuffix("." + hook) })
        {
          throw refusal(.unknownHook(hook))
        }
        left += readers.filter { !named.contains($0) }
      }
      if let module = modules.names.first(where: { named.contains($0) && !readable.contains($0) }) {
        let producer = smoothed.first { modules.layer[$0] == modules.layer[module] }
        throw refusal(.notAReader(module, of: producer ?? name))
      }
      if !left.isEmpty { notes.append(.completed(mapping: name, readers: left)) }
      if !incompatible.isEmpty {
        notes.append(.incompatible(mapping: name, producers: incompatible))
      }
      if !unread.isEmpty { notes.append(.unread(mapping: name, producers: unread)) }
    }
    self.producers = producers
    self.notes = notes
    openNumbers = try mappings.flatMap { mapping in
      try [IgnorePattern(mapping.smoothLayer, origin: "\(file): smooth_layer")]
        + mapping.balanceLayers.map { try IgnorePattern($0, origin: "\(file): balance_layers") }
    }.flatMap { $0.openNumbers(among: modules.names) }
  }
}

extension ModelSpec {
  /// Producers that are not smoothed, as a SmoothQuantModifier reads its `ignore`: they and all their readers are meant.
  ///
  /// - Parameter file: the recipe, for errors.
  func unsmoothed(ignoring patterns: [String], file: String) throws -> Set<String> {
    if patterns.isEmpty { return [] }
    let modules = Modules(self)
    var ignored: Set<String> = []
    for pattern in patterns {
      ignored.formUnion(try modules.matching(pattern, "\(file): ignore"))
    }
    let linears = Set(layers.flatMap(\.linears).map(\.name))
    return Set(
      layers.flatMap(\.smoothings).filter { smoothing in
        ignored.contains(smoothing.producerName)
          && smoothing.consumers.map(\.name).allSatisfy {
            ignored.contains($0) || !linears.contains($0)
          }
      }.map(\.producerName))
  }
}

/// The modules of a model's layers that patterns may name.
private struct Modules {
  /// In the order of work.
  let names: [String]
  let layer: [String: Int]
  /// By producer.
  let smoothings: [String: Smoothing]
  private let linears: [String: LinearSpec]

  init(_ spec: ModelSpec) {
    var names: [String] = []
    var layers: [String: Int] = [:]
    for layer in spec.layers {
      for name in layer.claims.compactMap({ ParameterName.module(ofWeight: $0.name) }) {
        names.append(name)
        layers[name] = layer.index
      }
    }
    self.names = names
    layer = layers
    smoothings = Dictionary(
      spec.layers.flatMap(\.smoothings).map { ($0.producerName, $0) }
    ) { first, _ in first }
    linears = Dictionary(spec.layers.flatMap(\.linears).map { ($0.name, $0) }) { first, _ in first }
  }

  /// In the order of work; a pattern that matches nothing is an error.
  func matching(_ pattern: String, _ origin: String) throws -> [String] {
    let found = try IgnorePattern.matching([IgnorePattern(pattern, origin: origin)], of: names)
    return names.filter(found.contains)
  }

  func sameLayer(as module: String, _ others: Set<String>) -> [String] {
    names.filter { layer[$0] == layer[module] && others.contains($0) }
  }

  /// Whether a Linear has fewer outputs than each of its readers has inputs.
  func isRepeated(_ module: String, into readers: [String]) -> Bool {
    guard let producer = linears[module], !readers.isEmpty else { return false }
    return readers.allSatisfy { (linears[$0]?.inputs ?? 0) > producer.outputs }
  }
}
