// What a checkpoint holds, without its bytes: names, types and shapes, of its files or as config.json and the index tell
// them before the files are there.

internal import JSON
package import Models
internal import Quantization
package import Safetensors
internal import Tensors
package import Transformer

/// The shapes that everything but the numbers of an output follows from.
package struct CheckpointShapes: Sendable {
  package let folder: String
  package private(set) var spec: ModelSpec
  /// Every tensor, sorted by name; where Linears share one, each of them as if it had its own.
  package let tensors: [TensorSpec]
  /// Every tensor as its file has it, sorted by name; nil for a checkpoint that is there, whose files tell it.
  package let stored: [TensorSpec]?
  private let places: [String: StoredPlace]
  package let totalBytes: Int
  /// What its owner should know.
  package let notes: [String]
  /// Of Linears that are quantized as config.json says.
  private let schemes: LinearSchemes?
  private let fp8: FP8Format?
  /// Pages of weights that are stored as codes, by the names that they have in the model.
  private let coded: [String: (bytes: Int, rowBytes: Int)]
  /// Scales of static activations.
  package let activationScales: Int
  private let redundantHead: String?
  private let positions: [String: Int]

  /// The shapes of a checkpoint that is there.
  package init(_ checkpoint: Checkpoint) {
    let parameters = checkpoint.weights.names.map(checkpoint.weights.parameter)
    self.init(
      folder: checkpoint.folder, spec: checkpoint.spec, fp8: checkpoint.fp8,
      schemes: checkpoint.schemes, redundantHead: checkpoint.redundantHead,
      tensors: parameters.map {
        TensorSpec(name: $0.name, dtype: $0.dtype, shape: $0.shape)
      }, stored: nil,
      coded: Dictionary(
        uniqueKeysWithValues: parameters.compactMap { each in
          each.coded.map { (each.name, $0.codec.pages) }
        }),
      activationScales: checkpoint.model.tensors.count {
        checkpoint.weights.isActivationScale($0.name)
          || checkpoint.fp8?.isActivationScale($0.name) == true
      }, places: checkpoint.weights.places, notes: checkpoint.notes)
  }

  /// As config.json says, and the index where there is one. Types are the one that config.json names, and FP8 where it
  /// says so; a prediction layer is taken to be like the last layer, experts that share a tensor to lie in it as in
  /// most classes, and MXFP4 to have the names that it was published with.
  ///
  /// - Throws: `CheckpointError` where the index does not list what config.json asks for.
  package init(_ config: CheckpointConfig, listing: ShardListing) throws {
    let storage = try config.storage()
    let spec = config.spec
    let fp8: FP8Format? = if case .fp8(let format) = storage { format } else { nil }
    let quantization: QuantizationConfig? =
      if case .compressed(let config) = storage { config } else { nil }
    let schemes = try quantization?.schemes(of: spec, file: config.file) { name in
      // A plain head, where the index has it; what is quantized has scales.
      listing.tensors.map { $0.contains(name) && !$0.contains(name + "_scale") } ?? false
    }
    let ignored = try IgnoredModules(fp8?.ignore ?? [], file: config.file)
    let linears = Set(spec.layers.flatMap(\.linears).map(\.weight))
    let corrections = Set(spec.layers.flatMap(\.routers).compactMap(\.correctionBias))
    var tensors: [TensorSpec] = []
    func add(
      _ name: String, _ shape: [Int], as dtype: DType? = nil, isLinear: Bool
    ) throws(IgnorePatternError) {
      guard let fp8, isLinear, dtype == nil, let module = ParameterName.module(ofWeight: name),
        try ignored.pattern(matching: module) == nil
      else {
        tensors.append(TensorSpec(name: name, dtype: dtype ?? config.dtype, shape: shape))
        return
      }
      tensors.append(TensorSpec(name: name, dtype: .f8E4M3, shape: shape))
      tensors.append(
        TensorSpec(
          name: fp8.scales(of: module), dtype: .f32, shape: fp8.scaleShapes(of: shape)[0]))
    }
    var coded: [String: (bytes: Int, rowBytes: Int)] = [:]
    var codes: [String: [TensorSpec]] = [:]
    for linear in spec.quantizable {
      guard let codec = schemes?.stored(linear)?.codec else { continue }
      coded[linear.weight] = codec.pages
      codes[linear.weight] = codec.tensors
      try add(linear.weight, [linear.outputs, linear.inputs], as: config.dtype, isLinear: true)
    }
    for each in spec.expectations(schemes) where each.module == nil {
      let type: DType? = corrections.contains(each.name) ? .f32 : each.dtype
      try add(each.name, each.shape, as: type, isLinear: linears.contains(each.name))
    }
    let known = Set(tensors.map(\.name)).union(spec.expectations(schemes).map(\.name))
    var places: [String: StoredPlace] = [:]
    var listed: Set<String>?
    var shared: [TensorSpec] = []
    if let names = listing.tensors.map({ Set($0) })
      ?? (storage == .blocks ? spec.namesInBlocks : nil)
    {
      let forms = StorageForm.all.filter { $0.scales == nil || storage == .blocks }
      let parameters = spec.parameters(among: names, forms: forms)
      (listed, places) = (parameters.names, parameters.places)
      shared = Self.shared(places.values.filter { $0.scales == nil }, as: config.dtype)
      for linear in spec.layers.flatMap(\.linears) {
        guard let place = places[linear.weight], let scales = place.scalesPiece else { continue }
        let codec = Microscaled.codec(linear, blocks: place.piece, scales: scales)
        coded[linear.weight] = codec.pages
        codes[linear.weight] = []
        if place.index ?? 0 == 0 {
          let count = parameters.places.values.count { $0.tensor == place.tensor }
          let shapes = Microscaled.shapes(ofBlocks: linear)
          shared += zip(place.tensors, [shapes.blocks, shapes.scales]).map { name, shape in
            TensorSpec(
              name: name, dtype: .u8, shape: (place.index == nil ? [] : [count]) + shape)
          }
        }
        places[linear.weight] = nil
      }
    }
    if let listed {
      let expected = spec.expectations(schemes).map(\.name)
      try Checkpoint.checkNames(
        folder: config.folder, spec, found: listed.sorted(),
        missing: expected.filter { !listed.contains($0) })
      let unknown = listed.filter {
        !known.contains($0) && !spec.passesThrough($0) && $0 != spec.redundantHead
          && fp8?.isAbout($0) != true
          && !CompressionFormats.isActivationScale($0, schemes) { coded[$0] != nil }
      }
      if !unknown.isEmpty {
        throw CheckpointError.unclaimed(
          folder: config.folder, count: unknown.count, names: Array(unknown.sorted().prefix(5)))
      }
    }
    var added = Set(tensors.map(\.name))
    for claim in spec.predictionClaims
    where listed?.contains(claim.name) != false && added.insert(claim.name).inserted {
      try add(claim.name, claim.shape, isLinear: claim.linear != nil)
    }
    let head = spec.redundantHead.flatMap { listed?.contains($0) == true ? $0 : nil }
    if let head { try add(head, [spec.vocabularySize, spec.hiddenSize], isLinear: false) }
    let own = tensors.flatMap { tensor in
      codes[tensor.name] ?? (places[tensor.name] == nil ? [tensor] : [])
    }
    self.init(
      folder: config.folder, spec: spec, fp8: fp8, schemes: schemes,
      redundantHead: head, tensors: tensors,
      stored: (own + shared).sorted { $0.name < $1.name }, coded: coded,
      activationScales: listed?.count {
        CompressionFormats.isActivationScale($0, schemes) { coded[$0] != nil }
          || fp8?.isActivationScale($0) == true
      } ?? 0, places: places,
      notes: [Self.note(listing)] + spec.notes.map(\.description))
  }

  private init(
    folder: String, spec: ModelSpec, fp8: FP8Format?, schemes: LinearSchemes?,
    redundantHead: String?,
    tensors: [TensorSpec], stored: [TensorSpec]?, coded: [String: (bytes: Int, rowBytes: Int)],
    activationScales: Int,
    places: [String: StoredPlace], notes: [String]
  ) {
    self.folder = folder
    self.spec = spec
    self.fp8 = fp8
    self.schemes = schemes
    self.redundantHead = redundantHead
    self.tensors = tensors.sorted { $0.name < $1.name }
    self.stored = stored
    self.places = places
    self.coded = coded
    self.activationScales = activationScales
    self.notes =
      notes
      + (coded.isEmpty ? [] : ["the weights are quantized already: what that lost stays lost"])
    totalBytes = tensors.reduce(0) { $0 + (coded[$1.name]?.bytes ?? $1.byteCount) }
    positions = Dictionary(
      self.tensors.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// The tensors that hold several parameters each, with the rows of these one after the other.
  private static func shared(_ places: [StoredPlace], as dtype: DType) -> [TensorSpec] {
    Dictionary(grouping: places, by: \.tensor).map { tensor, places in
      let experts = places.compactMap(\.index).max().map { [$0 + 1] } ?? []
      let count = places.map(\.extent.upperBound).max() ?? 0
      let piece =
        places[0].shape.count == 1
        ? [count] : [count / max(1, places[0].columns), places[0].columns]
      return TensorSpec(name: tensor, dtype: dtype, shape: experts + piece)
    }
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

  /// What an engine makes of a Linear's input, with another stored number; nil where it takes it as it is.
  func activations(_ linear: LinearSpec) -> ActivationQuantizer? {
    if let coded = schemes?.stored(linear) { return coded.codec.activations { _ in nil } }
    guard let fp8, self[linear.weight]?.dtype == .f8E4M3 else { return nil }
    return fp8.activations(of: linear.name, columns: linear.inputs) { _ in nil }
  }

  /// What becomes of keys or values, with other stored numbers; nil where they are kept as they are.
  func cached(_ part: KeyValueCache.Part, in cache: KeyValueCache) -> ActivationQuantizer? {
    (schemes?.cache ?? fp8?.cache)?.quantizer(part, of: cache) { _ in nil }
  }

  /// These shapes as another description of the same model sees them.
  func with(_ spec: ModelSpec) -> CheckpointShapes {
    var result = self
    result.spec = spec
    return result
  }

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
    fp8?.isAbout(tensor) == true || tensor == redundantHead
  }

  /// The pages of a weight that is stored as codes, FP8 among them; nil for another.
  func codedPages(_ weight: String) -> (bytes: Int, rowBytes: Int)? {
    if let pages = coded[weight] { return pages }
    let tensor = tensor(weight)
    return tensor.dtype == .f8E4M3 ? (tensor.byteCount, tensor.shape[1]) : nil
  }

  /// Whether a weight is stored as codes that a scheme describes.
  package func isCoded(_ weight: String) -> Bool { coded[weight] != nil }

  /// Bytes of a Linear's weight, scales included.
  package func byteCount(_ linear: LinearSpec) -> Int {
    if let coded = coded[linear.weight] { return coded.bytes }
    return CompressionFormats.storedBytes(of: linear) { self[$0]?.byteCount }
  }

  /// Bytes that are mapped where all of some weights are read: others that lie between their numbers count.
  package func mappedBytes(_ linears: [LinearSpec]) -> Int {
    let shared = linears.compactMap { linear in
      places[linear.weight].map { ($0, byteWidth(linear)) }
    }
    return StoredPlace.mappedBytes(shared)
      + linears.reduce(0) { $0 + (places[$1.weight] == nil ? byteCount($1) : 0) }
  }

  /// Bytes that are mapped where all of one parameter is read.
  package func mappedBytes(_ name: String) -> Int {
    if let coded = coded[name] { return coded.bytes }
    let tensor = tensor(name)
    return places[name].map { StoredPlace.mappedBytes([($0, tensor.dtype.byteWidth)]) }
      ?? tensor.byteCount
  }

  /// Bytes that are mapped where some rows of a weight are read; nil where every row spans all of it.
  package func tileBytes(_ weight: String, rows: Int) -> Int? {
    if let coded = coded[weight] { return rows * coded.rowBytes }
    let tensor = tensor(weight)
    let width = tensor.dtype.byteWidth
    guard let place = places[weight] else { return rows * tensor.shape[1] * width }
    return place.isByRows ? place.span(rows: rows) * width : nil
  }

  /// Bytes that are mapped where some rows of a Linear's weight are read, plain or packed; nil where every row spans all
  /// of it.
  package func tileBytes(_ linear: LinearSpec, rows: Int) -> Int? {
    self[linear.weight] != nil
      ? tileBytes(linear.weight, rows: rows) : rows * byteCount(linear) / max(1, linear.outputs)
  }

  /// Whether a parameter's numbers lie one after the other, as in a tensor of its own.
  package func isInOnePiece(_ name: String) -> Bool {
    places[name]?.isInOnePiece ?? (coded[name] == nil)
  }

  /// Bytes of one number of a Linear's weight, without scales.
  package func byteWidth(_ linear: LinearSpec) -> Int { tensor(linear.weight).dtype.byteWidth }

  /// Whether a Linear's weight goes into products in bfloat16 without losing anything of a plain weight.
  package func isBF16(_ linear: LinearSpec) -> Bool {
    // What a scheme describes is decoded to float32.
    coded[linear.weight] == nil && self[linear.weight]?.dtype.unscaled == .bf16
  }
}

extension ModelSpec {
  /// The name that a head has where it is stored although the embedding stands for it; nil where it is not tied.
  var redundantHead: String? { tiesEmbeddings ? ParameterName.weight(of: names.head) : nil }

  /// The tensors of prediction layers, as far as they are like those that were published: a whole layer, its own
  /// embedding and head, and what joins them.
  ///
  /// Source: deepseek-ai/DeepSeek-V3, README_WEIGHTS.md.
  fileprivate var predictionClaims: [TensorClaim] {
    guard let last = layers.last(where: { $0.entrance == nil }) else { return [] }
    let entrances = predictions.compactMap(\.entrance).flatMap(\.claims)
    return entrances
      + predictionPrefixes.flatMap { prefix in
        func weight(_ module: String, _ shape: [Int]) -> TensorClaim {
          TensorClaim(ParameterName.weight(of: prefix + module), shape)
        }
        // They are claimed where they are layers among the others.
        let claims = predicts ? [] : last.claims
        let layer = claims.map { claim in
          TensorClaim(
            predictionName(prefix, claim.name, after: last), claim.shape, linear: claim.linear)
        }
        // Beside the model, they have its embedding and head.
        if !prefix.hasPrefix(names.model) { return layer }
        return layer + [
          weight("eh_proj", [hiddenSize, 2 * hiddenSize]), weight("enorm", [hiddenSize]),
          weight("hnorm", [hiddenSize]), weight("shared_head.norm", [hiddenSize]),
          weight("shared_head.head", [vocabularySize, hiddenSize]),
          weight("embed_tokens", [vocabularySize, hiddenSize]),
        ]
      }
  }
}
