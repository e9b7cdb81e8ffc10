// Element types by their safetensors names, with bit widths.

/// The element type of a stored tensor.
///
/// Source: safetensors, `safetensors/src/tensor.rs` (`Dtype`).
package enum DType: String, Sendable, CaseIterable {
  case bool = "BOOL"
  case u8 = "U8"
  case i8 = "I8"
  case f8E5M2 = "F8_E5M2"
  case f8E4M3 = "F8_E4M3"
  case f8E8M0 = "F8_E8M0"
  case i16 = "I16"
  case u16 = "U16"
  case f16 = "F16"
  case bf16 = "BF16"
  case i32 = "I32"
  case u32 = "U32"
  case f32 = "F32"
  case i64 = "I64"
  case u64 = "U64"
  case f64 = "F64"

  /// Bytes of one element.
  package var byteWidth: Int {
    switch self {
    case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0: 1
    case .i16, .u16, .f16, .bf16: 2
    case .i32, .u32, .f32: 4
    case .i64, .u64, .f64: 8
    }
  }

  /// Whether Sluice can read such a tensor as numbers and quantize it.
  package var isWeight: Bool { self == .bf16 || self == .f16 || self == .f32 }

  /// Whether scales may be stored so: in a weight's type, or as powers of two.
  package var isScale: Bool { isWeight || self == .f8E8M0 }

  /// The step from 1 to the next number of a weight type.
  package var epsilon: Float {
    switch self {
    case .bf16: 0x1p-7
    case .f16: 0x1p-10
    default: .ulpOfOne
    }
  }

  /// The type that a weight of this type has where it is written without scales of its own: FP8 becomes bf16.
  package var unscaled: DType { self == .f8E4M3 ? .bf16 : self }
}
