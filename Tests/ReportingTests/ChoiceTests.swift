// Lines of choices.jsonl: what is written is read back.

import JSON
import Reporting
import Testing

@Suite struct ChoiceTests {
  private static let layerName = "model.layers.3.mlp.experts.7"

  /// Every kind of line, with all that it can say and with as little as it can.
  private static let choices: [Choice] = {
    var data = DataChoice()
    data.path = "chats & \"more\".jsonl"
    data.samples = 64
    data.sequenceLength = 512
    data.shuffleSeed = .max
    data.packs = true
    data.textColumn = "text"
    data.addsSpecialTokens = false
    data.chatTemplate = "chat.jinja"
    data.templateArguments = JSONObject([("enable_thinking", false), ("n", [1, "2"])])
    data.templateDate = "2025-01-01"
    data.sequences = 61
    data.tokens = 30_000
    data.emptyRows = 0
    data.failedRows = 2
    var smoothing = SmoothingChoice(layer: 3, producer: layerName + ".up_proj", exponent: 1.0 / 3)
    smoothing.consumers = 1
    smoothing.gridPoint = 7
    smoothing.usesWeights = true
    smoothing.lossBefore = 2.5e-7
    smoothing.lossAfter = 1e-300
    smoothing.tokens = 30_000
    smoothing.routedTokens = 0
    var linear = LinearChoice(layer: 3, name: layerName + ".down_proj")
    linear.rounding = "compensated"
    linear.error = 0.1
    linear.nearestError = 3
    linear.rows = [
      RowCount(rounding: "nearest", count: 0), RowCount(rounding: "compensated", count: 256),
    ]
    linear.damping = 0.005
    return [
      .data(data), .data(DataChoice()), .smoothing(smoothing),
      .smoothing(SmoothingChoice(layer: 0, producer: "a", exponent: 0)), .linear(linear),
      .linear(LinearChoice(layer: 0, name: "b")), .rescaled(tensor: "c.weight", layer: 91),
      .routing(LayerRouting(layer: 3, tokens: [4, 0, 12])),
      .routing(LayerRouting(layer: 4, tokens: [])),
    ]
  }()

  @Test(arguments: choices)
  func `a line says what was written into it`(choice: Choice) throws {
    let line = choice.json.serialized()
    #expect(!line.contains("\n"))
    #expect(Choice(try JSONValue.parse(Array(line.utf8))) == choice, "\(line)")
  }

  @Test func `all lines are read in their order`() throws {
    let lines = Self.choices.map { $0.json.serialized() + "\n" }.joined()
    let read = try Choices(lines: Array(lines.utf8), file: "choices.jsonl")
    #expect(read.data == DataChoice())
    #expect(read.smoothings.map(\.layer) == [3, 0] && read.linears.map(\.layer) == [3, 0])
    #expect(read.routings.map(\.layer) == [3, 4] && read.rescaledTensors == 1)
  }

  /// Whoever reads these files has these words.
  @Test func `a line has the keys that it always had`() throws {
    let lines = Self.choices.map { $0.json.serialized() }
    #expect(
      lines[2]
        == #"{"layer":3,"smoothing":"\#(Self.layerName).up_proj","consumers":1,"grid_point":7,"#
        + #""ratio":0.3333333333333333,"duo_scaling":true,"loss_before":2.5e-07,"#
        + #""loss_after":1e-300,"tokens":30000,"routed_tokens":0}"#)
    #expect(
      lines[4]
        == #"{"layer":3,"linear":"\#(Self.layerName).down_proj","fate":"packed","#
        + #""rounding":"compensated","error":0.1,"error_nearest":3.0,"#
        + #""rows":{"nearest":0,"compensated":256},"damping":0.005}"#)
    #expect(lines[6] == #"{"layer":91,"linear":"c.weight","fate":"rescaled"}"#)
    #expect(lines[7] == #"{"layer":3,"routing":[4,0,12]}"#)
  }
}
