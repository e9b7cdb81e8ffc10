// Where a model folder keeps its chat templates and special tokens, in transformers' precedence.

package import JSON
import SystemIO

package enum ChatTemplateFilesError: Error, Sendable {
  /// The folder has no chat template at all.
  case none(folder: String)
  /// There are templates, but not the one asked for, or none to take without asking.
  case noSuchTemplate(folder: String, wanted: String?, available: [String])
  case malformed(file: String, problem: String, wayOut: String = "download it again")
}

extension ChatTemplateFilesError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .none(let folder):
      "\(folder): the model has no chat template; give one with `--chat-template`"
    case .noSuchTemplate(let folder, let wanted?, let available):
      "\(folder): no chat template named `\(wanted)`, there are \(Self.list(available)); "
        + "choose one of them or give a file with `--chat-template`"
    case .noSuchTemplate(let folder, nil, let available):
      "\(folder): several chat templates and no default, there are \(Self.list(available)); "
        + "choose one with `--chat-template`"
    case .malformed(let file, let problem, let wayOut): "\(file): \(problem); \(wayOut)"
    }
  }

  private static func list(_ names: [String]) -> String {
    names.map { "`\($0)`" }.joined(separator: ", ")
  }
}

/// The chat templates of a model folder, and the special tokens they are rendered with.
///
/// Source: `PreTrainedTokenizerBase._from_pretrained` and `get_chat_template`, transformers 5.17.
package struct ChatTemplateFiles: Sendable {
  package struct Source: Sendable {
    /// `default`, `tool_use`, …
    package let name: String
    package let text: String
    /// The file it came from.
    package let file: String
  }

  package let folder: String
  package let sources: [Source]
  /// `bos_token`, `eos_token`, … as strings, for `ChatTemplate.render(variables:)`.
  package let specialTokens: [(String, JSONValue)]

  /// Reads the folder; a folder without any template is no error yet.
  package static func find(folder: String) throws -> ChatTemplateFiles {
    let config = try object(in: "\(folder)/tokenizer_config.json")
    var sources = try templateFiles(folder)
    if sources.isEmpty, let value = config?["chat_template"] {
      sources = try configured(value, file: "\(folder)/tokenizer_config.json")
    }
    // Where processors kept theirs before chat_template.jinja.
    let legacy = "\(folder)/chat_template.json"
    if sources.isEmpty, let value = try object(in: legacy)?["chat_template"] {
      sources = try configured(value, file: legacy)
    }
    return ChatTemplateFiles(
      folder: folder, sources: sources,
      specialTokens: try specialTokens(folder, config ?? JSONObject()))
  }

  /// The template for a chat: the one named, else `tool_use` where tools are given and there is
  /// one, else `default`.
  package func template(named name: String? = nil, hasTools: Bool = false) throws -> ChatTemplate {
    guard !sources.isEmpty else { throw ChatTemplateFilesError.none(folder: folder) }
    let wanted = name.map { [$0] } ?? (hasTools ? ["tool_use", "default"] : ["default"])
    for name in wanted {
      if let source = sources.first(where: { sameText($0.name, name) }) {
        return try ChatTemplate(source.text, name: source.file)
      }
    }
    throw ChatTemplateFilesError.noSuchTemplate(
      folder: folder, wanted: name, available: sources.map(\.name))
  }

  /// A template given as a file of its own.
  package static func template(file: String) throws -> ChatTemplate {
    try ChatTemplate(
      try text(of: file, wayOut: "give another template with `--chat-template`"), name: file)
  }

  // MARK: Templates

  private static func templateFiles(_ folder: String) throws -> [Source] {
    var sources: [Source] = []
    let main = "\(folder)/chat_template.jinja"
    if FileSystem.exists(main) {
      sources.append(Source(name: "default", text: try text(of: main), file: main))
    }
    let more = "\(folder)/additional_chat_templates"
    guard FileSystem.isFolder(more) else { return sources }
    for file in try FileSystem.list(more) where file.hasSuffix(".jinja") {
      let name = String(file.dropLast(".jinja".count))
      let path = "\(more)/\(file)"
      sources.removeAll { sameText($0.name, name) }
      sources.append(Source(name: name, text: try text(of: path), file: path))
    }
    return sources
  }

  /// A string, a list of `{name, template}`, or an object of templates by name.
  private static func configured(_ value: JSONValue, file: String) throws -> [Source] {
    switch value {
    case .null: return []
    case .string(let text): return [Source(name: "default", text: text, file: file)]
    case .array(let entries):
      var sources: [Source] = []
      for entry in entries {
        guard let name = entry.object?["name"]?.string, let text = entry.object?["template"]?.string
        else {
          throw ChatTemplateFilesError.malformed(
            file: file, problem: "an entry of `chat_template` lacks `name` or `template`")
        }
        sources.removeAll { sameText($0.name, name) }
        sources.append(Source(name: name, text: text, file: file))
      }
      return sources
    case .object(let object):
      return try object.entries.map { name, value in
        guard let text = value.string else {
          throw ChatTemplateFilesError.malformed(
            file: file, problem: "`chat_template.\(name)` is no string")
        }
        return Source(name: name, text: text, file: file)
      }
    case .bool, .number:
      throw ChatTemplateFilesError.malformed(
        file: file, problem: "`chat_template` is a \(value.kind), expected a string or a list")
    }
  }

  // MARK: Special tokens

  private static let usual = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  /// What tokenizer_config.json names; special_tokens_map.json counts only beside a config without
  /// `added_tokens_decoder`, as older tokenizers were saved. A model's own `…_token` follow.
  private static func specialTokens(
    _ folder: String, _ config: JSONObject
  ) throws -> [(String, JSONValue)] {
    var entries = config
    if config["added_tokens_decoder"] == nil,
      let map = try object(in: "\(folder)/special_tokens_map.json")
    {
      for (name, value) in map.entries { entries[name] = value }
    }
    var own = entries.keys.filter { $0.hasSuffix("_token") && !usual.contains($0) }
    if let extra = entries["extra_special_tokens"]?.object {
      for (name, value) in extra.entries {
        entries[name] = value
        if !own.contains(name), !usual.contains(name) { own.append(name) }
      }
    }
    return (usual + own).compactMap { name in
      let value = entries[name]
      let text = value?.string ?? value?.object?["content"]?.string
      return text.map { (name, .string($0)) }
    }
  }

  // MARK: Files

  /// A folder is read whole, so that a template beside it does not help where it has a file that cannot be read.
  private static func text(
    of file: String, wayOut: String = "download it again"
  ) throws -> String {
    let bytes = try FileSystem.readFile(file, limit: FileSystem.smallFile)
    do {
      return String(copying: try UTF8Span(validating: bytes.span))
    } catch {
      throw ChatTemplateFilesError.malformed(
        file: file, problem: "the template is not UTF-8", wayOut: wayOut)
    }
  }

  /// The object in a JSON file; nil where there is no file.
  private static func object(in file: String) throws -> JSONObject? {
    guard FileSystem.exists(file) else { return nil }
    do {
      guard
        let object = try JSONValue.parse(try FileSystem.readFile(file, limit: FileSystem.smallFile))
          .object
      else {
        throw ChatTemplateFilesError.malformed(file: file, problem: "expected a JSON object")
      }
      return object
    } catch let error as JSONError {
      throw ChatTemplateFilesError.malformed(file: file, problem: error.description)
    }
  }
}
