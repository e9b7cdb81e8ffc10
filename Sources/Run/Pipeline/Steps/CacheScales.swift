// The scales of keys and values, from what calibration saw of them.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import Tensors
internal import Transformer

extension StepInputs {
  /// Writes the scales of keys or values, where the output has a scheme for them.
  ///
  /// - Parameters:
  ///   - statistics: of them, over all tokens.
  ///   - applied: the smoothings of the layer so far; one of values divides what is kept.
  func writeScales(
    of part: KeyValueCache.Part, in cache: KeyValueCache, _ statistics: ActivationStatistics,
    under applied: [AppliedSmoothing], of layer: LayerSpec
  ) throws {
    guard let scheme = output.schemes.cache else { return }
    if let channel = statistics.firstNonFiniteChannel {
      throw nonFiniteActivation(
        channel, in: "what `\(cache.module)` keeps of its \(part.rawValue)", of: layer)
    }
    let scale = cache.scale(of: part, under: applied)
    let each = cache.width(of: part) / scheme.scales(heads: cache.heads)
    let largest = statistics.largest(inEach: each, smoothedBy: scale)
    let tensor = scheme.tensor(
      part, of: cache, dtype: weights.dtype(of: cache.value.weight).unscaled)
    backend.ledger.note(.output, bytes: tensor.byteCount)
    if !backend.computes { return }
    let scales = largest.map {
      ActivationQuantizer.stored(scheme.arguments, largest: $0, as: tensor.dtype)
    }
    do {
      try unsafe tensor.dtype.encoded(scales).withUnsafeBytes {
        try unsafe writer?.write($0, to: tensor.name)
      }
    } catch let error as NonFiniteOutput {
      throw QuantizeError.infiniteCacheScale(
        layer: layer.index, module: cache.module, part: part.rawValue,
        largest: largest[error.element], dtype: tensor.dtype)
    }
  }
}
