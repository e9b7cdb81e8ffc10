// What a position expects of the next token, gathered while the vocabulary goes by tile by tile: no logits are kept.

internal import Glibc

/// One model's logits z of one position, as far as they were seen.
package struct Outlook: Sendable {
  package private(set) var largest = -Double.infinity
  /// The token of the largest logit; of equal ones the first.
  package private(set) var choice: Int32 = 0
  /// Sum of exp(z - largest).
  package fileprivate(set) var sum = 0.0
  /// The logit of the token that follows.
  package private(set) var next = 0.0

  /// log sum exp(z).
  package var logSum: Double { largest + log(sum) }

  /// Whether every logit was a number; one that is not spreads to the sum.
  package var isFinite: Bool { logSum.isFinite }

  /// Looks for a new largest logit.
  ///
  /// - Parameter tokens: whose logits these are.
  /// - Returns: what sums over exp(z - largest) are to be multiplied by.
  fileprivate mutating func look(
    at logits: UnsafePointer<Float>, of tokens: Range<Int>, next token: Int?
  ) -> Double {
    var best = unsafe logits[0]
    var place = 0
    for index in 1..<tokens.count where unsafe logits[index] > best {
      best = unsafe logits[index]
      place = index
    }
    if let token, tokens.contains(token) {
      next = unsafe Double(logits[token - tokens.lowerBound])
    }
    if Double(best) <= largest { return 1 }
    let factor = exp(largest - Double(best))
    largest = Double(best)
    choice = Int32(tokens.lowerBound + place)
    sum *= factor
    return factor
  }
}

/// A position under way.
package struct PositionTally: Sendable {
  package private(set) var model = Outlook()
  package private(set) var reference = Outlook()
  /// Sum of exp(zr - largest) (zr - zm) over the logits zr of the reference and zm of the model.
  private var weighted = 0.0

  package init() {}

  /// KL(reference || model) = sum p (zr - zm) - log sum exp(zr) + log sum exp(zm), in nats.
  package var divergence: Double { weighted / reference.sum - reference.logSum + model.logSum }

  /// Takes in the logits of one tile of the vocabulary.
  ///
  /// - Parameter next: the token that follows, where there is one.
  package mutating func add(
    model logits: UnsafePointer<Float>, reference wanted: UnsafePointer<Float>?,
    of tokens: Range<Int>, next: Int?
  ) {
    _ = unsafe model.look(at: logits, of: tokens, next: next)
    for index in 0..<tokens.count {
      unsafe model.sum += exp(Double(logits[index]) - model.largest)
    }
    guard let wanted = unsafe wanted else { return }
    weighted *= unsafe reference.look(at: wanted, of: tokens, next: next)
    for index in 0..<tokens.count {
      let (z, found) = unsafe (Double(wanted[index]), Double(logits[index]))
      let share = exp(z - reference.largest)
      reference.sum += share
      weighted += share * (z - found)
    }
  }
}
