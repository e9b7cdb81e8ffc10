// FP8 weights against those that PyTorch, transformers and compressed-tensors decode, and checkpoints that are refused.

import CompressedTensors
import JSON
import LinearAlgebra
import Models
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct FP8CheckpointTests {
  private let fixture = "awq/dense-first"
  private let module = "model.layers.1.mlp.experts.2.up_proj"

  private func withSource<R>(
    _ scaling: FP8Source.Scaling, hasInputScales: Bool = false,
    _ change: (inout FP8Source) throws -> Void = { _ in }, _ body: (String) throws -> R
  ) throws -> R {
    try withTemporaryFolder { folder in
      var source = try FP8Source(fixture, scaling, hasInputScales: hasInputScales)
      try change(&source)
      try source.write(to: folder + "/model")
      return try body(folder + "/model")
    }
  }

  private func error(
    _ scaling: FP8Source.Scaling = .blocks, _ change: (inout FP8Source) throws -> Void
  ) throws -> CheckpointError? {
    try withSource(scaling, change) { folder in
      #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
    }
  }

  private func expect(
    _ error: CheckpointError?, _ tensor: String, expected: String, found: String,
    _ location: SourceLocation = #_sourceLocation
  ) {
    guard case .wrongFP8(let file, tensor, let wanted, found) = error else {
      Issue.record("\(error.map { "\($0)" } ?? "no error")", sourceLocation: location)
      return
    }
    #expect(file.hasSuffix("/model/model.safetensors"), sourceLocation: location)
    #expect(wanted.contains(expected), "\(wanted)", sourceLocation: location)
  }

  // MARK: Numbers

  /// `fixtures/fp8`: one Linear each, decoded by the libraries that the formats come from.
  @Test(arguments: [
    "blocks", "blocks-bf16", "compressed-blocks", "channel", "channel-bf16", "tensor",
    "tensor-f16", "tensor-scalar",
  ])
  func aWeightIsWhatItsMakersDecode(name: String) throws {
    let file = try SafetensorsFile(path: fixturePath("fp8/decoded.safetensors"))
    let weight = try #require(file["\(name).weight"])
    let part = name.hasPrefix("blocks") ? "weight_scale_inv" : "weight_scale"
    let scales = try #require(file["\(name).\(part)"])
    let expected = try file.floats(name + ".expected")
    let block = try JSONValue.parse(FileSystem.readFile(fixturePath("fp8/\(name).json")))
    let format = try #require(try FP8Format(block, file: name))
    let rows = FP8Weight(weight, scales: scales, format: format)
    #expect(rows.matrix(0..<rows.rows).values == expected)
    // Any rows of it, and any columns.
    for range in [0..<1, 5..<rows.rows, 30..<35, rows.rows - 1..<rows.rows] {
      #expect(
        rows.matrix(range).values
          == Array(expected[range.lowerBound * rows.columns..<range.upperBound * rows.columns]))
      for part in [0..<rows.columns, 3..<5, 120..<rows.columns] {
        unsafe rows.withBF16(range, columns: part) { found, stride in
          for (index, row) in range.enumerated() {
            for (place, column) in part.enumerated() {
              let value = Float(
                bitPattern: UInt32(unsafe found[index * stride + place]) << 16)
              #expect(value == DType.bf16.rounded([expected[row * rows.columns + column]])[0])
            }
          }
        }
      }
    }
  }

  @Test func everyCodeIsWhatPyTorchSays() throws {
    let file = try SafetensorsFile(path: fixturePath("fp8/decoded.safetensors"))
    let expected = try file.floats("codes.expected")
    #expect(expected.count == 256)
    for (code, value) in expected.enumerated() {
      let found = valueOfE4M3(UInt8(code))
      #expect(found == value || found.isNaN && value.isNaN, "\(code)")
    }
  }

  @Test(arguments: FP8Source.Scaling.allCases, [DType.f32, .bf16, .f16])
  func everyWeightOfACheckpointIsItsCodesTimesItsScales(
    scaling: FP8Source.Scaling, scaleType: DType
  ) throws {
    try withTemporaryFolder { folder in
      let source = try FP8Source(fixture, scaling, isExact: false, scaleType: scaleType)
      try source.write(to: folder + "/model")
      let checkpoint = try Checkpoint(folder: folder + "/model")
      #expect(checkpoint.fp8 != nil && checkpoint.quantization == nil)
      for linear in checkpoint.spec.layers.flatMap(\.linears) {
        let weight = checkpoint.weights.weight(linear)
        #expect(weight is FP8Weight)
        #expect(weight.matrix(0..<weight.rows).values == source.values(linear.weight))
      }
    }
  }

  /// Products take the weight as bf16: the ones that a checkpoint in bf16 gives, to the bit.
  @Test(.enabled(if: Engine.bf16.isAvailable), arguments: FP8Source.Scaling.allCases)
  func productsInBF16AreThoseOfTheRoundedWeight(scaling: FP8Source.Scaling) throws {
    try withTemporaryFolder { folder in
      let source = try FP8Source(fixture, scaling, isExact: false)
      try source.write(to: folder + "/fp8")
      try source.writeTwin(to: folder + "/bf16", as: .bf16)
      let backend = Backend(threads: 2, engine: .bf16)
      var generator = SeededGenerator(seed: 73)
      let (fp8, plain) = try (
        Checkpoint(folder: folder + "/fp8"), Checkpoint(folder: folder + "/bf16")
      )
      for linear in fp8.spec.layers.flatMap(\.linears) {
        let x = generator.matrix(37, linear.inputs)
        #expect(
          Gemm.multiply(x, by: fp8.weights.weight(linear), backend: backend).values
            == Gemm.multiply(x, by: plain.weights.weight(linear), backend: backend).values)
      }
    }
  }

  // MARK: Opened

  @Test(arguments: FP8Source.Scaling.allCases)
  func aLinearMayStayAsItIs(scaling: FP8Source.Scaling) throws {
    try withTemporaryFolder { folder in
      try FP8Source(
        fixture, scaling, choosing: { $0.contains("layers.1.") && $0.hasSuffix("_proj.weight") }
      ).write(
        to: folder + "/model")
      let checkpoint = try Checkpoint(folder: folder + "/model")
      for linear in checkpoint.spec.layers.flatMap(\.linears) {
        #expect(
          (checkpoint.weights.weight(linear) is FP8Weight) == linear.name.contains("layers.1."))
      }
    }
  }

  @Test func aScalarOfNoDimensionsAndScalesOfActivationsMayBeThere() throws {
    let name = module + ".weight_scale"
    try withSource(.tensor, hasInputScales: true, { $0[name]?.shape = [] }) { folder in
      let checkpoint = try Checkpoint(folder: folder)
      #expect(
        CheckpointShapes(checkpoint).activationScales
          == checkpoint.spec.layers.flatMap(\.linears).count)
    }
  }

  /// As DeepSeek stores scales that are powers of two.
  @Test(arguments: [FP8Source.Scaling.blocks, .channel])
  func scalesMayBePowersOfTwoInATypeOfTheirOwn(scaling: FP8Source.Scaling) throws {
    try withTemporaryFolder { folder in
      var plain = try FP8Source(fixture, scaling)
      var source = plain
      for tensor in plain.tensors where tensor.name.hasSuffix("." + scaling.scalePart) {
        let exponents = unsafe tensor.bytes.withUnsafeBytes { bytes in
          unsafe bytes.bindMemory(to: Float.self).map(\.exponent)
        }
        plain[tensor.name] = LooseTensor(
          tensor.name, tensor.shape,
          exponents.map { Float(sign: .plus, exponent: $0, significand: 1) },
          as: .f32)
        source[tensor.name] = LooseTensor(
          name: tensor.name, dtype: .f8E8M0, shape: tensor.shape,
          bytes: exponents.map { UInt8($0 + 127) })
      }
      try plain.write(to: folder + "/plain")
      try source.write(to: folder + "/powers")
      let (first, second) = try (
        Checkpoint(folder: folder + "/plain"), Checkpoint(folder: folder + "/powers")
      )
      for linear in first.spec.layers.flatMap(\.linears) {
        let (a, b) = (first.weights.weight(linear), second.weights.weight(linear))
        #expect(a.matrix(0..<a.rows).values == b.matrix(0..<b.rows).values)
      }
    }
  }

  // MARK: Refused

  @Test(arguments: FP8Source.Scaling.allCases)
  func aScaleThatIsMissingIsNamed(scaling: FP8Source.Scaling) throws {
    let name = "\(module).\(scaling.scalePart)"
    let error = try error(scaling) { $0[name] = nil }
    expect(error, name, expected: "for the FP8 weight `\(module).weight`", found: "no such tensor")
  }

  @Test(
    arguments: [
      (.blocks, [2, 3], "[3, 2]"), (.compressedBlocks, [6], "[3, 2]"),
      (.channel, [1, 64], "[64, 1]"),
      (.tensor, [64, 1], "[1] or []"),
    ] as [(FP8Source.Scaling, [Int], String)])
  func scalesOfAnotherShapeAreRefused(
    scaling: FP8Source.Scaling, shape: [Int], expected: String
  ) throws {
    let name = "\(module).\(scaling.scalePart)"
    let count = shape.reduce(1, *)
    let error = try error(scaling) {
      $0[name] = LooseTensor(name, shape, [Float](repeating: 1, count: count), as: .f32)
    }
    expect(error, name, expected: "BF16, F16, F32 or F8_E8M0 " + expected, found: "F32 \(shape)")
  }

  @Test func scalesOfAnotherTypeAreRefused() throws {
    let name = module + ".weight_scale_inv"
    let error = try error { $0[name]?.dtype = .i32 }
    expect(error, name, expected: "BF16, F16, F32 or F8_E8M0 [3, 2]", found: "I32 [3, 2]")
  }

  @Test func aScaleWithoutItsFP8WeightIsRefused() throws {
    let name = module + ".weight_scale_inv"
    let plain = try error {
      $0[module + ".weight"] = LooseTensor(
        module + ".weight", [64, 64], [Float](repeating: 1, count: 4096), as: .bf16)
    }
    expect(plain, name, expected: "`\(module).weight` in F8_E4M3", found: "BF16 [64, 64]")
    let stray = "model.layers.1.mlp.gate.weight_scale"
    let nothing = try error(.channel) {
      $0[stray] = LooseTensor(stray, [4, 1], [1, 1, 1, 1], as: .f32)
    }
    expect(
      nothing, stray, expected: "`model.layers.1.mlp.gate.weight` in F8_E4M3",
      found: "F32 [4, 64]")
    let orphan = "model.layers.2.mlp.up_proj.weight_scale"
    let none = try error(.channel) {
      $0[orphan] = LooseTensor(orphan, [4, 1], [1, 1, 1, 1], as: .f32)
    }
    expect(
      none, orphan, expected: "`model.layers.2.mlp.up_proj.weight` in F8_E4M3",
      found: "no such tensor")
  }

  @Test func scalesByAnotherNameAreNotGuessedAt() throws {
    let (name, other) = (module + ".weight_scale_inv", module + ".weight_scale")
    let error = try error {
      var scale = $0[name]
      scale?.name = other
      $0[name] = scale
    }
    guard case .unclaimed(_, 1, [other]) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test(arguments: [true, false])
  func FP8WithoutAConfigThatSaysSoIsRefused(isPacked: Bool) throws {
    let error = try error { source in
      source.config["quantization_config"] =
        isPacked
        ? QuantizationConfig(groups: [IntegerScheme(.w4a16, groupSize: 32).scheme], ignore: []).json
        : nil
    }
    expect(
      error, "model.layers.0.mlp.down_proj.weight", expected: "`quantization_config`",
      found: isPacked ? "`pack-quantized`" : "none")
  }

  @Test(arguments: ["model.embed_tokens.weight", "model.layers.1.input_layernorm.weight"])
  func whatIsNoLinearIsNotFP8(name: String) throws {
    let error = try error { source in
      source[name]?.dtype = .f8E4M3
      let count = source[name]?.bytes.count ?? 0
      source[name]?.bytes.removeLast(count / 4 * 3)
    }
    guard case .wrongFP8(_, name, let expected, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(expected.contains("no weight of a Linear"))
  }

  @Test(arguments: ["model.layers.1.mlp.experts.2.up_proj", #"re:.*\.experts\.2\.up_proj"#])
  func anFP8WeightThatTheIgnoreListNamesIsRefused(pattern: String) throws {
    let error = try error(.channel) { source in
      var block = try #require(source.config["quantization_config"]?.object)
      block["ignore"] = ["lm_head", .string(pattern)]
      source.config["quantization_config"] = .object(block)
    }
    expect(
      error, module + ".weight", expected: "`quantization_config.ignore` has '\(pattern)'",
      found: "F8_E4M3 [64, 64]")
  }

  @Test func anIgnoreListThatIsNoExpressionIsRefused() throws {
    try withSource(
      .channel,
      { source in
        var block = try #require(source.config["quantization_config"]?.object)
        block["ignore"] = ["re:("]
        source.config["quantization_config"] = .object(block)
      }
    ) { folder in
      let error = #expect(throws: IgnorePatternError.self) { try Checkpoint(folder: folder) }
      #expect(error?.description.contains("config.json: `quantization_config.ignore`") == true)
    }
  }

  @Test func anFP8WeightOfAnotherShapeIsRefused() throws {
    let name = module + ".weight"
    let error = try error { source in
      source[name]?.shape = [32, 128]
    }
    guard case .wrongShape(_, name, "BF16, F16 or F32 [64, 64]", "F8_E4M3 [32, 128]") = error
    else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func theErrorSaysWhatToDo() throws {
    let name = module + ".weight_scale_inv"
    let error = try error { $0[name]?.dtype = .i32 }
    let text = error?.description ?? ""
    #expect(
      text.hasSuffix(
        "model.safetensors: `\(name)`: expected BF16, F16, F32 or F8_E8M0 [3, 2], found I32 [3, 2]; "
          + "download the checkpoint again, or start from the unquantized one"))
  }
}
