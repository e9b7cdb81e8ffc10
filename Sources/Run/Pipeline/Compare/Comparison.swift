// What two model folders have in common and what not.

/// Something that both sides have, and have otherwise.
package struct Difference: Sendable, Equatable {
  /// A key, a module or a tensor.
  package let subject: String
  package let first: String
  package let second: String
}

/// Names that one side alone has.
package struct OneSided: Sendable, Equatable {
  package internal(set) var first: [String] = []
  package internal(set) var second: [String] = []

  package var isEmpty: Bool { first.isEmpty && second.isEmpty }

  init(_ first: some Sequence<String>, _ second: some Sequence<String>) {
    let (ones, others) = (Set(first), Set(second))
    self.first = first.filter { !others.contains($0) }
    self.second = second.filter { !ones.contains($0) }
  }
}

/// A weight or another tensor of the same type and shape on both sides: how many of its numbers differ.
package struct NumberDifference: Sendable, Equatable {
  /// A module, where these are its codes; else a tensor.
  package let name: String
  package let count: Int
  package let differing: Int

  package var share: Double { count > 0 ? Double(differing) / Double(count) : 0 }
}

package struct Comparison: Sendable, Equatable {
  /// Bytes of all tensors.
  package let firstBytes: Int
  package let secondBytes: Int
  /// Keys of config.json, without `quantization_config`.
  package internal(set) var config: [Difference] = []
  /// Linears by what they are quantized to.
  package internal(set) var schemes: [Difference] = []
  /// What keys and values are kept as.
  package internal(set) var cache: Difference?
  package internal(set) var ignore: OneSided
  package internal(set) var tensors: OneSided
  /// Tensors of another type or shape.
  package internal(set) var shapes: [Difference] = []
  /// Every quantized Linear with the same scheme on both sides, the farthest first.
  package internal(set) var codes: [NumberDifference] = []
  /// Tensors that are no codes and differ: scales, norms, what is not quantized.
  package internal(set) var others: [NumberDifference] = []
  /// How many tensors that are no codes were compared.
  package internal(set) var comparedOthers = 0
  /// Files beside the weights.
  package internal(set) var files: OneSided
  package internal(set) var changedFiles: [String] = []

  package var differingCodes: [NumberDifference] { codes.filter { $0.differing > 0 } }

  package var isSame: Bool {
    config.isEmpty && schemes.isEmpty && cache == nil && ignore.isEmpty && tensors.isEmpty
      && shapes.isEmpty && differingCodes.isEmpty && others.isEmpty && files.isEmpty
      && changedFiles.isEmpty
  }
}
