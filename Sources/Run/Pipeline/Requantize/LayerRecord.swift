// What becomes of a layer, in a word: two runs with one model and one set of tokens that have the same word for it write the
// same bytes for it.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import Safetensors
internal import Tensors
internal import Transformer

extension OutputPlan {
  /// A digest for each layer of all that its bytes come of, beside the model and the tokens.
  func layerRecords(
    of spec: ModelSpec, _ options: QuantizeOptions, calibratedLayers: Int, engine: Engine
  ) -> [String] {
    // A scheme has many words, and a large model many Linears.
    let schemes = self.schemes.schemes.map { ($0, "\($0.targeting([]))") }
    let all = [
      options.rounding.rawValue, options.loss.rawValue, "\(options.damping)",
      "\(options.smooths)", options.duoScaling.rawValue, "\(options.gridPoints)",
      "\(options.weighting) \(options.expertTokens)",
      options.cache?.rawValue ?? "", engine.name,
    ]
    return spec.layers.map { layer in
      var digest = Digest()
      for text in all { digest.add(text) }
      digest.add("\(layer.index < calibratedLayers)")
      for claim in layer.claims {
        digest.add("\(claim.name) \(fates[claim.name].map { "\($0)" } ?? "")")
        if let linear = claim.linear, fates[claim.name] == .packed,
          let scheme = self.schemes[linear]
        {
          digest.add(schemes.first { $0.0 == scheme }?.1 ?? "\(scheme)")
        }
      }
      for smoothing in smoothings[layer.index] {
        digest.add(smoothing.producerName)
        for consumer in smoothing.consumers { digest.add(consumer.name) }
      }
      for tap in taps[layer.index] { digest.add(tap.name) }
      return digest.text
    }
  }

  /// The tensors that the steps of a layer write, by name; what is copied was there before them.
  ///
  /// - Parameter dtype: of a source tensor, without its scales.
  func writtenTensors(of layer: LayerSpec, dtype: (String) -> DType) -> [TensorSpec] {
    var result: [TensorSpec] = []
    for claim in layer.claims {
      switch fates[claim.name] {
      case .packed:
        result +=
          claim.linear.flatMap { schemes.quantized($0, dtype: dtype(claim.name)) }?.tensors ?? []
      case .rescaled:
        result.append(TensorSpec(name: claim.name, dtype: dtype(claim.name), shape: claim.shape))
      case .copied, .decoded, .dropped, nil: break
      }
    }
    if let scheme = schemes.cache {
      for (_, cache) in layer.caches {
        result += scheme.tensors(of: cache, dtype: dtype(cache.value.weight))
      }
    }
    return result
  }
}
