// Every form of a recipe that is read, and what is made of it.

import CompressedTensors
import Quantization
import Recipes
import SystemIO
import Testing
import TestSupport

func recipe(_ text: String) throws(RecipeError) -> Recipe {
  try Recipe(text: text, file: "recipe.yaml")
}

private let w4a16 = IntegerScheme(.w4a16, groupSize: 128).scheme

@Suite struct RecipeTests {
  // MARK: Files of the peer

  @Test func `an AWQ recipe that the peer wrote is read with its mappings`() throws {
    let recipe = try Recipe(path: fixturePath("recipes/peer-awq.yaml"))
    #expect(recipe.schemes == [w4a16])
    #expect(recipe.ignore == ["lm_head", #"re:.*layers\.0\..*"#])
    #expect(recipe.smooths && recipe.duoScaling == .on && recipe.gridPoints == 20)
    #expect(recipe.mappings?.count == 4)
    #expect(
      recipe.mappings?[1]
        == RecipeMapping(
          smoothLayer: #"re:.*layers\.(1|2|3|4)\.self_attn.v_proj$"#,
          balanceLayers: [#"re:.*layers\.(1|2|3|4)\.self_attn.o_proj$"#]))
    #expect(recipe.mappings?[2].balanceLayers.count == 5)
  }

  /// The peer itself cannot read this file again.
  @Test func `a python tag on offload_device is passed over`() throws {
    let recipe = try Recipe(path: fixturePath("recipes/peer-torch-device.yaml"))
    #expect(recipe.duoScaling == .both)
    #expect(recipe.ignore == ["lm_head"])
    #expect(recipe.mappings?.map(\.balanceLayers.count) == [3, 1, 3, 1])
  }

  @Test func `a recipe without AWQ does not smooth`() throws {
    let recipe = try Recipe(path: fixturePath("recipes/peer-rtn.yaml"))
    #expect(
      recipe
        == Recipe(schemes: [w4a16], ignore: ["lm_head", #"re:.*layers\.0\..*"#], smooths: false))
  }

  @Test func `config groups of the peer are read in full`() throws {
    let recipe = try Recipe(path: fixturePath("recipes/peer-config-groups.yaml"))
    #expect(recipe.schemes == [IntegerScheme(.w4a16Asymmetric, groupSize: 32).scheme])
  }

  // MARK: Forms

  private static let forms = [
    """
    quant_stage:
      quant_modifiers:
        AWQModifier: {n_grid: 10, duo_scaling: false}
        QuantizationModifier: {scheme: W8A16, ignore: [lm_head]}
    """,
    """
    smooth_stage:
      smooth_modifiers:
        AWQModifier:
          n_grid: 10
          duo_scaling: no
    round_stage:
      round_modifiers:
        QuantizationModifier:
          scheme: {W8A16: [Linear]}
          ignore: [lm_head]
          targets: Linear
    """,
    """
    args: {}
    quant_modifiers:
      AWQModifier: {n_grid: 10, duo_scaling: false}
      QuantizationModifier: {scheme: w8a16, ignore: ["lm_head"]}
    """,
    """
    AWQModifier: {n_grid: 10, duo_scaling: false, offload_device: cuda:0}
    QuantizationModifier: {scheme: W8A16, ignore: lm_head}
    """,
    """
    - AWQModifier:
        n_grid: 10
        duo_scaling: false
        offload_device: null
    - QuantizationModifier:
        scheme: W8A16
        ignore: [lm_head]
    """,
    """
    AWQModifier:
      {n_grid: 10, duo_scaling: false, scheme: W8A16, targets: [Linear], ignore: [lm_head]}
    """,
    """
    {"test_stage": {"quant_modifiers": {
    \t"AWQModifier": {"n_grid": 10, "duo_scaling": false, "mappings": null},
    \t"QuantizationModifier": {"scheme": "W8A16", "ignore": ["lm_head"]}}}}
    """,
    """
    AWQModifier: &awq {n_grid: 10, duo_scaling: false}
    QuantizationModifier:
      ignore: [lm_head]
      config_groups:
        group_0:
          targets: [Linear]
          weights: {group_size: 128}
    """,
  ]

  @Test(arguments: forms)
  func `stages, groups, flat mappings, lists and JSON say the same`(form: String) throws {
    #expect(
      try recipe(form)
        == Recipe(
          schemes: [IntegerScheme(.w8a16, groupSize: 128).scheme], ignore: ["lm_head"],
          duoScaling: .off,
          gridPoints: 10))
  }

  @Test func `an AWQModifier without fields smooths with the peer's defaults`() throws {
    for empty in ["", " {}", " null"] {
      let found = try recipe("AWQModifier:\(empty)\nQuantizationModifier: {scheme: W4A16}\n")
      #expect(found == Recipe(schemes: [w4a16]))
    }
  }

  @Test(arguments: [
    ("true", DuoScaling.on), ("True", .on), ("yes", .on), ("off", .off), ("both", .both),
    ("\"both\"", .both),
  ])
  func `duo_scaling is a boolean or both`(text: String, duo: DuoScaling) throws {
    let found = try recipe("AWQModifier: {scheme: W4A16, duo_scaling: \(text)}")
    #expect(found.duoScaling == duo)
  }

  @Test(arguments: [32, 64, 128], [4, 8])
  func `config groups choose bits, symmetry and group size`(size: Int, bits: Int) throws {
    for isSymmetric in [true, false] {
      let found = try recipe(
        """
        QuantizationModifier:
          observer: {weights: static_minmax}
          config_groups:
            any:
              format: pack-quantized
              weights: {num_bits: \(bits), symmetric: \(isSymmetric), strategy: group,
                group_size: \(size), observer: minmax, actorder: null, observer_kwargs: {}}
        """)
      #expect(
        found.schemes == [
          IntegerScheme(bits: bits, groupSize: size, isSymmetric: isSymmetric).scheme
        ])
    }
  }

  // MARK: Several schemes

  private static let mixed = [
    IntegerScheme(.w8a16, groupSize: 128).targeting("re:.*self_attn.*", "a.b.up_proj"),
    IntegerScheme(.w4a16Asymmetric, groupSize: 32).targeting("Linear"),
  ]

  @Test(arguments: [
    """
    QuantizationModifier:
      config_groups:
        attention:
          targets: ["re:.*self_attn.*", a.b.up_proj]
          weights: {num_bits: 8, group_size: 128}
        rest:
          targets: [Linear]
          weights: {num_bits: 4, group_size: 32, symmetric: false, zp_dtype: torch.int8}
    """,
    """
    {"QuantizationModifier": {"config_groups": {
      "W8A16": ["re:.*self_attn.*", "a.b.up_proj"],
      "rest": {"targets": ["Linear"], "format": "pack-quantized", "input_activations": null,
               "weights": {"num_bits": 4, "type": "INT", "strategy": "Group", "group_size": 32,
                           "symmetric": false}}}}}
    """,
  ])
  func `config groups have targets of their own`(text: String) throws {
    var schemes = try recipe(text).schemes
    for index in schemes.indices { schemes[index].format = nil }
    #expect(schemes == Self.mixed)
  }

  @Test func `a preset is for the targets beside or below it`() throws {
    let experts = "re:.*experts.*"
    let beside = try recipe("QuantizationModifier: {scheme: w8a16, targets: ['\(experts)']}")
    #expect(beside.schemes == [IntegerScheme(.w8a16, groupSize: 128).targeting(experts)])
    let below = try recipe(
      "GPTQModifier: {scheme: {W8A16: '\(experts)', W4A16: [Linear, lm.head]}}")
    #expect(
      below.schemes == [
        IntegerScheme(.w8a16, groupSize: 128).targeting(experts),
        IntegerScheme(.w4a16, groupSize: 128).targeting("Linear", "lm.head"),
      ])
  }

  @Test func `several schemes that are written read back the same`() throws {
    for schemes in [Self.mixed, [Self.mixed[0]], [Self.mixed[1].targeting(["it's.x", "re:a"])]] {
      let written = Recipe(schemes: schemes, ignore: ["lm_head"], smooths: false)
      #expect(try recipe(written.yaml()) == written)
    }
    #expect(
      Recipe(schemes: Self.mixed, smooths: false).yaml() == """
        default_stage:
          default_modifiers:
            QuantizationModifier:
              config_groups:
                group_0:
                  targets: ['re:.*self_attn.*', 'a.b.up_proj']
                  weights:
                    num_bits: 8
                    type: int
                    symmetric: true
                    strategy: group
                    group_size: 128
                    dynamic: false
                    observer: memoryless_minmax
                group_1:
                  targets: [Linear]
                  weights:
                    num_bits: 4
                    type: int
                    symmetric: false
                    strategy: group
                    group_size: 32
                    dynamic: false
                    observer: memoryless_minmax

        """)
  }

