// Architecture name to description; the only list of models.

package import JSON

package enum Architectures {
  private typealias Description = (inout ConfigReader) throws(ConfigError) -> ModelSpec

  private static func description(of architecture: String) -> Description? {
    switch architecture {
    case "Glm4MoeForCausalLM": glm4Moe
    default: nil
    }
  }

  package static let known = ["Glm4MoeForCausalLM"]

  /// The model that a config.json describes.
  ///
  /// - Parameter ignoring: keys that the caller reads itself.
  package static func describe(
    config: JSONObject, file: String, ignoring: [String] = []
  ) throws(ConfigError) -> ModelSpec {
    guard let names = config["architectures"]?.array, names.count == 1, let name = names[0].string
    else {
      throw .unknownArchitecture(
        file: file, found: config["architectures"]?.serialized() ?? "(no `architectures`)",
        known: known)
    }
    guard let describe = description(of: name) else {
      throw .unknownArchitecture(file: file, found: name, known: known)
    }
    var object = config
    for key in ignoring { object[key] = nil }
    var reader = ConfigReader(file: file, object: object)
    let spec = try describe(&reader)
    try reader.finish(architecture: name)
    return spec
  }
}
