// How the numbers of one kind of tensor are quantized, in compressed-tensors' own fields and values.

/// The `QuantizationArgs` of compressed-tensors: of weights, of input or of output activations.
///
/// Source: compressed-tensors 0.19 `quantization/quant_args.py`, its names, defaults and rules.
package struct QuantizationArguments: Sendable, Hashable {
  package enum NumberType: String, Sendable, CaseIterable {
    case int
    case float
  }

  /// The numbers that share a scale.
  package enum Strategy: String, Sendable, CaseIterable {
    case tensor
    /// A row of a weight.
    case channel
    /// `groupSize` numbers of a row.
    case group
    /// Groups, with a scale for the whole tensor above theirs.
    case tensorGroup = "tensor_group"
    /// `block` rows and columns.
    case block
    case token
    case attentionHead = "attn_head"
  }

  /// When scales are made.
  package enum Dynamic: Sendable, Hashable {
    /// Before the model is saved.
    case never
    /// While the model runs.
    case always
    /// The scales of groups while the model runs, the tensor's before.
    case local
  }

  package struct Block: Sendable, Hashable {
    package let rows: Int
    package let columns: Int

    package init(rows: Int, columns: Int) {
      self.rows = rows
      self.columns = columns
    }
  }

  /// Types that scales and zero points are said to have.
  package enum ScaleType: String, Sendable, CaseIterable {
    case uint8 = "torch.uint8"
    case int8 = "torch.int8"
    case e4m3 = "torch.float8_e4m3fn"
    case bfloat16 = "torch.bfloat16"
    case float16 = "torch.float16"
    case float32 = "torch.float32"
  }

  package let bits: Int
  package let type: NumberType
  package let isSymmetric: Bool
  package private(set) var strategy: Strategy
  /// Set with the strategies `group` and `tensor_group`.
  package private(set) var groupSize: Int?
  /// Set with the strategy `block`.
  package let block: Block?
  package let dynamic: Dynamic
  /// nil for the type of the tensor that is quantized.
  package let scaleType: ScaleType?
  /// nil for the one that follows from type and bits.
  package let zeroPointType: ScaleType?
  /// Whether columns are rounded in the order of the activations; groups stay where they are.
  package let isOrdered: Bool
  /// How ranges are found; nil for the smallest and largest number, by whatever name.
  package let observer: String?

  package init(
    bits: Int, type: NumberType = .int, isSymmetric: Bool = true, strategy: Strategy,
    groupSize: Int? = nil, block: Block? = nil, dynamic: Dynamic = .never,
    scaleType: ScaleType? = nil, zeroPointType: ScaleType? = nil, isOrdered: Bool = false,
    observer: String? = nil
  ) {
    self.bits = bits
    self.type = type
    self.isSymmetric = isSymmetric
    self.strategy = strategy
    self.groupSize = groupSize
    self.block = block
    self.dynamic = dynamic
    self.scaleType = scaleType
    self.zeroPointType = zeroPointType
    self.isOrdered = isOrdered
    self.observer = observer
  }

  /// Weights as integers with a scale for each group of a row.
  package static func integers(
    bits: Int, groupSize: Int, isSymmetric: Bool = true
  ) -> QuantizationArguments {
    QuantizationArguments(
      bits: bits, isSymmetric: isSymmetric, strategy: .group, groupSize: groupSize)
  }

  /// With groups of another size, where there are groups whose size is free.
  ///
  /// - Parameter groupSize: `wholeRows` for a scale for each row.
  package func grouped(by groupSize: Int) -> QuantizationArguments {
    guard strategy == .group, type == .int, scaleType == nil else { return self }
    var result = self
    if groupSize == Self.wholeRows {
      result.strategy = .channel
      result.groupSize = nil
    } else {
      result.groupSize = groupSize
    }
    return result
  }

  /// A group size that stands for rows without groups, as in files.
  package static let wholeRows = -1

  /// Columns of a row of `columns` that share a scale.
  package func columnsPerScale(_ columns: Int) -> Int {
    groupSize ?? block?.columns ?? columns
  }

  /// In a few words: `4 bits asymmetric in groups of 32`.
  package var words: String {
    let number = type == .int ? "\(bits) bits" : "\(bits) bits \(type.rawValue)"
    let shared =
      switch strategy {
      case .group, .tensorGroup: " in groups of \(groupSize ?? 0)"
      case .block: " in blocks of \(block?.rows ?? 0) x \(block?.columns ?? 0)"
      default: " with a scale for each \(strategy.rawValue)"
      }
    return "\(number) \(isSymmetric ? "symmetric" : "asymmetric")\(shared)"
  }
}

// MARK: Reading