  @Test func `a GPTQModifier compensates, with the peer's damping where it names none`() throws {
    let short = try recipe("GPTQModifier: {scheme: W4A16}")
    #expect(short.rounding == .compensated && short.damping == 0.01 && !short.smooths)
    let full = try recipe(
      """
      AWQModifier: {duo_scaling: both}
      GPTQModifier: {scheme: W4A16, dampening_frac: 0.001, block_size: 64, actorder: static}
      """)
    #expect(full.rounding == .compensated && full.damping == 0.001 && full.smooths)
  }

  @Test(arguments: ["QuantizationModifier", "GPTQModifier", "AWQModifier"])
  func `keys and values have a scheme in any modifier that quantizes`(modifier: String) throws {
    for (strategy, scheme) in [("tensor", CacheScheme.fp8), ("attn_head", .fp8OfHeads)] {
      let found = try recipe(
        """
        \(modifier):
          scheme: W4A16
          kv_cache_scheme: {num_bits: 8, type: float, strategy: \(strategy), symmetric: true,
            dynamic: false, observer: minmax, observer_kwargs: {}}
        """)
      #expect(found.cache == scheme && found.schemes == [w4a16])
      #expect(try recipe(found.yaml()) == found)
    }
    #expect(try recipe("\(modifier): {scheme: W4A16, kv_cache_scheme: null}").cache == nil)
    let replaced = try Recipe(
      text: "\(modifier): {scheme: W4A16, kv_cache_scheme: {num_bits: 4}}", file: "r",
      replaced: [.cache])
    #expect(replaced.cache == nil)
  }

