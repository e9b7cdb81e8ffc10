// sluice inspect: what is in a model folder, an output, or a safetensors file.

import ArgumentParser
internal import CompressedTensors
internal import JSON
internal import Models
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
  }

  func run() throws {
    guard let path else {
      ArchitectureListing().run(json: json)
      return
    }
    if let model {
      let source = try data.source(path == "builtin" ? nil : path)
      try DataListing(source: source, model: modelFolder(model)).run(json: json)
      return
    }
    if FileSystem.exists(path), !FileSystem.isFolder(path), !path.hasSuffix(".safetensors") {
      throw ValidationError(
        "\(path) is no .safetensors file; a data set is shown with --model MODEL")
    }
    let folder = try modelFolder(path)
    let stored: [StoredTensor]
    var facts: [(name: String, value: JSONValue)] = []
    if FileSystem.isFolder(folder) {
      let checkpoint = try Checkpoint(folder: folder)
      stored = checkpoint.model.tensors
      facts = Self.facts(checkpoint)
    } else {
      stored = try SafetensorsFile(path: folder).tensors
    }
    let bytes = stored.reduce(0) { $0 + $1.byteCount }
    facts += [
      ("tensors", .number(JSONNumber(stored.count))), ("bytes", .number(JSONNumber(bytes))),
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
      Console.out(
        fact.name.replacing("_", with: " ")
          + String(repeating: " ", count: max(1, 22 - fact.name.count)) + text)
    }
    if tensors {
      for tensor in stored {
        Console.out("\(TerminalText.line(tensor.name))  \(tensor.dtype.rawValue) \(tensor.shape)")
      }
    }
  }

  private static func facts(_ checkpoint: Checkpoint) -> [(name: String, value: JSONValue)] {
    let spec = checkpoint.spec
    func int(_ value: Int) -> JSONValue { .number(JSONNumber(value)) }
    let sparse = spec.layers.filter { $0.mlp.router != nil }
    var facts: [(name: String, value: JSONValue)] = [
      ("architecture", .string(spec.architecture)), ("layers", int(spec.layers.count)),
      ("hidden_size", int(spec.hiddenSize)), ("vocabulary", int(spec.vocabularySize)),
    ]
    if let layer = sparse.first, let router = layer.mlp.router {
      facts += [
        ("layers_with_experts", int(sparse.count)), ("experts", int(layer.mlp.routed.count)),
        ("experts_per_token", int(router.expertsPerToken)),
      ]
    }
    if let quantization = checkpoint.quantization {
      let scheme = quantization.scheme
      facts.append(
        (
          "quantization",
          .string(
            "pack-quantized, \(scheme.bits) bits, groups of \(scheme.groupSize), "
              + (scheme.isSymmetric ? "symmetric" : "with zero points")
              + ", \(quantization.ignore.count) modules left as they are")
        ))
    }
    if let fp8 = checkpoint.fp8 {
      let weights = checkpoint.model.tensors.count { $0.dtype == .f8E4M3 }
      facts.append(("quantization", .string("\(fp8.text); \(weights) weights")))
    }
    return facts
  }

  private static func types(_ tensors: [StoredTensor]) -> String {
    let counts = Dictionary(grouping: tensors, by: \.dtype.rawValue).mapValues(\.count)
    return counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
  }

  private static func json(_ tensor: StoredTensor) -> JSONValue {
    .object(
      JSONObject([
        ("name", .string(tensor.name)), ("dtype", .string(tensor.dtype.rawValue)),
        ("shape", .array(tensor.shape.map { .number(JSONNumber($0)) })),
        ("file", .string(tensor.file.path)),
      ]))
  }
}
