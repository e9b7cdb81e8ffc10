// Which of transformers' tokenizer classes a model folder asks for, and what each class makes of a vocabulary.

internal import JSON

/// A class that makes a tokenizer of a vocabulary and merges. Where the folder has a tokenizer.json, that says it all.
enum TokenizerClass: Sendable, Equatable {
  /// `TokenizersBackend`: what the file says, and no more.
  case plain
  case llama
  case gpt2
  case gptNeoX
  case qwen2
  /// A class that is not understood here.
  case other(String)
}

extension TokenizerClass {
  /// Source: transformers 5.17, `AutoTokenizer.from_pretrained`, without code from the model's repository and without
  /// mistral_common.
  ///
  /// - Parameter settings: those of the same folder.
  init(folder: String, _ settings: TokenizerSettings) throws(TokenizerError) {
    let config = try Field(ifThere: "\(folder)/config.json")
    let modelType = config?.member("model_type")?.value.string ?? ""
    let named = settings.config?.member("tokenizer_class")?.value.string
    let hub = named ?? config?.member("tokenizer_class")?.value.string
    let registered = Self.registered[modelType]
    let code = settings.config?.member("auto_map")
    let hasCode = code.map { $0.value.array != nil || $0.member("AutoTokenizer") != nil } ?? false
    if !hasCode, let hub, let registered, registered != Self.slow(hub) {
      let isMistaken = modelType == "qwen2"
      self = Self.isPlain(registered) ? .plain : Self.find(isMistaken ? registered : hub) ?? .plain
    } else if let known = hub.flatMap(Self.find) {
      self = known
    } else if let code, hasCode, registered == nil {
      throw code.inconsistent(
        "the tokenizer is Python code of the model's own; convert it to tokenizer.json")
    } else if hub != nil {
      self = .plain
    } else {
      self = registered.flatMap(Self.find) ?? .plain
    }
  }

  /// Without the ending of the classes that were called fast.
  private static func slow(_ name: String) -> String {
    name.hasSuffix("Fast") ? String(name.dropLast(4)) : name
  }

  private static func isPlain(_ name: String) -> Bool { find(name) == .plain }

  /// Nil where transformers has no class of this name, and takes the plain one.
  private static func find(_ name: String) -> TokenizerClass? {
    switch slow(name) {
    case "TokenizersBackend", "PythonBackend", "PreTrainedTokenizer", "MistralCommonBackend":
      .plain
    case "LlamaTokenizer": .llama
    case "GPT2Tokenizer": .gpt2
    case "GPTNeoXTokenizer": .gptNeoX
    case "Qwen2Tokenizer": .qwen2
    case let name where otherNames.contains(name): .other(name)
    default: nil
    }
  }

  /// Classes by model type, of the language models among those that transformers registers.
  private static let registered: [String: String] = {
    var classes: [String: String] = [:]
    for (name, modelTypes) in [
      (
        "TokenizersBackend",
        """
        arctic deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 ernie4_5 ernie4_5_moe flex_olmo glm glm4 glm4_moe \
        glm4_moe_lite glm4v_moe granite granitemoe granitemoehybrid granitemoeshared hyperclovax internlm2 jamba \
        kimi_k25 kimi_linear mimo_v2_flash minicpm3 minimax_m2 nemotron olmo2 olmo3 olmo_hybrid persimmon phi3 phimoe \
        stablelm step3p5
        """
      ),
      ("MistralCommonBackend", "ministral ministral3 mistral mistral3 mixtral"),
      ("Qwen2Tokenizer", "qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next qwen3_omni_moe qwen3_vl_moe"),
      ("Qwen3_5Tokenizer", "qwen3_5 qwen3_5_moe qwen3_5_text qwen4_exp"),
      ("GPT2Tokenizer", "codegen dbrx gpt2 gpt_neo gptj jais2 opt phi starcoder2"),
      ("GPTNeoXTokenizer", "falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv xlstm"),
      ("CohereTokenizer", "cohere cohere2"),
      ("GemmaTokenizer", "gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma"),
      ("CodeLlamaTokenizer", "code_llama"),
    ] {
      for modelType in modelTypes.split(separator: " ") { classes[String(modelType)] = name }
    }
    return classes
  }()

