// Shell patterns: what they match, and the paths that they stand for.

import SystemIO
import Testing
import TestSupport

@Suite struct GlobPatternTests {
  @Test func matchesAreSortedExistingPaths() throws {
    try withTemporaryFolder { folder in
      for name in ["b1", "a1", "a2", "c"] { try FileSystem.createFolder("\(folder)/\(name)") }
      #expect(
        try FileSystem.matches("\(folder)/[ab]?") == ["a1", "a2", "b1"].map { "\(folder)/\($0)" })
      #expect(try FileSystem.matches("\(folder)/x*") == [])
      #expect(try FileSystem.matches("\(folder)/c") == ["\(folder)/c"])
    }
  }

  @Test func aFolderThatIsNotThereIsAnError() throws {
    #expect(throws: SystemError.self) { try FileSystem.matches("/does-not-exist/*") }
  }

  @Test func patternsAreToldFromPaths() {
    #expect(FileSystem.isPattern("data/train*.parquet"))
    #expect(FileSystem.isPattern("shard-[0-3]"))
    #expect(FileSystem.isPattern("a?"))
    #expect(!FileSystem.isPattern("data/train.parquet"))
  }

  @Test func `globs cover the whole name`() throws {
    for (glob, name) in [
      ("*", ""), ("a*c", "abc"), ("a*c", "ac"), ("?b", "ab"), ("[a-c]x", "bx"), ("[!a-c]x", "dx"),
      ("*.*.x", "a.b.c.x"), ("**", "a"), ("*a*b*", "xaxbx"), ("é*", "école"), ("a*a", "aba"),
      ("[]a]", "]"), ("[!]a]x", "bx"), ("[!!]", "a"),
    ] {
      #expect(try #require(Glob(glob)).matches(name), "\(glob) \(name)")
    }
    for (glob, name) in [
      ("", "a"), ("a", ""), ("a*c", "abcd"), ("?", ""), ("[a-c]", "d"), ("a*a", "a"), ("*b", "abc"),
      ("[!]a]x", "]x"), ("[!]a]x", "ax"), ("[!!]", "!"),
    ] {
      #expect(try !#require(Glob(glob)).matches(name), "\(glob) \(name)")
    }
    for open in ["a[b", "[]", "[!]", "[!", "["] { #expect(Glob(open) == nil, "\(open)") }
  }

  @Test func `a glob as an expression means nothing else`() throws {
    for (glob, expression) in [
      ("a.b", #"a\.b"#), ("*.x?", #".*\.x."#), ("[!a-c]", "[^a-c]"), ("[-!]", #"[\-!]"#),
      ("[!]a]", #"[^\]a]"#),
      ("[[]a", #"[\[]a"#), ("é(|)$^+{}", #"é\(\|\)\$\^\+\{\}"#), ("**", ".*"),
    ] {
      #expect(try #require(Glob(glob)).expression == expression, "\(glob)")
    }
  }

  /// Each way to share a name out among the stars used to be tried.
  @Test func `globs of many stars end`() throws {
    let name = String(repeating: "a", count: 5000)
    for unit in ["*", "*a", "*?", "a*", "*[a-z]"] {
      let glob = try #require(Glob(String(repeating: unit, count: 200) + "b"))
      #expect(!glob.matches(name))
    }
    try withTemporaryFolder { folder in
      try FileSystem.createFolder("\(folder)/\(String(repeating: "a", count: 250))")
      let stars = String(repeating: "*a", count: 100)
      #expect(try FileSystem.matches("\(folder)/\(stars)b") == [])
      #expect(try FileSystem.matches("\(folder)/\(stars)").count == 1)
    }
  }

  @Test func `patterns stand in any part of a path`() throws {
    try withTemporaryFolder { folder in
      for name in ["a/x/1", "b/x/2", "b/y/3", ".c/x/4"] {
        try FileSystem.createFolder("\(folder)/\(name)")
      }
      try replaceFile("\(folder)/file", with: [])
      func found(_ pattern: String) throws -> [String] {
        try FileSystem.matches("\(folder)/\(pattern)").map {
          String($0.dropFirst(folder.count + 1))
        }
      }
      #expect(try found("*/x/*") == ["a/x/1", "b/x/2"])
      #expect(try found("b/*/[23]") == ["b/x/2", "b/y/3"])
      #expect(try found(".*/x/4") == [".c/x/4"])
      #expect(try found("?/x") == ["a/x", "b/x"])
    }
  }
}
