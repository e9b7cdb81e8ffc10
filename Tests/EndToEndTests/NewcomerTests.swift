// What someone meets who uses the program for the first time: help, mistyped words, sizes, proposals, names of data sets.

import Glibc
import JSON
import SystemIO
import Tensors
import Testing
import TestSupport

/// Exit code 64, nothing on stdout, and a first line that holds all `fragments`.
private func expectUsageError(
  _ arguments: [String], _ fragments: [String], sourceLocation: SourceLocation = #_sourceLocation
) throws {
  try withTemporaryFolder { folder in
    let outcome = try Program.run(arguments, in: folder)
    #expect(outcome.end == .exit(64), "\(outcome)", sourceLocation: sourceLocation)
    #expect(outcome.stdout == "", sourceLocation: sourceLocation)
    let first = outcome.messages.first ?? ""
    #expect(first.hasPrefix("error: "), "\(outcome)", sourceLocation: sourceLocation)
    for fragment in fragments {
      #expect(
        first.contains(fragment), "no \(fragment) in \(outcome)", sourceLocation: sourceLocation)
    }
    #expect(outcome.stderr.contains("Usage: sluice"), sourceLocation: sourceLocation)
    #expect(try FileSystem.list(folder) == [], sourceLocation: sourceLocation)
  }
}

@Suite struct UsageTests {
  @Test(arguments: [
    // What is missing, too, is missing because of it.
    (["quantize", "--calibraton", "x"], "`--calibraton`; did you mean `--calibration`?"),
    (["quantize", "M", "--ouput", "x"], "`--ouput`; did you mean `--output`?"),
    (["quantize", "M", "--ouput=x"], "`--ouput`; did you mean `--output`?"),
    (["plan", "--group_size", "32"], "did you mean `--group-size`?"),
    (["plan", "M", "--num-samples", "32"], "did you mean `--samples`?"),
    (["verify", "--sorce", "M"], "`verify` has no option `--sorce`; did you mean `--source`?"),
    (["inspect", "--tensor", "M"], "did you mean `--tensors`?"),
    (["evaluate", "--frobnicate"], "`sluice help evaluate` lists those it has"),
    (["verify", "O", "--src", "M"], "did you mean `--source`?"),
    (["status", "O", "--wach"], "did you mean `--watch`?"),
    (["--verison"], "`sluice` has no option `--verison`; did you mean `--version`?"),
  ])
  func `a mistyped option is named before what is missing`(arguments: [String], named: String)
    throws
  {
    try expectUsageError(arguments, [named])
  }

  @Test(arguments: [
    (["plan", "M", "--memory", "-1"], "`--memory` takes no number below zero (found -1,"),
    (["plan", "M", "--samples", "-3"], "`--samples` takes no number below zero (found -3,"),
    (["plan", "M", "--shuffle-seed", "-1"], "`--shuffle-seed` takes no number below zero"),
    (["plan", "M", "--damping", "-0.5"], "`--damping` takes no number below zero"),
    (["evaluate", "M", "--text", "x", "--worst", "-2"], "`--worst` takes no number below zero"),
    (["plan", "M", "--memory=-1"], "that is less than nothing"),
    (["plan", "M", "--memory", "0"], "that is nothing"),
    (["plan", "M", "--samples", "many"], "expected a whole number"),
    (["plan", "M", "--samples", "1.5"], "expected a whole number"),
    (["plan", "M", "--damping", "much"], "expected a number, such as 0.01"),
    (["plan", "M", "--samples", "99999999999999999999"], "the number is too large"),
    (["quantize", "M", "-o", "O", "--log", "xml"], "'xml' is invalid for '--log <form>'"),
    (["quantize", "M", "-o", "O", "-q", "-v"], "--quiet and --verbose say the opposite"),
    (["status", "O", "--watch", "--json"], "leave one of them out"),
    (["plan", "M", "--save-tokens", "ids.txt"], "does not end in .jsonl"),
    (["compare", "A", "B", "--threads", "0"], "--threads is 1 to 1024"),
    (["compare", "A"], "Missing expected argument '<second>'"),
    (["evaluate", "--text", "x"], "Missing expected argument '<model> ...'"),
    (
      ["quantize", "M", "-o", "O", "--evaluate-on", "x", "--sequence-length", "1"],
      "--sequence-length is at least 2"
    ),
  ])
  func `a number that will not do is refused with what is expected`(
    arguments: [String], reason: String
  ) throws {
    try expectUsageError(arguments, [reason])
  }

