// How far an output is from its model, as `sluice evaluate` found it: a line of evaluations.json.

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