extension QuantizationArguments {
  package static let keys = [
    "num_bits", "type", "symmetric", "strategy", "group_size", "dynamic", "observer",
    "observer_kwargs", "actorder", "block_structure", "scale_dtype", "zp_dtype",
  ]

  /// Fields that are never left out beside a model; the rest may follow from them.
  package static let storedAlways = ["num_bits"]

  /// Columns or rows that may share a scale: more than any weight has.
  fileprivate static let sizes = 1...(1 << 24)

  /// Names of an observer that are the same without data.
  private static let plainObservers = ["minmax", "memoryless_minmax", "static_minmax"]

  /// Whether a stored scale of activations is the one with the least mean square of errors, and not that of the largest
  /// number of all: integers lie evenly, and one large number leaves few of them for all others. Floats lose next to
  /// nothing by it. KL of 8-bit integers, least squares and largest:
  /// 0.00015 and 0.00021 on a model of 4 million parameters.
  package var leastSquares: Bool { type == .int && dynamic == .never && observer == nil }

  /// The observer of compressed-tensors that does so.
  package static let leastSquaresObserver = "mse"

  /// Reads a map of fields; those that are absent have compressed-tensors' defaults.
  ///
  /// - Parameter ofActivations: whether it matters which observer is named.
  package init(_ node: some ArgumentNode, ofActivations: Bool = false) throws(ArgumentProblem) {
    guard let fields = node.fields else { throw ArgumentProblem([], expected: "a mapping") }
    if let unknown = fields.first(where: { !Self.keys.contains($0.key) }) {
      throw ArgumentProblem(unknown: [unknown.key], known: Self.keys)
    }
    let reader = FieldReader(node)
    let bits = try reader.int("num_bits", in: 1...16) ?? 8
    let type = try reader.choice("type", NumberType.self) ?? .int
    let isSymmetric = try reader.bool("symmetric") ?? true
    let given = try reader.choice("strategy", Strategy.self)
    let size = try reader.int("group_size", in: -1...Self.sizes.upperBound)
    let groupSize = size.flatMap { $0 > 0 ? $0 : nil }
    let block = try reader.block("block_structure")
    let dynamic = try reader.dynamic("dynamic")
    let isOrdered = try reader.order("actorder")
    let scaleType = try reader.choice("scale_dtype", ScaleType.self)
    let zeroPointType = try reader.choice("zp_dtype", ScaleType.self)
    let observer = try reader.text("observer")

    let strategy = given ?? (groupSize != nil ? .group : size == -1 ? .channel : .tensor)
    let hasGroups = strategy == .group || strategy == .tensorGroup
    if hasGroups, groupSize == nil {
      throw ArgumentProblem(["group_size"], expected: "a size above 0")
    }
    if !hasGroups, groupSize != nil {
      throw ArgumentProblem(["strategy"], expected: "group")
    }
    if (strategy == .block) != (block != nil) {
      throw ArgumentProblem(
        ["block_structure"], expected: strategy == .block ? "rows and columns" : "null")
    }
    if strategy == .token, dynamic == .never {
      throw ArgumentProblem(["dynamic"], expected: "true with `strategy: token`")
    }
    if dynamic == .local, strategy != .tensorGroup {
      throw ArgumentProblem(["dynamic"], expected: "true or false")
    }
    let usual = Self.usualZeroPointType(type)
    self.init(
      bits: bits, type: type, isSymmetric: isSymmetric, strategy: strategy, groupSize: groupSize,
      block: block, dynamic: dynamic, scaleType: scaleType,
      zeroPointType: zeroPointType == usual ? nil : zeroPointType, isOrdered: isOrdered,
      observer: Self.kept(
        observer, ofStaticIntegers: ofActivations && type == .int && dynamic == .never))
  }

  /// An observer where it is not the usual one.
  private static func kept(_ observer: String?, ofStaticIntegers: Bool) -> String? {
    guard let observer else { return nil }
    if ofStaticIntegers {
      if observer == leastSquaresObserver { return nil }
      return plainObservers.contains(observer) ? "static_minmax" : observer
    }
    return plainObservers.contains(observer) ? nil : observer
  }

  /// Without what only says how scales were found, and not how numbers are stored.
  package var stored: QuantizationArguments {
    QuantizationArguments(
      bits: bits, type: type, isSymmetric: isSymmetric, strategy: strategy, groupSize: groupSize,
      block: block, dynamic: dynamic, scaleType: scaleType, zeroPointType: zeroPointType)
  }
}

// MARK: Writing

