// What is asked of the stored tensors of one quantized Linear: to be written, read and looked at.

package import LinearAlgebra
package import Quantization
package import Safetensors

/// The stored tensors of one quantized Linear: names, types, shapes and contents.
///
/// Rounding asks it to store what it made; a codec never rounds.
package protocol WeightCodec: Sendable {
  /// In the order in which the output lists them.
  var tensors: [TensorSpec] { get }
  /// Outputs that share a stored number, and what that holds; nil where each has its own.
  var outputsTogether: (count: Int, what: String)? { get }
  /// Writes rounded rows to their places.
  ///
  /// - Parameter rows: they begin where stored numbers do.
  func encode(_ rounded: QuantizedRows, rows: Range<Int>, write: TensorWrite) throws
  /// The pages of the stored weight: bytes of all that a product reads, and of the codes of a row.
  var pages: (bytes: Int, rowBytes: Int) { get }
  /// Bits from one code of a row to the next.
  var codeWidth: Int { get }
  /// Writes what belongs to no row.
  ///
  /// - Parameter whole: what was known of the whole weight when its rows were rounded.
  func encodeRest(_ whole: WholeWeight, write: TensorWrite) throws
  /// The numbers of the stored weight; nil where its tensors are not there.
  func decode(_ tensor: (String) -> StoredTensor?) -> (any CodedWeight)?
  /// What an engine makes of the Linear's input; nil where it takes it as it is.
  ///
  /// - Parameter tensor: finds a stored number; without, the file has another.
  func activations(_ tensor: (String) -> StoredTensor?) -> ActivationQuantizer?
  /// What is wrong with the stored numbers by themselves.
  ///
  /// - Parameter windowBytes: how much of a tensor may be mapped at a time.
  func faults(_ tensor: (String) -> StoredTensor?, windowBytes: Int) -> [StoredFault]
  /// What is wrong with a tensor that says what shape the weight has; nil for any other tensor.
  func shapeFault(_ tensor: StoredTensor) -> StoredFault?
}

/// Bytes for a tensor by name, from an offset in it on.
package typealias TensorWrite = (
  _ bytes: UnsafeRawBufferPointer, _ tensor: String, _ offset: Int
) throws -> Void

/// A stored quantized weight that shows what its numbers are made of.
package protocol CodedWeight: WeightRows {
  /// `[rows, columns / group size]`.
  func scales(of rows: Range<Int>) -> [Float]
  /// `[rows, columns / group size]`; nil in a scheme without zero points.
  func zeroPoints(of rows: Range<Int>) -> [Int8]?
  /// What scales of two levels are divided by; 1 for others.
  var globalScale: Float { get }
}

/// Something wrong with a tensor.
package struct StoredFault: Sendable, Equatable {
  package let tensor: String
  package let problem: String

  package init(_ tensor: String, _ problem: String) {
    self.tensor = tensor
    self.problem = problem
  }
}
