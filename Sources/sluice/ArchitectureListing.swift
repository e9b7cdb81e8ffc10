// The architectures that are understood.

internal import JSON
internal import Models

struct ArchitectureListing {
  private static let checks = """
    Each is held against transformers in float32, on random tiny configurations that take every
    branch: hidden states of every layer, and log-probabilities to 1e-4. Smoothing is proven to keep
    the function, with every reader of a norm needed for that; a run proves it once more, on the
    weights at hand. A config.json with anything else in it is refused by key and value.
    """

  func run(json: Bool) {
    let all = Architectures.all
    if json {
      let items = all.map { architecture in
        JSONValue.object(
          JSONObject([
            ("architecture", .string(architecture.name)), ("models", .string(architecture.models)),
            ("attention", .string(architecture.attention)),
            ("feed_forward", .string(architecture.feedForward)),
          ]))
      }
      Console.out(JSONValue.array(items).serialized(indent: 2))
      return
    }
    let widths = [\Architecture.name, \.models].map { path in
      (all.map { $0[keyPath: path].count }.max() ?? 0) + 2
    }
    for architecture in all {
      Console.out(
        padded(architecture.name, to: widths[0]) + padded(architecture.models, to: widths[1])
          + "\(architecture.attention); \(architecture.feedForward)")
    }
    Console.out("\n" + Self.checks)
  }
}
