// Places against tensors that are put together number by number, and the tensors that are refused.

import JSON
import Models
import SystemIO
import Testing
import TestSupport
import Transformer

/// What of a layer a number is.
private struct Number: Hashable {
  let parameter: String
  let row: Int
  let column: Int
}

@Suite struct StorageFormsTests {
  private func glm() throws -> ModelSpec {
    let path = fixturePath("awq/dense-first/config.json")
    let config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
    return try Architectures.describe(config: config, file: path)
  }

  /// The fixture's last layer with experts of other sizes, which have biases.
  private func spec(hidden: Int, expert: Int, experts: Int) throws -> ModelSpec {
    var spec = try glm()
    let old = try #require(spec.layers.last)
    let prefix = "model.layers.\(old.index).mlp.experts."
    let units = (0..<experts).map { index in
      func linear(_ name: String, _ inputs: Int, _ outputs: Int) -> LinearSpec {
        LinearSpec(prefix + "\(index).\(name)", inputs: inputs, outputs: outputs, hasBias: true)
      }
      return UnitSpec(
        gate: linear("gate_proj", hidden, expert), up: linear("up_proj", hidden, expert),
        down: linear("down_proj", expert, hidden))
    }
    spec.layers = [
      LayerSpec(
        index: old.index,
        branches: [
          old.branches[0],
          Branch(
            preNorm: old.feeding.preNorm,
            .tokens(MLPSpec(router: old.mlp.router, alwaysOn: [], routed: units))),
        ])
    ]
    return spec
  }

  private let gateUp = "model.layers.1.mlp.experts.gate_up_proj"
  private let down = "model.layers.1.mlp.experts.down_proj"

  private func forms(alternating: Bool) -> [StorageForm] {
    let own = StorageForm(
      "gate_proj", "up_proj", weight: "gate_up_proj", bias: "gate_up_proj_bias",
      isOfExperts: true, order: .alternating, architectures: ["Glm4MoeForCausalLM"])
    return (alternating ? [own] : []) + StorageForm.all
  }

  /// The numbers of a tensor by the definition of its form.
  private func numbers(
    _ linears: [LinearSpec], alternating: Bool, turned: Bool, isBias: Bool
  ) -> [Number] {
    let rows =
      alternating
      ? (0..<linears[0].outputs).flatMap { row in linears.map { ($0, row) } }
      : linears.flatMap { linear in (0..<linear.outputs).map { (linear, $0) } }
    if isBias { return rows.map { Number(parameter: $0.bias, row: $1, column: 0) } }
    let columns = 0..<linears[0].inputs
    func number(_ row: (LinearSpec, Int), _ column: Int) -> Number {
      Number(parameter: row.0.weight, row: row.1, column: column)
    }
    return turned
      ? columns.flatMap { column in rows.map { number($0, column) } }
      : rows.flatMap { row in columns.map { number(row, $0) } }
  }

  @Test(arguments: [false, true], [false, true])
  func `a place names every number of its parameter and no other`(
    alternating: Bool, turned: Bool
  ) throws {
    let (hidden, expert, experts) = (6, 4, 3)
    let spec = try spec(hidden: hidden, expert: expert, experts: experts)
    let shapes = [
      gateUp: [experts] + (turned ? [hidden, 2 * expert] : [2 * expert, hidden]),
      down: [experts] + (turned ? [expert, hidden] : [hidden, expert]),
      gateUp + "_bias": [experts, 2 * expert], down + "_bias": [experts, hidden],
    ]
    let places = try spec.places(forms: forms(alternating: alternating)) { name in
      shapes[name].map { .shape($0) }
    }
    #expect(places.count == 6 * experts)
    for (index, unit) in spec.layers[0].mlp.routed.enumerated() {
      for (linears, tensor) in [(unit.readers, gateUp), ([unit.down], down)] {
        for isBias in [false, true] {
          let stored = numbers(
            linears, alternating: alternating, turned: turned, isBias: isBias)
          var named = 0
          for linear in linears {
            let name = isBias ? linear.bias : linear.weight
            let place = try #require(places[name])
            #expect(place.tensor == tensor + (isBias ? "_bias" : "") && place.index == index)
            #expect(place.shape == (isBias ? [linear.outputs] : [linear.outputs, linear.inputs]))
            for row in 0..<place.rows {
              for column in 0..<place.columns {
                let number = place.start + row * place.rowStride + column * place.columnStride
                #expect(stored[number] == Number(parameter: name, row: row, column: column))
                #expect(place.extent.contains(number))
                named += 1
              }
            }
            let numbers = stored.indices.filter { stored[$0].parameter == name }
            #expect(place.extent == numbers[0]..<numbers[numbers.count - 1] + 1)
          }
          #expect(named == stored.count)
        }
      }
    }
  }

