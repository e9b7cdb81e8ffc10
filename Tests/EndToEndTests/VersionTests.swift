// `sluice --version`: what somebody who reports a fault should send.

import CompressedTensors
import Models
import Ranks
import SystemIO
import Testing
import TestSupport

@Suite struct VersionTests {
  /// What git writes down of the commits that were checked out here; nil outside of a git checkout.
  private static var log: String? {
    get throws {
      var folder = projectPath(".git")
      if FileSystem.isFile(folder) {
        let link = try String(decoding: FileSystem.readFile(folder), as: UTF8.self)
        folder = String(link.dropFirst("gitdir: ".count).prefix { $0 != "\n" })
      }
      let log = "\(folder)/logs/HEAD"
      guard FileSystem.isFile(log) else { return nil }
      return String(decoding: try FileSystem.readFile(log), as: UTF8.self)
    }
  }

  @Test func `the version has the commit that was built, the engine, and what is built in`() throws
  {
    let outcome = try Program.run(["--version"])
    let lines = outcome.stdout.split(separator: "\n").map(String.init)
    try #require(lines.count == 3, "\(outcome)")
    let match = try #require(
      lines[0].wholeMatch(of: /sluice \d+\.\d+\.\d+ \((\w+)\)/), "\(outcome)")
    if let log = try Self.log {
      // Commits may have come since the build.
      #expect(match.1.count == 12 && log.contains(" \(match.1)"), "\(outcome)")
    } else {
      #expect(match.1 == "unknown")
    }
    #expect(lines[1].hasPrefix("engine    "))
    #expect(
      lines[2]
        == "built in  \(Architectures.all.count) classes of models, "
        + "\(CompressionFormats.presets.count) presets" + (Launcher.isBuiltIn ? ", MPI" : ""))
  }
}
