// States and statistics that a run keeps for others: the same bytes as without, and nothing done twice.

import Calibration
import CompressedTensors
import Glibc
import Pipeline
import Planning
import Quantization
import SystemIO
import Tensors
import Testing
import TestSupport

/// What a second run asks for otherwise.
private enum Change: String, CaseIterable {
  case w8a16, nvfp4a16, fp8Static, w8a8, cache, nearest, ignore, gram, plain, experts

  func apply(to options: inout QuantizeOptions) {
    switch self {
    case .w8a16: options.schemes = [IntegerScheme(.w8a16, groupSize: 32).scheme]
    case .nvfp4a16: options.schemes = [SchemePreset.named("NVFP4A16")!.scheme]
    case .fp8Static: options.schemes = [SchemePreset.named("FP8")!.scheme]
    case .w8a8: options.schemes = [SchemePreset.named("W8A8")!.scheme]
    case .cache: options.cache = .fp8
    case .nearest: options.rounding = .nearest
    case .ignore: options.ignore = ["model.layers.0.*", "*.o_proj"]
    case .gram: options.loss = .gram
    case .plain:
      options.smooths = false
      options.expertWeighting = .routed
    case .experts: options.expertTokens = .number(5)
    }
  }

  /// Whether all that it asks for is there behind a run with the usual options.
  var isWhole: Bool {
    switch self {
    case .w8a16, .nvfp4a16, .fp8Static, .w8a8, .ignore, .gram: true
    case .cache, .nearest, .plain, .experts: false
    }
  }
}

@Suite struct KeptStatesTests {
  private func options(_ folder: String, _ name: String, keeps: Bool = true) -> QuantizeOptions {
    var options = SmallRun.options("\(folder)/\(name)")
    if keeps { options.keptStates = folder + "/kept" }
    return options
  }

  @discardableResult
  private func run(_ options: QuantizeOptions) throws -> [String: [UInt8]] {
    if options.size != nil {
      try SizedRun(options).run { _ in }
    } else {
      try SmallRun.run(options)
    }
    // The card tells the folder's name.
    return try SmallRun.contents(options.output, card: false)
  }

  /// What a run with the usual options writes that keeps nothing.
  private static let plain = Result {
    try withTemporaryFolder { folder in
      let tests = KeptStatesTests()
      return try tests.run(tests.options(folder, "plain", keeps: false))
    }
  }

  /// Every file of a folder but the lock.
  private func files(_ folder: String) throws -> [String: [UInt8]] {
    var result: [String: [UInt8]] = [:]
    for name in try FileSystem.list(folder) where name != "lock" {
      result[name] = try FileSystem.readFile("\(folder)/\(name)")
    }
    return result
  }

  @Test(arguments: Change.allCases)
  fileprivate func `what is kept changes no byte of a run with other options`(
    change: Change
  ) throws {
    try withTemporaryFolder { folder in
      let plain = try Self.plain.get()
      #expect(try run(options(folder, "first")) == plain)
      var other = options(folder, "other", keeps: false)
      change.apply(to: &other)
      let expected = try run(other)
      other.keptStates = folder + "/kept"
      other.output = folder + "/again"
      let grams = try gramsOfRun(other)
      #expect(try SmallRun.contents(other.output, card: false) == expected)
      // Rounding to nearest asks for none.
      #expect(grams.isEmpty == (change.isWhole || change == .nearest), "\(grams)")
      // And what had to be made is there for the next one.
      other.output = folder + "/third"
      #expect(try gramsOfRun(other).isEmpty)
      #expect(try SmallRun.contents(other.output, card: false) == expected)
    }
  }

