// Weights for parts of a layer that no fixture holds.

import LinearAlgebra
import Tensors
import TestSupport
import Transformer

/// Random tensors of the right shape, made when first mentioned and kept.
struct RandomWeights: LayerWeights {
  private var vectors: [String: [Float]] = [:]
  private var matrices: [String: Matrix] = [:]

  init(_ linears: [LinearSpec], norms: [NormSpec] = [], vectors: [String: Int] = [:]) {
    var generator = SeededGenerator(seed: 21)
    for linear in linears {
      let gain = (3 / Float(linear.inputs)).squareRoot()
      let values = generator.floats(linear.outputs * linear.inputs).map { gain * $0 }
      matrices[linear.name] = Matrix(rows: linear.outputs, columns: linear.inputs, values: values)
      if linear.hasBias { self.vectors[linear.bias] = generator.floats(linear.outputs) }
    }
    for norm in norms { self.vectors[norm.weight] = generator.floats(norm.size).map { 1 + $0 / 2 } }
    for (name, count) in vectors.sorted(by: { $0.key < $1.key }) {
      self.vectors[name] = generator.floats(count)
    }
  }

  func matrix(_ linear: LinearSpec) -> Matrix { matrices[linear.name]! }
  func vector(_ tensor: String) -> [Float] { vectors[tensor]! }
  func weight(_ linear: LinearSpec) -> any WeightRows { matrix(linear) }
}

/// x Wᵀ + b in Double, rows of arrays.
func naiveLinear(_ x: [[Double]], _ linear: LinearSpec, _ weights: RandomWeights) -> [[Double]] {
  let matrix = weights.matrix(linear).values.map(Double.init)
  let bias = linear.hasBias ? weights.vector(linear.bias) : []
  return x.map { row in
    (0..<linear.outputs).map { output in
      var sum = linear.hasBias ? Double(bias[output]) : 0
      for input in 0..<linear.inputs { sum += row[input] * matrix[output * linear.inputs + input] }
      return sum
    }
  }
}

func rows(_ x: Matrix) -> [[Double]] {
  (0..<x.rows).map { row in
    x.values[row * x.columns..<(row + 1) * x.columns].map(Double.init)
  }
}