extension QuantizationArguments {
  /// Every field and its value, as compressed-tensors stores them beside a model.
  ///
  /// - Parameter ofActivations: or of keys and values; of weights otherwise.
  package func fields(ofActivations: Bool) -> [(key: String, value: ArgumentValue)] {
    // Over all tokens, where calibration finds scales. The peer's own default looks at the last batch alone.
    let usual: String? =
      ofActivations
      ? dynamic == .always ? nil : leastSquares ? Self.leastSquaresObserver : "static_minmax"
      : "memoryless_minmax"
    let dynamic: ArgumentValue =
      switch dynamic {
      case .never: .bool(false)
      case .always: .bool(true)
      case .local: .text("local")
      }
    return [
      ("num_bits", .int(bits)), ("type", .text(type.rawValue)), ("symmetric", .bool(isSymmetric)),
      ("strategy", .text(strategy.rawValue)), ("group_size", groupSize.map { .int($0) } ?? .null),
      ("block_structure", block.map { .list([.int($0.rows), .int($0.columns)]) } ?? .null),
      ("dynamic", dynamic), ("scale_dtype", scaleType.map { .text($0.rawValue) } ?? .null),
      // There are none in a symmetric scheme.
      (
        "zp_dtype",
        isSymmetric ? .null : .text((zeroPointType ?? Self.usualZeroPointType(type)).rawValue)
      ),
      ("observer", (observer ?? usual).map { .text($0) } ?? .null), ("observer_kwargs", .empty),
      ("actorder", isOrdered ? .text("weight") : .null),
    ]
  }

  /// The fields that a recipe needs: those that are set and do not follow from others.
  package func askedFields(ofActivations: Bool) -> [(key: String, value: ArgumentValue)] {
    fields(ofActivations: ofActivations).filter { key, value in
      value != .null && value != .empty && (key != "zp_dtype" || zeroPointType != nil)
    }
  }

  fileprivate static func usualZeroPointType(_ type: NumberType) -> ScaleType {
    type == .float ? .e4m3 : .int8
  }
}

/// Fields by their types; null is as good as absent.
private struct FieldReader<Node: ArgumentNode> {
  private let node: Node

  init(_ node: Node) { self.node = node }

  private func value(_ key: String) -> ArgumentValue { node.node(at: [key])?.argument ?? .null }

  func int(_ key: String, in range: ClosedRange<Int>) throws(ArgumentProblem) -> Int? {
    switch value(key) {
    case .null: return nil
    case .int(let number) where range.contains(number): return number
    default:
      throw ArgumentProblem([key], expected: "\(range.lowerBound) to \(range.upperBound)")
    }
  }

  func bool(_ key: String) throws(ArgumentProblem) -> Bool? {
    switch value(key) {
    case .null: return nil
    case .bool(let flag): return flag
    default: throw ArgumentProblem([key], expected: "true or false")
    }
  }

  func text(_ key: String) throws(ArgumentProblem) -> String? {
    switch value(key) {
    case .null: return nil
    case .text(let text): return text
    default: throw ArgumentProblem([key], expected: "a name")
    }
  }

  func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String, _: Choice.Type
  ) throws(ArgumentProblem) -> Choice? {
    if case .null = value(key) { return nil }
    if case .text(let text) = value(key),
      let choice = Choice(rawValue: text) ?? Choice(rawValue: text.lowercased())
    {
      return choice
    }
    throw ArgumentProblem([key], expected: Choice.allCases.map(\.rawValue).joined(separator: ", "))
  }

  func dynamic(_ key: String) throws(ArgumentProblem) -> QuantizationArguments.Dynamic {
    switch value(key) {
    case .null, .bool(false): return .never
    case .bool(true): return .always
    case .text(let text) where text.lowercased() == "local": return .local
    default: throw ArgumentProblem([key], expected: "true, false or local")
    }
  }

  /// Two values are one in compressed-tensors; those that moved columns to other groups are gone from it.
  func order(_ key: String) throws(ArgumentProblem) -> Bool {
    switch value(key) {
    case .null, .bool(false): return false
    case .text("weight"), .text("static"): return true
    default: throw ArgumentProblem([key], expected: "weight, static or null")
    }
  }

  /// `[rows, columns]`, or `rowsxcolumns` of old files.
  func block(_ key: String) throws(ArgumentProblem) -> QuantizationArguments.Block? {
    let sizes: [Int?]
    switch value(key) {
    case .null: return nil
    case .list(let values): sizes = values.map { if case .int(let size) = $0 { size } else { nil } }
    case .text(let text):
      sizes = text.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    default: sizes = []
    }
    guard sizes.count == 2, let rows = sizes[0], let columns = sizes[1],
      QuantizationArguments.sizes.contains(rows), QuantizationArguments.sizes.contains(columns)
    else { throw ArgumentProblem([key], expected: "two sizes such as [128,128]") }
    return QuantizationArguments.Block(rows: rows, columns: columns)
  }
}
