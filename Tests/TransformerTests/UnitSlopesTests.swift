// The way back through a unit's activation against PyTorch: what the down projection reads, by gates and ups.

import LinearAlgebra
import Safetensors
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct UnitSlopesTests {
  /// Weights that pick numbers of the input.
  private struct Picks: LayerWeights {
    let columns: [String: [Int]]

    func vector(_ tensor: String) -> [Float] { [] }
    func weight(_ linear: LinearSpec) -> any WeightRows {
      let result = Matrix(zeros: linear.outputs, linear.inputs)
      for (row, column) in columns[linear.name]!.enumerated() {
        unsafe result.row(row)[column] = 1
      }
      return result
    }
  }

  private static let width = 16
  private static let gates = Array(0..<width)
  private static let ups = Array(width..<2 * width)
  private static let down = LinearSpec("down", inputs: width, outputs: 4)

  private func linear(_ name: String, _ outputs: Int) -> LinearSpec {
    LinearSpec(name, inputs: 2 * Self.width, outputs: outputs)
  }

  /// A gate and an up, or an up alone.
  private func apart(_ activation: Activation, gated: Bool = true) -> (UnitSpec, Picks) {
    (
      UnitSpec(
        gate: gated ? linear("gate", Self.width) : nil, up: linear("up", Self.width),
        down: Self.down, activation: activation),
      Picks(columns: ["gate": Self.gates, "up": Self.ups])
    )
  }

  /// One projection that makes both, in some order.
  private func fused(
    _ activation: Activation, _ columns: [Int], makesGates: Bool = false
  ) -> (UnitSpec, Picks) {
    (
      UnitSpec(
        gate: nil, up: linear("up", 2 * Self.width), upMakesGates: makesGates, down: Self.down,
        activation: activation), Picks(columns: ["up": columns])
    )
  }

  @Test func `slopes are the derivatives of torch`() throws {
    let golden = try SafetensorsFile(path: fixturePath("activations/slopes.safetensors"))
    let (gates, ups) = (try golden.floats("gate"), try golden.floats("up"))
    let tokens = gates.count / Self.width
    let x = Matrix(zeros: tokens, 2 * Self.width)
    for token in 0..<tokens {
      for place in 0..<Self.width {
        unsafe x.row(token)[place] = gates[token * Self.width + place]
        unsafe x.row(token)[Self.width + place] = ups[token * Self.width + place]
      }
    }
    let pairs = zip(Self.gates, Self.ups).flatMap { [$0, $1] }
    let halves = Self.gates + Self.ups
    let cases: [(String, (unit: UnitSpec, weights: Picks))] = [
      ("silu", apart(.silu)), ("silu", fused(.gatedHalves, halves)),
      ("silu", fused(.silu, halves, makesGates: true)), ("gelu", apart(.gelu)),
      ("gelu_tanh", apart(.geluTanh)), ("relu2", apart(.reluSquared)),
      ("silu_alone", apart(.silu, gated: false)),
      ("relu2_alone", apart(.reluSquared, gated: false)),
      ("clamped_pairs", fused(.clampedPairs(alpha: 1.702, limit: 1.5), pairs)),
      ("clamped_pairs", apart(.clampedGates(alpha: 1.702, limit: 1.5))),
      ("clamped_silu", apart(.clampedSilu(limit: 1.5))),
      ("situ", apart(.situ(beta: 1.5, upBeta: 2.5))),
      ("situ_gates", apart(.situ(beta: 1.5, upBeta: nil))),
    ]
    for (name, (unit, weights)) in cases {
      for threads in [1, 3] {
        let backend = Backend(threads: threads)
        var found: [UnitSide: [Float]] = [:]
        let hidden = unit.hidden(x, weights: weights, backend: backend) { side, slopes in
          found[side] = slopes.values
          slopes.fill(.nan)
        }
        #expect(relativeError(hidden.values, try golden.floats(name + ".hidden")) < 1e-5, "\(name)")
        #expect(hidden.values == unit.hidden(x, weights: weights, backend: backend).values)
        let sides = golden.tensors.count { $0.name.hasPrefix(name + ".") } - 1
        #expect(found.count == sides && unit.sides.count == sides, "\(name)")
        for (side, slopes) in found {
          let expected = try golden.floats("\(name).\(side)")
          #expect(relativeError(slopes, expected) < 1e-4, "\(name), \(side)")
        }
      }
    }
  }
}
