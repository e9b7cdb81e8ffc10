// sluice inspect: what is in a model folder, an output, or a safetensors file.

import ArgumentParser
internal import CompressedTensors
internal import JSON
internal import Models
internal import Pipeline
internal import Planning
internal import Quantization
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what is in a model folder, an output, a safetensors file, or a data set.",
    discussion: """
      With --model, the path is a data set (or `builtin`), and its rows are shown as that model \
      will see them: rendered by its chat template and tokenized. With --json, one object a row: \
      row, text, input_ids.

      A model whose weights are not downloaded yet is shown as its config.json and index tell.

      EXAMPLES
        sluice inspect GLM-4.6
        sluice inspect GLM-4.6 --tensors
        sluice inspect --json \\
            model-00001-of-00093.safetensors
        sluice inspect chats.parquet \\
            --model GLM-4.6 --samples 3
        sluice inspect --architectures
      """)

  @Argument(
    help: "A model folder, ORG/NAME in the Hugging Face cache, a .safetensors file, or a data set.",
    completion: .directory)
  var path: String?

  @Flag(help: "List the architectures that are understood, and what is checked of each.")
  var architectures = false

  @Option(
    help: ArgumentHelp(
      "Show a data set as this model will see it.", valueName: "folder"), completion: .directory)
  var model: String?

  @OptionGroup var keys: ConfigKeyArguments

  @OptionGroup var data: DataArguments

  @Flag(help: "List every tensor with type and shape.")
  var tensors = false

  @Flag(help: "Print JSON, with every tensor.")
  var json = false

  func validate() throws {
    if architectures != (path == nil) {
      throw ValidationError(
        architectures
          ? "--architectures takes no path" : "give a model folder, a file, or --architectures")
    }
    if architectures {
      let others: [String?] = [
        model.map { _ in "--model" }, keys.names.isEmpty ? nil : "--accept-config-key",
        tensors ? "--tensors" : nil, data.firstFlag,
      ]
      if let other = others.compactMap({ $0 }).first {
        throw ValidationError("\(other) does not go with --architectures; leave one of them out")
      }
    }
    if model != nil, tensors {
      throw ValidationError(
        "--tensors is for a model, and --model shows a data set; leave one of them out")
    }
    if model == nil, let flag = data.firstFlag {
      throw ValidationError("\(flag) is for a data set; add --model MODEL")
    }
  }

  func run() throws {
    guard let path else {
      ArchitectureListing().run(json: json)
      return
    }
    if let model {
      let source = try data.source(path == "builtin" ? nil : path)
      let folder = try modelFolder(model, isWhole: false)
      // Rows of ids are shown without a look into it.
      guard FileSystem.isFolder(folder) else { throw CheckpointError.notAFolder(path: folder) }
      try DataListing(source: source, model: folder).run(json: json)
      return
    }
    if FileSystem.exists(path), !FileSystem.isFolder(path), !path.hasSuffix(".safetensors") {
      throw ValidationError(
        "\(path) is no .safetensors file; a data set is shown with --model MODEL")
    }
    let folder = try modelFolder(path, isWhole: false)
    let stored: [ListedTensor]
    var facts: [(name: String, value: JSONValue)] = []
    if FileSystem.isFolder(folder) {
      for name in try RunStatus.filesGone(of: folder) {
        Console.error("warning: \(name) is gone; the command that made the output makes it again")
      }
      let config = try CheckpointConfig(folder: folder, accepting: keys.accepted)
      try AcceptedKeyMissing.check(keys.accepted, in: [config.config], file: config.file)
      let listing = try ShardListing(folder: folder)
      let notes: [String]
      if listing.isComplete {
        let checkpoint = try Checkpoint(folder: folder, accepting: keys.accepted)
        stored = checkpoint.model.tensors.map(ListedTensor.init)
        notes = checkpoint.notes
      } else {
        let shapes = try CheckpointShapes(config, listing: listing)
        stored = (shapes.stored ?? shapes.tensors).map(ListedTensor.init)
        notes = shapes.notes
      }
      for note in notes { Console.error("note: \(note)") }
      facts = try Self.facts(config.spec, config.storage(), stored)
    } else {
      stored = try SafetensorsFile(path: folder).tensors.map(ListedTensor.init)
    }
    let bytes = stored.reduce(0) { $0 + $1.byteCount }
    facts += [
      ("tensors", .int(stored.count)), ("bytes", .int(bytes)),
      ("types", .string(Self.types(stored))),
    ]
    if json {
      var object = JSONObject(facts.map { ($0.name, $0.value) })
      object["tensor_list"] = .array(stored.map(Self.json))
      Console.out(JSONValue.object(object).serialized(indent: 2))
      return
    }
    for fact in facts {
      let value = fact.value.string ?? fact.value.serialized()
      let text = fact.name == "bytes" ? bytesText(bytes) : value
      Console.show(
        padded(fact.name.replacing("_", with: " "), to: 22) + text)
    }
    if tensors {
      for tensor in stored {
        Console.out("\(TerminalText.line(tensor.name))  \(tensor.dtype.rawValue) \(tensor.shape)")
      }
    }
  }

  private static func facts(
    _ spec: ModelSpec, _ storage: WeightStorage, _ stored: [ListedTensor]
  ) -> [(name: String, value: JSONValue)] {
    let spec = spec.withoutPredictions
    let sparse = spec.layers.filter { !$0.routers.isEmpty }
    var facts: [(name: String, value: JSONValue)] = [
      ("architecture", .string(spec.architecture)), ("layers", .int(spec.layers.count)),
      ("hidden_size", .int(spec.hiddenSize)), ("vocabulary", .int(spec.vocabularySize)),
    ]
    if let layer = sparse.first, let router = layer.routers.first {
      facts += [
        ("layers_with_experts", .int(sparse.count)), ("experts", .int(layer.experts.count)),
        ("experts_per_token", .int(router.expertsPerToken)),
      ]
    }
    switch storage {
    case .plain: break
    case .compressed(let quantization):
      let groups = quantization.groups.map { scheme in
        let words = "\(CompressionFormats.name(of: scheme)), \(scheme.weights?.words ?? "")"
        return scheme.targets == [QuantizationScheme.linear]
          ? words : "\(words) for \(scheme.targets.joined(separator: " "))"
      }
      facts.append(
        (
          "quantization",
          .string(
            groups.joined(separator: "; ")
              + "; \(counted(quantization.ignore.count, "module")) left as they are")
        ))
    case .blocks: facts.append(("quantization", .string("experts as MXFP4, in blocks of 32")))
    case .fp8(let format):
      let weights = stored.count { $0.dtype == .f8E4M3 }
      facts.append(("quantization", .string("\(format.text); \(counted(weights, "weight"))")))
    }
    return facts
  }

  private static func types(_ tensors: [ListedTensor]) -> String {
    let counts = Dictionary(grouping: tensors, by: \.dtype.rawValue).mapValues(\.count)
    return counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
  }

  private static func json(_ tensor: ListedTensor) -> JSONValue {
    [
      "name": .string(tensor.name),
      "dtype": .string(tensor.dtype.rawValue),
      "shape": .array(tensor.shape.map { .int($0) }),
      "file": .text(tensor.file),
    ]
  }
}

/// A tensor to be listed, of a file or of one that is yet to come.
private struct ListedTensor {
  let name: String
  let dtype: DType
  let shape: [Int]
  let byteCount: Int
  let file: String?

  init(_ tensor: StoredTensor) {
    (name, dtype, shape) = (tensor.name, tensor.dtype, tensor.shape)
    byteCount = tensor.byteCount
    file = tensor.file.path
  }

  init(_ tensor: TensorSpec) {
    (name, dtype, shape) = (tensor.name, tensor.dtype, tensor.shape)
    byteCount = tensor.byteCount
    file = nil
  }
}
