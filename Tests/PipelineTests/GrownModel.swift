// A checkpoint in sizes that can be cut into groups, after a forward case.

import JSON
import Models
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

/// A checkpoint after a forward case: its config.json with other sizes, and random weights.
struct GrownModel {
  private static let sizes: [(key: String, size: JSONValue)] = [
    ("hidden_size", 96), ("intermediate_size", 96), ("moe_intermediate_size", 32),
    ("shared_expert_intermediate_size", 64), ("q_lora_rank", 64), ("kv_lora_rank", 32),
    ("dense_intermediate_size", 96), ("share_expert_dim", 64),
    ("moe_latent_size", 32), ("moe_shared_expert_intermediate_size", 64),
    ("shared_intermediate_size", 64), ("block_ff_dim", 96), ("block_dim", 96),
    ("routed_expert_hidden_size", 64),
  ]
  /// Widths of heads that do not make whole groups, and what becomes of them.
  private static let widths = [12: JSONValue.number(JSONNumber(16)), 33: .number(JSONNumber(16))]

  @discardableResult
  init(
    _ name: String, dtype: DType, in folder: String, changing edits: [(String, JSONValue)] = []
  ) throws {
    let path = fixturePath("forward/\(name)/config.json")
    var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
    config["quantization_config"] = nil
    var text = config.text
    for (key, size) in Self.sizes where ![nil, .null, 0].contains(text[key]) {
      // A list has the width of a shared expert for every layer.
      let listed = text[key]?.array?.map { _ in text["intermediate_size"] ?? size }
      text[key] = listed.map { .array($0) } ?? size
    }
    for key in ["head_dim", "v_head_dim"] {
      if let width = text[key]?.int.flatMap({ Self.widths[$0] }) { text[key] = width }
    }
    if var deltas = text["linear_attn_config"]?.object, deltas["num_heads"] == 6 {
      deltas["num_heads"] = 8
      text["linear_attn_config"] = .object(deltas)
    }
    // Heads of a state space that are as wide together as the states grew to.
    if let heads = text["mamba_n_heads"]?.int, text["mamba_d_head"]?.int != nil {
      text["mamba_d_head"] = .number(JSONNumber(2 * 96 / heads))
    }
    for (key, value) in edits { text[key] = value }
    config.text = text
    let spec = try Architectures.describe(config: config, file: path)
    var generator = SeededGenerator(seed: 91)
    // What lies beside a text model has sizes of its own.
    let stored = try ShardedModel(folder: fixturePath("forward/" + name)).tensors
    let beside = stored.filter { tensor in spec.beside.contains { tensor.name.hasPrefix($0) } }
    let others = beside.map {
      LooseTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
    }
    let tensors =
      others
      + spec.claims.map { claim -> LooseTensor in
        var values = generator.floats(claim.shape.reduce(1, *))
        if claim.shape.count == 2 {
          let gain = (3 / Float(claim.shape[1])).squareRoot()
          values = values.map { gain * $0 }
        } else if claim.name.contains("norm") {
          values = values.map { 1 + $0 / 2 }
        } else {
          values = values.map { $0 / 10 }
        }
        return LooseTensor(claim.name, claim.shape, values, as: dtype)
      }
    try FileSystem.createFolder(folder)
    try replaceFile(
      folder + "/config.json", with: Array(JSONValue.object(config).serialized(indent: 2).utf8))
    try LooseTensor.write(tensors, to: folder + "/model.safetensors")
    var ids = (0..<6).map { _ in
      (0..<24).map { _ in Int.random(in: 0..<spec.vocabularySize, using: &generator) }
    }
    ids.append(Array(ids[0].prefix(7)))
    let rows = ids.map { "{\"input_ids\":\($0)}" }
    try replaceFile(folder + "/ids.jsonl", with: Array(rows.joined(separator: "\n").utf8))
  }
}
