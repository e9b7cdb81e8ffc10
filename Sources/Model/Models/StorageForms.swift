// The forms in which checkpoints hold several Linears in one tensor, as data, and what a form makes of a checkpoint's
// names and shapes.

package import Transformer

/// A tensor that holds what a model's description calls several Linears.
///
/// Letters: E experts, R rows (outputs) of all its Linears together, C columns (inputs) of each.
package struct StorageForm: Sendable {
  /// How the rows of its Linears follow each other.
  package enum Order: Sendable {
    /// All of the first Linear, then all of the next.
    case oneAfterTheOther
    /// A row of each in turn; all have the same number of rows.
    case alternating
  }

  /// Last parts of the Linears' names, in the order of their rows.
  let linears: [String]
  /// The end of the name of the tensor with their weights, behind the name of the module that they are in.
  let weight: String
  /// The end of the name of the tensor with their biases.
  let bias: String
  /// Set where the weights are MXFP4: the end of the name of the tensor with their scales, U8 `[E, R, C / 32]`. The codes
  /// are U8 `[E, R, C / 32, 16]` then, the first of two in the low half of a byte.
  package let scales: String?
  /// Whether it holds these Linears of all experts of a layer: weights `[E, R, C]` or `[E, C, R]`, biases `[E, R]`.
  /// Otherwise weights are `[R, C]`, biases `[R]`.
  let isOfExperts: Bool
  /// Whether the tensor lies beside the list of experts, and not in it.
  let isBesideList: Bool
  let order: Order
  /// The classes that the form is for; nil for all.
  let architectures: Set<String>?

  package init(
    _ linears: String..., weight: String, bias: String, scales: String? = nil, isOfExperts: Bool,
    isBesideList: Bool = false, order: Order = .oneAfterTheOther, architectures: Set<String>? = nil
  ) {
    self.linears = linears
    self.weight = weight
    self.bias = bias
    self.scales = scales
    self.isOfExperts = isOfExperts
    self.isBesideList = isBesideList
    self.order = order
    self.architectures = architectures
  }

  /// What the names of its tensors begin with.
  fileprivate func module(_ name: String) -> String {
    isBesideList ? String(name[..<(name.lastIndex(of: ".") ?? name.startIndex)]) : name
  }

  /// Source: transformers 5.17, `Phi3Attention`, `Phi3MLP`, `Qwen3MoeExperts`, `Glm4MoeExperts`, `MixtralExperts`
  /// (`[E, R, C]`), `Llama4TextExperts`, `GptOssExperts` (`[E, C, R]`); its `integrations/mxfp4.py`; its
  /// conversion_mapping.py, `step3p7`; its names of before for `GraniteMoeExperts`.
  package static let all = [
    StorageForm(
      "q_proj", "k_proj", "v_proj", weight: "qkv_proj.weight", bias: "qkv_proj.bias",
      isOfExperts: false),
    StorageForm(
      "gate_proj", "up_proj", weight: "gate_up_proj.weight", bias: "gate_up_proj.bias",
      isOfExperts: false),
    StorageForm(
      "gate_proj", "up_proj", weight: "gate_up_proj", bias: "gate_up_proj_bias", isOfExperts: true),
    StorageForm("down_proj", weight: "down_proj", bias: "down_proj_bias", isOfExperts: true),
    StorageForm(
      "w1", "w3", weight: "gate_up_proj", bias: "gate_up_proj_bias", isOfExperts: true),
    StorageForm("w2", weight: "down_proj", bias: "down_proj_bias", isOfExperts: true),
    StorageForm(
      "gate_proj", "up_proj", weight: "input_linear.weight", bias: "input_linear.bias",
      isOfExperts: true, isBesideList: true),
    StorageForm(
      "down_proj", weight: "output_linear.weight", bias: "output_linear.bias", isOfExperts: true,
      isBesideList: true),
    StorageForm("w13", weight: "gate_up_proj", bias: "gate_up_proj_bias", isOfExperts: true),
    StorageForm(
      "w13", weight: "gate_up_proj_blocks", bias: "gate_up_proj_bias",
      scales: "gate_up_proj_scales", isOfExperts: true),
    StorageForm(
      "w2", weight: "down_proj_blocks", bias: "down_proj_bias", scales: "down_proj_scales",
      isOfExperts: true),
    beside("gate_proj"), beside("up_proj"), beside("down_proj"),
  ]

  /// One Linear of all experts, under its own name beside their list.
  private static func beside(_ linear: String) -> StorageForm {
    StorageForm(
      linear, weight: linear + ".weight", bias: linear + ".bias", isOfExperts: true,
      isBesideList: true,
      architectures: ["Step3p5ForCausalLM", "Step3p7ForConditionalGeneration"])
  }
}

/// A tensor that should hold several Linears, and cannot.
package enum StorageError: Error, Equatable {
  case wrongShape(tensor: String, expected: [[Int]])
  /// Its shape is right for two readings, and no other tensor of its module tells which is meant.
  case ambiguous(tensor: String, readings: [String])

  package var tensor: String {
    switch self {
    case .wrongShape(let tensor, _), .ambiguous(let tensor, _): tensor
    }
  }
}