  @Test(arguments: [
    "input_observer: static_minmax", "input_observer: minmax", "observer: {input: minmax}",
    "observer: {weights: minmax, input: static_minmax}",
  ])
  func `observers of all tokens are those of static activations`(field: String) throws {
    let found = try recipe("QuantizationModifier: {scheme: FP8, \(field)}")
    #expect(try found == recipe("QuantizationModifier: {scheme: FP8}"))
  }

  /// Integers alone have two observers; the one with the least mean square is that of a recipe that names none.
  @Test(arguments: [("", true), (", observer: mse", true), (", observer: minmax", false)])
  func `static integers may have the largest number or the least mean square`(
    observer: String, leastSquares: Bool
  ) throws {
    let found = try recipe(
      """
      QuantizationModifier:
        config_groups:
          a:
            targets: [Linear]
            weights: {num_bits: 8, type: int, strategy: channel}
            input_activations: {num_bits: 8, type: int, strategy: tensor\(observer)}
      """)
    #expect(found.schemes[0].inputActivations?.leastSquares == leastSquares)
    #expect(try recipe(found.yaml()) == found)
    let name = leastSquares ? "mse" : "static_minmax"
    #expect(found.yaml().contains("observer: \(name)"))
  }

  @Test func `static activations are written with the observer of all tokens`() throws {
    let scheme = try SchemePreset.written("FP8").targeting(["re:a"])
    let dynamic = try SchemePreset.written("FP8_DYNAMIC").targeting(["re:b"])
    let written = Recipe(schemes: [scheme, dynamic], smooths: false)
    #expect(try recipe(written.yaml()) == written)
    #expect(written.yaml().components(of: "observer: static_minmax") == 1)
    #expect(written.yaml().components(of: "observer: memoryless_minmax") == 2)
  }

  @Test func `a SmoothQuantModifier smooths, with its mappings and what it ignores`() throws {
    let plain = try recipe("SmoothQuantModifier:\nQuantizationModifier: {scheme: W8A8}")
    #expect(plain.smooths && plain.smoothQuant == SmoothQuant() && plain.mappings == nil)
    #expect(plain.duoScaling == .on && plain.gridPoints == 20)
    let full = try recipe(
      """
      - SmoothQuantModifier:
          smoothing_strength: 0.8
          algorithm: smoothquant
          mappings:
          - [['re:.*q_proj', 're:.*k_proj'], 're:.*input_layernorm']
          - ['re:.*down_proj', 're:.*up_proj']
          ignore: [a.b, 're:.*c$']
          num_calibration_steps: null
      - GPTQModifier: {scheme: W8A8, ignore: [lm_head]}
      """)
    #expect(full.smoothQuant == SmoothQuant(strength: 0.8, ignore: ["a.b", "re:.*c$"]))
    #expect(full.rounding == .compensated && full.ignore == ["lm_head"])
    #expect(
      full.mappings == [
        RecipeMapping(
          smoothLayer: "re:.*input_layernorm", balanceLayers: ["re:.*q_proj", "re:.*k_proj"]),
        RecipeMapping(smoothLayer: "re:.*up_proj", balanceLayers: ["re:.*down_proj"]),
      ])
    for found in [plain, full] { #expect(try recipe(found.yaml()) == found) }
    #expect(!plain.yaml().contains("AWQModifier"))
  }

