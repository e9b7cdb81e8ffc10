// What a recipe may not say: refused by key and line, never passed over.

import Quantization
import Recipes
import SystemIO
import Testing
import TestSupport

@Suite struct RecipeErrorTests {
  /// The sentence about a recipe that is refused.
  private func refusal(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) -> String
  {
    let error = #expect(throws: RecipeError.self, sourceLocation: sourceLocation) {
      try recipe(text)
    }
    return error?.description ?? ""
  }

  @Test(arguments: [
    "smoothquantmodifier", "SpinQuantModifier", "QuIPModifier",
    "AutoRoundModifier", "SparseGPTModifier", "awqmodifier",
  ])
  func `an unknown modifier is refused by name and line`(name: String) {
    let staged = """
      a_stage:
        a_modifiers:
          QuantizationModifier: {scheme: W4A16}
          \(name): {scheme: W4A16}
      """
    #expect(
      refusal(staged)
        == "recipe.yaml:4: `\(name)` is not supported, only AWQModifier, SmoothQuantModifier, "
        + "QuantizationModifier and GPTQModifier are; leave it out, or use llm-compressor for this recipe"
    )
    #expect(refusal("- \(name): {}").hasPrefix("recipe.yaml:1: `\(name)`"))
  }

  /// The fields of a quantizer in `{}`, and what the refusal holds.
  private static let quantizers = [
    ("scheme: UNQUANTIZED", "`scheme` is UNQUANTIZED (not written yet, because of its `weights`)"),
    ("scheme: W4A17", "`scheme` is W4A17, but only one of"),
    ("scheme: 4", "`scheme` is 4"),
    ("scheme: {W4A16: ['*experts*']}", "`targets` is [\"*experts*\"]"),
    ("scheme: {}", "`scheme` is {}, but only one scheme or more"),
    (
      "scheme: {W4A16: [Linear], W8A16: [Linear]}",
      "`targets` is {W4A16: [Linear], W8A16: [Linear]}, but only each target in one group"
    ),
    ("scheme: {weights: {num_bits: 4}}", "`targets` is {num_bits: 4}"),
    ("scheme: !!python/name:x.W4A16 W4A16", "python/name:x.W4A16"),
    ("scheme: W4A16, targets: [Linear, Embedding]", "`targets` is [Linear, Embedding]"),
    ("scheme: W4A16, targets: [Glm4MoeMLP]", "`targets` is [Glm4MoeMLP]"),
    ("scheme: {W4A16: [Linear]}, targets: ['re:.*mlp.*']", "`targets` is"),
    ("config_groups: {a: {weights: {group_size: 32}}}, targets: ['re:.*mlp.*']", "`targets` is"),
    ("scheme: W4A16, targts: [Linear]", "unknown key `targts`; known here: scheme, config_groups"),
    ("scheme: W4A16, kv_cache_scheme: fp8", "`kv_cache_scheme` is fp8, but only a mapping"),
    ("scheme: W4A16, kv_cache_scheme: {num_bits: 8}", "`kv_cache_scheme` has no `type`"),
    ("scheme: W4A16, kv_cache_scheme: {type: int}", "`type` is int, but only float"),
    ("scheme: W4A16, kv_cache_scheme: {type: float, num_bits: 4}", "`num_bits` is 4, but only 8"),
    (
      "scheme: W4A16, kv_cache_scheme: {type: float, strategy: channel}",
      "`strategy` is channel, but only tensor or attn_head"
    ),
    (
      "scheme: W4A16, kv_cache_scheme: {type: float, symmetric: false}",
      "`symmetric` is false, but only true"
    ),
    (
      "scheme: W4A16, kv_cache_scheme: {type: float, dynamic: true}",
      "`dynamic` is true, but only false"
    ),
    (
      "scheme: W4A16, kv_cache_scheme: {type: float, scale_dtype: torch.float32}",
      "`scale_dtype` is torch.float32, but only null"
    ),
    (
      "scheme: W4A16, kv_cache_scheme: {type: float, observer: mse}",
      "`observer` is mse, but only static_minmax, minmax"
    ),
    (
      "scheme: W4A16, kv_cache_scheme: {type: float, observer_kwargs: {averaging_constant: 0.1}}",
      "`observer_kwargs` is {averaging_constant: 0.1}, but only {}"
    ),
    ("scheme: W4A16, kv_cache_scheme: {type: float, bits: 8}", "unknown key `bits`"),
    ("scheme: W4A16, weight_observer: mse", "`weight_observer` is mse"),
    (
      "scheme: W4A16, input_observer: mse",
      "`input_observer` is mse, but only static_minmax, minmax"
    ),
    (
      "scheme: W4A16, input_observer: memoryless_minmax",
      "`input_observer` is memoryless_minmax, but only static_minmax, minmax"
    ),
    ("scheme: W4A16, output_observer: minmax", "`output_observer` is minmax"),
    ("scheme: W4A16, observer: {weights: imatrix_mse}", "`weights` is imatrix_mse"),
    ("scheme: W4A16, observer: {input: mse}", "`input` is mse, but only static_minmax, minmax"),
    (
      "scheme: W4A16, observer: {output: minmax}",
      "unknown key `output`; known here: weights, input"
    ),
    (
      "config_groups: {a: {weights: {type: float, num_bits: 8, strategy: tensor}, input_activations: {type: float, num_bits: 8, observer: imatrix_mse}}}",
      "`observer` is imatrix_mse, but only static_minmax, minmax"
    ),
    (
      "config_groups: {a: {weights: {type: float, num_bits: 8, strategy: tensor}, input_activations: {type: float, num_bits: 8, observer_kwargs: {averaging_constant: 0.1}}}}",
      "`observer_kwargs` is {averaging_constant: 0.1}, but only {}"
    ),
    ("scheme: W4A16, bypass_divisibility_checks: true", "`bypass_divisibility_checks` is true"),
    ("scheme: W4A16, start: 0", "`start` is 0, but only null"),
    ("scheme: W4A16, actorder: static", "unknown key `actorder`"),
    ("scheme: W4A16, duo_scaling: both", "unknown key `duo_scaling`"),
    ("scheme: W4A16, ignore: [Linear]", "`ignore` is Linear, but only the name of a module"),
    ("scheme: W4A16, ignore: [lm_head, Glm4MoeMLP]", "the name of a class"),
    (
      "scheme: W4A16, ignore: ['model.layers.0.*']",
      "write 're:model\\.layers\\.0\\..*$', or give --ignore"
    ),
    ("scheme: W4A16, ignore: ['*[!a-c]?']", "write 're:.*[^a-c].$'"),
    ("scheme: W4A16, ignore: ['a[b']", #"write 're:a[\[]b$'"#),
    ("scheme: W4A16, ignore: {lm_head: true}", "`ignore` is {lm_head: true}"),
    ("scheme: W4A16, ignore: [12]", "`ignore` is 12"),
    ("config_groups: {}", "`config_groups` is {}, but only one group"),
    (
      "config_groups: {a: {weights: {group_size: 32}}, b: {weights: {group_size: 64}}}",
      "only each target in one group (two have Linear)"
    ),
    ("config_groups: {a: {targets: [Linear]}}", "`a` has no `weights`"),
    (
      "config_groups: {a: {weights: {group_size: 32}, targets: [Conv2d]}}", "`targets` is [Conv2d]"
    ),
    (
      "config_groups: {a: {weights: {group_size: 32}, input_activations: {num_bits: 8, strategy: channel}}}",
      "`strategy` is channel"
    ),
    (
      "config_groups: {a: {weights: {group_size: 32}, output_activations: {num_bits: 8}}}",
      "`output_activations` is"
    ),
    (
      "config_groups: {a: {weights: {group_size: 32}, format: marlin-24}}", "`format` is marlin-24"
    ),
    ("config_groups: {a: {weights: {group_size: 32}, wieghts: 1}}", "unknown key `wieghts`"),
    (
      "scheme: W4A16, config_groups: {a: {weights: {group_size: 32}}}",
      "`scheme` is 8 bits symmetric in groups of 32 here and 4 bits symmetric in groups of 128 before"
    ),
  ]

  @Test(arguments: quantizers)
  func `a quantizer's field is refused by key and value`(fields: String, part: String) {
    let found = refusal("QuantizationModifier:\n  {\(fields)}\n")
    #expect(found.hasPrefix("recipe.yaml:2: ") && found.contains(part), "\(found)")
  }

  @Test(arguments: [
    ("num_bits: 9", "`num_bits` is 9, but only 2 to 8"), ("type: bool", "`type` is bool"),
    ("strategy: tensor", "`strategy` is tensor, but only group or channel"),
    ("group_size: 48", "`group_size` is 48, but only 32, 64, 128 or 256"),
    ("group_size: -2", "`group_size` is -2"), ("symmetric: 1", "`symmetric` is 1"),
    ("dynamic: true", "`dynamic` is true"), ("dynamic: local", "`dynamic` is local"),
    ("actorder: static", "`actorder` is static"), ("observer: mse", "`observer` is mse"),
    ("observer_kwargs: {maxshrink: 0.1}", "`observer_kwargs` is {maxshrink: 0.1}"),
    ("block_structure: [128, 128]", "`block_structure` is [128, 128]"),
    ("scale_dtype: torch.float16", "`scale_dtype` is torch.float16"),
    ("zp_dtype: torch.float16", "`zp_dtype` is torch.float16"), ("bits: 4", "unknown key `bits`"),
  ])
  func `a weight's argument is refused by key and value`(field: String, part: String) {
    let found = refusal(
      "QuantizationModifier:\n  config_groups:\n    a:\n      weights:\n        \(field)\n")
    #expect(found.hasPrefix("recipe.yaml:5: ") && found.contains(part), "\(found)")
  }

  @Test func `weights without a group size are no group scheme`() {
    #expect(
      refusal("QuantizationModifier: {config_groups: {a: {weights: {num_bits: 4}}}}")
        == "recipe.yaml:1: `weights` has no `group_size`")
  }

  @Test(arguments: [
    ("duo_scaling: neither", "`duo_scaling` is neither, but only true, false or \"both\""),
    ("duo_scaling: 1", "`duo_scaling` is 1"),
    ("n_grid: 2", "`n_grid` is 2, but only 3 to 1000 with `duo_scaling: true`"),
    ("n_grid: 1, duo_scaling: false", "`n_grid` is 1, but only 2 to 1000"),
    ("n_grid: 3, duo_scaling: both", "`n_grid` is 3, but only 4 to 1000"),
    ("n_grid: 0", "`n_grid` is 0"), ("n_grid: '20'", "`n_grid` is \"20\""),
    ("n_grid: 100000", "`n_grid` is 100000"),
    ("max_chunk_memory: 1", "unknown key `max_chunk_memory`"),
    ("mappings: []", "`mappings` is []"), ("mappings: default", "`mappings` is default"),
    ("mappings: [[a, [b]]]", "`mappings` is [a, [b]]"),
    ("mappings: [{smooth_layer: a.b}]", "a mapping has no `balance_layers`"),
    ("mappings: [{balance_layers: [a.b]}]", "a mapping has no `smooth_layer`"),
    ("mappings: [{smooth_layer: a.b, balance_layers: []}]", "`balance_layers` is []"),
    ("mappings: [{smooth_layer: 'a.*', balance_layers: [b]}]", "write 're:a\\..*$'"),
    ("mappings: [{smooth_layer: a.b, balance_layers: [Linear]}]", "the name of a class"),
    ("mappings: [{smooth_layer: a, balance_layers: [b], hook: c}]", "unknown key `hook`"),
    ("scheme: UNQUANTIZED", "`scheme` is UNQUANTIZED"),
  ])
  func `an AWQModifier's field is refused by key and value`(field: String, part: String) {
    let found = refusal(
      "AWQModifier:\n  {\(field)}\nQuantizationModifier: {scheme: W4A16}\n")
    #expect(found.hasPrefix("recipe.yaml:2: ") && found.contains(part), "\(found)")
  }

  @Test(arguments: [
    ("dampening_frac: 0", "`dampening_frac` is 0, but only more than 0 and less than 1"),
    ("dampening_frac: nan", "`dampening_frac` is nan"),
    ("actorder: group", "`actorder` is group, but only static, weight is supported"),
    ("offload_hessians: true", "unknown key `offload_hessians`; known here: dampening_frac"),
  ])
  func `a GPTQModifier's field is refused by key and value`(field: String, part: String) {
    let found = refusal("GPTQModifier:\n  {scheme: W4A16, \(field)}\n")
    #expect(found.hasPrefix("recipe.yaml:2: ") && found.contains(part), "\(found)")
  }

  @Test(arguments: [
    ("smoothing_strength: 1.5", "`smoothing_strength` is 1.5, but only 0 to 1"),
    ("smoothing_strength: hard", "`smoothing_strength` is hard"),
    ("mappings: []", "`mappings` is []"),
    ("mappings: [[[a.b]]]", "`mappings` is [[a.b]], but only lists of readers and a producer"),
    ("mappings: [[[], a.b]]", "`mappings` is [[], a.b]"),
    ("mappings: [['re:.*q', 'a.*']]", "write 're:a\\..*$'"),
    ("mappings: [{smooth_layer: a, balance_layers: [b]}]", "`mappings` is {smooth_layer: a"),
    ("ignore: {a: b}", "`ignore` is {a: b}"), ("ignore: [Linear]", "the name of a class"),
    ("algorithm: log_equalization", "`algorithm` is log_equalization, but only smoothquant"),
    ("num_calibration_steps: 8", "`num_calibration_steps` is 8, but only null"),
    ("calibration_function: f", "`calibration_function` is f"),
    ("scheme: W8A8", "unknown key `scheme`; known here: smoothing_strength, mappings, ignore"),
    ("start: 0", "`start` is 0, but only null"),
  ])
  func `a SmoothQuantModifier's field is refused by key and value`(field: String, part: String) {
    let found = refusal(
      "SmoothQuantModifier:\n  {\(field)}\nQuantizationModifier: {scheme: W8A8}\n")
    #expect(found.hasPrefix("recipe.yaml:2: ") && found.contains(part), "\(found)")
  }

  @Test func `SmoothQuant needs a quantizer after it, and no other smoother`() {
    #expect(
      refusal("SmoothQuantModifier: {}").hasPrefix(
        "recipe.yaml:1: SmoothQuantModifier only smooths; add a GPTQModifier"))
    #expect(
      refusal("QuantizationModifier: {scheme: W8A8}\nSmoothQuantModifier: {}")
        == "recipe.yaml:2: SmoothQuantModifier comes after QuantizationModifier; put it first")
    #expect(
      refusal("- AWQModifier: {scheme: W8A8}\n- SmoothQuantModifier: {}")
        == "recipe.yaml:2: SmoothQuantModifier after the AWQModifier in line 1, and both smooth; leave "
        + "one of them out")
  }

  @Test func `two schemes of keys and values are refused`() {
    #expect(
      refusal(
        """
        AWQModifier: {kv_cache_scheme: {type: float}}
        QuantizationModifier: {scheme: W4A16, kv_cache_scheme: {type: float, strategy: attn_head}}
        """)
        == "recipe.yaml:2: `kv_cache_scheme` is 8 bits float, a scale for each head here and 8 bits float, a "
        + "scale for each layer before; a recipe has one for all Linears")
  }

  @Test func `one quantizer is enough`() {
    #expect(
      refusal("QuantizationModifier: {scheme: W4A16}\nGPTQModifier: {scheme: W4A16}\n")
        == "recipe.yaml:2: `modifier` is GPTQModifier here and QuantizationModifier before; a recipe "
        + "has one for all Linears")
  }

  @Test func `AWQ needs a quantizer after it`() {
    #expect(
      refusal("\nAWQModifier: {n_grid: 20}")
        == "recipe.yaml:2: AWQModifier only smooths; add a GPTQModifier or QuantizationModifier "
        + "with `scheme: W4A16` after it")
    #expect(
      refusal("QuantizationModifier: {scheme: W4A16}\nAWQModifier: {}")
        == "recipe.yaml:2: AWQModifier comes after QuantizationModifier; put it first")
  }

  @Test func `a quantizer needs a scheme`() {
    for fields in ["", " {}", " {ignore: [lm_head]}", " {scheme: null}"] {
      #expect(
        refusal("QuantizationModifier:\(fields)")
          == "recipe.yaml:1: QuantizationModifier has no `scheme` or `config_groups`")
    }
  }

  @Test func `two schemes, two ignore lists and two AWQModifiers are refused`() {
    let second = refusal(
      "- QuantizationModifier: {scheme: W4A16}\n- QuantizationModifier: {scheme: W8A16}")
    #expect(second.hasPrefix("recipe.yaml:2: `scheme` is 8 bits"))
    let ignore = refusal(
      """
      - QuantizationModifier: {scheme: W4A16, ignore: [lm_head]}
      - QuantizationModifier: {scheme: W4A16, ignore: [a.b]}
      """)
    #expect(
      ignore
        == "recipe.yaml:2: `ignore` is [a.b] here and [lm_head] before; a recipe has one for all Linears"
    )
    #expect(
      refusal("- AWQModifier: {scheme: W4A16}\n- AWQModifier: {}")
        == "recipe.yaml:2: a second AWQModifier, after the one in line 1; leave one of them out")
  }

  @Test(arguments: ["", "# nothing\n", "args: {}", "a_stage: {a_modifiers: {}}", "{}", "[]"])
  func `a recipe without modifiers is refused`(text: String) {
    #expect(refusal(text).hasPrefix("recipe.yaml: no modifiers; "))
  }

  @Test(arguments: [
    ("W4A16", 1), ("\nversion: 1\n", 2), ("args: {bits: 4}", 1), ("a_stage: AWQModifier", 1),
    ("- W4A16", 1),
  ])
  func `what is no modifier is refused`(text: String, line: Int) {
    #expect(refusal(text).hasPrefix("recipe.yaml:\(line): "))
  }

  @Test(arguments: [
    ("a: [1", 1), ("a: 1\n\tb: 2", 2), ("AWQModifier: {}\nAWQModifier: {}", 1),
    ("a: *nowhere", 1), ("a: 1\n---\nb: 2\n", 2), ("{[a]: b}", 1),
  ])
  func `text that is not YAML is refused with its line`(text: String, line: Int) {
    let error = #expect(throws: RecipeError.self) { try recipe(text) }
    guard case .invalidYAML(_, let found, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(abs(found - line) <= 1, "\(String(describing: error))")
  }

  @Test func `aliases that multiply are refused`() {
    var text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for level in 1...8 {
      let before = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
      text += "a\(level): &a\(level) [\(before)]\n"
    }
    #expect(refusal(text).contains("too many values"))
  }

  @Test func `a file that is not there or is not text is refused`() throws {
    try withTemporaryFolder { folder in
      #expect(throws: RecipeError.self) { try Recipe(path: "\(folder)/no.yaml") }
      try replaceFile("\(folder)/bytes", with: [0xff, 0xfe, 0x00])
      let error = #expect(throws: RecipeError.self) { try Recipe(path: "\(folder)/bytes") }
      #expect(error?.description == "\(folder)/bytes: neither YAML nor JSON (not UTF-8 text)")
    }
  }

  @Test func `what a flag replaces need not be understood`() throws {
    let text = "QuantizationModifier: {scheme: UNQUANTIZED, ignore: ['model.layers.0.*', Linear]}"
    for (replaced, refused) in [
      ([], "`scheme` is UNQUANTIZED"), ([.scheme], "re:model"),
      ([.ignore], "`scheme` is UNQUANTIZED"),
    ] as [(Set<Recipe.Part>, String)] {
      let error = #expect(throws: RecipeError.self) {
        try Recipe(text: text, file: "r.yaml", replaced: replaced)
      }
      #expect(error?.description.contains(refused) == true, "\(String(describing: error))")
    }
    let recipe = try Recipe(text: text, file: "r.yaml", replaced: [.scheme, .ignore])
    #expect(recipe.ignore == [] && recipe.schemes == [IntegerScheme(.w4a16, groupSize: 128).scheme])
    // A group size that is understood stays.
    let groups =
      "QuantizationModifier: {config_groups: {a: {weights: {num_bits: 4, group_size: 32}}}}"
    let read = try Recipe(text: groups, file: "r", replaced: [.scheme])
    #expect(read.schemes.map(\.weights?.groupSize) == [32])
  }
  @Test func `aliases that multiply in a key are refused`() {
    var text = "a0: &a0 [1, 1]\n"
    for level in 1...40 { text += "a\(level): &a\(level) [*a\(level - 1), *a\(level - 1)]\n" }
    for key in ["? *a40\n: 1\n", "{*a40 : 1}\n", "*a40 : 1\n"] {
      #expect(refusal(text + key).contains("too many values"))
    }
  }

  @Test(arguments: ["- ", "a: ", "? ", "[", "{a: "])
  func `values of any depth are refused before the stack ends`(part: String) {
    let isOneLine = part != "a: "
    let inLine = String(repeating: part, count: 4000)
    let indented = (0..<4000).map { String(repeating: " ", count: $0) + part }.joined(
      separator: "\n")
    for text in isOneLine ? [inLine, indented] : [indented] {
      #expect(refusal(text).contains("nested more than 500 deep"))
    }
  }
}
