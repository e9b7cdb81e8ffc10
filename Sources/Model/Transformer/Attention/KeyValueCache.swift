// What an inference engine keeps of every token for those after it: keys, after their rotation, and values.

/// Keys and values of grouped-query attention, each `[T, heads * headDimension]`.
package struct KeyValueCache: Sendable, Equatable {
  package enum Part: String, Sendable, CaseIterable {
    case keys
    case values
  }

  /// The attention that they belong to.
  package let module: String
  package let key: LinearSpec
  package let value: LinearSpec
  /// Of keys and values, not of queries.
  package let heads: Int
  private let keyWidth: Int
  private let valueWidth: Int

  init(
    module: String, key: LinearSpec, value: LinearSpec, heads: Int, keyWidth: Int, valueWidth: Int
  ) {
    self.module = module
    self.key = key
    self.value = value
    self.heads = heads
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth
  }

  /// The scale of values where some smoothing divides them, and of nothing else: keys turn.
  package func scale(of part: Part, under applied: [AppliedSmoothing]) -> [Float]? {
    part == .keys ? nil : applied.first { $0.smoothing.producer == .linear(value) }?.scale
  }

  /// Numbers of a token.
  package func width(of part: Part) -> Int { part == .keys ? keyWidth : valueWidth }
}

extension GroupedQuerySpec {
  var cache: KeyValueCache {
    KeyValueCache(
      module: String(key.name.prefix(upTo: key.name.lastIndex(of: ".") ?? key.name.startIndex)),
      key: key, value: value, heads: keyValueHeads, keyWidth: widths.keys,
      valueWidth: widths.values)
  }
}

extension LayerSpec {
  /// Keys and values that are kept, by branch; nothing of attention that keeps something else, nor of prediction layers,
  /// whose loaders know no scales of them.
  ///
  /// Source: vLLM 0.33 `glm4_moe_mtp.py`, `load_weights`.
  package var caches: [(branch: Int, cache: KeyValueCache)] {
    if entrance != nil { return [] }
    return branches.compactMap { branch in
      if case .sequence(let mixer) = branch.mixer {
        mixer.cache.map { (branch.number, $0) }
      } else {
        nil
      }
    }
  }

  /// Where keys and values can be seen.
  package var cacheTaps: [Tap] {
    caches.flatMap { each in KeyValueCache.Part.allCases.map { Tap(each.branch, .cached($0)) } }
  }
}
