// A size that the user names in place of schemes: for all that is written, or for each weight.

internal import CompressedTensors
internal import Planning
package import Quantization

/// One of the schemes that groups of Linears may get, or none: a group stays as it is.
package struct SizeOption: Sendable, Equatable {
  package let name: String
  /// nil for Linears that stay as they are.
  package var scheme: QuantizationScheme?

  /// What stands for Linears that stay as they are, whatever their type is.
  package static let plain = SizeOption(name: "BF16", scheme: nil)

  private init(name: String, scheme: QuantizationScheme?) {
    self.name = name
    self.scheme = scheme
  }

  /// - Throws: `PresetProblem`, or `SizeError` for a scheme whose cost is not measured.
  package init(_ text: String) throws {
    let text = String(text.drop { $0 == " " })
    if text.uppercased() == Self.plain.name {
      self = .plain
      return
    }
    let scheme = try SchemePreset.written(text)
    let name = text.uppercased()
    if scheme.inputActivations != nil { throw SizeError.quantizesActivations(choice: name) }
    self.init(name: name, scheme: scheme)
  }

  fileprivate func grouped(by size: Int) -> SizeOption {
    var result = self
    result.scheme = scheme?.grouped(by: size)
    return result
  }
}

/// `--target-size` or `--target-bits`, with `--choices`.
package struct SizeWish: Sendable, Equatable {
  package enum Target: Sendable, Equatable {
    /// Of all tensors of the output.
    case bytes(Int)
    /// For each weight that can be quantized, its share of scales included.
    case meanBits(Double)
  }

  package let target: Target
  package var options: [SizeOption]

  package static let usual = ["W4A16", "W8A16", SizeOption.plain.name]

  /// - Throws: `SizeError` for choices of which none quantizes, or that name one scheme twice.
  package init(_ target: Target, options: [SizeOption]) throws(SizeError) {
    if options.allSatisfy({ $0.scheme == nil }) { throw .nothingQuantizes }
    for (index, option) in options.enumerated() {
      if options[..<index].contains(where: { $0.scheme == option.scheme }) {
        throw .repeated(choice: option.name)
      }
    }
    self.target = target
    self.options = options
  }

  static let flags = ["--target-size", "--target-bits"]

  /// With groups of another size, where there are groups whose size is free.
  package func grouped(by size: Int) -> SizeWish {
    var result = self
    result.options = options.map { $0.grouped(by: size) }
    return result
  }

  /// The option that asks for it.
  package var flag: String {
    switch target {
    case .bytes: "--target-size"
    case .meanBits: "--target-bits"
    }
  }

  package var value: String {
    switch target {
    case .bytes(let bytes): "\(bytes)"
    case .meanBits(let bits): "\(bits)"
    }
  }

  /// For people.
  package var words: String {
    switch target {
    case .bytes(let bytes): "\(flag) \(bytesText(bytes))"
    case .meanBits(let bits): "\(flag) \(bits)"
    }
  }
}

/// A size that cannot be, or choices that cannot be made.
package enum SizeError: Error, CustomStringConvertible, Equatable {
  case quantizesActivations(choice: String)
  case nothingQuantizes
  case repeated(choice: String)
  case notLoaded(choice: String, reason: String)
  case tooSmall(wish: String, smallest: String, with: [String])
  case nothingToDo(wish: String, whole: String)
  case notMeasured(path: String, choices: [String], measured: [String])
  case damaged(path: String, problem: String)
  case folderHasRun(path: String, flag: String)
  case measuring(path: String)
  case sourceChanged(path: String)

  package var description: String {
    switch self {
    case .quantizesActivations(let choice):
      "\(choice) quantizes activations, and what that costs is not measured; take schemes that leave them in 16 bits, "
        + "such as \(SizeWish.usual.joined(separator: ","))"
    case .nothingQuantizes:
      "--choices has no scheme but \(SizeOption.plain.name), which quantizes nothing; add one, such as W4A16"
    case .repeated(let choice): "--choices names \(choice) twice; name it once"
    case .notLoaded(let choice, let reason):
      "--choices \(choice): vLLM does not load it: \(reason); leave it out"
    case .tooSmall(let wish, let smallest, let choices):
      "\(wish) is less than these choices (\(choices.joined(separator: ", "))) can make: the smallest output has "
        + "\(smallest); name at least that, or add a smaller scheme to --choices"
    case .nothingToDo(let wish, let whole):
      "\(wish): all of it fits as it is, with \(whole), so there is nothing to quantize; name a smaller size"
    case .notMeasured(let path, let choices, let measured):
      "\(path) has measurements of \(measured.joined(separator: ", ")), not of \(choices.joined(separator: ", ")); "
        + "take --choices from these, another --output, or --restart to measure anew"
    case .damaged(let path, let problem):
      "\(path): \(problem); \(startOverText), which measures anew"
    case .folderHasRun(let path, let flag):
      "\(path) speaks of a run that has no measurements for \(flag); use another --output, or --restart to start over"
    case .sourceChanged(let path):
      "\(path): the source is not the one that was measured: some checksum differs; put it back, or remove that file "
        + "and give the command with --restart, which measures anew"
    case .measuring(let path):
      "\(path) speaks of a run that measures for --target-size or --target-bits; give that command again, use another "
        + "--output, or --restart to start over"
    }
  }
}
