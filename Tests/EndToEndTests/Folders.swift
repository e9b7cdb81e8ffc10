// Model folders to read, output folders to compare.

import Glibc
import JSON
import Safetensors
import SystemIO
import Testing
import TestSupport

let fixtureModel = fixturePath("glm4-moe-4m")
let fixtureCalibration = fixturePath("calibration.jsonl")

/// Calibration with few rows: enough for what does not look at quality.
let quickly = ["--calibration", fixtureCalibration, "--samples", "6"]

/// A fresh empty folder; whoever asks for it removes it.
func makeFolder() throws -> String {
  let parent = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? P_tmpdir
  var template = Array("\(parent)/sluice-e2e-XXXXXX".utf8CString)
  let made = unsafe template.withUnsafeMutableBufferPointer { buffer in
    unsafe buffer.baseAddress.flatMap { unsafe mkdtemp($0) }.map { unsafe String(cString: $0) }
  }
  guard let made else { throw SystemError(path: parent, call: "mkdtemp", code: errno) }
  return made
}

/// Quantizes and insists that it works.
@discardableResult
func quantize(
  _ model: String = fixtureModel, to output: String, _ options: [String] = quickly,
  sourceLocation: SourceLocation = #_sourceLocation
) throws -> Outcome {
  let outcome = try Program.run(["quantize", model, "--output", output] + options)
  try #require(outcome.end == .exit(0), "\(outcome)", sourceLocation: sourceLocation)
  return outcome
}

/// A finished run with `quickly` and no other option: made once, for every test that needs none of its own.
enum QuickRun {
  static let made = Result {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let outcome = try quantize(to: output)
      return (
        outcome: outcome, result: try result(output), output: try outputFiles(output),
        records: try FileSystem.list("\(output)/.sluice")
      )
    }
  }
}

/// Every file of an output by its path in it.
func outputFiles(_ output: String) throws -> [String: [UInt8]] {
  var files: [String: [UInt8]] = [:]
  for case (let path, let bytes?) in try contents(output) {
    files[String(path.dropFirst("\(output)/".count))] = bytes
  }
  return files
}

/// Writes an output anew, in a folder of its own.
func writeOutput(_ files: [String: [UInt8]], to output: String) throws {
  try FileSystem.createFolder("\(output)/.sluice")
  for (path, bytes) in files { try write(bytes, to: "\(output)/\(path)") }
}

/// Every file of a result by its path: all that is for the user, and the records beside it.
func result(_ output: String) throws -> [String: [UInt8]] {
  var files: [String: [UInt8]] = [:]
  for name in try FileSystem.list(output) where name != ".sluice" {
    files[name] = try FileSystem.readFile("\(output)/\(name)")
  }
  for name in ["choices.jsonl", "smoothing.safetensors"] {
    files[name] = try FileSystem.readFile("\(output)/.sluice/\(name)")
  }
  return files
}

/// The names of files that differ or that only one side has.
func differences(_ first: [String: [UInt8]], _ second: [String: [UInt8]]) -> [String] {
  Set(first.keys).union(second.keys).filter { first[$0] != second[$0] }.sorted()
}

/// Likewise, without the model card: that tells what source and data are called.
func differencesBesideCard(
  _ first: [String: [UInt8]], _ second: [String: [UInt8]]
) -> [String] {
  differences(first, second).filter { $0 != "README.md" }
}

/// Everything below a folder, by path; a folder reads as nil.
func contents(_ folder: String) throws -> [String: [UInt8]?] {
  var files: [String: [UInt8]?] = [:]
  for name in try FileSystem.list(folder) {
    let path = "\(folder)/\(name)"
    if FileSystem.isFolder(path) {
      files.updateValue(nil, forKey: path)
      files.merge(try contents(path)) { $1 }
    } else {
      files[path] = try FileSystem.readFile(path)
    }
  }
  return files
}

func write(_ bytes: some Sequence<UInt8>, to path: String) throws {
  try FileSystem.remove(path)
  try replaceFile(path, with: Array(bytes))
}

/// A folder that leads to the files of a model, as a Hugging Face cache does, for a test to spoil.
struct SpoiledModel {
  let path: String

  init(_ path: String, of model: String = fixtureModel) throws {
    self.path = path
    try FileSystem.createFolder(path)
    for name in try FileSystem.list(model) {
      let made = unsafe symlink("\(model)/\(name)", "\(path)/\(name)")
      if made != 0 { throw SystemError(path: path, call: "symlink", code: errno) }
    }
  }

  /// Replaces a link by a changed copy of its file.
  func change(_ name: String, _ body: (inout [UInt8]) throws -> Void) throws {
    var bytes = try FileSystem.readFile("\(path)/\(name)")
    try body(&bytes)
    try write(bytes, to: "\(path)/\(name)")
  }

  /// Replaces text in a copy of a file; the length must stay where offsets count.
  func change(_ name: String, replacing old: String, with new: String) throws {
    try change(name) { bytes in
      let found = bytes.firstRange(of: Array(old.utf8))
      let range = try #require(found, "\(name) holds no \(old)")
      bytes.replaceSubrange(range, with: Array(new.utf8))
    }
  }

  /// The shard and the bytes in it that hold a tensor.
  func place(of tensor: String) throws -> (shard: String, range: Range<Int>) {
    let stored = try #require(try ShardedModel(folder: path)[tensor])
    let shard = try #require(stored.file.path.split(separator: "/").last)
    return (String(shard), stored.range)
  }
}