  /// Granite's tensors lie where the list does, and not in it.
  @Test func `experts lie in tensors beside their list`() throws {
    let name = "granite-moe-multipliers"
    let config = try #require(
      JSONValue.parse(FileSystem.readFile(fixturePath("forward/\(name)/config.json"))).object)
    let spec = try Architectures.describe(config: config, file: "config.json")
    let block = "model.layers.0.block_sparse_moe."
    let shapes = [
      block + "input_linear.weight": [6, 48, 32], block + "output_linear.weight": [6, 32, 24],
    ]
    let places = try spec.places { shapes[$0].map { .shape($0) } }
    #expect(places.count == 18)
    for (projection, tensor, shape, start) in [
      ("gate_proj", "input_linear", [24, 32], 0), ("up_proj", "input_linear", [24, 32], 24 * 32),
      ("down_proj", "output_linear", [32, 24], 0),
    ] {
      #expect(
        places["\(block)experts.4.\(projection).weight"]
          == StoredPlace(
            tensor: "\(block)\(tensor).weight", index: 4, shape: shape, start: start,
            rowStride: shape[1], columnStride: 1))
    }
  }

  /// Rows of one after the other, in the parts of a layer that are no lists of experts.
  @Test func `queries, keys and values, and gate and up, are rows of one tensor`() throws {
    let layer = "model.layers.0."
    let places = try glm().places { name in
      name.hasPrefix(layer) && name.hasSuffix("qkv_proj.weight")
        ? .shape([192, 64])
        : name.hasPrefix(layer) && name.hasSuffix("gate_up_proj.weight") ? .shape([128, 64]) : nil
    }
    let expected = [
      ("self_attn.q_proj", "self_attn.qkv_proj", 0), ("self_attn.k_proj", "self_attn.qkv_proj", 64),
      ("self_attn.v_proj", "self_attn.qkv_proj", 128), ("mlp.gate_proj", "mlp.gate_up_proj", 0),
      ("mlp.up_proj", "mlp.gate_up_proj", 64),
    ]
    #expect(places.count == expected.count)
    for (linear, tensor, row) in expected {
      #expect(
        places["\(layer)\(linear).weight"]
          == StoredPlace(
            tensor: "\(layer)\(tensor).weight", index: nil, shape: [64, 64], start: row * 64,
            rowStride: 64, columnStride: 1))
    }
  }

  @Test func `a tensor for each Linear has no other place`() throws {
    let spec = try glm()
    let names = Set(spec.claims.map(\.name))
    #expect(try spec.places { names.contains($0) ? .shape([]) : nil } == [:])
    // One more that none asks for is for the list of unknown tensors.
    #expect(
      try spec.places { names.contains($0) || $0 == gateUp ? .unknownShape : nil } == [:])
  }

  // MARK: Shapes

  /// H = 2F: gate and up together are square, and down projections tell how they lie.
  @Test(arguments: [false, true])
  func `a square tensor is read as the other one of its experts`(turned: Bool) throws {
    let spec = try spec(hidden: 8, expert: 4, experts: 2)
    let shapes = [gateUp: [2, 8, 8], down: turned ? [2, 4, 8] : [2, 8, 4]]
    let places = try spec.places { shapes[$0].map { .shape($0) } }
    let gate = try #require(places["model.layers.1.mlp.experts.1.gate_proj.weight"])
    #expect(gate.isByRows != turned && gate.index == 1)
    #expect(places["model.layers.1.mlp.experts.1.down_proj.weight"]?.isByRows != turned)
    // H = F, and the other way round.
    let other = try self.spec(hidden: 8, expert: 8, experts: 2)
    let others = [gateUp: turned ? [2, 8, 16] : [2, 16, 8], down: [2, 8, 8]]
    let read = try other.places { others[$0].map { .shape($0) } }
    #expect(read["model.layers.1.mlp.experts.0.down_proj.weight"]?.isByRows != turned)
  }

  @Test func `a square tensor that nothing explains is refused with both readings`() throws {
    let spec = try spec(hidden: 8, expert: 4, experts: 2)
    let error = #expect(throws: StorageError.self) {
      try spec.places { $0 == gateUp ? .shape([2, 8, 8]) : nil }
    }
    guard case .ambiguous(gateUp, let readings) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(readings.count == 2)
  }

  @Test(arguments: [[2, 8, 6], [3, 6, 8], [2, 12, 8], [2, 48], [], [1, 2, 6, 8], [6, 8, 2]])
  func `another shape is refused with those that would do`(shape: [Int]) throws {
    let spec = try spec(hidden: 6, expert: 4, experts: 2)
    func places(_ shape: [Int], bias: [Int] = [2, 8]) throws {
      let shapes = [gateUp: shape, down: [2, 6, 4], gateUp + "_bias": bias]
      _ = try spec.places { shapes[$0].map { .shape($0) } }
    }
    if shape == [2, 8, 6] {
      try places(shape)
      #expect(
        throws: StorageError.wrongShape(tensor: gateUp + "_bias", expected: [[2, 8]])
      ) { try places(shape, bias: [8, 2]) }
    } else {
      #expect(
        throws: StorageError.wrongShape(tensor: gateUp, expected: [[2, 8, 6], [2, 6, 8]])
      ) { try places(shape) }
    }
  }
}
