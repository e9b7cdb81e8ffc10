// How far an output is from its model, as `sluice evaluate` found it: a line of evaluations.json, and a part of the page.

package import JSON
internal import Glibc

package struct EvaluationRecord: Sendable, Equatable {
  /// What people call the checkpoint that it was held against; nil for none.
  package var reference: String?
  /// The data, and which of it.
  package var data: String
  package var samples: Int
  package var sequenceLength: Int
  package var packs: Bool
  package var sequences: Int
  package var tokens: Int
  /// In nats; nil where no position has a next token.
  package var nll: Double?
  package var referenceNLL: Double?
  /// nil without a reference.
  package var divergence: Distance?

  /// Of next-token distributions.
  package struct Distance: Sendable, Equatable {
    package let mean: Double
    package let median: Double
    package let percentile99: Double
    /// Share of positions with the same most likely token.
    package let agreement: Double

    package init(mean: Double, median: Double, percentile99: Double, agreement: Double) {
      self.mean = mean
      self.median = median
      self.percentile99 = percentile99
      self.agreement = agreement
    }
  }

  package init(
    reference: String?, data: String, samples: Int, sequenceLength: Int, packs: Bool,
    sequences: Int, tokens: Int, nll: Double?, referenceNLL: Double?, divergence: Distance?
  ) {
    self.reference = reference
    self.data = data
    self.samples = samples
    self.sequenceLength = sequenceLength
    self.packs = packs
    self.sequences = sequences
    self.tokens = tokens
    self.nll = nll
    self.referenceNLL = referenceNLL
    self.divergence = divergence
  }

  /// Whether this says all that an earlier one of the same output does, and takes its place.
  package func replaces(_ other: EvaluationRecord) -> Bool {
    data == other.data && (reference == other.reference || other.reference == nil)
      && (samples, sequenceLength, packs) == (other.samples, other.sequenceLength, other.packs)
  }

  package var perplexity: Double? { nll.map { exp($0) } }
  package var referencePerplexity: Double? { referenceNLL.map { exp($0) } }
}

extension EvaluationRecord {
  package var json: JSONValue {
    [
      "reference": .text(reference), "data": .string(data), "samples": .int(samples),
      "sequence_length": .int(sequenceLength), "pack": .bool(packs),
      "sequences": .int(sequences), "tokens": .int(tokens), "nll": .double(nll),
      "perplexity": .double(perplexity), "reference_nll": .double(referenceNLL),
      "reference_perplexity": .double(referencePerplexity),
      "kl_mean": .double(divergence?.mean), "kl_median": .double(divergence?.median),
      "kl_p99": .double(divergence?.percentile99),
      "top1_agreement": .double(divergence?.agreement),
    ]
  }

  package init?(_ json: JSONValue) {
    guard let object = json.object, let data = object["data"]?.string,
      let samples = object["samples"]?.size, let length = object["sequence_length"]?.size,
      let packs = object["pack"]?.bool, let sequences = object["sequences"]?.size,
      let tokens = object["tokens"]?.size
    else { return nil }
    var divergence: Distance?
    if let mean = object["kl_mean"]?.double, let median = object["kl_median"]?.double,
      let percentile = object["kl_p99"]?.double, let same = object["top1_agreement"]?.double
    {
      divergence = Distance(
        mean: mean, median: median, percentile99: percentile, agreement: same)
    }
    self.init(
      reference: object["reference"]?.string, data: data, samples: samples,
      sequenceLength: length, packs: packs, sequences: sequences, tokens: tokens,
      nll: object["nll"]?.double, referenceNLL: object["reference_nll"]?.double,
      divergence: divergence)
  }
}

// MARK: On the page

extension Report {
  /// The last measurement against the model.
  var lastDistance: EvaluationRecord? { evaluations.last { $0.divergence != nil } }

  /// Nothing where nobody measured it.
  var distanceSection: HTML? {
    if evaluations.isEmpty { return nil }
    let finding: HTML? = lastDistance.flatMap { last in
      guard let distance = last.divergence else { return nil }
      return """
        <p class="finding">On \(whole(last.tokens)) tokens of \(last.data) the KL divergence from the model is \
        \(figure(distance.mean)) in the mean, and both find the same token most likely at \
        \(percent(distance.agreement)) of the positions.</p>

        """
    }
    let rows = evaluations.map { record -> [Cell] in
      [
        .text("\(record.data)"), .extra(number: whole(record.tokens)),
        .number(record.divergence.map { figure($0.mean) }),
        .extra(number: record.divergence.map { figure($0.median) }),
        .extra(number: record.divergence.map { figure($0.percentile99) }),
        .number(record.divergence.map { percent($0.agreement) }),
        .number(record.perplexity.map(figure)),
        .extra(number: record.referencePerplexity.map(figure)),
      ]
    }
    let heads: [Cell] = [
      .text("Data"), .extra(number: "tokens"), .number("KL mean"), .extra(number: "KL median"),
      .extra(number: "KL p99"), .number("same choice"), .number("perplexity"),
      .extra(number: "of the model"),
    ]
    return """
      <section id="distance">
      <h2>Distance to the model</h2>
      \(finding)\(table("Distance by data", heads, rows))\
      <p class="note">As <code>sluice evaluate</code> measured it. <em>KL</em>: how far the probabilities of the next token \
      are from those that the model gives, in nats; 0 is the model itself, and p99 the 99th percentile. <em>Same choice</em>: positions where both \
      find the same token most likely. <em>Perplexity</em>: how surprised by the text, less is better.</p>
      </section>

      """
  }
}
