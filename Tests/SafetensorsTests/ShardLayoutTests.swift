// Exact headers and offsets, known before any byte is written.

import JSON
import Safetensors
import Tensors
import Testing
import TestSupport

@Suite struct ShardLayoutTests {
  private let tensors = [
    TensorSpec(name: "a.scale", dtype: .bf16, shape: [3]),
    TensorSpec(name: "a.codes", dtype: .u8, shape: [5]),
    TensorSpec(name: "a.packed", dtype: .i32, shape: [2, 2]),
    TensorSpec(name: "a.shape", dtype: .i64, shape: [2]),
    TensorSpec(name: "b.scale", dtype: .f16, shape: [1]),
  ]

  @Test func aSmallFileHasExactlyThisHeader() throws {
    let layout = ShardLayout(singleFile: "smoothing.safetensors", tensors: Array(tensors.prefix(2)))
    let shard = try #require(layout.shards.first)
    let text =
      #"{"__metadata__":{"format":"pt"},"a.scale":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},"#
      + #""a.codes":{"dtype":"U8","shape":[5],"data_offsets":[6,11]}}"#
    let padding = String(repeating: " ", count: (8 - text.utf8.count % 8) % 8)
    #expect(shard.header == fileBytes(text + padding))
    #expect(shard.header.count % 8 == 0)
    #expect(shard.fileName == "smoothing.safetensors")
    #expect(shard.byteCount == shard.header.count + 11)
  }

  @Test func theHeaderParsesToThePlannedRanges() throws {
    let layout = ShardLayout(tensors: tensors, maximumShardBytes: 1000)
    let shard = try #require(layout.shards.first)
    let header = try unsafe shard.header.withUnsafeBytes {
      try unsafe Header.parse(bytes: $0, fileByteCount: shard.byteCount, path: "f")
    }
    #expect(header.tensors.map(\.name) == shard.tensors.map(\.spec.name))
    #expect(header.tensors.map(\.range.lowerBound) == shard.tensors.map(\.offset))
    #expect(header.metadata.map(\.0) == ["format"])
  }

  @Test func insideAShardWideElementsComeFirstSoThatAllAreAligned() throws {
    let layout = ShardLayout(tensors: tensors, maximumShardBytes: 1000)
    let shard = try #require(layout.shards.first)
    #expect(
      shard.tensors.map(\.spec.name) == ["a.shape", "a.packed", "a.scale", "b.scale", "a.codes"])
    for tensor in shard.tensors {
      #expect(tensor.offset % tensor.spec.dtype.byteWidth == 0)
    }
  }

  // Sizes in the order given: 6, 5, 16, 16, 2 bytes.
  @Test(arguments: [
    (45, [["a.scale", "a.codes", "a.packed", "a.shape", "b.scale"]]),
    (44, [["a.scale", "a.codes", "a.packed", "a.shape"], ["b.scale"]]),
    (27, [["a.scale", "a.codes", "a.packed"], ["a.shape", "b.scale"]]),
    (16, [["a.scale", "a.codes"], ["a.packed"], ["a.shape"], ["b.scale"]]),
    (1, [["a.scale"], ["a.codes"], ["a.packed"], ["a.shape"], ["b.scale"]]),
  ])
  func shardsAreFilledInTheGivenOrder(maximum: Int, expected: [[String]]) {
    let layout = ShardLayout(tensors: tensors, maximumShardBytes: maximum, prefix: "part")
    #expect(layout.shards.map { Set($0.tensors.map(\.spec.name)) } == expected.map(Set.init))
    #expect(
      layout.shards.map(\.fileName)
        == (1...expected.count).map { "part-0000\($0)-of-0000\(expected.count).safetensors" })
    #expect(layout.totalTensorBytes == 45)
  }

  @Test func everyTensorIsFoundByName() throws {
    let layout = ShardLayout(tensors: tensors, maximumShardBytes: 27)
    for tensor in tensors {
      let place = try #require(layout.location(of: tensor.name))
      #expect(place.spec == tensor)
      #expect(
        layout.shards[place.shard].tensors.contains {
          $0.spec == tensor && $0.offset == place.offset
        })
    }
    #expect(layout.location(of: "c") == nil)
  }

  @Test func theIndexListsTensorsByNameWithTotals() {
    let layout = ShardLayout(tensors: Array(tensors.prefix(3)), maximumShardBytes: 11)
    #expect(
      layout.index(totalParameters: 12).serialized()
        == #"{"metadata":{"total_parameters":12,"total_size":27},"weight_map":{"#
        + #""a.codes":"model-00001-of-00002.safetensors","#
        + #""a.packed":"model-00002-of-00002.safetensors","#
        + #""a.scale":"model-00001-of-00002.safetensors"}}"#)
  }

  @Test func noTensorsMakeNoShardsButOneSingleFile() {
    #expect(ShardLayout(tensors: [], maximumShardBytes: 10).shards.isEmpty)
    let single = ShardLayout(singleFile: "x.safetensors", tensors: [])
    #expect(single.shards.count == 1)
    #expect(single.totalTensorBytes == 0)
  }

  @Test func planningANameTwiceOrASizeThatOverflowsIsAProgrammersError() async {
    await #expect(processExitsWith: .failure) {
      let tensor = TensorSpec(name: "a", dtype: .u8, shape: [1])
      _ = ShardLayout(tensors: [tensor, tensor], maximumShardBytes: 10)
    }
    await #expect(processExitsWith: .failure) {
      _ = TensorSpec(name: "a", dtype: .f32, shape: [1 << 62])
    }
  }
  @Test func `a header that grows too long begins another shard`() {
    let tensors = (0..<1000).map { TensorSpec(name: "tensor.\($0)", dtype: .u8, shape: [1, 2]) }
    let layout = ShardLayout(
      tensors: tensors, maximumShardBytes: .max, maximumHeaderBytes: 20_000)
    #expect(layout.shards.count > 5)
    #expect(layout.shards.allSatisfy { $0.header.count <= 20_008 })
    #expect(layout.shards.flatMap { $0.tensors.map(\.spec) } == tensors)
    #expect(ShardLayout(tensors: tensors, maximumShardBytes: .max).shards.count == 1)
  }
}
