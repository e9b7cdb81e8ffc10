// What decoders in Llama's layout share: sizes, names of tensors, and the layers made of them.

internal import JSON
internal import Transformer

/// The sizes that every such config.json has.
struct DecoderReader {
  let hidden: Int
  let layerCount: Int
  let heads: Int
  let epsilon: Float
  /// What is added to the weights of norms.
  let normOffset: Float
  let activation: Activation
  /// Of every norm.
  var normKind = NormSpec.Kind.rootMeanSquare
  /// Whether logits have a bias.
  var headHasBias = false
  private let architecture: String
  fileprivate let names: ModelNames
  private let vocabulary: Int
  private let tied: Bool
  private let spelling: Spelling

  /// Keys of config.json, and names of modules.
  struct Spelling {
    var epsilon = ["rms_norm_eps"]
    var tied = ["tie_word_embeddings"]
    var embedding = "embed_tokens"
    var finalNorm = "norm"
  }

  /// Gated units with SiLU, and norms whose weights are what they multiply by.
  ///
  /// - Parameter isTied: whether embedding and head are one where nothing is said.
  init(
    _ config: inout ConfigReader, isTied: Bool = false, spelling: Spelling = Spelling()
  ) throws(ConfigError) {
    try config.require("hidden_act", toBe: "silu")
    try self.init(
      &config, activation: .silu, normOffset: 0, isTied: isTied, spelling: spelling)
  }

  /// Gated units with SiLU, and norms whose weights are stored as their distance from 1.
  init(offsetNorms config: inout ConfigReader) throws(ConfigError) {
    try config.require("hidden_act", toBe: "silu")
    try self.init(&config, activation: .silu, normOffset: 1, isTied: false)
  }

  /// - Parameters:
  ///   - activation: what its caller has read.
  ///   - normOffset: what is added to the weights of norms.
  ///   - isTied: whether embedding and head are one where nothing is said.
  ///   - layers: how many there are, where its caller has read it.
  init(
    _ config: inout ConfigReader, activation: Activation, normOffset: Float, isTied: Bool,
    layers: Int? = nil, spelling: Spelling = Spelling()
  ) throws(ConfigError) {
    self.spelling = spelling
    self.activation = activation
    self.normOffset = normOffset
    architecture = config.architecture
    names = config.names
    hidden = try config.int("hidden_size")
    heads = try config.int("num_attention_heads")
    epsilon = Float(try config.positive(spelling.epsilon))
    vocabulary = try config.int("vocab_size")
    if let layers {
      layerCount = layers
    } else {
      layerCount = try config.int("num_hidden_layers")
    }
    tied = try config.bool(spelling.tied, default: isTied)
    // Long texts cut into chunks that turn anew.
    config.passOver(
      "dual_chunk_attention_config",
      because:
        "as transformers does; it changes nothing in texts that are shorter than a chunk, and vLLM 0.33 "
        + "cannot load a model that has it: take it out of the output's config.json to serve it")
  }

  /// - Parameters:
  ///   - predictionLayers: multi-token-prediction layers behind the decoder's own, there or not.
  ///   - chain: how they are joined; nil where they stay as they are.
  func model(
    predictionLayers: Int = 0, chain: PredictionChain? = nil,
    _ layer: (LayerNames) -> LayerSpec
  ) -> ModelSpec {
    var spec = ModelSpec(
      architecture: architecture, names: names, vocabularySize: vocabulary, hiddenSize: hidden,
      embedding: ParameterName.weight(of: names.model + spelling.embedding),
      layers: (0..<layerCount).map { layer(LayerNames(self, index: $0)) },
      finalNorm: NormSpec(
        names.model + spelling.finalNorm, size: hidden, epsilon: epsilon, offset: normOffset,
        kind: normKind),
      head: LinearSpec(
        tied ? names.model + spelling.embedding : names.head, inputs: hidden, outputs: vocabulary,
        hasBias: headHasBias),
      passedThrough: (0..<predictionLayers).map { names.layer(layerCount + $0) })
    guard let chain else { return spec }
    spec.predictions = (0..<predictionLayers).map { number in
      var prediction = layer(LayerNames(self, index: layerCount + number))
      prediction.entrance = chain.entrance(self, number: number, behind: spec.finalNorm)
      return prediction
    }
    return spec
  }
}

/// The tensors of one layer, by their names behind its own, `model.layers.<index>.`.
struct LayerNames {
  let index: Int
  private let decoder: DecoderReader
  private let prefix: String

  /// - Parameter prefix: what its tensors' names begin with, where that does not follow from its number.
  init(_ decoder: DecoderReader, index: Int, prefix: String? = nil) {
    self.decoder = decoder
    self.index = index
    self.prefix = prefix ?? decoder.names.layer(index)
  }

