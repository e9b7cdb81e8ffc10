// The weights of a checkpoint by name, plain, FP8 or quantized, decoded from the mapping when a product needs them.

package import LinearAlgebra
package import Models
package import Safetensors
internal import Quantization
internal import SystemIO
package import Tensors
package import Transformer

/// All weights of an opened checkpoint.
package struct CheckpointWeights: SourceWeights {
  /// Tiles of this many bytes are let go of at once.
  package static let releasedTile = 256 << 10

  /// Every stored tensor; those that hold Linears of all experts of a layer in slices, one for each.
  package let pieces: ShardedModel
  /// Parameters that are no tensors of their own names, but those that are stored as codes.
  package let places: [String: StoredPlace]
  /// Weights that are stored as codes in blocks.
  private let blocks: [String: StoredPlace]
  private let schemes: LinearSchemes?
  private let fp8: FP8Format?
  /// Weights that are stored as codes, by the names that they have in the model.
  private var coded: [String: CodedParameter] = [:]
  package var isHeld = false
  package var isServed = false
  private var ledger: Ledger?

  /// The model's tensors must have been checked against its description.
  ///
  /// - Parameters:
  ///   - schemes: of Linears that are quantized as config.json says.
  ///   - fp8: of FP8 weights.
  ///   - places: of parameters that are no tensors of their own names.
  /// - Throws: `SafetensorsError.duplicateName` where a tensor has the name of another's slice.
  package init(
    _ model: ShardedModel, schemes: LinearSchemes?, fp8: FP8Format? = nil,
    places: [String: StoredPlace] = [:]
  ) throws(SafetensorsError) {
    pieces = try model.cut(
      Set(places.values.filter { $0.index != nil }.flatMap(\.tensors)), called: StoredPlace.piece)
    self.places = places.filter { $0.value.scales == nil }
    blocks = places.filter { $0.value.scales != nil }
    self.schemes = schemes
    self.fp8 = fp8
  }

  /// These weights, those that are stored as codes under the names that they have in the model.
  ///
  /// - Parameter dtype: of weights whose scales have a type of their own.
  func decoding(_ linears: [LinearSpec], dtype: DType) -> CheckpointWeights {
    guard let schemes else { return self }
    var result = self
    for linear in linears {
      guard let codec = schemes.stored(linear)?.codec else { continue }
      let pieces = codec.tensors.compactMap { self.pieces[$0.name] }
      let scales = pieces.first { $0.dtype.isWeight && $0.shape.count == 2 }
      result.coded[linear.weight] = CodedParameter(
        codec: codec, shape: [linear.outputs, linear.inputs], dtype: scales?.dtype ?? dtype,
        pieces: pieces)
    }
    return result
  }

  /// These weights, those that are stored in blocks under the names that they have in the model.
  ///
  /// - Parameter dtype: of weights whose scales have no such type.
  func decodingBlocks(_ linears: [LinearSpec], dtype: DType) -> CheckpointWeights {
    if blocks.isEmpty { return self }
    var result = self
    for linear in linears {
      guard let place = blocks[linear.weight], let scales = place.scalesPiece else { continue }
      let codec = Microscaled.codec(linear, blocks: place.piece, scales: scales)
      result.coded[linear.weight] = CodedParameter(
        codec: codec, shape: [linear.outputs, linear.inputs], dtype: dtype,
        pieces: codec.tensors.compactMap { pieces[$0.name] })
    }
    return result
  }

  /// These weights; what is let go of is written down.
  package func noted(in ledger: Ledger) -> CheckpointWeights {
    var result = self
    result.ledger = ledger
    return result
  }

  package func dtype(of name: String) -> DType { parameter(name).dtype }

  package func rank(of name: String) -> Int { parameter(name).shape.count }

  package func isInOnePiece(_ name: String) -> Bool { parameter(name).tensor != nil }

  package func rows(ofTensor name: String) -> any WeightRows { rows(of: parameter(name)) }

  // MARK: Parameters

  /// The names of all parameters, sorted: what the tensors would be called if each were one by itself.
  package var names: [String] {
    if places.isEmpty, coded.isEmpty { return pieces.tensors.map(\.name) }
    let shared = Set(places.values.map(\.piece)).union(coded.values.flatMap(\.pieces).map(\.name))
    let alone = pieces.tensors.map(\.name).filter { name in
      !shared.contains(name) && (coded.isEmpty || !isActivationScale(name))
    }
    return (alone + places.keys + coded.keys).sorted()
  }

  /// How many parameters there are.
  package var count: Int {
    places.isEmpty
      ? pieces.tensors.count
      : pieces.tensors.count - Set(places.values.map(\.piece)).count + places.count
  }

  /// Whether a tensor is the scale of activations that a quantized Linear reads, or of keys and values.
  package func isActivationScale(_ name: String) -> Bool {
    CompressionFormats.isActivationScale(name, schemes) { coded[$0] != nil }
  }

  /// A parameter by its name in the model; nil where the checkpoint has none.
  package func find(_ name: String) -> StoredParameter? {
    if let coded = coded[name] { return StoredParameter(name, coded) }
    guard let place = places[name] else { return pieces[name].map { StoredParameter($0) } }
    return pieces[place.piece].map { StoredParameter(name, at: place, in: $0) }
  }

  /// A parameter that the model's description claims.
  package func parameter(_ name: String) -> StoredParameter {
    guard let parameter = find(name) else {
      preconditionFailure("\(name) was not checked when the checkpoint was opened")
    }
    return parameter
  }

  /// A stored tensor.
  package func tensor(_ name: String) -> StoredTensor {
    guard let tensor = pieces[name] else {
      preconditionFailure("\(name) was not checked when the checkpoint was opened")
    }
    return tensor
  }

  package func vector(_ name: String) -> [Float] { parameter(name).vector() }

  package func weight(_ linear: LinearSpec) -> any WeightRows {
    codedWeight(linear) ?? rows(of: parameter(linear.weight))
  }

  package func read(_ x: Matrix, by linear: LinearSpec, backend: Backend) -> Matrix {
    guard isServed, let activations = activations(linear) else { return x }
    return activations.rounded(x, backend: backend)
  }

  package func keep(
    _ x: Matrix, as part: KeyValueCache.Part, in cache: KeyValueCache, backend: Backend
  ) {
    guard isServed, let scheme = cacheScheme else { return }
    scheme.quantizer(part, of: cache) { pieces[$0] }.round(x, into: x, backend: backend)
  }

  private var cacheScheme: CacheScheme? { schemes?.cache ?? fp8?.cache }

  private func activations(_ linear: LinearSpec) -> ActivationQuantizer? {
    if let coded = schemes?.stored(linear) { return coded.codec.activations { pieces[$0] } }
    guard let fp8, find(linear.weight)?.dtype == .f8E4M3 else { return nil }
    return fp8.activations(of: linear.name, columns: linear.inputs) { pieces[$0] }
  }

  /// What keeps the inputs of Linears, or keys and values, from being computed as an engine computes them: a way to
  /// quantize them that is not known, or a stored number that is none. nil where nothing does.
  package func activationProblem(of spec: ModelSpec) -> ActivationProblem? {
    if let problem = cacheScheme.flatMap({ cacheProblem($0, spec) }) { return problem }
    for linear in spec.layers.flatMap(\.linears) {
      let scheme = schemes?[linear]?.inputActivations ?? fp8Inputs(linear)
      guard let scheme else { continue }
      if !ActivationQuantizer.isServed(scheme) {
        return .unknown(module: linear.name, words: scheme.words)
      }
      if scheme.dynamic == .always { continue }
      let names = CompressionFormats.activationParts.map { linear.parameter($0) }
      guard let tensor = names.compactMap({ pieces[$0] }).first else {
        return .missing(module: linear.name)
      }
      let value = tensor.byteCount == tensor.dtype.byteWidth ? tensor.firstNumber : .nan
      if !(value > 0 && value.isFinite) {
        return .wrong(
          file: tensor.file.path, tensor: tensor.name, found: "\(tensor.text) of \(value)")
      }
    }
    return nil
  }

  private func cacheProblem(_ scheme: CacheScheme, _ spec: ModelSpec) -> ActivationProblem? {
    if let module = spec.moduleWithoutCache { return .otherCache(module: module) }
    for cache in spec.layers.flatMap(\.caches).map(\.cache) {
      for part in KeyValueCache.Part.allCases {
        let name = CacheScheme.tensorName(part, of: cache)
        guard let tensor = pieces[name] else { return .missingCache(tensor: name) }
        if let problem = scheme.fault(tensor, heads: cache.heads) {
          return .wrongCache(file: tensor.file.path, tensor: name, problem: problem)
        }
      }
    }
    return nil
  }

  private func fp8Inputs(_ linear: LinearSpec) -> QuantizationArguments? {
    find(linear.weight)?.dtype == .f8E4M3 ? fp8?.inputs : nil
  }

  /// nil for a weight that is not quantized as config.json says.
  package func codedWeight(_ linear: LinearSpec) -> (any CodedWeight)? {
    schemes?.stored(linear)?.codec.decode { pieces[$0] }
  }

  /// The numbers of a weight, whether they are scaled or not, and wherever they lie: the one place that chooses a
  /// decoder.
  package func rows(of parameter: StoredParameter) -> any WeightRows {
    if let coded = parameter.coded { return coded.rows }
    guard let tensor = parameter.tensor else {
      guard let rows = parameter.scatteredRows(isHeld: isHeld) else {
        preconditionFailure("\(parameter.name) lies nowhere")
      }
      return rows
    }
    guard let fp8, let module = tensor.fp8Module else {
      return StoredWeight(tensor, isHeld: isHeld)
    }
    return FP8Weight(
      tensor, scales: self.tensor(fp8.scales(of: module)), format: fp8, isHeld: isHeld)
  }

  /// The scale of one number of a weight, where it is FP8: in which tensor, and where.
  func scale(
    of parameter: StoredParameter, row: Int, column: Int
  ) -> (tensor: StoredTensor, row: Int, column: Int)? {
    guard let fp8, let module = parameter.tensor?.fp8Module else { return nil }
    let block = fp8.block(of: parameter.shape)
    return (self.tensor(fp8.scales(of: module)), row / block.rows, column / block.columns)
  }

  /// The rows of an embedding, `[tokens, columns]`. Read, not mapped: a row here and there would map their neighbours.
  package func embed(
    _ tokens: [Int32], _ name: String, columns: Int, backend: Backend
  ) throws -> Matrix {
    if let coded = coded[name] {
      return embed(
        tokens, coded.rows, bytes: coded.bytes, rowBytes: coded.rowBytes, coded.pieces, backend)
    }
    let tensor = tensor(name)
    if let fp8, let module = tensor.fp8Module {
      return embed(
        tokens, rows(of: parameter(name)), bytes: tensor.byteCount, rowBytes: columns,
        [tensor, self.tensor(fp8.scales(of: module))], backend)
    }
    let result = backend.matrix("hidden states of a block", rows: tokens.count, columns: columns)
    let bytes = columns * tensor.dtype.byteWidth
    let row = Buffer("an embedding", byteCount: bytes, from: backend.memory)
    backend.ledger.note(.source, bytes: tokens.count * bytes)
    for (index, token) in tokens.enumerated() {
      try unsafe tensor.read(bytes: Int(token) * bytes..<(Int(token) + 1) * bytes, into: row.bytes)
      unsafe tensor.dtype.decode(row.bytes.baseAddress!, count: columns, into: result.row(index))
    }
    return result
  }

  /// Of an embedding that is stored as codes, in these pieces.
  private func embed(
    _ tokens: [Int32], _ rows: any WeightRows, bytes: Int, rowBytes: Int,
    _ pieces: [StoredTensor], _ backend: Backend
  ) -> Matrix {
    let result = backend.matrix(
      "hidden states of a block", rows: tokens.count, columns: rows.columns)
    backend.ledger.note(.source, bytes: tokens.count * rowBytes)
    EmbeddingRows.noteMapping(of: bytes, rowBytes: rowBytes, backend.ledger)
    for (index, token) in tokens.enumerated() {
      unsafe rows.decode(Int(token)..<Int(token) + 1, into: result.row(index))
      if (index + 1) % EmbeddingRows.together == 0 || index + 1 == tokens.count {
        for piece in pieces { piece.release() }
      }
    }
    return result
  }

  /// What the numbers of some parameters are made of, each once: stored tensors, slices of them, and scales of FP8.
  package func pieces(of names: [String]) -> [StoredTensor] {
    var seen: Set<String> = []
    return names.flatMap { name -> [StoredTensor] in
      let parameter = parameter(name)
      if let coded = parameter.coded { return coded.pieces }
      if !places.isEmpty, !seen.insert(parameter.piece.name).inserted { return [] }
      guard let fp8, let module = parameter.tensor?.fp8Module else { return [parameter.piece] }
      return [parameter.piece, tensor(fp8.scales(of: module))]
    }
  }

  /// What is wrong with a tensor that says what shape a weight has; nil for any other tensor.
  package func shapeFault(_ tensor: StoredTensor) -> StoredFault? {
    guard tensor.dtype == .i64, !coded.isEmpty, let end = tensor.name.lastIndex(of: ".") else {
      return nil
    }
    let weight = ParameterName.weight(of: String(tensor.name[..<end]))
    return coded[weight]?.codec.shapeFault(tensor)
  }

  // MARK: Memory

  /// Lets the memory of a Linear go that was read to its end, unless these weights are held.
  package func letGo(_ linear: LinearSpec) { if !isHeld { release([linear]) } }

  /// Lets the memory of some Linears go; they are read again when they are needed again.
  package func release(_ linears: [LinearSpec]) {
    for linear in linears { ledger?.letGo(linear.name) }
    for parameter in linears.flatMap(parameters) { parameter.extent.release() }
  }

  package func release(tensor name: String) { release(parameter(name)) }

  /// Lets the memory of a parameter go, and of the scales beside it.
  package func release(_ parameter: StoredParameter) {
    ledger?.letGo(WeightPages.key(ofTensor: parameter.name))
    parameter.extent.release()
    for piece in parameter.coded?.pieces ?? [] { piece.release() }
    if let fp8, let module = parameter.tensor?.fp8Module {
      pieces[fp8.scales(of: module)]?.release()
    }
  }

  /// Lets the memory and the page cache of Linears go that will not be needed again, nor what lies between their numbers.
  package func discard(_ linears: [LinearSpec]) {
    for linear in linears { ledger?.letGo(linear.name) }
    for parameter in linears.flatMap(parameters) { parameter.extent.discard() }
  }

  /// Lets go of every page that is mapped of the model: also those of norms and biases, and their neighbours.
  package func releaseAll() {
    ledger?.letGoOfAll()
    for file in pieces.files {
      if let mapped = file.tensors.first?.file { mapped.release(0..<mapped.byteCount) }
    }
  }

  /// What a product with a Linear's weight reads.
  package func parameters(_ linear: LinearSpec) -> [StoredParameter] {
    if blocks[linear.weight] != nil, let coded = coded[linear.weight] {
      return coded.pieces.map { StoredParameter($0) }
    }
    return CompressionFormats.weightParts.compactMap { part in
      let name = linear.parameter(part.suffix)
      return coded.isEmpty ? find(name) : pieces[name].map { StoredParameter($0) }
    }
  }

  /// Bytes of a Linear's weight, scales included.
  package func byteCount(_ linear: LinearSpec) -> Int {
    parameters(linear).reduce(0) { $0 + $1.byteCount }
  }
}
