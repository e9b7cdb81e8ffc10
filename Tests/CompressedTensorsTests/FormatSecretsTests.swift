// What formats know, nobody else does: a new one is a file, and no hunt through the program.

import SystemIO
import Testing
import TestSupport

@Suite struct FormatSecretsTests {
  /// Places that may know tensors, bits and words.
  private static let insiders = [
    "Checkpoints/CompressedTensors/Formats/", "Rounding/Quantization/Schemes/",
    "Rounding/Quantization/Numbers/", "C/CKernels/",
  ]

  private static let secrets = [
    #"weight_(packed|scale|shape|zero_point|global_scale)"#, #"input_(global_)?scale\b"#,
    #"\.qweight"#, #"\bnum_bits\b"#, #"\.bits\b"#, #"\b(codesP|p)erWord\b"#, #"\bnibble"#,
    #""(pack|float|naive|int)-quantized""#,
  ]

  /// Every Swift and C file below a folder.
  private func sources(_ folder: String) throws -> [String] {
    try FileSystem.list(folder).sorted().flatMap { name -> [String] in
      let path = "\(folder)/\(name)"
      if FileSystem.isFolder(path) { return try sources(path) }
      return [".swift", ".c", ".h"].contains { name.hasSuffix($0) } ? [path] : []
    }
  }

  @Test func `only formats and schemes know tensors, bits and words`() throws {
    let root = fixturePath("../Sources")
    // Where other digits of few bits are read, there are no weights.
    let others = ["Text"]
    let files = try FileSystem.list(root).filter { !others.contains($0) }
      .flatMap { try sources("\(root)/\($0)") }
    #expect(files.count > 100)
    var found: [String] = []
    for path in files {
      let name = String(path.dropFirst(root.count + 1))
      let text = String(decoding: try FileSystem.readFile(path), as: UTF8.self)
      let isInside = Self.insiders.contains { name.hasPrefix($0) }
      for secret in Self.secrets where try text.contains(Regex(secret)) != false {
        if isInside { continue }
        found.append("\(name): \(secret)")
      }
    }
    #expect(found == [])
    // The search finds what is there.
    let inside = try FileSystem.readFile(
      "\(root)/Checkpoints/CompressedTensors/Formats/PackQuantized.swift")
    #expect(try String(decoding: inside, as: UTF8.self).contains(Regex(Self.secrets[0])))
  }
}