  @Test(arguments: ["w4a16", "W4a16_asym", "W8A16"])
  func `words of a choice are understood in any case`(scheme: String) throws {
    let outcome = try Program.run(
      ["plan", fixtureModel, "--no-smoothing", "--scheme", scheme, "--rounding", "Nearest"])
    #expect(outcome.end == .exit(0), "\(outcome)")
    // Rounding to nearest alone multiplies nothing, and no states are gone over.
    for text in ["TFLOP", "over its states", "0 calibration tokens"] {
      #expect(!outcome.stdout.contains(text), "\(outcome)")
    }
    #expect(outcome.stdout.contains("no calibration"), "\(outcome)")
  }

  @Test func `help takes one command, and help of help is help`() throws {
    try expectUsageError(
      ["help", "quantize", "extra"], ["`help` takes one command (found `extra`, too)"])
    let outcome = try Program.run(["help", "help"])
    let plain = try Program.run(["help"])
    #expect(outcome.end == .exit(0) && outcome.stdout == plain.stdout)
  }

  @Test(arguments: [
    ["qantize"], ["qantize", "M", "--output", "x"], ["help", "qantize"], ["qantize", "--help"],
  ])
  func `a command that is none fails with the nearest`(arguments: [String]) throws {
    try expectUsageError(arguments, ["`qantize` is no command; did you mean `quantize`?"])
  }

  @Test func `help of a command that is nothing like one lists those there are`() throws {
    try expectUsageError(["help", "x"], ["`x` is no command", "`quantize`", "`evaluate`"])
    for asked in [["help"], ["help", "plan"], ["plan", "--help"], ["--help"], ["--version"]] {
      let outcome = try Program.run(asked)
      #expect(outcome.end == .exit(0) && outcome.stderr == "", "\(outcome)")
    }
  }

  @Test(arguments: [
    (["quantize", "", "--output", "x"], "`quantize`"),
    (["plan", "M", "--calibration", ""], "`--calibration`"),
    (["", "plan"], "`sluice`"),
  ])
  func `a word that is empty is told of with the one before it`(arguments: [String], named: String)
    throws
  {
    try expectUsageError(arguments, ["the word after \(named) is empty"])
  }

  @Test func `the usage beside an empty word is that of its command`() throws {
    let outcome = try Program.run(["plan", "M", "--memory", ""])
    #expect(outcome.stderr.contains("Usage: sluice plan"), "\(outcome)")
  }

  private static let commands = [
    [], ["quantize"], ["requantize"], ["plan"], ["status"], ["report"], ["inspect"], ["verify"],
    ["evaluate"], ["compare"],
  ]

  /// The commands under EXAMPLES as a shell would take them from there.
  private func examples(_ help: String) throws -> [[String]] {
    let lines = help.split(separator: "\n", omittingEmptySubsequences: false)
    let start = try #require(lines.firstIndex(of: "EXAMPLES")) + 1
    let text = lines[start...].prefix { $0.hasPrefix("  ") }.joined(separator: "\n")
    return text.replacing("\\\n", with: " ").split(separator: "\n").map { line in
      line.split(separator: " ").map { String($0.replacing("'", with: "")) }
    }
  }

  @Test(arguments: commands, ["40", "80", "140"])
  func `examples of the help can be pasted, however narrow the terminal`(
    command: [String], columns: String
  ) throws {
    try withTemporaryFolder { folder in
      let help = try Program.run(["help"] + command, environment: ["COLUMNS=\(columns)"])
      let examples = try examples(help.stdout)
      #expect(!examples.isEmpty)
      for words in examples {
        #expect(words.first == "sluice", "\(words)")
        let outcome = try Program.run(Array(words.dropFirst()), in: folder)
        // Understood: what is missing is the model.
        let found =
          outcome.end == .exit(0) || outcome.messages.first?.contains("no such f") == true
          || outcome.messages.first?.contains("No such f") == true
        #expect(found, "\(words): \(outcome)")
      }
    }
  }

