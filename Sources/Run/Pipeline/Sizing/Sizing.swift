// A size before it is chosen: the groups, what each takes under each choice, and how large the output may be.

internal import CompressedTensors
internal import Models
internal import Planning
package import Quantization
package import Reporting
internal import Safetensors
internal import Tensors
internal import Transformer

/// What can be chosen for a model, and what it takes.
package struct Sizing: Sendable {
  package let wish: SizeWish
  let groups: [SizeGroup]
  /// What a group may get: options of the wish by their place; one that stays as it is where none of them can be.
  private let offers: [[Offer]]
  /// Tensors that are in no group.
  private let fixedBytes: Int
  /// The most that the output may take.
  package let limit: Int

  struct Offer: Sendable {
    /// Among the schemes that are measured; nil for Linears that stay as they are.
    let trial: Int?
    let scheme: QuantizationScheme?
    let bytes: Int
  }

  /// - Parameters:
  ///   - wish: with the group sizes of the run.
  ///   - trials: the output under each scheme of the wish, for all groups alike.
  ///   - cache: of keys and values, whose scales no trial has.
  ///   - isAsked: whether a Linear is to be quantized.
  init(
    _ wish: SizeWish, _ trials: [OutputPlan], _ source: CheckpointShapes, cache: CacheScheme?,
    isAsked: (LinearSpec) -> Bool
  ) throws {
    self.wish = wish
    let groups = SizeGroup.all(of: source.spec, where: isAsked)
    func plainBytes(_ linear: LinearSpec) -> Int {
      let stored = source.tensor(linear.weight)
      return TensorSpec(name: stored.name, dtype: stored.dtype.unscaled, shape: stored.shape)
        .byteCount
    }
    func bytes(_ group: SizeGroup, _ trial: OutputPlan) -> Int? {
      var sum = 0
      for linear in group.linears {
        let dtype = source.tensor(linear.weight).dtype.unscaled
        guard let quantized = trial.schemes.quantized(linear, dtype: dtype) else { return nil }
        sum += quantized.tensors.reduce(0) { $0 + $1.byteCount }
      }
      return sum
    }
    func plain(_ group: SizeGroup) -> Offer {
      Offer(
        trial: nil, scheme: nil, bytes: group.linears.reduce(0) { $0 + plainBytes($1) })
    }
    offers = groups.map { group in
      var trial = 0
      let offers = wish.options.compactMap { option -> Offer? in
        guard let scheme = option.scheme else { return plain(group) }
        defer { trial += 1 }
        return bytes(group, trials[trial]).map { Offer(trial: trial, scheme: scheme, bytes: $0) }
      }
      return offers.isEmpty ? [plain(group)] : offers
    }
    self.groups = groups
    let first = trials[0]
    let inGroups = groups.reduce(0) { $0 + (bytes($1, first) ?? plain($1).bytes) }
    let caches = source.spec.layers.flatMap(\.caches).map(\.cache).flatMap { cached in
      cache?.tensors(of: cached, dtype: source.tensor(cached.value.weight).dtype.unscaled) ?? []
    }
    fixedBytes = (first.tensors + caches).reduce(0) { $0 + $1.byteCount } - inGroups
    let weights = groups.flatMap(\.linears).reduce(0.0) {
      $0 + Double($1.inputs) * Double($1.outputs)
    }
    switch wish.target {
    case .bytes(let bytes): limit = bytes
    case .meanBits(let bits): limit = fixedBytes + Int((weights * bits / 8).rounded(.down))
    }
    let smallest = smallestBytes
    if smallest > limit {
      let text =
        switch wish.target {
        case .bytes: "\(bytesText(smallest)) (\(smallest) bytes)"
        case .meanBits:
          "\(Self.roundedUp(Double(smallest - fixedBytes) * 8 / weights)) bits for each weight"
        }
      throw SizeError.tooSmall(
        wish: wish.words, smallest: text, with: wish.options.map(\.name))
    }
    if choosesNothing {
      throw SizeError.nothingToDo(wish: wish.words, whole: bytesText(largestBytes))
    }
  }

  /// Two digits behind the point, never less than it is.
  private static func roundedUp(_ value: Double) -> Double { (value * 100).rounded(.up) / 100 }

  package var smallestBytes: Int { fixedBytes + sum { $0.min() ?? 0 } }
  package var largestBytes: Int { fixedBytes + sum { $0.max() ?? 0 } }

  private func sum(_ one: ([Int]) -> Int) -> Int {
    offers.reduce(0) { $0 + one($1.map(\.bytes)) }
  }

  /// Whether all groups fit as they are.
  private var choosesNothing: Bool {
    largestBytes <= limit
      && offers.allSatisfy { offers in
        let most = offers.map(\.bytes).max()
        return offers.contains { $0.scheme == nil && $0.bytes == most }
      }
  }

  package var groupCount: Int { groups.count }

  // MARK: The choice

  private func problem(_ losses: [[Double?]]) -> (problem: SizeChoice, best: [Int]) {
    let problem = SizeChoice(
      zip(offers, losses).map { offers, losses in
        offers.map { offer in
          SizeChoice.Option(
            bytes: offer.bytes, loss: offer.trial.map { losses[$0] ?? .infinity } ?? 0)
        }
      })
    guard let best = problem.best(within: limit - fixedBytes) else {
      preconditionFailure("a size that was too small")
    }
    return (problem, best)
  }

  /// The choice with the least loss that fits, as the scheme that is measured for each group; nil for one that stays as
  /// it is.
  func trials(_ losses: [[Double?]]) -> [Int?] {
    zip(offers, problem(losses).best).map { $0[$1].trial }
  }

  /// The choice with the least loss that fits.
  ///
  /// - Parameter losses: of each group under each scheme that is measured.
  func choose(_ losses: [[Double?]]) -> ChosenSize {
    let (problem, chosen) = problem(losses)
    let sum = problem.sum(of: chosen)
    let offered = zip(offers, chosen).map { $0[$1] }
    let record = SizeRecord(
      target: limit, bytes: fixedBytes + sum.bytes, loss: sum.loss,
      frontier: problem.frontier.map {
        SizeRecord.Point(bytes: fixedBytes + $0.bytes, loss: $0.loss)
      },
      groups: zip(groups, offered).enumerated().map { index, each in
        SizeRecord.Group(
          name: each.0.name, choice: name(each.1), bytes: each.1.bytes,
          loss: each.1.trial.flatMap { losses[index][$0] } ?? 0)
      })
    return ChosenSize(
      schemes: schemes(offered),
      kept: zip(groups, offered).filter { $1.scheme == nil }.flatMap { $0.0.targets },
      record: record)
  }

  private func name(_ offer: Offer) -> String {
    wish.options.first { $0.scheme == offer.scheme }?.name ?? SizeOption.plain.name
  }

  /// The scheme that most Linears have for all that no other names.
  private func schemes(_ offered: [Offer]) -> [QuantizationScheme] {
    let all = wish.options.compactMap(\.scheme)
    func groups(of scheme: QuantizationScheme) -> [SizeGroup] {
      zip(self.groups, offered).filter { $1.scheme == scheme }.map(\.0)
    }
    let used = all.filter { !groups(of: $0).isEmpty }
    let counts = used.map { groups(of: $0).count }
    let usual = counts.firstIndex(of: counts.max() ?? 0)
    return used.enumerated().map { index, scheme in
      index == usual ? scheme : scheme.targeting(groups(of: scheme).flatMap(\.targets))
    }
  }

  /// Losses before anything is measured: as if every weight mattered alike. What a plan of the pass that writes rests on
  /// until then.
  var assumedLosses: [[Double?]] {
    groups.map { group in
      let weights = group.linears.reduce(0.0) { $0 + Double($1.inputs) * Double($1.outputs) }
      return wish.options.compactMap(\.scheme).map { weights * $0.assumedLoss }
    }
  }
}

/// What every group of a model gets.
package struct ChosenSize: Sendable, Equatable {
  /// With their targets.
  package let schemes: [QuantizationScheme]
  /// Targets of groups that stay as they are.
  package let kept: [String]
  package let record: SizeRecord
  /// A digest of the checksums of the source that was measured.
  var checksums: String?
  /// Of the arithmetic of all passes, where the one that writes begins.
  var begins = 0.0
}
