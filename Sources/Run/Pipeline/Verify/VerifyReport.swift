// What sluice verify tells.

/// Something wrong with an output.
package struct Finding: Sendable, Equatable {
  /// A file, a module or a tensor.
  package let subject: String
  package let problem: String
}

/// How far a quantized Linear is from its source.
package struct LinearError: Sendable, Equatable {
  package let linear: String
  /// Norm of the difference over norm of the weight.
  package let relative: Double
  /// The error of the group that is farthest.
  package let worstGroup: Double
}

package struct VerifyReport: Sendable, Equatable {
  /// Tensors that can be read.
  package internal(set) var tensors: Int
  package internal(set) var quantizedLinears = 0
  /// Tensors whose bytes were held against the checksums that the run left; nil where it left none.
  package internal(set) var checkedTensors: Int?
  /// Tensors equal to the source's to the byte; nil without a source.
  package internal(set) var identicalTensors: Int?
  /// Tensors that the recorded smoothing scales explain to the byte; nil without a source.
  package internal(set) var rescaledTensors: Int?
  /// Tensors that are the source's FP8, scaled and rounded to bf16; nil without a source.
  package internal(set) var decodedTensors: Int?
  package internal(set) var findings: [Finding]
  /// What may matter to whoever loads the output, and is no fault of it.
  package internal(set) var notes: [Finding] = []
  /// How many devices of a tensor-parallel server cut no group, of those that are usual.
  package internal(set) var fittingDegrees: [Int] = []
  /// The error of every quantized Linear that could be compared, worst first; empty without a source.
  package internal(set) var errors: [LinearError] = []
}

/// A folder that is not an output.
package struct NotQuantized: Error, CustomStringConvertible, Equatable {
  package let folder: String
  package var description: String {
    "\(folder): config.json has no `quantization_config`; give the output of sluice quantize"
  }
}
