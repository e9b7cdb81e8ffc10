// What rank 0 tells the others to do.

internal import JSON

enum WindowMessage {
  /// States behind a part of a layer, each rank of its blocks.
  case states(layer: Int, part: Int)
  /// Tasks of layers, until there is none.
  case tasks
  /// All is done.
  case over

  /// - Parameters:
  ///   - scratch: the folder of rank 0, which all use.
  ///   - pieces: of states, by file name.
  func bytes(scratch: String, pieces: [String: Int]) -> [UInt8] {
    var object = JSONObject([("scratch", .string(scratch)), ("pieces", Self.sizes(pieces))])
    switch self {
    case .states(let layer, let part):
      object["layer"] = .int(layer)
      object["part"] = .int(part)
    case .tasks: object["tasks"] = .bool(true)
    case .over: object["over"] = .bool(true)
    }
    return Array(JSONValue.object(object).serialized().utf8)
  }

  /// - Returns: nil for what is no message.
  static func read(
    _ bytes: [UInt8]
  ) -> (message: WindowMessage, scratch: String, pieces: [String: Int])? {
    guard let object = (try? JSONValue.parse(bytes))?.object,
      let scratch = object["scratch"]?.string
    else { return nil }
    let pieces = sizes(object["pieces"])
    if let layer = object["layer"]?.size, let part = object["part"]?.size {
      return (.states(layer: layer, part: part), scratch, pieces)
    }
    return (object["over"] == nil ? .tasks : .over, scratch, pieces)
  }

  static func sizes(_ sizes: [String: Int]) -> JSONValue {
    .object(JSONObject(sizes.sorted { $0.key < $1.key }.map { ($0.key, .int($0.value)) }))
  }

  static func sizes(_ json: JSONValue?) -> [String: Int] {
    var result: [String: Int] = [:]
    for (name, bytes) in json?.object?.entries ?? [] { result[name] = bytes.size }
    return result
  }
}
