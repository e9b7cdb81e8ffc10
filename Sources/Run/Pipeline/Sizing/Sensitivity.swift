// From what rounding does to each Linear to what it does to the states that its branch adds to.

internal import Models
internal import Transformer

/// What a group of Linears costs under each choice: the relative error of what its branch puts out, how much of the residual
/// stream that is, and how many routers read it.
package struct GroupMeasurement: Sendable, Equatable {
  let name: String
  /// For each choice, the energy of the error over that of the branch's output; nil where the choice does not divide the
  /// inputs.
  let errors: [Double?]
  /// The energy of the branch's output over that of the residual stream behind it.
  let share: Double
  /// Routers behind the branch.
  let routers: Int

  package init(name: String, errors: [Double?], share: Double, routers: Int) {
    self.name = name
    self.errors = errors
    self.share = share
    self.routers = routers
  }

  /// The energy of the error over that of the residual stream.
  func energy(_ choice: Int) -> Double? { errors[choice].map { $0 * share } }
}

/// How much the errors of groups count at the end of the model, without gradients.
///
/// An error counts by its energy, and once more at each router behind it: a router that reads it sends some tokens to
/// other experts, as many as the root of the energy of all errors before it says.
package struct Sensitivity {
  private let groups: [GroupMeasurement]
  /// Those that count, by their places in the measurements.
  private let choices: [Int?]
  private let routers: Int

  /// What a router adds, over the root of the energy before it.
  private static let perRouter = 0.008
  /// A choice is made again until it gets no better; it settles after two or three.
  private static let mostTurns = 20

  package init(_ groups: [GroupMeasurement], choices: [Int?]) {
    self.groups = groups
    self.choices = choices
    routers = groups.map(\.routers).max() ?? 0
  }

  /// The energy of the error of a group under one of the choices; 0 where the group stays as it is.
  private func energy(_ group: GroupMeasurement, _ choice: Int?) -> Double {
    choice.flatMap { choices[$0] }.flatMap(group.energy) ?? 0
  }

  /// The energy of all errors before the router that has so many at it and behind; of all errors for none.
  private func before(_ energies: [Double]) -> [Double] {
    (0...routers).map { router in
      zip(groups, energies).reduce(0) { $1.0.routers >= router ? $0 + $1.1 : $0 }
    }
  }

  /// The predicted loss of a choice for every group.
  package func loss(of chosen: [Int?]) -> Double {
    let before = before(zip(groups, chosen).map(energy))
    return before[0] + before.dropFirst().reduce(0) { $0 + Self.perRouter * $1.squareRoot() }
  }

  /// The loss of a group under each choice where all errors before a router are about as given; nil where the choice does not
  /// divide the inputs. These add up.
  private func slopes(at energies: [Double]) -> [[Double?]] {
    var weights = [1.0]
    for energy in before(energies).dropFirst() {
      weights.append(
        weights[weights.count - 1]
          + (energy > 0 ? Self.perRouter / (2 * energy.squareRoot()) : 0))
    }
    return groups.map { group in
      choices.map { choice in choice.flatMap(group.energy).map { $0 * weights[group.routers] } }
    }
  }

  /// The losses, which add up, under which groups are chosen best: the root is no sum over groups, so that they are chosen
  /// by its slope, again and again from where the last choice left it. That never gets worse, since a root lies below its
  /// tangents. It begins where all groups have the choice that costs most, and where they have the one that costs least.
  ///
  /// - Parameter choose: the choice of each group with the least sum.
  package func losses(choosing choose: (_ losses: [[Double?]]) -> [Int?]) -> [[Double?]] {
    func ends(_ pick: ([Double]) -> Double?) -> [Double] {
      groups.map { group in pick(choices.compactMap { $0.flatMap(group.energy) }) ?? 0 }
    }
    var best: (losses: [[Double?]], loss: Double)?
    for start in [ends { $0.max() }, ends { $0.min() }] {
      var energies = start
      var last = Double.infinity
      for _ in 0..<Self.mostTurns {
        let losses = slopes(at: energies)
        let chosen = choose(losses)
        let loss = loss(of: chosen)
        if !(loss < last) { break }
        last = loss
        energies = zip(groups, chosen).map(energy)
        if loss < best?.loss ?? .infinity { best = (losses, loss) }
      }
    }
    return best?.losses ?? slopes(at: ends { $0.max() })
  }
}

/// The lines of a pass that measured.
struct MeasuredLines {
  /// By Linear, for each choice.
  private var linears: [String: [MeasuredLinear?]] = [:]
  private var energies: [[Int]: PartEnergy] = [:]
  private let choices: Int

  init(choices: Int) { self.choices = choices }