  /// They are wider from block to block, and so are the first tokens that a proof looks at.
  @Test func `states of several blocks of layers are kept and found`() throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel("kimi-k3-published", dtype: .bf16, in: model)
      var options = options(folder, "first", keeps: false)
      options.model = model
      options.data.path = model + "/ids.jsonl"
      options.data.selection.samples = 7
      options.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
      let expected = try run(options)
      options.keptStates = folder + "/kept"
      for name in ["second", "third"] {
        options.output = "\(folder)/\(name)"
        #expect(try gramsOfRun(options).isEmpty == (name == "third"))
        #expect(try SmallRun.contents(options.output, card: false) == expected)
      }
    }
  }

  /// What a run adds to Gram matrices.
  private func gramsOfRun(_ options: QuantizeOptions) throws -> [Operation: Double] {
    let model = try QuantizeModel(QuantizePlan(options)) { _ in }
    try model.run()
    return model.ledger.operations.filter { $0.key.isOfTokens && $0.value > 0 }
  }

  @Test func `a run to a size finds what another one kept, and its second pass what the first did`()
    throws
  {
    try withTemporaryFolder { folder in
      var sized = options(folder, "sized", keeps: false)
      sized.isGroupSizeNamed = true
      sized.size = try SizeWish(
        .meanBits(6), options: [SizeOption("W4A16"), SizeOption("W8A16")]
      ).grouped(by: 32)
      let expected = try run(sized)
      sized.keptStates = folder + "/kept"
      sized.output = folder + "/again"
      #expect(try run(sized) == expected)
      // The pass that wrote found everything.
      try run(options(folder, "plain"))
      sized.output = folder + "/third"
      #expect(try run(sized) == expected)
      let plan = try SizedRun(sized).writing
      #expect(plan.keptSummary?.wholeLayers == plan.keptSummary?.layers)
    }
  }

  @Test func `what is kept is the same for any memory and threads, and so is what comes of it`()
    throws
  {
    try withTemporaryFolder { folder in
      let expected = try Self.plain.get()
      var kept: [String: [UInt8]] = [:]
      for (number, threads) in [1, 3].enumerated() {
        var options = options(folder, "\(number)")
        options.keptStates = "\(folder)/kept-\(number)"
        options.threads = threads
        if number == 1 { options.memory = try QuantizePlan(options).run.smallestBudget }
        #expect(try run(options) == expected)
        let files = try files("\(folder)/kept-\(number)")
        if number == 0 { kept = files }
        #expect(files.keys.sorted() == kept.keys.sorted())
        #expect(files == kept)
        // Behind another one's states, too.
        options.output = "\(folder)/\(number)-again"
        options.keptStates = "\(folder)/kept-0"
        #expect(try run(options) == expected)
      }
    }
  }

  @Test func `runs that are cut at every commit keep the same, and find it`() throws {
    try withTemporaryFolder { folder in
      let expected = try Self.plain.get()
      var whole = options(folder, "whole")
      whole.keptStates = folder + "/kept-whole"
      try run(whole)
      var cut = options(folder, "cut")
      cut.memory = try QuantizePlan(cut).run.smallestBudget
      var interruptions = 0
      try SmallRun.runInterrupted(cut) { _ in
        interruptions += 1
        try #require(interruptions < 100)
      }
      #expect(interruptions >= 4)
      #expect(try SmallRun.contents(cut.output, card: false) == expected)
      #expect(try files(folder + "/kept") == files(folder + "/kept-whole"))
      // The second half.
      cut.output = folder + "/again"
      interruptions = 0
      try SmallRun.runInterrupted(cut) { _ in
        interruptions += 1
        try #require(interruptions < 100)
      }
      #expect(interruptions >= 2)
      #expect(try SmallRun.contents(cut.output, card: false) == expected)
    }
  }

  /// One stops somewhere, another one does all of it, and then the first goes on.
  @Test(arguments: [2, 4, 6, 9])
  func `a run goes on behind another one that went further in the same folder`(cuts: Int) throws {
    try withTemporaryFolder { folder in
      let expected = try Self.plain.get()
      var first = options(folder, "first")
      first.memory = try QuantizePlan(first).run.smallestBudget
      for _ in 0..<cuts {
        let interruption = Interruption()
        do {
          try QuantizeModel(QuantizePlan(first), interruption: interruption) { event in
            if case .progress = event { interruption.request() }
          }.run()
        } catch is Interrupted {}
      }
      var second = options(folder, "second")
      second.rounding = .fast
      try run(second)
      #expect(try run(first) == expected)
    }
  }

  /// A commit in such a step has no statistics: they are kept, or nobody needs them.
  @Test(arguments: ["attend-1.zst", "units-all-1.zst"])
  func `a step that was cut begins again where what was kept for it is lost`(name: String) throws {
    try withTemporaryFolder { folder in
      // A block of tokens for each row.
      let rows = (0..<3).map { row in "{\"input_ids\":\((0..<700).map { ($0 * (row + 3)) % 96 })}" }
      try replaceFile(folder + "/rows.jsonl", with: Array(rows.joined(separator: "\n").utf8))
      func long(_ name: String, keeps: Bool = true) -> QuantizeOptions {
        var result = options(folder, name, keeps: keeps)
        result.data.path = folder + "/rows.jsonl"
        result.data.selection.samples = 3
        // Units are rounded a few at a time.
        result.threads = 1
        return result
      }
      try run(long("first"))
      var cut = long("cut")
      cut.expertWeighting = .all
      var plain = long("plain", keeps: false)
      plain.expertWeighting = .all
      let expected = try run(plain)
      let path = "\(folder)/kept/\(name)"
      var isLost = false
      var interruptions = 0
      try SmallRun.runInterrupted(cut) { _ in
        interruptions += 1
        try #require(interruptions < 100)
        let state = try RunState(readingFrom: cut.output + "/.sluice/state.json")
        let isCut =
          switch state.position {
          case .attend(_, _, let block): name.hasPrefix("attend") && block > 0
          case .experts(_, _, _, _, let block): name.hasPrefix("units") && block > 0
          default: false
          }
        if isLost || !isCut || state.statistics != nil { return }
        try FileSystem.remove(path)
        isLost = true
      }
      #expect(isLost)
      #expect(try SmallRun.contents(cut.output, card: false) == expected)
    }
  }

  // MARK: Other work, and damage

  private func refusal(_ options: QuantizeOptions) throws -> String {
    "\(try #require(#expect(throws: KeptError.self) { try run(options) }))"
  }

  @Test func `states of other tokens, data or weights are refused with what differs`() throws {
    try withTemporaryFolder { folder in
      try run(options(folder, "first"))
      var other = options(folder, "other")
      other.data.selection.samples = 4
      #expect(try refusal(other).contains("kept with --samples 8, this run has 4"))
      other = options(folder, "other")
      other.model = folder + "/model"
      try FileSystem.createFolder(other.model)
      for name in try FileSystem.list(SmallRun.model) where !name.hasPrefix("golden") {
        try FileSystem.copyFile(from: SmallRun.model + "/" + name, to: other.model + "/" + name)
      }
      // A copy is as good: it is read once for its checksums.
      try run(other)
      let shard = try #require(
        FileSystem.list(other.model).first { $0.hasSuffix(".safetensors") })
      var bytes = try FileSystem.readFile(other.model + "/" + shard)
      bytes[bytes.count - 2] ^= 1
      try replaceFile(other.model + "/" + shard, with: bytes)
      other.output = folder + "/third"
      #expect(try refusal(other).contains("was kept of other weights"))
    }
  }

  @Test func `folders that are somebody else's, in use or in the output are refused`() throws {
    try withTemporaryFolder { folder in
      var options = options(folder, "out")
      options.keptStates = folder + "/out/kept"
      #expect(try refusal(options).contains("lies in the folder of the output"))
      options.keptStates = SmallRun.model + "/kept"
      #expect(try refusal(options).contains("lies in the folder of the model"))
      options.keptStates = folder + "/foreign"
      try FileSystem.createFolder(folder + "/foreign")
      try replaceFile(folder + "/foreign/letter.txt", with: [65])
      #expect(try refusal(options).contains("no states that Sluice kept"))
      try FileSystem.remove(folder + "/foreign/letter.txt")
      let lock = try FileLock(path: folder + "/foreign/lock")
      #expect(try refusal(options).contains("another run keeps its states there"))
      withExtendedLifetime(lock) {}
    }
  }

  @Test func `a run goes on with the folder that it was begun with`() throws {
    try withTemporaryFolder { folder in
      var options = options(folder, "out")
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          if case .progress = event { interruption.request() }
        }.run()
      }
      options.keptStates = nil
      let error = try #require(#expect(throws: RunStateError.self) { try run(options) })
      #expect("\(error)".contains("--keep-states") && "\(error)".contains("(nothing)"))
    }
  }

  /// Names of files, and how each is spoilt.
  @Test(
    arguments: [
      "hidden-0.zst", "hidden-1.zst", "attend-1.zst", "units-blend-1.zst", "part-1.json",
    ], ["cut", "flipped", "gone"])
  func `damaged files are made again, and no byte is another one`(
    name: String, damage: String
  ) throws {
    try withTemporaryFolder { folder in
      let expected = try run(options(folder, "first"))
      let path = "\(folder)/kept/\(name)"
      var bytes = try FileSystem.readFile(path)
      switch damage {
      case "cut": try replaceFile(path, with: Array(bytes.prefix(bytes.count / 2)))
      case "gone": try FileSystem.remove(path)
      default:
        bytes[bytes.count / 2] ^= 4
        try replaceFile(path, with: bytes)
      }
      let again = options(folder, "again")
      if damage == "flipped", name.hasSuffix(".zst") {
        // Found when its turn comes, and forgotten.
        #expect(try refusal(again).contains("\(name): not as it was kept, and removed"))
      } else {
        let warnings = try QuantizePlan(again).warnings
        #expect(
          warnings.contains { "\($0)".contains("not as kept") }
            == (damage != "gone" || name.hasSuffix(".zst")))
      }
      #expect(try run(again) == expected)
      // Whole again.
      let summary = try #require(QuantizePlan(options(folder, "third")).keptSummary)
      #expect(summary.wholeLayers == summary.layers)
    }
  }

  /// It may well be whole.
  @Test func `a file that the system fails to open is not called damaged`() throws {
    try withTemporaryFolder { folder in
      try run(options(folder, "first"))
      let model = try QuantizeModel(QuantizePlan(options(folder, "again"))) { _ in }
      let path = folder + "/kept/hidden-0.zst"
      try FileSystem.remove(path)
      // It leads to itself.
      try #require(unsafe symlink(path, path) == 0)
      let error = try #require(#expect(throws: StoppedRun.self) { try model.run() })
      #expect("\(error)".contains("/kept/hidden-0.zst: open failed: "), "\(error)")
      #expect(FileSystem.isLink(path))
    }
  }

  @Test(arguments: ["kept.json", "source-checksums.txt"])
  func `a folder that does not say what it is of is refused, or read again`(name: String) throws {
    try withTemporaryFolder { folder in
      let expected = try run(options(folder, "first"))
      try replaceFile("\(folder)/kept/\(name)", with: Array("{}".utf8))
      let again = options(folder, "again")
      if name == "kept.json" {
        #expect(try refusal(again).contains("choose another --keep-states, or remove the folder"))
      } else {
        #expect(try run(again) == expected)
      }
    }
  }

  /// Files that a kill leaves.
  @Test(arguments: ["kept.json.tmp", "source-checksums.txt.tmp"])
  func `a folder whose beginning was cut short is used`(name: String) throws {
    try withTemporaryFolder { folder in
      let expected = try Self.plain.get()
      try FileSystem.createFolder(folder + "/kept")
      try replaceFile("\(folder)/kept/\(name)", with: [1])
      #expect(try run(options(folder, "out")) == expected)
    }
  }

  @Test func `a plan says what is kept, what it will take, and what has to be done again`() throws {
    try withTemporaryFolder { folder in
      let before = try #require(QuantizePlan(options(folder, "first")).keptSummary)
      #expect(before.wholeLayers == 0 && before.layers == 2 && before.heldBytes == 0)
      #expect(before.words.contains("which other runs then find"))
      try run(options(folder, "first"))
      let held = FileSystem.folderSize(folder + "/kept")
      // Heads of files, listings and sums of few channels are not counted.
      #expect(before.bytes > held / 4 && before.bytes < 4 * held)
      let after = try QuantizePlan(options(folder, "second"))
      #expect(after.keptSummary?.words.hasSuffix("all that 2 layers need is there") == true)
      let all = try QuantizePlan(options(folder, "third", keeps: false))
      #expect(after.run.operations < all.run.operations)
      #expect(
        after.run.uses[.experts]?.operations.keys.contains(where: \.isOfTokens) == false)
      var other = options(folder, "other")
      other.expertWeighting = .all
      let words = try #require(QuantizePlan(other).keptSummary).words
      // Nothing weighs tokens in layer 0, which has no experts.
      #expect(words.contains("; 1 of 2 layers are there"), "\(words)")
      #expect(words.contains("1 through their experts, too"), "\(words)")
    }
  }
}

extension Operation {
  /// Whether it gathers what tokens make of an activation: weights that read the residual stream come in smaller tiles.
  fileprivate var isOfTokens: Bool { kind == .gram && sizes[0] > StreamMoments.tileRows }
}
