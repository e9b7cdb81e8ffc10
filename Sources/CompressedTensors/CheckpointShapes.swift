// What a checkpoint holds, without its bytes: names, types and shapes, of its files or as config.json and the index tell
// them before the files are there.

internal import JSON
package import Models
package import Safetensors
internal import Tensors
package import Transformer

/// The shapes that everything but the numbers of an output follows from.
package struct CheckpointShapes: Sendable {
  package let folder: String
  package let spec: ModelSpec
  /// Every tensor, sorted by name.
  package let tensors: [TensorSpec]
  package let totalBytes: Int
  /// What its owner should know.
  package let notes: [String]
  /// Whether Linears are quantized as the schemes of config.json say.
  package let isQuantized: Bool
  private let fp8: FP8Format?
  private let redundantHead: String?
  private let positions: [String: Int]

  /// The shapes of a checkpoint that is there.
  package init(_ checkpoint: Checkpoint) {
    self.init(
      folder: checkpoint.folder, spec: checkpoint.spec, fp8: checkpoint.fp8,
      isQuantized: checkpoint.quantization != nil, redundantHead: checkpoint.redundantHead,
      tensors: checkpoint.model.tensors.map {
        TensorSpec(name: $0.name, dtype: $0.dtype, shape: $0.shape)
      }, notes: checkpoint.notes)
  }

  /// As config.json says, and the index where there is one. Types are the one that config.json names, and FP8 where it
  /// says so; a prediction layer is taken to be like the last layer.
  ///
  /// - Throws: `CheckpointError` where the index does not list what config.json asks for.
  package init(_ config: CheckpointConfig, listing: ShardListing) throws {
    let storage = try config.storage()
    let spec = config.spec
    let fp8: FP8Format? = if case .fp8(let format) = storage { format } else { nil }
    let quantization: QuantizationConfig? =
      if case .compressed(let config) = storage { config } else { nil }
    let schemes = try quantization?.schemes(
      of: spec.layers.flatMap(\.linears), file: config.file)
    let linears = Set(spec.layers.flatMap(\.linears).map(\.weight))
    let corrections = Set(spec.layers.compactMap(\.mlp.router?.correctionBias))
    var tensors: [TensorSpec] = []
    func add(_ name: String, _ shape: [Int], as dtype: DType? = nil, isLinear: Bool) {
      let module = String(name.dropLast(".weight".count))
      guard let fp8, isLinear, dtype == nil, !fp8.ignore.contains(module) else {
        tensors.append(TensorSpec(name: name, dtype: dtype ?? config.dtype, shape: shape))
        return
      }
      tensors.append(TensorSpec(name: name, dtype: .f8E4M3, shape: shape))
      tensors.append(
        TensorSpec(
          name: fp8.scales(of: module), dtype: .f32, shape: fp8.scaleShapes(of: shape)[0]))
    }
    for each in spec.expectations(schemes) {
      let type: DType? = corrections.contains(each.name) ? .f32 : each.dtype
      add(each.name, each.shape, as: type, isLinear: linears.contains(each.name))
    }
    let known = Set(tensors.map(\.name))
    let listed = listing.tensors.map { Set($0) }
    if let listed {
      let expected = spec.expectations(schemes).map(\.name)
      try Checkpoint.checkNames(
        folder: config.folder, spec, found: listing.tensors ?? [],
        missing: expected.filter { !listed.contains($0) })
      let unknown = listed.filter {
        !known.contains($0) && !spec.passesThrough($0) && $0 != spec.redundantHead
          && fp8?.module(scaledBy: $0) == nil
      }
      if !unknown.isEmpty {
        throw CheckpointError.unclaimed(
          folder: config.folder, count: unknown.count, names: Array(unknown.sorted().prefix(5)))
      }
    }
    for claim in spec.predictionClaims where listed?.contains(claim.name) != false {
      add(claim.name, claim.shape, isLinear: claim.linear != nil)
    }
    let head = spec.redundantHead.flatMap { listed?.contains($0) == true ? $0 : nil }
    if let head { add(head, [spec.vocabularySize, spec.hiddenSize], isLinear: false) }
    self.init(
      folder: config.folder, spec: spec, fp8: fp8, isQuantized: quantization != nil,
      redundantHead: head,
      tensors: tensors, notes: [Self.note(listing)] + spec.notes.map(\.description))
  }

  private init(
    folder: String, spec: ModelSpec, fp8: FP8Format?, isQuantized: Bool, redundantHead: String?,
    tensors: [TensorSpec], notes: [String]
  ) {
    self.folder = folder
    self.spec = spec
    self.fp8 = fp8
    self.isQuantized = isQuantized
    self.redundantHead = redundantHead
    self.tensors = tensors.sorted { $0.name < $1.name }
    self.notes = notes
    totalBytes = tensors.reduce(0) { $0 + $1.byteCount }
    positions = Dictionary(
      self.tensors.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  private static func note(_ listing: ShardListing) -> String {
    let count =
      listing.missing.count == listing.shards.count
      ? "the weights are not here"
      : "\(listing.missing.count) of \(counted(listing.shards.count, "shard")) \(listing.missing.count == 1 ? "is" : "are") not here"
    return "\(count): names, types and shapes are those of config.json"
      + (listing.tensors == nil ? "" : " and the index")
  }

  // MARK: What is asked of them

  package subscript(name: String) -> TensorSpec? { positions[name].map { tensors[$0] } }

  /// A tensor that the model's description claims.
  package func tensor(_ name: String) -> TensorSpec {
    guard let tensor = self[name] else {
      preconditionFailure("\(name) was not checked when the shapes were made")
    }
    return tensor
  }

  /// Whether no output has a tensor: one that belongs to the way in which weights are stored here, or a head that is the
  /// embedding once more.
  package func isLeftOut(_ tensor: String) -> Bool {
    fp8?.module(scaledBy: tensor) != nil || tensor == redundantHead
  }

  /// Scales of static activations, of which an output with quantized weights alone has none.
  package var activationScales: Int {
    guard let fp8 else { return 0 }
    return tensors.count { fp8.isActivationScale($0.name) }
  }

  /// Bytes of a Linear's weight, scales included.
  package func byteCount(_ linear: LinearSpec) -> Int {
    CompressionFormats.weightParts.reduce(0) {
      $0 + (self[linear.name + $1.suffix]?.byteCount ?? 0)
    }
  }

  /// Bytes of one number of a Linear's weight, without scales.
  package func byteWidth(_ linear: LinearSpec) -> Int { tensor(linear.weight).dtype.byteWidth }

  /// Whether a Linear's weight goes into products in bfloat16 without losing anything of a plain weight.
  package func isBF16(_ linear: LinearSpec) -> Bool {
    tensor(linear.weight).dtype.unscaled == .bf16
  }
}

extension ModelSpec {
  /// The name that a head has where it is stored although the embedding stands for it; nil where it is not tied.
  var redundantHead: String? { tiesEmbeddings ? "lm_head.weight" : nil }

  /// The tensors of prediction layers, as far as they are like those that were published: a whole layer, its own
  /// embedding and head, and what joins them.
  ///
  /// Source: deepseek-ai/DeepSeek-V3, README_WEIGHTS.md.
  fileprivate var predictionClaims: [TensorClaim] {
    guard let last = layers.last else { return [] }
    let own = "model.layers.\(last.index)."
    return passedThrough.flatMap { prefix in
      last.claims.map { claim in
        TensorClaim(prefix + claim.name.dropFirst(own.count), claim.shape, linear: claim.linear)
      } + [
        TensorClaim(prefix + "eh_proj.weight", [hiddenSize, 2 * hiddenSize]),
        TensorClaim(prefix + "enorm.weight", [hiddenSize]),
        TensorClaim(prefix + "hnorm.weight", [hiddenSize]),
        TensorClaim(prefix + "shared_head.norm.weight", [hiddenSize]),
        TensorClaim(prefix + "shared_head.head.weight", [vocabularySize, hiddenSize]),
        TensorClaim(prefix + "embed_tokens.weight", [vocabularySize, hiddenSize]),
      ]
    }
  }
}