  mutating func add(_ linear: MeasuredLinear) {
    if linear.trial >= choices { return }
    linears[linear.linear, default: Array(repeating: nil, count: choices)][linear.trial] = linear
  }

  mutating func add(_ energy: PartEnergy) { energies[[energy.layer, energy.part]] = energy }

  /// - Throws: `SizeError.damaged`'s problem as text where a line is missing.
  func groups(_ groups: [SizeGroup], of spec: ModelSpec) throws(MissingMeasurement)
    -> [GroupMeasurement]
  {
    var result: [GroupMeasurement] = []
    for group in groups {
      let layer = spec.layers[group.layer]
      let own = Set(group.linears.map(\.name))
      let part = layer.parts.first { part in
        part.branches.contains { branch in branch.mixer.linears.contains { own.contains($0.name) } }
      }
      guard let part, let energy = energies[[layer.index, part.index]] else {
        throw MissingMeasurement(name: group.name)
      }
      let isAlongSequence =
        part.sequence.map { $0.mixer.linears.contains { own.contains($0.name) } } == true
      var errors: [Double?] = []
      var share = 0.0
      for choice in 0..<choices {
        guard group.linears.allSatisfy({ linears[$0.name]?[choice] != nil }) else {
          errors.append(nil)
          continue
        }
        let branch = BranchError(part, energy) { linears[$0.name]?[choice] }
        let found = isAlongSequence ? branch.alongSequence(own) : branch.onTokens(own)
        errors.append(found.error)
        share = max(share, found.share)
      }
      result.append(
        GroupMeasurement(
          name: group.name, errors: errors, share: share,
          routers: Self.routers(behind: part, isAlongSequence: isAlongSequence, of: spec)))
    }
    return result
  }

  /// - Parameter isAlongSequence: of the part's branches, whether it is the first.
  private static func routers(
    behind part: LayerPart, isAlongSequence: Bool, of spec: ModelSpec
  ) -> Int {
    spec.layers[part.layer...].flatMap(\.parts).count { other in
      other.tokens?.mixer.router != nil
        && (other.layer > part.layer || other.index > part.index
          || other.index == part.index && isAlongSequence)
    }
  }
}

/// A group that a pass says nothing of.
struct MissingMeasurement: Error {
  let name: String
}

/// What errors of some Linears of a part come to at the end of their branch, under one choice.
///
/// The last projection of a branch puts its error into the branch's output as it is. The relative error of the others goes
/// through what follows, up to a factor that says how much of it is lost there.
private struct BranchError {
  private let part: LayerPart
  private let energy: PartEnergy
  private let measured: (LinearSpec) -> MeasuredLinear?

  init(
    _ part: LayerPart, _ energy: PartEnergy, measured: @escaping (LinearSpec) -> MeasuredLinear?
  ) {
    self.part = part
    self.energy = energy
    self.measured = measured
  }

  private func relative(_ linear: LinearSpec) -> Double {
    guard let found = measured(linear), found.signal > 0 else { return 0 }
    return found.error / found.signal
  }

  /// - Parameter own: names of the group.
  func alongSequence(_ own: Set<String>) -> (error: Double, share: Double) {
    guard let branch = part.sequence else { return (0, 0) }
    let error = branch.mixer.linears.filter { own.contains($0.name) }
      .reduce(0) { $0 + relative($1) }
    let scale = Double(branch.scale) * Double(branch.scale)
    // Where the output projection is not quantized, what it puts out is taken to be as large as the stream.
    let output =
      energy.sequenceOutput ?? measured(branch.mixer.output).map { $0.signal * scale }
      ?? energy.stream
    return (error, energy.stream > 0 ? min(1, output / energy.stream) : 1)
  }

  func onTokens(_ own: Set<String>) -> (error: Double, share: Double) {
    guard let branch = part.tokens else { return (0, 0) }
    let mlp = branch.mixer
    func weight(_ unit: Int) -> Double {
      let expert = unit - mlp.alwaysOn.count
      return expert >= 0 && expert < energy.experts.count ? energy.experts[expert] : 1
    }
    var (errors, whole) = (0.0, 0.0)
    for (index, unit) in mlp.units.enumerated() {
      // What is not quantized is taken to be as large as the stream.
      let output = (measured(unit.down)?.signal ?? energy.stream) * weight(index)
      whole += output
      for linear in unit.linears where own.contains(linear.name) {
        errors += relative(linear) * output
      }
    }
    let scale = Double(branch.scale) * Double(branch.scale)
    let output = energy.tokensOutput ?? whole * scale
    let behind = energy.stream + output
    return (whole > 0 ? errors / whole : 0, behind > 0 ? output / behind : 1)
  }
}
