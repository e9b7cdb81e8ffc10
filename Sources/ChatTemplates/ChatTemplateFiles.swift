// Where a model folder keeps its chat templates and special tokens.

package import JSON
internal import SystemIO

/// A model folder without a usable template.
package enum ChatTemplateFilesError: Error, CustomStringConvertible, Equatable {
  case none(folder: String)
  case noDefault(folder: String, names: [String])
  case unreadable(file: String, problem: String)

  package var description: String {
    switch self {
    case .none(let folder):
      "\(folder): no chat template (chat_template.jinja, or `chat_template` in "
        + "tokenizer_config.json); give one by --chat-template FILE"
    case .noDefault(let folder, let names):
      "\(folder): several chat templates and none called default: \(names.joined(separator: ", ")); "
        + "choose one by --chat-template FILE"
    case .unreadable(let file, let problem): "\(file): \(problem)"
    }
  }
}

/// The templates of a model folder by name, and what templates may say of special tokens.
///
/// Source: transformers 5.17 `tokenization_utils_base.py`: files win over tokenizer_config.json, and a chat with tools
/// is rendered by `tool_use` where there is one.
package struct ChatTemplateFiles: Sendable {
  /// Source texts and the files they are from.
  private let templates: [String: (text: String, file: String)]
  private let folder: String
  /// `bos_token`, `eos_token` and the others that are set, as strings.
  package let specialTokens: [(String, JSONValue)]

  private static let tokenNames = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  package init(folder: String) throws {
    self.folder = folder
    let config = try Self.object(folder + "/tokenizer_config.json")
    let tokens = try Self.object(folder + "/special_tokens_map.json")
    specialTokens = Self.tokenNames.compactMap { name in
      let value = config[name] ?? tokens[name]
      // An added token is written as an object.
      guard let text = value?.string ?? value?.object?["content"]?.string else { return nil }
      return (name, .string(text))
    }
    var templates: [String: (text: String, file: String)] = [:]
    func add(_ name: String, _ file: String) throws {
      templates[name] = (String(decoding: try FileSystem.readFile(file), as: UTF8.self), file)
    }
    let single = folder + "/chat_template.jinja"
    if FileSystem.exists(single) { try add("default", single) }
    let others = folder + "/additional_chat_templates"
    if FileSystem.isFolder(others) {
      for name in try FileSystem.list(others) where name.hasSuffix(".jinja") {
        try add(String(name.dropLast(".jinja".count)), others + "/" + name)
      }
    }
    if templates.isEmpty {
      let legacy = folder + "/chat_template.json"
      let (value, file) =
        if let value = config["chat_template"], value != .null {
          (value, folder + "/tokenizer_config.json")
        } else {
          (try Self.object(legacy)["chat_template"] ?? .null, legacy)
        }
      switch value {
      case .string(let text): templates["default"] = (text, file)
      case .array(let entries):
        for entry in entries {
          guard let name = entry.object?["name"]?.string,
            let text = entry.object?["template"]?.string
          else {
            throw ChatTemplateFilesError.unreadable(
              file: file,
              problem: "`chat_template` is a list of something else than name and template")
          }
          templates[name] = (text, file)
        }
      case .null: break
      default:
        throw ChatTemplateFilesError.unreadable(
          file: file, problem: "`chat_template` is \(value.kind), expected a string or a list")
      }
    }
    self.templates = templates
  }

  /// The template for chats without tools.
  package func standard() throws -> ChatTemplate {
    if let found = templates["default"] { return try ChatTemplate(found.text, name: found.file) }
    if templates.isEmpty { throw ChatTemplateFilesError.none(folder: folder) }
    throw ChatTemplateFilesError.noDefault(folder: folder, names: templates.keys.sorted())
  }

  /// The template for chats with tools, where the model has one of its own for them.
  package func forTools() throws -> ChatTemplate? {
    try templates["tool_use"].map { try ChatTemplate($0.text, name: $0.file) }
  }

  private static func object(_ file: String) throws -> JSONObject {
    guard FileSystem.exists(file) else { return JSONObject() }
    do {
      guard let object = try JSONValue.parse(FileSystem.readFile(file)).object else {
        throw ChatTemplateFilesError.unreadable(file: file, problem: "expected an object")
      }
      return object
    } catch let error as JSONError {
      throw ChatTemplateFilesError.unreadable(file: file, problem: "\(error)")
    }
  }
}