/// What is known of a tensor before it is read.
package enum TensorListing: Sendable, Equatable {
  case shape([Int])
  /// An index tells no more than that it is there.
  case unknownShape
}

extension ModelSpec {
  /// The places of all parameters that are no tensors of their own names, by these names.
  ///
  /// - Parameters:
  ///   - tensors: those of the checkpoint, by name.
  ///   - forms: the first that fits counts.
  package func places(
    forms: [StorageForm] = StorageForm.all, among tensors: (String) -> TensorListing?
  ) throws(StorageError) -> [String: StoredPlace] {
    let forms = forms.filter { $0.architectures?.contains(architecture) != false }
    var result: [String: StoredPlace] = [:]
    for linears in layers.map(\.linears) + predictionLinears {
      for module in Module.all(of: linears) {
        try module.addPlaces(forms: forms, among: tensors, to: &result)
      }
    }
    return result
  }

  /// Linears of prediction layers that are not among the others; they are like the last layer.
  private var predictionLinears: [[LinearSpec]] {
    guard let last = layers.last else { return [] }
    return uncountedPredictions.map { prefix in
      last.linears.map { linear in
        LinearSpec(
          predictionName(prefix, linear.name, after: last), inputs: linear.inputs,
          outputs: linear.outputs, hasBias: linear.hasBias)
      }
    }
  }

  /// What a part of the last layer is called in a prediction layer.
  package func predictionName(
    _ prefix: String, _ name: String, after last: LayerSpec
  ) -> String { prefix + name.dropFirst(names.layer(last.index).count) }

  /// The names that a model has for what lies in some tensors: of those that hold several Linears, the Linears' own.
  package func parameters(
    among tensors: Set<String>, forms: [StorageForm] = StorageForm.all
  ) -> (names: Set<String>, places: [String: StoredPlace]) {
    // Without shapes there is nothing to refuse.
    let places =
      (try? places(forms: forms) { tensors.contains($0) ? .unknownShape : nil }) ?? [:]
    return (tensors.subtracting(places.values.flatMap(\.tensors)).union(places.keys), places)
  }
}

extension ModelSpec {
  /// The names in a checkpoint whose experts are MXFP4, as such were published; config.json says no more than that.
  package var namesInBlocks: Set<String> {
    var names = Set(claims.map(\.name))
    let forms = StorageForm.all.filter { $0.scales != nil }
    for module in layers.flatMap({ Module.all(of: $0.linears) }) where module.isOfExperts {
      for form in forms { module.store(as: form, in: &names) }
    }
    return names
  }
}

/// Linears of one module by the last parts of their names; of a list of experts, of each of them.
private struct Module {
  let name: String
  /// In the order of the experts; one where there are none.
  private(set) var members: [[String: LinearSpec]]
  let isOfExperts: Bool

  /// The modules that some Linears of a layer are in, also the lists of experts that such modules make up.
  static func all(of linears: [LinearSpec]) -> [Module] {
    var order: [String] = []
    var modules: [String: [String: LinearSpec]] = [:]
    for linear in linears {
      let (module, last) = split(linear.name)
      if modules[module] == nil { order.append(module) }
      modules[module, default: [:]][last] = linear
    }
    var lists: [String: Int] = [:]
    var result: [Module] = []
    for name in order {
      let members = modules[name] ?? [:]
      result.append(Module(name: name, members: [members], isOfExperts: false))
      let (list, index) = split(name)
      guard let number = Int(index) else { continue }
      if let place = lists[list], number == result[place].members.count {
        result[place].members.append(members)
      } else if number == 0 {
        lists[list] = result.count
        result.append(Module(name: list, members: [members], isOfExperts: true))
      }
    }
    return result
  }

  private static func split(_ name: String) -> (module: String, last: String) {
    guard let dot = name.lastIndex(of: ".") else { return ("", name) }
    return (String(name[..<dot]), String(name[name.index(after: dot)...]))
  }

  /// Puts the names of a form's tensors in the place of those of its Linears.
  func store(as form: StorageForm, in names: inout Set<String>) {
    let linears = members.flatMap { member in form.linears.compactMap { member[$0] } }
    if linears.count != members.count * form.linears.count { return }
    names.subtract(linears.flatMap { [$0.weight, $0.bias] })
    let ends = [form.weight, form.scales, linears[0].hasBias ? form.bias : nil]
    names.formUnion(ends.compactMap(\.self).map { "\(form.module(name)).\($0)" })
  }

