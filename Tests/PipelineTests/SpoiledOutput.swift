// An output of the small run, for a test to plant faults in.

import JSON
import Pipeline
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

struct SpoiledOutput {
  let path: String
  let source: String

  static func options(
    _ folder: String, _ change: (inout QuantizeOptions) -> Void = { _ in }
  ) -> QuantizeOptions {
    var options = SmallRun.options(folder + "/out")
    options.ignore = ["model.layers.0.*"]
    change(&options)
    return options
  }

  /// A finished run.
  init(in folder: String, _ change: (inout QuantizeOptions) -> Void = { _ in }) throws {
    let options = Self.options(folder, change)
    try SmallRun.run(options)
    path = options.output
    source = options.model
  }

  func verify(source isCompared: Bool = true) throws -> VerifyReport {
    try VerifyModel(output: path, source: isCompared ? source : nil, threads: 2).run()
  }

  /// As an output of another program is: nothing is known of what was written.
  func forgetChecksums() throws { try FileSystem.remove(path + "/.sluice/checksums.txt") }

  var shards: [String] {
    get throws { try FileSystem.list(path).filter { $0.hasSuffix(".safetensors") } }
  }

  /// Changes the bytes of a tensor in place.
  func change(_ tensor: String, _ body: (inout [UInt8]) throws -> Void) throws {
    let stored = try #require(ShardedModel(folder: path)[tensor], "\(tensor)")
    let (file, range) = (stored.file.path, stored.range)
    var all = try FileSystem.readFile(file)
    var bytes = Array(all[range])
    try body(&bytes)
    all.replaceSubrange(range, with: bytes)
    try replaceFile(file, with: all)
  }

  /// Exchanges what two tensors of one size hold.
  func swap(_ first: String, _ second: String) throws {
    var (one, two): ([UInt8], [UInt8]) = ([], [])
    try change(first) { one = $0 }
    try change(second) {
      two = $0
      $0 = one
    }
    try change(first) { $0 = two }
  }

  /// Writes a shard again with other tensors; the index is not told.
  func rewrite(_ shard: String, _ body: (inout [LooseTensor]) -> Void) throws {
    let file = try SafetensorsFile(path: "\(path)/\(shard)")
    var tensors = file.tensors.map {
      LooseTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
    }
    body(&tensors)
    try LooseTensor.write(tensors, to: "\(path)/\(shard)")
  }

  /// Makes the index fit what lies in the shards.
  func mendIndex() throws {
    try changeJSON("model.safetensors.index.json") { index in
      var (map, total) = (JSONObject(), 0)
      for shard in try shards {
        for tensor in try SafetensorsFile(path: "\(path)/\(shard)").tensors {
          map[tensor.name] = .string(shard)
          total += tensor.byteCount
        }
      }
      index["weight_map"] = .object(map)
      index["metadata"] = .object(JSONObject([("total_size", .number(JSONNumber(total)))]))
    }
  }

  func changeIndex(_ body: (inout JSONObject) throws -> Void) throws {
    try changeJSON("model.safetensors.index.json") { index in
      var map = try #require(index["weight_map"]?.object)
      try body(&map)
      index["weight_map"] = .object(map)
    }
  }

  func changeQuantization(_ body: (inout JSONObject) throws -> Void) throws {
    try changeJSON("config.json") { config in
      var block = try #require(config["quantization_config"]?.object)
      try body(&block)
      config["quantization_config"] = .object(block)
    }
  }

  /// Changes the one group of `config_groups`, or its `weights`.
  func changeScheme(
    _ body: @escaping (_ group: inout JSONObject, _ weights: inout JSONObject) -> Void
  )
    throws
  {
    try changeQuantization { block in
      var groups = try #require(block["config_groups"]?.object)
      var group = try #require(groups["group_0"]?.object)
      var weights = try #require(group["weights"]?.object)
      body(&group, &weights)
      group["weights"] = .object(weights)
      groups["group_0"] = .object(group)
      block["config_groups"] = .object(groups)
    }
  }

  func changeIgnore(_ body: @escaping (inout [JSONValue]) -> Void) throws {
    try changeQuantization { block in
      var names = try #require(block["ignore"]?.array)
      body(&names)
      block["ignore"] = .array(names)
    }
  }

  func changeJSON(_ name: String, _ body: (inout JSONObject) throws -> Void) throws {
    var object = try #require(JSONValue.parse(FileSystem.readFile("\(path)/\(name)")).object)
    try body(&object)
    try replaceFile("\(path)/\(name)", with: Array(JSONValue.object(object).serialized().utf8))
  }
}