  @Test func `the scheme may stand on both modifiers when it is the same`() throws {
    let found = try recipe(
      "AWQModifier: {scheme: W4A16, ignore: [lm_head]}\nQuantizationModifier: {scheme: W4A16}")
    #expect(found == Recipe(schemes: [w4a16], ignore: ["lm_head"]))
  }

  @Test func `activation_hook_target is kept as given`() throws {
    let found = try recipe(
      """
      AWQModifier:
        scheme: W4A16
        mappings:
        - {smooth_layer: a.norm, balance_layers: ['re:.*q$'], activation_hook_target: self_attn.q}
      """)
    #expect(
      found.mappings == [
        RecipeMapping(
          smoothLayer: "a.norm", balanceLayers: ["re:.*q$"], activationHookTarget: "self_attn.q")
      ])
  }

  // MARK: Writing

  @Test func `what is written reads back the same`() throws {
    let mappings = [
      RecipeMapping(smoothLayer: "re:.*it's$", balanceLayers: ["a.b", #"re:x\.(1|2)\."#]),
      RecipeMapping(smoothLayer: "a", balanceLayers: ["b"], activationHookTarget: "b"),
    ]
    for preset in IntegerScheme.Preset.allCases {
      for size in CompressionFormats.groupSizes {
        for duo in DuoScaling.allCases {
          for mappings in [nil, mappings] {
            let written = Recipe(
              schemes: [IntegerScheme(preset, groupSize: size).scheme],
              ignore: ["lm_head", #"re:a\.0"#],
              duoScaling: duo, gridPoints: 12, mappings: mappings)
            #expect(try recipe(written.yaml()) == written)
          }
        }
      }
    }
    for scheme in [w4a16, IntegerScheme(bits: 8, groupSize: 64, isSymmetric: false).scheme] {
      for damping in [nil, 0.0025] {
        let written = Recipe(
          schemes: [scheme], smooths: false, rounding: damping == nil ? .nearest : .compensated,
          damping: damping)
        #expect(try recipe(written.yaml()) == written)
      }
    }
  }

  @Test func `every preset that is written reads back the same, whatever its format`() throws {
    for preset in CompressionFormats.presets {
      let scheme = try SchemePreset.written(preset.name)
      let written = Recipe(schemes: [scheme])
      #expect(try recipe(written.yaml()) == written, "\(preset.name)")
      #expect(try recipe("QuantizationModifier: {scheme: \(preset.name)}").schemes == [scheme])
    }
  }

  /// Packed by itself, and a byte for each code where that is asked for.
  @Test(arguments: ["", "format: pack-quantized,", "format: int-quantized,"])
  func `integers beside activations are packed unless their format is named`(format: String) throws
  {
    let found = try recipe(
      """
      QuantizationModifier: {config_groups: {a: {\(format) weights: {num_bits: 4, group_size: 128},
        input_activations: {num_bits: 8, strategy: token, dynamic: true}}}}
      """)
    #expect(
      found.schemes.map(CompressionFormats.name)
        == [format.contains("int") ? "int-quantized" : "pack-quantized"])
    #expect(try recipe(Recipe(schemes: found.schemes).yaml()).schemes == found.schemes)
  }

  @Test func `what is written is staged and plain`() {
    #expect(
      Recipe(schemes: [w4a16], ignore: ["lm_head"], duoScaling: .both).yaml() == """
        default_stage:
          default_modifiers:
            AWQModifier:
              duo_scaling: both
              n_grid: 20
            QuantizationModifier:
              targets: [Linear]
              ignore: ['lm_head']
              scheme: W4A16

        """)
  }
}

extension String {
  /// How often a text stands in it.
  fileprivate func components(of text: String) -> Int { split(separator: text).count - 1 }
}
