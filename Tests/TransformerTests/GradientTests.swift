// The way back through attention against PyTorch: gradients at the outputs of what makes queries, keys and values.

import CompressedTensors
import LinearAlgebra
import Models
import Safetensors
import Synchronization
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct GradientTests {
  @Test(arguments: fixtures(in: "gradients"))
  func gradientsAreThoseOfTorch(file: String) throws {
    let name = String(file.prefix { $0 != "." })
    let model = try ForwardCase(name)
    let golden = try SafetensorsFile(path: fixturePath("gradients/" + file))
    var compared = 0
    for layer in model.checkpoint.spec.layers {
      let mixer = layer.attending.mixer
      let found = Mutex<[String: Matrix]>([:])
      let probe = OutputProbe(
        identities(mixer), of: mixer, token: 0, seed: UInt64(layer.index)
      ) { linear, group, gradient in
        found.withLock { all in
          let whole =
            all[linear.name] ?? Matrix(zeros: gradient.rows, linear.outputs)
          for row in 0..<gradient.rows {
            unsafe (whole.row(row) + group * gradient.columns)
              .update(from: gradient.row(row), count: gradient.columns)
          }
          all[linear.name] = whole
        }
      }
      _ = layer.attending.apply(
        to: try model.hidden(layer.index), sequences: model.sequences,
        weights: model.checkpoint.weights, backend: model.backend, probe: probe)
      for (name, gradient) in found.withLock({ $0 }) {
        let short = name.split(separator: ".").last ?? ""
        let expected = try golden.floats("gradient.\(layer.index).\(short)")
        #expect(relativeError(gradient.values, expected) < 1e-4, "\(name)")
        compared += 1
      }
    }
    #expect(compared == golden.tensors.count)
  }

  /// Probes that are signs.
  private func identities(_ mixer: SequenceMixer) -> [Matrix] {
    let width = mixer.output.inputs / mixer.heads
    return (0..<mixer.headGroups).map { _ in
      let result = Matrix(zeros: width, width)
      for index in 0..<width { unsafe result.row(index)[index] = 1 }
      return result
    }
  }

  @Test func `probes have the second moments of what the output projection makes of white ones`()
    throws
  {
    let model = try ForwardCase("published-qk-norm")
    let mixer = model.checkpoint.spec.layers[0].attending.mixer
    let factors = OutputProbe.factors(
      of: mixer, weights: model.checkpoint.weights, backend: model.backend)
    let weight = model.checkpoint.weights.weight(mixer.output)
    let whole = weight.matrix(0..<weight.rows)
    let width = whole.columns / mixer.heads
    let group = mixer.heads / factors.count
    for (number, factor) in factors.enumerated() {
      for row in 0..<width {
        for column in 0..<width {
          let heads = number * group..<(number + 1) * group
          let expected = heads.reduce(0.0) { sum, head in
            (0..<whole.rows).reduce(sum) {
              unsafe $0 + Double(whole.row($1)[head * width + row])
                * Double(whole.row($1)[head * width + column])
            }
          }
          let found = (0..<width).reduce(0.0) {
            unsafe $0 + Double(factor.row(row)[$1]) * Double(factor.row(column)[$1])
          }
          // What is added to the diagonal is a thousandth of its mean.
          #expect(abs(found - expected) < 2e-3 * Double(group * whole.rows))
        }
      }
    }
  }
}
