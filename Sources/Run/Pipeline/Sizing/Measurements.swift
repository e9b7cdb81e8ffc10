// measurements.json: what every choice does to every group, kept for any size that is asked for later.

internal import JSON
internal import Safetensors
internal import SystemIO

/// `OUT/.sluice/measurements.json`.
struct Measurements: Equatable {
  /// Everything that changes them, but what is chosen among.
  let inputs: RunInputs
  /// The shards that were read, and a digest of the checksums of their tensors.
  let source: [SourceFile]
  let checksums: String
  /// Names of the schemes, in groups of their sizes.
  let choices: [String]
  let groups: [GroupMeasurement]

  private static let format = 1

  init(
    inputs: RunInputs, source: [SourceFile], checksums: String, choices: [String],
    groups: [GroupMeasurement]
  ) {
    self.inputs = inputs
    self.source = source
    self.checksums = checksums
    self.choices = choices
    self.groups = groups
  }

  func write(to path: String) throws {
    let object = JSONObject([
      ("format", .int(Self.format)), ("choices", .array(choices.map { .string($0) })),
      (
        "groups",
        .array(
          groups.map { group in
            [
              "name": .string(group.name), "errors": .array(group.errors.map { .double($0) }),
              "share": .double(group.share), "routers": .int(group.routers),
            ]
          })
      ),
      ("source", .array(source.map(\.json))), ("source_checksums", .string(checksums)),
      ("inputs", inputs.json),
    ])
    try SealedFile.write(object, to: path)
  }

  /// - Throws: `SizeError.damaged`.
  init(readingFrom path: String) throws {
    func damaged(_ problem: String) -> SizeError { .damaged(path: path, problem: problem) }
    let object = try SealedFile.read(path, format: Self.format, damaged: damaged)
    guard let choices = object["choices"]?.array, let groups = object["groups"]?.array,
      let source = object["source"]?.array, let checksums = object["source_checksums"]?.string,
      let inputs = object["inputs"].flatMap({ RunInputs($0) })
    else { throw damaged("no measurements of a run") }
    self.choices = choices.compactMap(\.string)
    self.groups = groups.compactMap(\.object).compactMap { group in
      guard let name = group["name"]?.string, let errors = group["errors"]?.array,
        errors.count == choices.count, let share = group["share"]?.double,
        let routers = group["routers"]?.size
      else { return nil }
      return GroupMeasurement(
        name: name, errors: errors.map(\.double), share: share, routers: routers)
    }
    guard self.choices.count == choices.count, self.groups.count == groups.count,
      self.groups.allSatisfy({ $0.routers < 1 << 16 })
    else {
      throw damaged("no measurements of a run")
    }
    self.source = source.compactMap { SourceFile($0) }
    self.checksums = checksums
    self.inputs = inputs
  }
}