  @Test(
    arguments: [
      ("8Gi", nil), ("8GiB", nil), ("8G", nil), ("8GB", nil), ("0.5Gi", nil), ("1.5g", nil),
      ("512MiB", nil), ("512 mib", nil), ("900000000", nil),
      ("8", "8 bytes; say 8GiB or 8MiB"), ("512", "512 bytes; say 512GiB or 512MiB"),
      ("much", "a size such as 512MiB"), ("0x10G", "a size such as"), ("infG", "a size such as"),
      ("nan", "a size such as"), ("0", "a size such as"), ("0GiB", "that is nothing"),
      ("99999999999999T", "more than any machine"),
    ] as [(String, String?)])
  func `sizes are read in all their spellings, and numbers without a unit are not bytes`(
    size: String, refused: String?
  ) throws {
    let arguments = ["plan", fixtureModel, "--no-smoothing", "--memory", size]
    if let refused {
      try expectUsageError(arguments, ["'\(size)'", "--memory", refused])
      try expectUsageError(
        ["plan", fixtureModel, "--max-shard-size", size], ["--max-shard-size", refused])
      try expectUsageError(
        ["evaluate", fixtureModel, "--text", fixtureCalibration, "--memory", size], [refused])
    } else {
      let outcome = try Program.run(arguments)
      #expect(outcome.end == .exit(0), "\(outcome)")
    }
  }

