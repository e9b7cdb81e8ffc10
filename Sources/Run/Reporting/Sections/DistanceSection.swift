// How far the output is from its model, as it was measured.

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