  private static let otherNames = Set(
    """
    AlbertTokenizer BarthezTokenizer BartphoTokenizer BartTokenizer BertGenerationTokenizer BertJapaneseTokenizer \
    BertTokenizer BertweetTokenizer BigBirdTokenizer BioGptTokenizer BlenderbotSmallTokenizer BlenderbotTokenizer \
    ByT5Tokenizer CamembertTokenizer CanineTokenizer CLIPTokenizer CodeLlamaTokenizer CohereTokenizer CpmAntTokenizer \
    CpmTokenizer CTRLTokenizer DebertaTokenizer DebertaV2Tokenizer EsmTokenizer FNetTokenizer FunnelTokenizer \
    GemmaTokenizer GPTNeoXJapaneseTokenizer GPTSw3Tokenizer HerbertTokenizer LEDTokenizer LukeTokenizer \
    M2M100Tokenizer MarianTokenizer MBart50Tokenizer MBartTokenizer MPNetTokenizer MvpTokenizer NllbTokenizer \
    NougatTokenizer OpenAIGPTTokenizer ParakeetTokenizer PegasusTokenizer PerceiverTokenizer PhobertTokenizer \
    PLBartTokenizer Qwen3_5Tokenizer ReformerTokenizer RemBertTokenizer RobertaTokenizer SeamlessM4TTokenizer SplinterTokenizer \
    T5Tokenizer UdopTokenizer WhisperTokenizer XGLMTokenizer XLMRobertaTokenizer XLMTokenizer XLNetTokenizer
    """.split(separator: " ").map(String.init))
}

// MARK: What the classes make

extension TokenizerParts {
  /// Source: transformers 5.17, `tokenization_llama.py`, `tokenization_gpt2.py`, `tokenization_gpt_neox.py` and
  /// `tokenization_qwen2.py`.
  ///
  /// - Parameter kind: not the plain one, which makes nothing of a vocabulary, nor another.
  init(
    _ kind: TokenizerClass, _ vocabulary: Vocabulary, _ merges: MergeTable,
    _ settings: TokenizerSettings
  ) throws(TokenizerError) {
    let prefix = settings.config?.member("add_prefix_space")
    if kind == .llama {
      let isOlder = try settings.config?.member("legacy")?.bool() ?? false
      let takesPrefix = try prefix?.bool() ?? true
      self.init(
        vocabulary: vocabulary,
        model: .bytePairs(
          BytePairEncoder(
            vocabulary, merges, readsBytes: false, fusesUnknown: true,
            fallback: fallbackTokens(vocabulary))))
      preTokenizers = [
        .metaspace(
          PreTokenizer.Metaspace(
            replacement: SentencePieceModel.blank,
            prefix: takesPrefix ? isOlder ? .always : .first : .never, splits: false))
      ]
      decoders = SentencePieceModel.decoders
      if takesPrefix {
        decoders?.append(.strip(content: [UInt8(ascii: " ")], start: 1, stop: 0))
      }
    } else {
      self.init(
        vocabulary: vocabulary,
        model: .bytePairs(BytePairEncoder(vocabulary, merges, readsBytes: true)))
      // The model reads bytes, so nothing needs to spell them.
      let pattern = kind == .qwen2 ? qwenPattern : PreTokenizer.byteLevelPattern
      preTokenizers = [.pieces(of: Pattern(builtIn: pattern))]
      if try prefix?.bool() ?? false {
        preTokenizers.insert(.prefixSpace, at: kind == .qwen2 ? 1 : 0)
      }
      if kind != .gpt2 { normalizers = [.nfc] }
      decoders = [.byteLevel]
    }
    setNamedTokens(kind)
  }

  /// The special tokens that a class has of its own.
  mutating func setNamedTokens(_ kind: TokenizerClass) {
    let end = "<|endoftext|>"
    let names: [String: String] =
      switch kind {
      case .plain, .other: [:]
      case .llama: ["unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"]
      case .gpt2: ["unk_token": end, "bos_token": end, "eos_token": end]
      case .gptNeoX:
        ["unk_token": end, "bos_token": end, "eos_token": end, "pad_token": "<|padding|>"]
      case .qwen2: ["unk_token": end, "eos_token": end, "pad_token": end]
      }
    for (name, content) in names { namedTokens[name] = Array(content.utf8) }
    addsSpecialTokensPlainly = kind == .qwen2
  }
}

private let qwenPattern =
  #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
  + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#