  @Test(arguments: ["plan", "quantize", "evaluate"], ["1MiB", "29MiB"])
  func `a refused budget names one that then works`(command: String, memory: String) throws {
    try withTemporaryFolder { folder in
      let arguments =
        [command, fixtureModel, "--samples", "4", "--sequence-length", "256", "--threads", "2"]
        + (command == "evaluate" ? ["--text", fixtureCalibration] : [])
        + (command == "quantize" ? ["--output", "\(folder)/out"] : [])
      let refused = try Program.run(arguments + ["--memory", memory])
      let advice = try #require(
        refused.stderr.firstMatch(of: #/raise --memory to ([0-9.]+[KMG]iB)/#), "\(refused)")
      let outcome = try Program.run(arguments + ["--memory", String(advice.output.1)])
      #expect(outcome.end == .exit(0), "\(outcome)")
      #expect(!outcome.stderr.contains("over the budget"), "\(outcome)")
    }
  }
}

@Suite struct FirstLinesTests {
  @Test func `plan, run and report say what is quantized and what is left`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let ignore = ["--ignore", "model.layers.[0-1].*", "--ignore", "*.o_proj"]
      let run = try quantize(to: output, quickly + ignore)
      let lines = [
        "quantized: parts of layers 2-3 (60 Linears)",
        "left: layers 0-1 (--ignore 'model.layers.[0-1].*'); self_attn.o_proj of layers 2-3 "
          + "(--ignore '*.o_proj'); routers, norms, embeddings, lm_head",
      ]
      let plan = try Program.run(["plan", fixtureModel] + quickly + ignore)
      for line in lines {
        #expect(run.messages.contains(Substring(line)), "\(run)")
        #expect(plan.stdout.split(separator: "\n").contains(Substring(line)), "\(plan)")
      }
      let report = try Program.run(["report", output, "--json"])
      let object = try #require(try JSONValue.parse(Array(report.stdout.utf8)).object)
      #expect(object["quantized"]?.string == "parts of layers 2-3")
      #expect(
        object["left"]?.array?.first?.string == "layers 0-1 (--ignore 'model.layers.[0-1].*')")
      let page = String(
        decoding: try FileSystem.readFile("\(output)/.sluice/report.html"), as: UTF8.self)
      #expect(page.contains("<li>parts of layers 2-3</li>") && page.contains("<li>layers 0-1 "))
    }
  }

  /// A Llama of twelve layers, as small as they come.
  private func makeTwelveLayers(_ folder: String) throws {
    func tensor(_ name: String, _ shape: [Int]) -> LooseTensor {
      let values = (0..<shape.reduce(1, *)).map { Float($0 % 13 - 6) / 8 }
      return LooseTensor(name + ".weight", shape, values, as: .bf16)
    }
    let layers = (0..<12).flatMap { layer in
      ["input_layernorm", "post_attention_layernorm"].map {
        tensor("model.layers.\(layer).\($0)", [32])
      }
        + ["q", "k", "v", "o"].map {
          tensor("model.layers.\(layer).self_attn.\($0)_proj", [32, 32])
        }
        + ["gate", "up"].map { tensor("model.layers.\(layer).mlp.\($0)_proj", [64, 32]) }
        + [tensor("model.layers.\(layer).mlp.down_proj", [32, 64])]
    }
    let others = [
      tensor("model.embed_tokens", [64, 32]), tensor("model.norm", [32]),
      tensor("lm_head", [64, 32]),
    ]
    try LooseTensor.write(layers + others, to: "\(folder)/model.safetensors")
    let config = """
      {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 12,
       "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 64, "vocab_size": 64,
       "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 64,
       "tie_word_embeddings": false, "torch_dtype": "bfloat16"}
      """
    try write(config.utf8, to: "\(folder)/config.json")
  }

  @Test func `a pattern that catches more numbers than it spells gets a warning`() throws {
    try withTemporaryFolder { folder in
      try makeTwelveLayers(folder)
      let command = ["plan", folder, "--no-smoothing", "--group-size", "32", "--ignore"]
      let open = try Program.run(command + ["re:model.layers.1.*"])
      #expect(open.end == .exit(0), "\(open)")
      #expect(open.stdout.contains("quantized: layers 0, 2-9 (63 Linears)"), "\(open)")
      #expect(open.stdout.contains("left: layers 1, 10-11 (--ignore 're:model.layers.1.*')"))
      #expect(
        open.messages.contains(
          "warning: --ignore 're:model.layers.1.*' also matches layers 10-11, since nothing ends the "
            + "number 1 in it; if they are not meant, write 're:model\\.layers\\.1\\..*'"),
        "\(open)")
      let closed = try Program.run(command + ["re:model\\.layers\\.1\\..*"])
      #expect(closed.end == .exit(0) && !closed.stderr.contains("warning"), "\(closed)")
      #expect(closed.stdout.contains("quantized: layers 0, 2-11 (77 Linears)"))
    }
  }

  @Test func `errors are told in words with a legend, once`() throws {
    try withTemporaryFolder { folder in
      let run = try QuickRun.made.get().outcome
      #expect(run.messages.count { $0.hasPrefix("legend: ") } == 1)
      let legend = try #require(run.messages.first { $0.hasPrefix("legend: ") })
      for word in ["RTN: ", "AWQ: ", "as written: ", "less is better"] {
        #expect(legend.contains(word), "\(legend)")
      }
      let errors = #/^layer \d of 0-3: .*, error of AWQ \d+ % of RTN, as written \d+ % of AWQ, /#
      #expect(run.messages.count { $0.contains(errors) } == 4, "\(run)")
      let plain = try quantize(to: "\(folder)/plain", ["--no-smoothing"])
      #expect(!plain.stderr.contains("legend: "))
    }
  }

  @Test func `sequences longer than the model's positions are told of`() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try model.change("config.json") { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
          .replacing(#/"max_position_embeddings": \d+/#, with: "\"max_position_embeddings\": 32")
        bytes = Array(text.utf8)
      }
      let told = "has 40 tokens, and the model knows 32 positions"
      let more = ["--samples", "4", "--sequence-length", "40"]
      for command in [
        ["plan", model.path, "--calibration", fixtureCalibration],
        ["quantize", model.path, "--calibration", fixtureCalibration, "--output", "\(folder)/out"],
        ["evaluate", model.path, "--text", fixtureCalibration],
      ] {
        let outcome = try Program.run(command + more)
        #expect(outcome.end == .exit(0) && outcome.stderr.contains(told), "\(outcome)")
        #expect(outcome.stderr.contains("--sequence-length 32 keeps"), "\(outcome)")
        let short = command[0] == "quantize" ? ["--restart"] : []
        let within = try Program.run(
          command + ["--samples", "4", "--sequence-length", "32"] + short)
        #expect(within.end == .exit(0) && !within.stderr.contains("positions"), "\(within)")
      }
    }
  }

  @Test func `a recipe that rounds worse than the default says so, unless a flag decides`() throws {
    let recipe = ["--recipe", fixturePath("recipes/peer-awq.yaml")]
    let told = "peer-awq.yaml rounds to nearest; --rounding compensated, the default"
    let plan = try Program.run(["plan", fixtureModel] + quickly + recipe)
    #expect(plan.end == .exit(0), "\(plan)")
    #expect(plan.messages.count { $0.contains(told) } == 1, "\(plan)")
    for rounding in ["nearest", "compensated"] {
      let asked = try Program.run(
        ["plan", fixtureModel] + quickly + recipe + ["--rounding", rounding])
      #expect(asked.end == .exit(0) && !asked.stderr.contains(told), "\(asked)")
    }
  }

  @Test func `a glob in a recipe is refused with its expression, and a flag wins over it`() throws {
    try withTemporaryFolder { folder in
      let file = "\(folder)/seed.yaml"
      let text =
        "QuantizationModifier:\n  scheme: W4A16\n  ignore: ['lm_head', 'model.layers.0.*']\n"
      try write(text.utf8, to: file)
      let command = ["plan", fixtureModel] + quickly + ["--recipe", file]
      expectRefusal(
        try Program.run(command), ["seed.yaml:3", "write 're:model\\.layers\\.0\\..*$'"])
      let flag = try Program.run(command + ["--ignore", "model.layers.0.*"])
      #expect(flag.end == .exit(0), "\(flag)")
      #expect(flag.stdout.contains("left: layer 0 (--ignore 'model.layers.0.*')"), "\(flag)")
      // The form that was offered does what the glob meant.
      try write(
        text.replacing("model.layers.0.*", with: "re:model\\.layers\\.0\\..*$").utf8, to: file)
      let mended = try Program.run(command)
      #expect(mended.stdout.contains("left: layer 0 (\(file): ignore 're:model"), "\(mended)")
    }
  }
}

