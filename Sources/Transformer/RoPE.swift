// Rotary position embedding (Su et al., arXiv:2104.09864), in halves as transformers stores them.

internal import CKernels
internal import Glibc

/// Cosines and sines `[positions, dimensions / 2]`.
struct RotaryTable: Sendable {
  let half: Int
  private let cosines: [Float]
  private let sines: [Float]

  init(_ spec: RotarySpec, positions: Int) {
    half = spec.dimensions / 2
    // float32 frequencies and angles, as the reference computes them.
    let frequencies = (0..<half).map {
      Float(1 / pow(spec.theta, Double(2 * $0) / Double(spec.dimensions)))
    }
    let angles = (0..<positions).flatMap { position in frequencies.map { $0 * Float(position) } }
    cosines = angles.map { Float(cos(Double($0))) }
    sines = angles.map { Float(sin(Double($0))) }
  }

  /// Rotates the head that starts at `head`.
  func rotate(_ head: UnsafeMutablePointer<Float>, position: Int) {
    unsafe cosines.withUnsafeBufferPointer { cosines in
      unsafe sines.withUnsafeBufferPointer { sines in
        guard let cosine = cosines.baseAddress, let sine = sines.baseAddress else { return }
        unsafe sluice_rotate_half(head, cosine + position * half, sine + position * half, half)
      }
    }
  }
}
