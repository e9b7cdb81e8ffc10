// A data set as a model will see it: rendered, tokenized, counted.

internal import Calibration
internal import CompressedTensors
internal import JSON
internal import Models
internal import SystemIO

struct DataListing {
  let source: CalibrationSource
  let model: String

  /// Samples that are shown in full, and how much of their text.
  private static let shownSamples = 3
  private static let shownCharacters = 1000
  private static let shownIDs = 32

  func run(json: Bool) throws {
    // A folder with nothing but a tokenizer will do, and a model of any class.
    let vocabularySize = CheckpointConfig.vocabularySize(folder: model) ?? Int(Int32.max)
    var lengths: [Int] = []
    var hasBeginnings = false
    let data = try source.load(
      model: model, vocabularySize: vocabularySize,
      used: { row in
        lengths.append(row.encoded.ids.count)
        hasBeginnings = hasBeginnings || row.encoded.isBeginning
        let ids =
          source.selection.packs
          ? row.encoded.ids[...] : row.encoded.ids.prefix(source.selection.sequenceLength)
        if json {
          Console.out(
            JSONValue.object(
              JSONObject([
                ("row", .int(row.index)),
                ("text", .text(row.encoded.text)),
                ("input_ids", .array(ids.map { .int(Int($0)) })),
              ])
            ).serialized())
        } else if lengths.count <= Self.shownSamples {
          show(row, ids)
        }
      })
    if !json {
      summarize(data, lengths.sorted())
      if hasBeginnings { Console.out("of texts above 1 MiB, no more was tokenized than is used") }
    }
    for failed in data.failedRows.prefix(5) { Console.error("warning: unusable row: \(failed)") }
  }

  private func show(_ row: UsedRow, _ ids: ArraySlice<Int32>) {
    let atLeast = row.encoded.isBeginning ? "at least " : ""
    Console.out("row \(row.index), \(atLeast)\(counted(row.encoded.ids.count, "token"))")
    if let text = row.encoded.text {
      let shown = text.prefix(Self.shownCharacters)
      Console.out(shown + (shown.endIndex < text.endIndex ? " …" : ""))
    }
    let list = ids.prefix(Self.shownIDs).map(String.init).joined(separator: " ")
    Console.out("ids: \(list)\(ids.count > Self.shownIDs ? " …" : "")\n")
  }

  private func summarize(_ data: CalibrationData, _ lengths: [Int]) {
    guard let shortest = lengths.first, let longest = lengths.last else { return }
    Console.out(
      "\(source.name): \(counted(data.rowsRead, "row")) read, \(grouped(lengths.count)) used, "
        + "\(data.emptyRows) empty, \(data.failedRows.count) unusable")
    Console.out(
      "tokens of a row: \(shortest) to \(longest), median \(lengths[lengths.count / 2]); "
        + "\(counted(data.cutRows, "row")) cut to \(source.selection.sequenceLength)")
    Console.out(
      "\(counted(data.sequences.count, "sequence")), \(counted(data.tokens, "token")) in all")
  }
}