@Suite struct ProposalTests {
  private let plan = ["plan", fixtureModel, "--calibration", fixtureCalibration, "--samples", "48"]

  private func json(_ more: [String]) throws -> JSONObject {
    let outcome = try Program.run(plan + more + ["--json"])
    return try #require(try JSONValue.parse(Array(outcome.stdout.utf8)).object, "\(outcome)")
  }

  @Test func `a plan for more cores than there are says whose speed it takes`() throws {
    let larger = try Program.run(plan + ["--threads", "500"])
    #expect(larger.end == .exit(0))
    #expect(larger.stdout.contains(", with 500 threads on cores as fast as the "), "\(larger)")
    let own = try Program.run(plan + ["--threads", "1"])
    #expect(!own.stdout.contains("threads on cores"), "\(own)")
  }

  @Test func `a time that is kept is said to be kept`() throws {
    let outcome = try Program.run(plan + ["--within", "100d"])
    #expect(outcome.end == .exit(0))
    #expect(outcome.stdout.contains("within    100 d 00 h: these settings do"), "\(outcome)")
    let command =
      "quantize \(fixtureModel) --calibration \(fixtureCalibration) --samples 48 --output OUT"
    #expect(outcome.stdout.contains(command), "\(outcome)")
    let object = try json(["--within", "100d"])
    #expect(object["proposals"]?.array?.isEmpty == true)
    let best = try #require(object["best_within"]?.object)
    #expect(best["flags"]?.string == "" && best["seconds"]?.double != nil)
    #expect(
      best["command"]?.array?.dropFirst().compactMap(\.string).joined(separator: " ") == command)
  }

  @Test func `a time that nothing keeps fails with the shortest run, once all is told`() throws {
    let outcome = try Program.run(plan + ["--within", "0.001s"])
    #expect(outcome.end == .exit(1))
    #expect(outcome.stdout.contains("within    0.0 s: no settings do"), "\(outcome)")
    #expect(!outcome.stdout.contains("quantize "), "\(outcome)")
    #expect(outcome.messages.last?.contains("allow more time") == true, "\(outcome)")
    #expect(outcome.stdout.contains("quantized: layers 0-3"))
  }

  @Test(arguments: [
    ("24", "24 of what; say 24h"), ("soon", "a time such as 90m, 12h or 2d"),
    ("2 moons", "no unit of time is called `moons`"), ("-1h", "a time such as"),
    ("0h", "a time such"),
  ])
  func `a time that cannot be read is refused`(time: String, named: String) throws {
    try expectUsageError(plan + ["--within=\(time)"], ["--within", named])
  }

  @Test(arguments: ["90m", "90min", "12h", "2d", "1d12h", "1.5h", "2 D"])
  func `times are read as people write them`(time: String) throws {
    // The smallest model that there is: what is proposed for it does not matter here.
    let model = fixturePath("awq/dense-first")
    let outcome = try Program.run([
      "plan", model, "--calibration", "\(model)/calibration.jsonl", "--group-size", "32",
      "--within", time,
    ])
    #expect(outcome.stdout.contains("\nwithin    "), "\(outcome)")
    #expect(outcome.end == .exit(0))
  }
}

