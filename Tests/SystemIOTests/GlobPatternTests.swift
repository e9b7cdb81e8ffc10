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
}
