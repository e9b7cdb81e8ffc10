// What the shell, the terminal and hostile files may do to the program: it ends, with an exit code and a sentence.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

/// The program below limits of the shell.
private func run(below limits: String, _ arguments: [String]) throws -> Outcome {
  try Program.run(arguments, script: "\(limits); exec \"$@\"")
}

private let mayUnshare =
  (try? Program.run([], script: "unshare -m mount -t tmpfs none /proc").end) == .exit(0)
private let mayChangeUser =
  (try? Program.run([], script: "setpriv --reuid 61234 --clear-groups prlimit --nproc=4 true").end)
  == .exit(0)

@Suite struct ProcessLimitTests {
  @Test func `too few open files are an error that names the limit`() throws {
    expectRefusal(
      try run(below: "ulimit -n 20", ["plan", fixtureModel] + quickly),
      ["open files is 20", "`ulimit -n`"])
  }

  @Test func `the soft limit on open files is raised`() throws {
    try withTemporaryFolder { folder in
      let outcome = try run(
        below: "ulimit -S -n 8",
        ["quantize", fixtureModel, "--output", "\(folder)/out"] + quickly)
      #expect(outcome.end == .exit(0), "\(outcome)")
    }
  }

  /// A shard for every tensor, on both sides.
  @Test func `shards need no more descriptors than there are`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let made = try run(
        below: "ulimit -n 64",
        ["quantize", fixtureModel, "--output", output, "--max-shard-size", "1KiB"] + quickly)
      #expect(made.end == .exit(0), "\(made)")
      #expect(try FileSystem.list(output).count > 100)
      let checked = try run(below: "ulimit -n 64", ["verify", output, "--source", fixtureModel])
      #expect(checked.end == .exit(0), "\(checked)")
    }
  }

  /// OpenBLAS used to wait for ever, with SIGTERM held back.
  @Test(arguments: ["-v 200000", "-v 400000", "-d 20000", "-d 200000"])
  func `too little address space is an error that names the limit`(limit: String) throws {
    let flag = limit.prefix(2)
    let outcome = try run(below: "ulimit \(limit)", ["plan", fixtureModel] + quickly)
    expectRefusal(outcome, [])
    #expect(outcome.stderr.contains("ulimit \(flag)"), "\(outcome)")
  }

  @Test func `what computes nothing needs little address space`() throws {
    for limit in ["-v 200000", "-d 20000"] {
      let outcome = try run(below: "ulimit \(limit)", ["--version"])
      #expect(outcome.end == .exit(0), "\(outcome)")
    }
  }

  @Test func `a limit on file sizes is an error as a full disk is`() throws {
    try withTemporaryFolder { folder in
      let outcome = try run(
        below: "ulimit -f 200",
        ["quantize", fixtureModel, "--output", "\(folder)/out"] + quickly)
      expectRefusal(outcome, ["File too large", "`ulimit -f`"])
    }
  }

  @Test func `a small stack is raised, or refused by name`() throws {
    expectRefusal(
      try run(below: "ulimit -s 64", ["plan", fixtureModel] + quickly),
      ["stack is 64 KiB", "`ulimit -s`"])
    let raised = try run(below: "ulimit -S -s 200", ["plan", fixtureModel] + quickly)
    #expect(raised.end == .exit(0), "\(raised)")
  }

  @Test(.enabled(if: mayChangeUser, "needs a user of its own to limit"))
  func `too few threads are an error that names the limit`() throws {
    let outcome = try Program.run(
      ["plan", fixtureModel, "--threads", "8"] + quickly,
      script: "exec setpriv --reuid 61234 --clear-groups prlimit --nproc=4 \"$@\""
    )
    expectRefusal(outcome, ["of 11 threads", "--threads", "`ulimit -u`"])
  }

  @Test(.enabled(if: mayUnshare, "needs the right to mount"))
  func `without proc nothing is guessed`() throws {
    let outcome = try Program.run(
      ["inspect", fixtureModel],
      script: "exec unshare -m sh -c 'mount -t tmpfs none /proc; exec \"$@\"' sh \"$@\"")
    expectRefusal(outcome, ["/proc", "mount it"])
  }
}

@Suite struct WriteFailureTests {
  @Test(arguments: [
    ["--version"], ["--help"], ["quantize", "--help"], ["inspect", "--architectures"],
    ["inspect", fixtureModel, "--tensors"], ["plan", fixtureModel] + quickly,
    ["evaluate", fixtureModel, "--text", fixtureCalibration, "--samples", "2", "--json"],
  ])
  func `results that cannot be written are an error`(arguments: [String]) throws {
    let outcome = try Program.run(arguments, script: "exec \"$@\" >/dev/full")
    expectRefusal(outcome, ["standard output: write failed: No space left on device"])
  }

