// Where activations meet Linears in a layer, and which scales may move there.

/// A place in a layer where an activation meets Linears.
package struct Tap: Hashable, Sendable {
  package enum Place: Hashable, Sendable {
    /// What a mixer reads, `[T, H]`.
    case input
    /// What routed experts read where they have a strand of their own, `[T, H]`.
    case routedInput
    /// The normed latent that queries are made of, `[T, rank]`.
    case queryLatent
    /// The normed latent that keys and values are made of, `[T, rank]`.
    case keyValueLatent
    /// What the output projection of a mixer along the sequence reads.
    case output
    /// What the down projection of unit `i` reads, `[T, F]`.
    case hidden(Int)
    /// Keys, after their rotation, or values, as a cache keeps them; no Linear reads them.
    case cached(KeyValueCache.Part)
  }

  package let branch: Int
  package let place: Place

  package init(_ branch: Int, _ place: Place) {
    self.branch = branch
    self.place = place
  }
}

/// A scale per channel that moves from an activation's producer into all its consumers, leaving the function as it is.
///
/// The AWQ *mapping* of llm-compressor (smooth layer -> balance layers), with exact names. Every reader of the
/// activation must be listed, also those that are not quantized: that is what keeps the function.
package struct Smoothing: Sendable, Equatable {
  package enum Producer: Sendable, Equatable {
    /// The norm's weight is divided by the scale.
    case norm(NormSpec)
    /// The last rows of the Linear's weight, as many as there are channels, and its bias are divided by the scale.
    case linear(LinearSpec)
  }

  package let tap: Tap
  /// Other taps that see the same activation.
  package let alsoAt: [Tap]
  package let producer: Producer
  package let channels: Int
  package var consumers: [LinearSpec]

  /// - Parameter channels: nil for all that the producer makes.
  package init(
    tap: Tap, alsoAt: [Tap] = [], producer: Producer, channels: Int? = nil,
    consumers: [LinearSpec]
  ) {
    self.tap = tap
    self.alsoAt = alsoAt
    self.producer = producer
    self.channels =
      channels
      ?? {
        switch producer {
        case .norm(let norm): norm.size
        case .linear(let linear): linear.outputs
        }
      }()
    self.consumers = consumers
  }

  /// Every tap that sees the activation.
  package var taps: [Tap] { [tap] + alsoAt }

  package var producerName: String {
    switch producer {
    case .norm(let norm): norm.name
    case .linear(let linear): linear.name
    }
  }
}