  func name(_ name: String) -> String { prefix + name }

  func norm(_ name: String, _ size: Int, epsilon: Float? = nil) -> NormSpec {
    NormSpec(
      prefix + name, size: size, epsilon: epsilon ?? decoder.epsilon, offset: decoder.normOffset,
      kind: decoder.normKind)
  }

  /// - Parameter servedAs: names by which inference engines may ask config.json for it, too.
  func linear(
    _ name: String, _ inputs: Int, _ outputs: Int, bias: Bool = false, servedAs: [String] = []
  ) -> LinearSpec {
    LinearSpec(
      prefix + name, inputs: inputs, outputs: outputs, hasBias: bias,
      standsFor: servedAs.map { prefix + $0 })
  }

  /// - Parameters:
  ///   - name: of the module.
  ///   - size: F.
  ///   - inputs: what it reads and gives; nil for the states' width.
  ///   - projections: names of gate, up and down; without a gate where that is nil.
  ///   - activation: nil for that of most units.
  ///   - outputGate: the name of a Linear with one output.
  func mlp(
    _ name: String, _ size: Int, inputs: Int? = nil, bias: Bool = false,
    projections: (gate: String?, up: String, down: String) = ("gate_proj", "up_proj", "down_proj"),
    activation: Activation? = nil, outputGate: String? = nil
  ) -> UnitSpec {
    let hidden = inputs ?? decoder.hidden
    return UnitSpec(
      gate: projections.gate.map { linear("\(name).\($0)", hidden, size, bias: bias) },
      up: linear("\(name).\(projections.up)", hidden, size, bias: bias),
      down: linear("\(name).\(projections.down)", size, hidden, bias: bias),
      activation: activation ?? decoder.activation,
      outputGate: outputGate.map { linear($0, hidden, 1) })
  }

  /// A pre-norm decoder layer.
  ///
  /// - Parameters:
  ///   - norms: names of those before the two branches.
  ///   - scale: of both branches.
  func layer(
    _ attention: SequenceMixer, _ mlp: MLPSpec,
    norms: (String, String) = ("input_layernorm", "post_attention_layernorm"), scale: Float = 1
  ) -> LayerSpec {
    LayerSpec(
      index: index,
      branches: [
        Branch(preNorm: norm(norms.0, decoder.hidden), .sequence(attention), scale: scale),
        Branch(preNorm: norm(norms.1, decoder.hidden), .tokens(mlp), scale: scale),
      ])
  }

  /// A layer of one branch.
  func layer(_ mixer: Mixer, norm name: String) -> LayerSpec {
    LayerSpec(index: index, branches: [Branch(preNorm: norm(name, decoder.hidden), mixer)])
  }
}

extension LayerNames {
  /// A layer whose norms stand behind the mixers, which read the states as they are.
  func postNormLayer(_ attention: SequenceMixer, _ mlp: MLPSpec) -> LayerSpec {
    LayerSpec(
      index: index,
      branches: [
        Branch(
          preNorm: nil, .sequence(attention),
          postNorm: norm("post_attention_layernorm", decoder.hidden)),
        Branch(
          preNorm: nil, .tokens(mlp),
          postNorm: norm("post_feedforward_layernorm", decoder.hidden)),
      ])
  }
}

extension LayerNames {
  /// A layer whose two mixers read one norm and are added to one state.
  ///
  /// - Parameter scale: of what the mixer on tokens makes.
  func parallelLayer(
    _ attention: SequenceMixer, _ mlp: MLPSpec, scale: Float = 1
  ) -> LayerSpec {
    let norm = norm("input_layernorm", decoder.hidden)
    return LayerSpec(
      index: index,
      branches: [
        Branch(preNorm: norm, .sequence(attention)),
        Branch(preNorm: norm, .tokens(mlp), scale: scale, isBeside: true),
      ])
  }
}

extension ConfigReader {
  /// Refuses a choice of experts that cannot be made.
  func checkChoice(
    of perToken: Int, from experts: Int, groups: Int = 1, chosenGroups: Int = 1,
    atLeastInGroup least: Int = 1, key: String = "num_experts_per_tok"
  ) throws(ConfigError) {
    guard experts % groups == 0, experts / groups >= least, chosenGroups <= groups,
      perToken <= chosenGroups * (experts / groups)
    else {
      throw implausible(
        key,
        expected: groups == 1
          ? "a choice of \(experts) experts"
          : "a choice that \(chosenGroups) of \(groups) groups of \(experts) experts allow",
        found: "\(perToken)")
    }
  }
}
