// How many decoder layers a run works at, and how people are told of one.

package import JSON

/// The layers of a model, and behind them those that predict further tokens. All of them count on from 0.
package struct LayerCount: Sendable, Equatable {
  package let own: Int
  package let predictions: Int

  package init(_ own: Int, predictions: Int = 0) {
    self.own = own
    self.predictions = predictions
  }

  package var fields: [(String, JSONValue)] {
    [("layers", .int(own)), ("prediction_layers", .int(predictions))]
  }

  /// - Returns: nil where these fields are not there; an earlier version counted prediction layers as others.
  package init?(_ object: JSONObject) {
    guard let own = object["layers"]?.size else { return nil }
    self.init(own, predictions: object["prediction_layers"]?.size ?? 0)
  }

  /// `92 layers and 1 prediction layer`.
  package var words: String {
    JSON.counted(own, "layer")
      + (predictions == 0 ? "" : " and " + JSON.counted(predictions, "prediction layer"))
  }

  /// `layer 3 of 0-91`, `prediction layer 92`, `prediction layer 93 of 92-94`.
  package func place(of layer: Int) -> String {
    if layer < own { return "layer \(layer) of 0-\(own - 1)" }
    let all = predictions > 1 ? " of \(own)-\(own + predictions - 1)" : ""
    return "prediction layer \(layer)\(all)"
  }
}
