// What a tokenizer is made of, whatever files it comes from.

struct TokenizerParts: Sendable {
  /// Texts as the file spells them.
  var vocabulary: Vocabulary
  var model: Model
  var normalizers: [Normalizer] = []
  var preTokenizers: [PreTokenizer] = []
  /// Nil where the file has none, so that the folder's settings may give one.
  var postProcessors: [PostProcessor]?
  var decoders: [Decoder]?
  var addedTokens = AddedTokenList()
  /// Cuts that come before everything else, of the schemes of rank files.
  var slices: TextSlices?

  // What the files beside it add to and override.

  /// Special tokens by the names of tokenizer_config.json.
  var namedTokens: [String: [UInt8]] = [:]
  /// Special tokens without a name; nil where the tokenizer's own file lists none.
  var unnamedTokens: [AddedToken]?
  /// Whether all special tokens lose what flags they had.
  var addsSpecialTokensPlainly = false
}