@Suite struct DataNameTests {
  /// A cache that holds the fixture's chats as the data set `org/chats`, in files of these names.
  private func makeCache(_ home: String, _ names: [String]) throws -> String {
    let place = "\(home)/hub/datasets--org--chats"
    let snapshot = "\(place)/snapshots/abc"
    try FileSystem.createFolder("\(place)/refs")
    try write("abc".utf8, to: "\(place)/refs/main")
    for name in names {
      try FileSystem.createFolder(FileSystem.parent("\(snapshot)/\(name)"))
      try FileSystem.copyFile(from: fixtureCalibration, to: "\(snapshot)/\(name)")
    }
    try write("# Chats".utf8, to: "\(snapshot)/README.md")
    return snapshot
  }

  private func run(_ data: String, home: String, _ command: String = "plan") throws -> Outcome {
    let arguments =
      switch command {
      case "inspect": ["inspect", data, "--model", fixtureModel]
      case "evaluate": ["evaluate", fixtureModel, "--text", data]
      default: ["plan", fixtureModel, "--calibration", data]
      }
    return try Program.run(
      arguments + ["--samples", "2"], in: home, environment: ["HF_HOME=\(home)", "HF_HUB_CACHE="])
  }

  @Test(arguments: ["plan", "inspect", "evaluate"])
  func `data that is not there gives the command to get it`(command: String) throws {
    try withTemporaryFolder { home in
      expectRefusal(
        try run("org/chats", home: home, command),
        ["org/chats: no such file or folder", "`hf download --repo-type dataset org/chats`"])
      let branch = try run("org/chats@dev", home: home, command)
      expectRefusal(branch, ["`hf download --repo-type dataset org/chats --revision dev`"])
    }
  }

  @Test(arguments: [
    ["chats.jsonl"], ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"],
  ])
  func `a data set of the cache is used`(names: [String]) throws {
    try withTemporaryFolder { home in
      _ = try makeCache(home, names)
      for command in ["plan", "inspect", "evaluate"] {
        let outcome = try run("org/chats", home: home, command)
        #expect(outcome.end == .exit(0), "\(outcome)")
      }
    }
  }

