// A size in place of schemes.

import ArgumentParser
internal import Pipeline

struct SizeArguments: ParsableArguments {
  @Option(
    name: .customLong("target-size"),
    help: ArgumentHelp(
      """
      In place of --scheme: the most that the output's tensors may take, e.g. 190GB or 170GiB. A first pass measures \
      what each of --choices does to each group of Linears that vLLM loads as one; then the choice with the least \
      predicted loss is written.
      """, valueName: "size"), transform: ByteSize.init)
  var targetSize: ByteSize?

  @Option(
    name: .customLong("target-bits"),
    help: ArgumentHelp(
      """
      As --target-size: the mean number of bits of the weights that can be quantized, scales included, e.g. 4.5.
      """, valueName: "bits"))
  var targetBits: Double?

  @Option(
    help: ArgumentHelp(
      """
      Schemes for --target-size and --target-bits to choose among, and BF16 for what stays as it is. Default: \
      \(SizeWish.usual.joined(separator: ",")).
      """, valueName: "schemes"),
    completion: .presets(and: SizeOption.plain.name))
  var choices: String?

  func validate() throws {
    if targetSize != nil, targetBits != nil {
      throw ValidationError("--target-size and --target-bits say the same; give one of them")
    }
    if let targetBits, !(targetBits > 0 && targetBits <= 32) {
      throw ValidationError("--target-bits is more than 0 and at most 32")
    }
    if choices != nil, !isAsked {
      throw ValidationError("--choices is for --target-size or --target-bits; add one of them")
    }
    _ = try wish()
  }

  var isAsked: Bool { targetSize != nil || targetBits != nil }

  private var flag: String { targetSize == nil ? "--target-bits" : "--target-size" }

  /// Refuses a flag that says schemes in another way. Those of a recipe are replaced.
  func check(againstScheme hasScheme: Bool) throws {
    if isAsked, hasScheme {
      throw ValidationError(
        "\(flag) chooses the schemes, and --scheme names them; leave one of them out, or give --choices"
      )
    }
  }

  /// - Returns: nil where no size is named.
  func wish() throws -> SizeWish? {
    let target: SizeWish.Target? =
      targetSize.map { .bytes($0.bytes) } ?? targetBits.map { .meanBits($0) }
    guard let target else { return nil }
    let names =
      choices.map { $0.split(separator: ",", omittingEmptySubsequences: false).map(String.init) }
      ?? SizeWish.usual
    do {
      return try SizeWish(target, options: names.map { try SizeOption($0) })
    } catch let error as SizeError {
      throw ValidationError("\(error)")
    } catch {
      throw ValidationError("--choices: \(error)")
    }
  }
}
