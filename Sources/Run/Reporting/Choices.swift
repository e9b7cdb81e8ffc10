// What a run decided about data, scales and Linears: all lines of choices.jsonl.

internal import JSON
internal import Planning

/// A record that is not what a run writes.
package enum ChoicesError: Error, CustomStringConvertible, Equatable {
  case badLine(file: String, line: Int, problem: String)

  package var description: String {
    switch self {
    case .badLine(let file, let line, let problem):
      "\(file): line \(line): \(problem); the record of this run is damaged; \(startOverText)"
    }
  }
}

/// The decisions by what they speak of, in their order.
package struct Choices: Sendable, Equatable {
  /// nil without data.
  package private(set) var data: DataChoice?
  /// What was chosen for a size; nil where schemes were named.
  package private(set) var size: SizeRecord?
  package private(set) var linears: [LinearChoice] = []
  package private(set) var smoothings: [SmoothingChoice] = []
  package private(set) var routings: [LayerRouting] = []
  /// Tensors that took up a scale and stayed in their own type.
  package private(set) var rescaledTensors = 0

  /// - Parameters:
  ///   - lines: of choices.jsonl.
  ///   - file: for errors.
  package init(lines: [UInt8], file: String) throws(ChoicesError) {
    let parts = lines.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in parts.enumerated() where !line.isEmpty {
      let value: JSONValue
      do {
        value = try JSONValue.parse(Array(line))
      } catch {
        throw .badLine(file: file, line: index + 1, problem: "\(error)")
      }
      guard let choice = Choice(value) else {
        throw .badLine(file: file, line: index + 1, problem: "no line of a run")
      }
      add(choice)
    }
  }

  private mutating func add(_ choice: Choice) {
    switch choice {
    case .data(let data): self.data = data
    case .size(let size): self.size = size
    case .smoothing(let smoothing): smoothings.append(smoothing)
    case .linear(let linear): linears.append(linear)
    case .rescaled: rescaledTensors += 1
    case .routing(let routing): routings.append(routing)
    }
  }
}