  @Test func `a data set with several sets of rows is refused with their names`() throws {
    try withTemporaryFolder { home in
      let snapshot = try makeCache(
        home,
        [
          "data/test-00000-of-00001.jsonl", "data/train-00000-of-00002.jsonl",
          "data/train-00001-of-00002.jsonl",
        ])
      let outcome = try run("org/chats", home: home)
      expectRefusal(
        outcome, ["several sets of rows", "'org/chats[test]', 'org/chats[train]'"])
      // Of the whole data set 128 rows are in train.
      for (data, rows) in [
        ("org/chats[train]", "128 rows read"), ("org/chats@abc[test]", "64 rows read"),
        ("org/chats[train][:5]", "5 rows read"), ("org/chats[train][60:70]", "10 rows read"),
        ("org/chats[data/train][120:]", "8 rows read"), ("\(snapshot)[test]", "64 rows read"),
        ("\(snapshot)/data/train-*", "128 rows read"),
      ] {
        let outcome = try Program.run(
          ["inspect", data, "--model", fixtureModel, "--samples", "999"], in: home,
          environment: ["HF_HOME=\(home)", "HF_HUB_CACHE="])
        #expect(outcome.end == .exit(0), "\(data): \(outcome)")
        #expect(outcome.stdout.contains(rows), "\(data): \(outcome)")
      }
      expectRefusal(
        try run("org/chats[dev]", home: home),
        [
          "org/chats: no set of rows is called `dev` (found test, train)",
          "`hf download --repo-type dataset org/chats --include '*dev*'`",
        ])
    }
  }

  @Test(arguments: [
    ("chats.jsonl[:x]", "such as [:512]"), ("chats.jsonl[5:5]", "such as [:512]"),
    ("chats.jsonl[:1][:2]", "such as [:512]"), ("chats.jsonl[:10%]", "such as [:512]"),
    ("chats.jsonl[:2][train]", "or both in this order, found [:2]"),
    ("org/chats[train", "org/chats[train: a bracket has no partner"),
    ("chats.jsonl[99999:]", "it ends before row 99999, counted from 0"),
    (
      "chats.jsonl:0,chats.jsonl:1",
      "a share is a number above 0 and up to 1, such as 0.5 (found 0)"
    ),
    ("chats.jsonl:-1,chats.jsonl:1", "(found -1)"), ("chats.jsonl:nan", "(found nan)"),
    ("chats.jsonl:70%,chats.jsonl:30%", "(found 70%)"),
    ("chats.jsonl:0.5,", "a name before and behind each comma"),
    ("chats.jsonl:0.7,chats.jsonl:0.2", "the shares add up to 0.9, expected 1"),
    ("chats.jsonl:0.7,chats.jsonl", "has no share, and other data has"),
    ("chats.jsonl:0.999,chats.jsonl:0.001", "is less than one; raise --samples"),
    ("chats.jsonl,none.jsonl", "none.jsonl"),
  ])
  func `brackets and shares that cannot be meant are refused`(data: String, named: String) throws {
    try withTemporaryFolder { home in
      try FileSystem.copyFile(from: fixtureCalibration, to: "\(home)/chats.jsonl")
      expectRefusal(try run(data, home: home), [named])
    }
  }

