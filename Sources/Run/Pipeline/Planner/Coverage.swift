// What a run quantizes and what it leaves as it is, in ranges of layers: for its first lines, its plan and its report.

package import CompressedTensors
internal import JSON
internal import Models
internal import Quantization
internal import Safetensors
internal import Transformer

/// The Linears of a model by what becomes of them.
package struct Coverage: Sendable, Equatable {
  /// Something that stays as it is.
  package struct Left: Sendable, Equatable {
    /// `layers 0-2`, `self_attn.o_proj of layers 3-91`, `routers`.
    package let what: String
    /// `--ignore 'model.layers.[0-2].*'`; nil for what always stays.
    package let why: String?

    package init(_ what: String, why: String? = nil) {
      self.what = what
      self.why = why
    }

    package var text: String { what + (why.map { " (\($0))" } ?? "") }
  }

  /// `layers 3-91`.
  package let quantized: String
  package let linears: Int
  package let left: [Left]

  package init(quantized: String, linears: Int, left: [Left]) {
    self.quantized = quantized
    self.linears = linears
    self.left = left
  }

  /// - Parameter patterns: what the user does not want quantized; the first that matches a Linear is the reason.
  package init(_ source: CheckpointShapes, _ output: OutputPlan, patterns: [IgnorePattern]) {
    let spec = source.spec
    var (whole, parts): ([Int], [Int]) = ([], [])
    var linears = 0
    // By reason and name, in the order of first mention.
    var found: [(what: String, why: String, layers: [Int])] = []
    for layer in spec.layers {
      // `model`, `layers` and the number.
      let prefix = layer.entrance?.prefix ?? spec.names.layer(layer.index)
      let outer = prefix.split(separator: ".").count
      let names = layer.linears.map { linear in
        linear.name.split(separator: ".").dropFirst(outer).map(String.init)
      }
      var reasons: [String: Set<Int>] = [:]
      var order: [String] = []
      for (index, linear) in layer.linears.enumerated() where output.fates[linear.weight] != .packed
      {
        let reason = output.reason(linear, patterns)
        if reasons[reason] == nil { order.append(reason) }
        reasons[reason, default: []].insert(index)
      }
      let left = reasons.values.reduce(0) { $0 + $1.count }
      linears += names.count - left
      if left == 0 {
        whole.append(layer.index)
      } else if left < names.count {
        parts.append(layer.index)
      }
      for reason in order {
        var tree = ModuleTree()
        for (index, name) in names.enumerated() {
          tree.add(name[...], isChosen: reasons[reason]?.contains(index) == true)
        }
        for what in tree.chosen {
          if let place = found.firstIndex(where: { $0.what == what && $0.why == reason }) {
            found[place].layers.append(layer.index)
          } else {
            found.append((what, reason, [layer.index]))
          }
        }
      }
    }
    let own = spec.withoutPredictions.layers.count
    /// Prediction layers by themselves.
    func texts(_ numbers: [Int], _ before: String) -> [String] {
      let (model, predictions) = (numbers.filter { $0 < own }, numbers.filter { $0 >= own })
      return [(model, before), (predictions, before + "prediction ")].compactMap { part in
        part.0.isEmpty ? nil : part.1 + layersText(part.0)
      }
    }
    let texts =
      texts(whole, "") + texts(parts, "parts of ")
      + (output.schemes.cache == nil ? [] : ["keys and values"])
    quantized = (texts + output.ends.map(\.name)).joined(separator: ", ")
    self.linears = linears + output.ends.count
    left =
      found.map { item in
        let layers = layersText(item.layers)
        return Left(item.what.isEmpty ? layers : "\(item.what) of \(layers)", why: item.why)
      } + Self.rest(source, output)
  }

  /// What runs do not quantize, but where a target names it.
  private static func rest(_ source: CheckpointShapes, _ output: OutputPlan) -> [Left] {
    let spec = source.spec
    var names: [String] = []
    if spec.layers.contains(where: { !$0.routers.isEmpty }) { names.append("routers") }
    if spec.layers.contains(where: { $0.mlps.flatMap(\.alwaysOn).contains { $0.outputGate != nil } }
    ) {
      names.append("gates of shared experts")
    }
    if spec.layers.contains(where: { $0.mlps.contains { $0.latent != nil } }) {
      names.append("ways to latents of experts")
    }
    if spec.exit != nil { names.append("scores of states") }
    let mixers = spec.layers.flatMap(\.parts).compactMap(\.sequence?.mixer)
    names += Set(mixers.compactMap(\.leftOut)).sorted()
    names.append("norms")
    if !output.ends.contains(spec.embeddingTable) { names.append("embeddings") }
    if !output.ends.contains(spec.head) { names.append(spec.headName) }
    var left = [Left(names.joined(separator: ", "))]
    let predicting = "multi-token prediction"
    for layer in spec.layers {
      guard let entrance = layer.entrance else { continue }
      let parts = entrance.aside.filter { name in
        source.tensors.contains { $0.name.hasPrefix(name) }
      }
      let names = parts.map { name in
        name.dropFirst(name.hasPrefix(entrance.prefix) ? entrance.prefix.count : 0).dropLast()
      }
      left.append(
        Left("\(names.joined(separator: ", ")) of layer \(layer.index)", why: predicting))
    }
    let others =
      spec.uncountedPredictions.map { ($0, predicting) }
      + spec.beside.map { ($0, "beside the text model") }
    for (prefix, why) in others
    where source.tensors.contains(where: { $0.name.hasPrefix(prefix) }) {
      left.append(Left(String(prefix.dropLast()), why: why))
    }
    return left
  }

  /// Two lines.
  package var lines: [String] {
    [
      "quantized: \(quantized) (\(counted(linears, "Linear")))",
      "left: " + left.map(\.text).joined(separator: "; "),
    ]
  }
}