  @Test func `so are those of an output`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try writeOutput(QuickRun.made.get().output, to: output)
      for arguments in [["verify", output], ["status", output], ["report", output, "--json"]] {
        let outcome = try Program.run(arguments, script: "exec \"$@\" >/dev/full")
        expectRefusal(outcome, ["standard output: write failed"])
      }
    }
  }

  /// As with `| head`: whether the signal ends the program or is ignored.
  @Test func `a reader that has seen enough is no error`() throws {
    let outcome = try Program.run(
      ["inspect", fixtureModel, "--tensors"],
      script: "trap '' PIPE; { sleep 0.3; \"$@\"; echo \"code $?\" >&2; } | true")
    #expect(outcome.stderr == "code 0\n", "\(outcome)")
  }
}

@Suite struct TerminalTests {
  /// Sequences that would clear the screen, turn text around, or make lines of their own.
  private static let evil = "evil\u{1B}[2J\u{9B}31m\u{202E}\u{7}\ndone: all is well\u{0}"

  private func isSafe(_ text: String) -> Bool {
    text.unicodeScalars.allSatisfy {
      $0 == "\n" || $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) && $0.value != 0x202E
    }
  }

  @Test func `names of files and tensors never reach the terminal raw`() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let evil = JSONValue.string(Self.evil).serialized()
      let config = String(
        decoding: try FileSystem.readFile("\(fixtureModel)/config.json"), as: UTF8.self)
      for spoiled in [
        config.replacing("\"Glm4MoeForCausalLM\"", with: evil),
        config.replacing("\"attention_bias\": true", with: "\(evil): 1"),
        config.replacing("\"silu\"", with: evil),
      ] {
        try write(spoiled.utf8, to: "\(model.path)/config.json")
        let outcome = try Program.run(["inspect", model.path])
        expectRefusal(outcome, ["evil\\u001b[2J"])
        #expect(isSafe(outcome.stderr))
      }
      let shard = "\(folder)/\u{1B}[31m.safetensors"
      let header = "{\(evil):{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
      try write(
        [UInt8(header.utf8.count), 0, 0, 0, 0, 0, 0, 0] + Array(header.utf8) + [0, 0, 0, 0],
        to: shard)
      for arguments in [["--tensors"], ["--json"]] {
        let outcome = try Program.run(["inspect", shard] + arguments)
        #expect(outcome.end == .exit(0) && isSafe(outcome.stdout), "\(outcome)")
        #expect(!outcome.stdout.contains("\ndone: all"))
      }
      let json = try Program.run(["inspect", shard, "--json"]).stdout
      let list = try JSONValue.parse(Array(json.utf8)).object?["tensor_list"]?.array
      #expect(list?.first?.object?["name"]?.string == Self.evil)
    }
  }

  @Test func `long names are cut in errors`() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let long = String(repeating: "long", count: 1_000_000)
      for (old, new) in [
        ("\"Glm4MoeForCausalLM\"", "\"\(long)\""), ("\"attention_bias\": true", "\"\(long)\": 1"),
        ("\"attention_bias\": true", "\"\(String(repeating: "a ", count: 1_000_000))\": 1"),
      ] {
        let config = String(
          decoding: try FileSystem.readFile("\(fixtureModel)/config.json"), as: UTF8.self)
        try write(config.replacing(old, with: new).utf8, to: "\(model.path)/config.json")
        let outcome = try Program.run(["inspect", model.path])
        expectRefusal(outcome, ["bytes)…"])
        #expect(outcome.stderr.utf8.count < 20_000)
      }
    }
  }
}

@Suite struct HostileValueTests {
  /// Values at the ends of what a flag can say: done or refused, and never a signal.
  @Test(arguments: [
    ["--samples", "9223372036854775807"],
    ["--samples", "9223372036854775807", "--shuffle-seed", "1"],
    [
      "--calibration", "\(fixtureCalibration),\(fixtureCalibration)", "--samples",
      "9223372036854775807",
    ],
    ["--samples", "0"], ["--samples", "-1"], ["--samples", "9223372036854775808"],
    ["--sequence-length", "9223372036854775807"], ["--sequence-length", "1"],
    ["--shuffle-seed", "18446744073709551615"], ["--memory", "1e400"], ["--memory", "nan"],
    ["--memory", "1152921504606846975"], ["--memory", "0.0001GiB"], ["--memory", "-8GiB"],
    ["--max-shard-size", "1"], ["--max-shard-size", "1152921504606846975"],
    ["--threads", "1024"], ["--threads", "0"], ["--threads", "-9223372036854775808"],
    ["--expert-tokens", "9223372036854775807"], ["--expert-tokens", "0"],
    ["--damping", "5e-324"], ["--damping", "nan"], ["--damping", "0.9999999999999999"],
    ["--group-size", "9223372036854775807"], ["--template-arg", "="],
    ["--template-arg", "a=1e999"],
    ["--template-date", "9999-12-31T23:59:59"], ["--template-date", "0000-00-00"],
    ["--text-column", ""], ["--ignore", ""], ["--ignore", "re:"], ["--ignore", "["],
    ["--chat-template", ""], ["--recipe", ""], ["--scratch", ""], ["--engine", ""],
    ["--calibration", ""], ["--output", ""],
    ["--pack", "--sequence-length", "9223372036854775807"],
  ])
  func `flags at their ends`(flags: [String]) throws {
    try withTemporaryFolder { folder in
      let data = ["--calibration", fixtureCalibration, "--samples", "2", "--memory", "128MiB"]
      let outcome = try Program.run(
        ["plan", fixtureModel] + data + flags, in: folder)
      #expect([.exit(0), .exit(1), .exit(64)].contains(outcome.end), "\(outcome)")
    }
  }

