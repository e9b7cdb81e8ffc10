// Why the inputs of Linears, or keys and values, cannot be computed as an inference engine computes them.

/// Inputs of Linears, or keys and values, that cannot be computed as an inference engine computes them.
package enum ActivationProblem: Error, CustomStringConvertible, Equatable {
  case unknown(module: String, words: String)
  case missing(module: String)
  case wrong(file: String, tensor: String, found: String)
  /// Scales of a cache.
  case missingCache(tensor: String)
  case wrongCache(file: String, tensor: String, problem: String)
  /// Attention that keeps no keys and values.
  case otherCache(module: String)

  package var description: String {
    switch self {
    case .unknown(let module, let words):
      "config.json: `\(module)` has `input_activations` of \(words), which no engine is known to compute; take "
        + "`input_activations` out of `quantization_config` to evaluate the weights alone"
    case .missing(let module):
      "`\(module)` has static `input_activations`, and no tensor holds their scale; quantize the model again, or "
        + "download it again"
    case .wrong(let file, let tensor, let found):
      "\(file): `\(tensor)` is \(found), expected one number above 0; quantize the model again, or download the file again"
    case .missingCache(let tensor):
      "config.json has a `kv_cache_scheme`, and there is no tensor `\(tensor)`; quantize the model again with "
        + "--kv-cache, or download it again"
    case .wrongCache(let file, let tensor, let problem):
      "\(file): `\(tensor)` \(problem), expected numbers above 0; quantize the model again, or download the file "
        + "again"
    case .otherCache(let module):
      "config.json has a `kv_cache_scheme`, but the attention of `\(module)` keeps no keys and values; take it out of "
        + "`quantization_config` to evaluate the weights alone"
    }
  }
}