  /// Rows of ids that tell where they are from.
  @Test func `shares, stdin and saved tokens give the rows that were named`() throws {
    try withTemporaryFolder { home in
      func rows(_ first: Int) -> String {
        (0..<20).map { "{\"input_ids\": [\(first + $0), 3, 4]}\n" }.joined()
      }
      try write(rows(100).utf8, to: "\(home)/a.jsonl")
      try write(rows(200).utf8, to: "\(home)/b,b.jsonl")
      func firstIDs(_ data: String, _ more: [String] = [], script: String? = nil) throws -> [Int] {
        let outcome = try Program.run(
          ["inspect", data, "--model", fixtureModel, "--json"] + more, in: home, script: script)
        #expect(outcome.end == .exit(0), "\(outcome)")
        return try outcome.stdout.split(separator: "\n").map { line in
          let row = try #require(try JSONValue.parse(Array(line.utf8)).object)
          return try #require(row["input_ids"]?.array?.first?.int)
        }
      }
      let ten = ["--samples", "10"]
      try write(rows(300).utf8, to: "\(home)/c.jsonl")
      #expect(
        try firstIDs("a.jsonl:0.7,c.jsonl[5:]:.3", ten) == Array(100..<107) + Array(305..<308))
      #expect(try firstIDs("a.jsonl,c.jsonl", ten) == Array(100..<105) + Array(300..<305))
      // A name with a comma is a name.
      #expect(try firstIDs("b,b.jsonl", ten) == Array(200..<210))
      #expect(
        try firstIDs("-", ten, script: "exec \"$@\" < a.jsonl") == Array(100..<110))
      #expect(
        try firstIDs("c.jsonl:0.5,-[2:4]:0.5", ["--samples", "4"], script: "cat a.jsonl | \"$@\"")
          == [300, 301, 102, 103])
      let saved = ["--save-tokens", "ids.jsonl"]
      #expect(try firstIDs("a.jsonl[3:6],c.jsonl", ["--samples", "6"] + saved).count == 6)
      let text = String(decoding: try FileSystem.readFile("\(home)/ids.jsonl"), as: UTF8.self)
      #expect(text.hasPrefix("{\"input_ids\": [103, 3, 4]}\n"), "\(text)")
      #expect(try firstIDs("ids.jsonl") == [103, 104, 105, 300, 301, 302])
    }
  }

  @Test(arguments: [
    ["inspect", "ids.jsonl", "--model", fixtureModel, "--save-tokens", "./ids.jsonl"],
    [
      "quantize", fixtureModel, "-o", "out", "--calibration", "*.jsonl", "--save-tokens",
      "ids.jsonl",
    ],
    ["evaluate", fixtureModel, "--text", "ids.jsonl", "--save-tokens", "link.jsonl"],
    ["quantize", fixtureModel, "-o", "out", "--calibration", "ids.jsonl", "--report", "ids.jsonl"],
    [
      "quantize", fixtureModel, "-o", "out", "--evaluate-on", "ids.jsonl", "--report", "link.jsonl",
    ],
  ])
  func `a file that is read is never written`(command: [String]) throws {
    try withTemporaryFolder { home in
      try FileSystem.copyFile(from: fixtureCalibration, to: "\(home)/ids.jsonl")
      try #require(unsafe symlink("ids.jsonl", "\(home)/link.jsonl") == 0)
      let before = try FileSystem.readFile("\(home)/ids.jsonl")
      expectRefusal(
        try Program.run(command, in: home), ["would replace a file that is read; name another one"])
      #expect(try FileSystem.readFile("\(home)/ids.jsonl") == before)
      #expect(try FileSystem.list(home).sorted() == ["ids.jsonl", "link.jsonl"])
    }
  }

  @Test(arguments: [
    ("printf '\\037\\213'", "found gzip"), ("printf PAR1", "found parquet"),
    (":", "found nothing"),
  ])
  func `what stdin gives and is no rows is refused`(giving: String, named: String) throws {
    let outcome = try Program.run(
      ["inspect", "-", "--model", fixtureModel], script: "\(giving) | \"$@\"")
    #expect(outcome.end == .exit(1), "\(outcome)")
    #expect(outcome.stderr.contains("stdin: "), "\(outcome)")
    #expect(outcome.stderr.contains(named), "\(outcome)")
  }

  @Test(arguments: [("none", "No such file or directory"), (".", "File too large")])
  func `a folder that cannot take what stdin gives is named`(
    part: String, reason: String
  ) throws {
    try withTemporaryFolder { home in
      let folder = "\(home)/\(part)"
      try write([UInt8](repeating: 0x61, count: 1 << 20), to: "\(home)/rows")
      let outcome = try Program.run(
        ["inspect", "-", "--model", fixtureModel], environment: ["TMPDIR=\(folder)"],
        script: "ulimit -f 64; exec \"$@\" < \(home)/rows")
      expectRefusal(
        outcome,
        ["stdin: its copy in \(folder): ", "found \(reason); name another folder in TMPDIR"])
    }
  }

  @Test func `a path that was mistyped is no name of a data set`() throws {
    try withTemporaryFolder { home in
      try FileSystem.createFolder("\(home)/data")
      for path in ["data/chats", "other/chats.jsonl", "chats"] {
        let outcome = try run(path, home: home)
        #expect(outcome.end == .exit(1) && !outcome.stderr.contains("hf download"), "\(outcome)")
        #expect(outcome.stderr.contains(path), "\(outcome)")
      }
    }
  }
}