extension OutputPlan {
  /// Why a Linear is not quantized.
  fileprivate func reason(_ linear: LinearSpec, _ patterns: [IgnorePattern]) -> String {
    if let pattern = patterns.first(where: { $0.fits(linear.name) }) {
      return pattern.reason
    }
    guard let size = undividedSizes[linear.name] else { return "no scheme has it as a target" }
    return "groups of \(size) do not divide its inputs, or those of what is loaded with it"
  }
}

/// Names of modules by their parts; some are chosen.
private struct ModuleTree {
  private var children: [(part: String, tree: ModuleTree)] = []
  private var count = 0
  private var chosenCount = 0

  mutating func add(_ name: ArraySlice<String>, isChosen: Bool) {
    count += 1
    if isChosen { chosenCount += 1 }
    guard let part = name.first else { return }
    let place = children.firstIndex { $0.part == part }
    if place == nil { children.append((part, ModuleTree())) }
    children[place ?? children.count - 1].tree.add(name.dropFirst(), isChosen: isChosen)
  }

  /// The shortest names that stand for all that are chosen and for nothing else; empty for the whole tree. Numbers with
  /// the same below them are drawn together: `experts.0-7.down_proj`, and `*` for all numbers.
  var chosen: [String] {
    if chosenCount == 0 { return [] }
    if chosenCount == count { return [""] }
    var result: [String] = []
    var numbers: [(below: [String], numbers: [Int])] = []
    for child in children {
      let below = child.tree.chosen
      if below.isEmpty { continue }
      guard let number = Int(child.part) else {
        result += below.map { $0.isEmpty ? child.part : "\(child.part).\($0)" }
        continue
      }
      if let place = numbers.firstIndex(where: { $0.below == below }) {
        numbers[place].numbers.append(number)
      } else {
        numbers.append((below, [number]))
      }
    }
    let all = children.count { Int($0.part) != nil }
    for group in numbers {
      let ranges = rangesText(group.numbers.sorted())
      let text = group.numbers.count == all ? "*" : ranges.contains(",") ? "{\(ranges)}" : ranges
      result += group.below.map { $0.isEmpty ? text : "\(text).\($0)" }
    }
    return result
  }
}
