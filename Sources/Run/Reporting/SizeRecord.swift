// What was chosen for a size that the user named: a line of choices.jsonl.

package import JSON

/// What was chosen for a size, as a line of choices.jsonl keeps it.
package struct SizeRecord: Sendable, Equatable {
  /// The sums of a choice.
  package struct Point: Sendable, Equatable {
    package let bytes: Int
    package let loss: Double

    package init(bytes: Int, loss: Double) {
      self.bytes = bytes
      self.loss = loss
    }
  }

  package struct Group: Sendable, Equatable {
    package let name: String
    /// A scheme, or the type of what stays as it is.
    package let choice: String
    package let bytes: Int
    package let loss: Double

    package init(name: String, choice: String, bytes: Int, loss: Double) {
      self.name = name
      self.choice = choice
      self.bytes = bytes
      self.loss = loss
    }
  }

  /// What the output may take.
  package let target: Int
  /// What it takes: all tensors.
  package let bytes: Int
  /// Predicted at the end of the model: the sum over groups.
  package let loss: Double
  /// The best choices of other sizes, from the smallest on.
  package let frontier: [Point]
  package let groups: [Group]

  package init(
    target: Int, bytes: Int, loss: Double, frontier: [Point], groups: [Group]
  ) {
    self.target = target
    self.bytes = bytes
    self.loss = loss
    self.frontier = frontier
    self.groups = groups
  }

  /// How many groups got each choice, in the order of first mention.
  package var counts: [(choice: String, count: Int)] {
    var result: [(choice: String, count: Int)] = []
    for group in groups {
      if let place = result.firstIndex(where: { $0.choice == group.choice }) {
        result[place].count += 1
      } else {
        result.append((group.choice, 1))
      }
    }
    return result
  }

  /// `W4A16 for 15 groups, W8A16 for 5`.
  package var words: String {
    counts.enumerated().map { index, each in
      "\(each.choice) for "
        + (index == 0 ? counted(each.count, "group") : "\(each.count)")
    }.joined(separator: ", ")
  }
}

extension SizeRecord {
  package var json: JSONValue {
    [
      "target_bytes": .int(target), "bytes": .int(bytes), "predicted_loss": .double(loss),
      "frontier": .array(frontier.map { .array([.int($0.bytes), .double($0.loss)]) }),
      "groups": .array(
        groups.map { group in
          [
            "group": .string(group.name), "choice": .string(group.choice),
            "bytes": .int(group.bytes), "predicted_loss": .double(group.loss),
          ]
        }),
    ]
  }

  package init?(_ object: JSONObject) {
    guard let target = object["target_bytes"]?.size, let bytes = object["bytes"]?.size,
      let loss = object["predicted_loss"]?.double, let frontier = object["frontier"]?.array,
      let groups = object["groups"]?.array
    else { return nil }
    self.target = target
    self.bytes = bytes
    self.loss = loss
    self.frontier = frontier.compactMap(\.array).compactMap { point in
      guard point.count == 2, let bytes = point[0].size, let loss = point[1].double else {
        return nil
      }
      return Point(bytes: bytes, loss: loss)
    }
    self.groups = groups.compactMap(\.object).compactMap { group in
      guard let name = group["group"]?.string, let choice = group["choice"]?.string,
        let bytes = group["bytes"]?.size, let loss = group["predicted_loss"]?.double
      else { return nil }
      return Group(name: name, choice: choice, bytes: bytes, loss: loss)
    }
  }
}
