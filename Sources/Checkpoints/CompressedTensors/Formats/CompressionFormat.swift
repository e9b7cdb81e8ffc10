// What the rest of the program asks of a format.

package import Quantization
package import Tensors
package import Transformer

/// One way of storing quantized Linears, by the names that compressed-tensors gives it.
package protocol CompressionFormat: Sendable {
  /// Values of `format` in config.json.
  var names: [String] { get }
  /// Tensors that a product with such a weight reads beside `weight`.
  var parts: [WeightPart] { get }
  /// Why weights of a scheme cannot be read; nil where they can.
  func problem(reading scheme: QuantizationScheme) -> ArgumentProblem?
}

/// A format that is written: its Linears are told by the schemes of config.json, and their tensors follow from them.
package protocol WrittenFormat: CompressionFormat {
  /// Why a scheme cannot be written; nil where it can.
  func problem(writing scheme: QuantizationScheme) -> ArgumentProblem?
  /// - Parameters:
  ///   - scheme: one that is written.
  ///   - dtype: of the weight that is quantized.
  func codec(_ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType) -> any WeightCodec
}

/// A tensor of a weight by the end of its name.
package struct WeightPart: Sendable, Hashable {
  package let suffix: String
  /// Whether it is as large as the weight, and mapped a tile at a time; else it is small, and stays mapped.
  package let isStreamed: Bool
}