  /// Adds the places of the Linears whose tensors are not there, and a form's tensor is.
  func addPlaces(
    forms: [StorageForm], among tensors: (String) -> TensorListing?,
    to places: inout [String: StoredPlace]
  ) throws(StorageError) {
    var fused: [FusedWeight] = []
    for form in forms where form.isOfExperts == isOfExperts {
      guard let listed = tensors("\(form.module(name)).\(form.weight)") else { continue }
      let linears = members.map { member in form.linears.compactMap { member[$0] } }
      guard linears.allSatisfy({ $0.count == form.linears.count }),
        linears.joined().allSatisfy({ tensors($0.weight) == nil && places[$0.weight] == nil }),
        !fused.contains(where: { $0.linears == linears })
      else { continue }
      fused.append(FusedWeight(name, linears, form, listed))
    }
    let readings = Set(
      try fused.map { each throws(StorageError) in try each.readings() }
        .filter { $0.count == 1 }.joined())
    for each in fused {
      try each.checkScales(among: tensors)
      each.addWeights(try each.reading(beside: readings), to: &places)
      try each.addBiases(among: tensors, to: &places)
    }
  }
}

/// A tensor of one form that is there.
private struct FusedWeight {
  /// Whether the rows of the stored matrix are those of the Linears, or their columns.
  enum Reading {
    case rows
    case columns
  }

  private let module: String
  /// The Linears of each expert, in the order of their rows; one list where there are no experts.
  let linears: [[LinearSpec]]
  private let form: StorageForm
  private let listed: TensorListing

  init(_ module: String, _ linears: [[LinearSpec]], _ form: StorageForm, _ listed: TensorListing) {
    self.module = form.module(module)
    self.linears = linears
    self.form = form
    self.listed = listed
  }

  private var tensor: String { "\(module).\(form.weight)" }
  private var rows: Int { linears[0].reduce(0) { $0 + $1.outputs } }
  private var columns: Int { linears[0][0].inputs }

  /// Columns of a block of MXFP4.
  private static let block = 32

  private func shape(_ reading: Reading) -> [Int] {
    if form.scales != nil {
      return [linears.count, rows, columns / Self.block, Self.block / 2]
    }
    return (form.isOfExperts ? [linears.count] : [])
      + (reading == .rows ? [rows, columns] : [columns, rows])
  }

  /// The readings that its shape allows: both where it is square.
  func readings() throws(StorageError) -> [Reading] {
    // Linears are turned round in lists of experts alone. Before its shape is known, it is taken to be as most are.
    guard case .shape(let found) = listed else { return [.rows] }
    let known: [Reading] = form.isOfExperts && form.scales == nil ? [.rows, .columns] : [.rows]
    let fitting = known.filter { shape($0) == found }
    if fitting.isEmpty {
      throw .wrongShape(tensor: tensor, expected: known.map(shape))
    }
    return fitting
  }

  /// The reading that its shape allows; where that is both, what the other tensors of its module are read by: all
  /// classes turn all of them round, or none.
  func reading(beside others: Set<Reading>) throws(StorageError) -> Reading {
    let own = try readings()
    if own.count == 1 { return own[0] }
    if others.count == 1, let reading = others.first { return reading }
    throw .ambiguous(
      tensor: tensor,
      readings: [
        "[experts, outputs, inputs] as in Qwen3MoeExperts",
        "[experts, inputs, outputs] as in Llama4TextExperts",
      ])
  }

  /// Where weights are codes: that their scales are there, for all of them.
  func checkScales(among tensors: (String) -> TensorListing?) throws(StorageError) {
    guard let scales = form.scales else { return }
    let expected = [linears.count, rows, columns / Self.block]
    if let listed = tensors("\(module).\(scales)"), columns % Self.block == 0,
      listed == .unknownShape || listed == .shape(expected)
    {
      return
    }
    throw .wrongShape(tensor: "\(module).\(scales)", expected: [expected])
  }

  func addWeights(_ reading: Reading, to places: inout [String: StoredPlace]) {
    forEachLinear { linear, index, before, step in
      places[linear.weight] = StoredPlace(
        tensor: tensor, index: index, shape: [linear.outputs, linear.inputs],
        start: reading == .rows ? before * columns : before,
        rowStride: reading == .rows ? step * columns : step,
        columnStride: reading == .rows ? 1 : rows, scales: form.scales.map { "\(module).\($0)" })
    }
  }

  func addBiases(
    among tensors: (String) -> TensorListing?, to places: inout [String: StoredPlace]
  ) throws(StorageError) {
    let name = "\(module).\(form.bias)"
    guard let listed = tensors(name),
      linears.joined().allSatisfy({ $0.hasBias && tensors($0.bias) == nil })
    else { return }
    let expected = (form.isOfExperts ? [linears.count] : []) + [rows]
    if case .shape(let found) = listed, found != expected {
      throw .wrongShape(tensor: name, expected: [expected])
    }
    forEachLinear { linear, index, before, step in
      places[linear.bias] = StoredPlace(
        tensor: name, index: index, shape: [linear.outputs], start: before, rowStride: step,
        columnStride: 1)
    }
  }

  /// - Parameter body: takes a Linear, its expert, the place of its first row among all rows, and the step from row to
  ///   row.
  private func forEachLinear(_ body: (LinearSpec, Int?, Int, Int) -> Void) {
    for (index, linears) in linears.enumerated() {
      var before = 0
      for linear in linears {
        let step = form.order == .alternating ? linears.count : 1
        body(linear, form.isOfExperts ? index : nil, before, step)
        before += form.order == .alternating ? 1 : linear.outputs
      }
    }
  }
}