  @Test(arguments: ["0", "-1", "9223372036854775807"])
  func `threads of a check`(threads: String) throws {
    #expect(try Program.run(["verify", "nowhere", "--threads", threads]).end == .exit(64))
  }

  @Test func `variables that are empty or long`() throws {
    let long = String(repeating: "x", count: 100_000)
    for name in ["TMPDIR", "HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "TERM", "COLUMNS"] {
      for value in ["", long, "/dev/null", "relative"] {
        let outcome = try Program.run(["plan", "org/name"], environment: ["\(name)=\(value)"])
        #expect(outcome.end == .exit(1), "\(name) \(outcome)")
        #expect(outcome.stderr.utf8.count < 10_000)
      }
    }
  }

  /// Numbers that a sum or product of overflows.
  @Test(arguments: [
    "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size", "intermediate_size",
    "moe_intermediate_size", "vocab_size", "num_experts_per_tok", "n_shared_experts", "n_group",
    "topk_group", "max_position_embeddings", "rms_norm_eps", "routed_scaling_factor",
    "first_k_dense_replace", "num_nextn_predict_layers",
  ])
  func `numbers of config.json at their ends`(key: String) throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let original = try JSONValue.parse(FileSystem.readFile("\(fixtureModel)/config.json"))
      for value: JSONValue in [
        0, -1, 67_108_864, 1_099_511_627_776, 9_223_372_036_854_775_807, .double(1e300),
        .double(.leastNonzeroMagnitude), .double(-1e300), [], nil,
      ] {
        var config = try #require(original.object)
        config[key] = value
        try write(JSONValue.object(config).serialized().utf8, to: "\(model.path)/config.json")
        let outcome = try Program.run(["inspect", model.path])
        #expect([.exit(0), .exit(1)].contains(outcome.end), "\(value.serialized()) \(outcome)")
      }
    }
  }

  /// Finite weights whose sums and products are not.
  @Test(arguments: [
    "model.layers.1.self_attn.q_proj.weight", "model.layers.1.mlp.gate.weight",
    "model.layers.1.mlp.experts.3.up_proj.weight", "model.layers.2.input_layernorm.weight",
    "model.embed_tokens.weight", "lm_head.weight",
  ])
  func `a row of 1e30`(tensor: String) throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let (shard, range) = try model.place(of: tensor)
      // 1.0e30 in bfloat16.
      try model.change(shard) { bytes in
        for index in stride(
          from: range.lowerBound, to: min(range.lowerBound + 512, range.upperBound), by: 2)
        {
          (bytes[index], bytes[index + 1]) = (0x4A, 0x71)
        }
      }
      for arguments in [
        ["quantize", model.path, "--output", "\(folder)/out"] + quickly,
        ["evaluate", model.path, "--text", fixtureCalibration, "--samples", "2"],
      ] {
        let outcome = try Program.run(arguments)
        #expect([.exit(0), .exit(1)].contains(outcome.end), "\(outcome)")
      }
    }
  }

  /// Records of a run that someone wrote by hand.
  @Test(arguments: [
    ("progress.json", "\"layer\": 9223372036854775807"), ("progress.json", "\"share\": 1e308"),
    ("progress.json", "\"seconds_left\": 1e308"),
    ("progress.json", "\"started\": -9223372036854775808"),
  ])
  func `records at their ends`(file: String, entry: String) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let program = try Program.halted(
        ["quantize", fixtureModel, "--output", output] + quickly, output: output)
      program.send(SIGKILL)
      _ = try program.wait()
      let path = "\(output)/.sluice/\(file)"
      let text = String(decoding: try FileSystem.readFile(path), as: UTF8.self)
      let key = try #require(entry.split(separator: ":").first)
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
        line.contains(key) ? "  \(entry)," : String(line)
      }
      try write(lines.joined(separator: "\n").utf8, to: path)
      for command in [["status", output], ["status", output, "--json"], ["report", output]] {
        let outcome = try Program.run(command)
        #expect([.exit(0), .exit(1)].contains(outcome.end), "\(outcome)")
      }
    }
  }
}
