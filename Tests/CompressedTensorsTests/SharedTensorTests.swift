// Linears that share a tensor, number by number, and the tensors that no Linear can be read from.

import CompressedTensors
import LinearAlgebra
import Models
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct SharedTensorTests {
  private static let fixture = "glm4-moe-4m"
  private static let alternating =
    [
      StorageForm(
        "gate_proj", "up_proj", weight: "gate_up_proj", bias: "gate_up_proj_bias",
        isOfExperts: true, order: .alternating, architectures: ["Glm4MoeForCausalLM"])
    ] + StorageForm.all

  private func open(_ folder: String, _ experts: SharedSource.Experts?) throws -> Checkpoint {
    try Checkpoint(
      folder: folder, forms: experts?.alternates == true ? Self.alternating : StorageForm.all)
  }

  /// Tiles in float32, and in bf16 where a product would take them so.
  @Test(arguments: SharedSource.Experts.allCases, [DType.bf16, .f16, .f32])
  func `a Linear has the numbers that it has in a tensor of its own`(
    experts: SharedSource.Experts, dtype: DType
  ) throws {
    let source = try SharedSource(fixturePath(Self.fixture), as: dtype)
    try withTemporaryFolder { folder in
      try source.write(source.tensors, to: folder + "/plain")
      try source.write(source.joined(experts: experts, joins: true), to: folder + "/shared")
      let plain = try Checkpoint(folder: folder + "/plain")
      let shared = try open(folder + "/shared", experts)
      #expect(shared.spec == plain.spec)
      #expect(shared.weights.names == plain.weights.names)
      #expect(shared.weights.count == shared.weights.names.count)
      #expect(shared.model.tensors.count < plain.model.tensors.count / 2)
      for name in plain.weights.names {
        let (found, expected) = (shared.weights.parameter(name), plain.weights.parameter(name))
        #expect(found.shape == expected.shape && found.dtype == expected.dtype, "\(name)")
        #expect(found.byteCount == expected.byteCount)
        if found.shape.count == 1 {
          #expect(shared.weights.vector(name) == plain.weights.vector(name))
        }
      }
      for linear in plain.spec.layers.flatMap(\.linears) {
        let (found, expected) = (shared.weights.weight(linear), plain.weights.weight(linear))
        let (rows, columns) = (linear.outputs, linear.inputs)
        #expect(found.rows == rows && found.columns == columns)
        for range in [0..<rows, 0..<1, 3..<rows - 1, rows - 1..<rows, 5..<5] {
          #expect(found.matrix(range).values == expected.matrix(range).values, "\(linear.name)")
        }
        #expect(found.isBF16 == (dtype == .bf16))
        if dtype != .bf16 { continue }
        for (range, part) in [(0..<rows, 0..<columns), (7..<40, 0..<columns - 5), (9..<10, 3..<77)]
        {
          func numbers(_ weight: any WeightRows) -> [UInt16] {
            var result: [UInt16] = []
            unsafe weight.withBF16(range, columns: part) { base, stride in
              for row in 0..<range.count {
                for column in 0..<part.count {
                  let pointer = unsafe UnsafeRawPointer(base + row * stride + column)
                  result.append(unsafe pointer.loadUnaligned(as: UInt16.self))
                }
              }
            }
            return result
          }
          #expect(numbers(found) == numbers(expected), "\(linear.name)")
        }
      }
    }
  }

  /// The source as it is listed and as it is checked: stored tensors, and slices for experts.
  @Test func `experts have a piece each, and what shares one is read for one checksum`() throws {
    let source = try SharedSource(fixturePath(Self.fixture))
    try withTemporaryFolder { folder in
      try source.write(source.joined(experts: .columns, joins: true), to: folder)
      let checkpoint = try Checkpoint(folder: folder)
      let experts = "model.layers.2.mlp.experts."
      #expect(checkpoint.model[experts + "gate_up_proj"]?.shape == [8, 256, 256])
      #expect(checkpoint.weights.pieces[experts + "gate_up_proj[5]"]?.shape == [256, 256])
      #expect(checkpoint.weights.pieces.totalBytes == checkpoint.model.totalBytes)
      let unit = checkpoint.spec.layers[2].mlp.routed[5]
      let gate = try #require(unit.gate)
      let attention = checkpoint.spec.layers[2].attention.linears
      let names = (unit.linears + attention).flatMap {
        $0.hasBias ? [$0.weight, $0.bias] : [$0.weight]
      }
      #expect(
        checkpoint.weights.pieces(of: names).map(\.name) == [
          experts + "gate_up_proj[5]", experts + "down_proj[5]",
          "model.layers.2.self_attn.qkv_proj.weight", "model.layers.2.self_attn.qkv_proj.bias",
          "model.layers.2.self_attn.o_proj.weight",
        ])
      // Gate and up are read together and lie among each other.
      let shapes = CheckpointShapes(checkpoint)
      let bytes = 256 * 128 * 2
      #expect(shapes.byteCount(gate) == bytes)
      #expect(shapes.mappedBytes(unit.linears) == 3 * bytes)
      #expect(shapes.mappedBytes([gate]) > 2 * bytes - 256 * 2)
      #expect(shapes.tileBytes(gate.weight, rows: 8) == nil)
    }
  }

  // MARK: Refusals

  private func refusal(
    of fixture: String = fixture, _ experts: SharedSource.Experts? = .rows, joins: Bool = false,
    _ change: (inout LooseTensor) -> Void
  ) throws -> CheckpointError? {
    let source = try SharedSource(fixturePath(fixture))
    let tensors = source.joined(experts: experts, joins: joins).map { tensor in
      var tensor = tensor
      change(&tensor)
      return tensor
    }
    return try withTemporaryFolder { folder in
      try source.write(tensors, to: folder)
      return #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
    }
  }

  private static let gateUp = "model.layers.3.mlp.experts.gate_up_proj"

  /// The fixture has 8 experts of 128 channels, and a hidden size of 256.
  @Test(arguments: [
    (gateUp, [4, 512, 256]), (gateUp, [8 * 256, 256]), (gateUp, [8, 256, 128, 2]),
    (gateUp, [16, 128, 256]), ("model.layers.3.mlp.experts.down_proj", [8, 64, 512]),
    ("model.layers.1.self_attn.qkv_proj.weight", [256, 384]),
    ("model.layers.1.self_attn.qkv_proj.bias", [2, 192]),
    ("model.layers.0.mlp.gate_up_proj.weight", [256, 1024]),
  ])
  func `a tensor of another shape is refused by name, with what would do`(
    tensor: String, shape: [Int]
  ) throws {
    let error = try refusal(joins: true) { if $0.name == tensor { $0.shape = shape } }
    guard case .wrongShare(_, tensor, let expected, "BF16 \(shape)") = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(expected.hasPrefix("BF16, F16 or F32 ["))
    #expect(expected.contains(" or [8, ") == tensor.contains(".experts."))
    #expect(error?.description.contains("holds several Linears") == true)
  }

  @Test func `a prediction layer is like the last one`() throws {
    let tensor = "model.layers.2.mlp.experts.gate_up_proj"
    let error = try refusal(of: "forward/published-mtp-bf16") {
      if $0.name == tensor { $0.shape = [6, 16, 128] }
    }
    guard
      case .wrongShare(_, tensor, "BF16, F16 or F32 [6, 64, 32] or [6, 32, 64]", _) = error
    else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func `gate and up that may be rows or columns are refused with both readings`() throws {
    let source = try SharedSource(fixturePath(Self.fixture))
    // Down projections by themselves tell nothing.
    let tensors =
      source.joined(experts: .rows, joins: false).filter {
        !$0.name.hasSuffix(".experts.down_proj")
      } + source.tensors.filter { $0.name.contains(".experts.") && $0.name.contains("down_proj") }
    try withTemporaryFolder { folder in
      try source.write(tensors, to: folder)
      let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
      guard case .ambiguousShape(_, let tensor, "BF16 [8, 256, 256]", let readings) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(tensor.hasSuffix(".experts.gate_up_proj") && readings.count == 2)
    }
  }

  @Test(arguments: [DType.f8E4M3, .u8])
  func `a tensor of another type is refused, FP8 with the reason`(dtype: DType) throws {
    let error = try refusal { tensor in
      if tensor.name == Self.gateUp {
        tensor.dtype = dtype
        tensor.bytes.removeLast(tensor.bytes.count / 2)
      }
    }
    guard case .wrongShare(_, Self.gateUp, let expected, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(expected.contains("scales") == (dtype == .f8E4M3))
  }

  @Test func `a missing half is told by the Linears that it should hold`() throws {
    let error = try refusal { tensor in
      if tensor.name == Self.gateUp { tensor.name = "model.layers.3.mlp.experts.other" }
    }
    guard case .missing(_, 16, let names) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(names[0] == "model.layers.3.mlp.experts.0.gate_proj.weight")
  }

  /// Both a tensor for each Linear and one for all of them.
  @Test func `a tensor that is there twice is refused`() throws {
    let source = try SharedSource(fixturePath(Self.fixture))
    let shared = source.joined(experts: .rows, joins: false).filter { $0.name == Self.gateUp }
    try withTemporaryFolder { folder in
      try source.write(source.tensors + shared, to: folder)
      #expect(
        throws: CheckpointError.unclaimed(folder: folder, count: 1, names: [Self.gateUp])
      ) { try Checkpoint(folder: folder) }
      // Also where it is one expert's alone.
      let name = "model.layers.3.mlp.experts.6.up_proj.weight"
      let own = source.tensors.filter { $0.name == name }
      try source.write(source.joined(experts: .rows, joins: false) + own, to: folder)
      let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
      guard case .missing(_, 15, _) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      // And one that has the name of a slice.
      var odd = source.joined(experts: .rows, joins: false)
      odd.append(LooseTensor(Self.gateUp + "[3]", [1], [0], as: .bf16))
      try source.write(odd, to: folder)
      #expect(throws: SafetensorsError.self) { try Checkpoint(folder: folder) }
    }
  }
}
