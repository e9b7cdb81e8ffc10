// The scales that a run chose, read back from smoothing.safetensors.

internal import CompressedTensors
internal import Safetensors
internal import Transformer

extension SafetensorsFile {
  /// The scales of the smoothings that have been searched; a scale that was not yet is all zeros.
  ///
  /// - Parameter name: that of a smoothing's tensor.
  func recordedSmoothings(
    _ smoothings: [Smoothing], named name: (Smoothing) -> String = OutputPlan.scaleTensor
  ) -> [AppliedSmoothing] {
    smoothings.compactMap { smoothing in
      guard let tensor = self[name(smoothing)],
        tensor.byteCount == 4 * smoothing.channels
      else { return nil }
      let scale = unsafe tensor.withBytes { bytes in
        (0..<smoothing.channels).map {
          unsafe bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self)
        }
      }
      return scale.allSatisfy { $0 > 0 } ? AppliedSmoothing(smoothing, scale: scale) : nil
    }
  }
}
