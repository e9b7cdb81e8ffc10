// Which arithmetic multiplies activations with weights, and with themselves.

internal import CKernels

/// The arithmetic of the large products of a run. One value for a whole run: two engines round differently.
package enum Engine: String, Sendable, CaseIterable {
  /// Activations rounded to bfloat16, bfloat16 weights as they are stored, sums in float32: what the models were trained
  /// with. FP8 weights are rounded to bfloat16 after scaling, as their makers do. Every other weight is multiplied in
  /// float32.
  case bf16
  /// float32 throughout.
  case f32

  /// Whether this CPU has the instructions: AVX512_BF16 for bf16.
  package var isAvailable: Bool {
    switch self {
    case .bf16: CPU.instructionSet == "avx512_bf16"
    case .f32: true
    }
  }

  /// The fastest one for bfloat16 weights on this CPU.
  package static var best: Engine { bf16.isAvailable ? .bf16 : .f32 }

  /// With the library that does what is float32.
  package var name: String { self == .f32 ? Gemm.engine : "\(rawValue) and \(Gemm.engine)" }
}

package enum CPU {
  /// The vector instructions that the kernels use: "avx512_bf16", "avx512", "avx2" or "portable".
  package static let instructionSet = unsafe String(cString: sluice_instruction_set())
}
