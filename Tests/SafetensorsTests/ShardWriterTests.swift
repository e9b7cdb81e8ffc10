// What is written at planned offsets is read back by name.

import Dispatch
import Glibc
import JSON
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

@Suite struct ShardWriterTests {
  private let specs = (0..<20).map { number in
    TensorSpec(
      name: "layer.\(number)", dtype: [.u8, .i16, .i32, .i64][number % 4], shape: [number, 3])
  }

  private var layout: ShardLayout { ShardLayout(tensors: specs, maximumShardBytes: 500) }

  private func bytes(of spec: TensorSpec) -> [UInt8] {
    (0..<spec.byteCount).map { UInt8(truncatingIfNeeded: $0 + 37 * spec.byteCount) }
  }

  private func putIndex(of layout: ShardLayout, _ folder: String) throws {
    let text = layout.index(totalParameters: 0).serialized(indent: 2)
    try replaceFile("\(folder)/model.safetensors.index.json", with: Array(text.utf8))
  }

  private func expectComplete(_ folder: String) throws {
    let model = try ShardedModel(folder: folder)
    #expect(model.tensors.count == specs.count)
    #expect(model.totalBytes == layout.totalTensorBytes)
    #expect(model.files.count == layout.shards.count)
    #expect(layout.shards.count > 2)
    for spec in specs {
      let tensor = try #require(model[spec.name])
      #expect(tensor.dtype == spec.dtype)
      #expect(tensor.shape == spec.shape)
      #expect(content(of: tensor) == bytes(of: spec))
    }
  }

  @Test func tensorsWrittenInAnyOrderByManyThreadsAreReadBack() throws {
    try withTemporaryFolder { folder in
      let writer = try ShardWriter(layout: layout, folder: folder, resume: false)
      let shuffled = specs.shuffled()
      DispatchQueue.concurrentPerform(iterations: shuffled.count) { index in
        let spec = shuffled[index]
        #expect(throws: Never.self) {
          try write(bytes(of: spec), to: spec.name, writer)
          try writer.synchronize()
        }
      }
      try putIndex(of: layout, folder)
      try expectComplete(folder)
    }
  }

  @Test func aTensorMayBeWrittenInParts() throws {
    try withTemporaryFolder { folder in
      let writer = try ShardWriter(layout: layout, folder: folder, resume: false)
      for spec in specs {
        let bytes = bytes(of: spec)
        let half = bytes.count / 2
        try write(Array(bytes[half...]), to: spec.name, at: half, writer)
        try write(Array(bytes[..<half]), to: spec.name, writer)
      }
      try writer.synchronize()
      try putIndex(of: layout, folder)
      try expectComplete(folder)
    }
  }

  @Test func aResumedRunKeepsWhatTheFirstOneWrote() throws {
    try withTemporaryFolder { folder in
      do {
        let writer = try ShardWriter(layout: layout, folder: folder, resume: false)
        for spec in specs.prefix(9) { try write(bytes(of: spec), to: spec.name, writer) }
        try writer.synchronize()
      }
      let writer = try ShardWriter(layout: layout, folder: folder, resume: true)
      for spec in specs.dropFirst(8) { try write(bytes(of: spec), to: spec.name, writer) }
      try writer.synchronize()
      try putIndex(of: layout, folder)
      try expectComplete(folder)
    }
  }

  @Test func aFreshRunStartsFromZero() throws {
    try withTemporaryFolder { folder in
      let layout = ShardLayout(
        singleFile: "a.safetensors", tensors: [TensorSpec(name: "a", dtype: .u8, shape: [2])])
      let first = try ShardWriter(layout: layout, folder: folder, resume: false)
      try write([1, 2], to: "a", first)
      _ = try ShardWriter(layout: layout, folder: folder, resume: false)
      let file = try SafetensorsFile(path: "\(folder)/a.safetensors")
      #expect(try content(of: #require(file["a"])) == [0, 0])
    }
  }

  @Test func filesOfAnotherLayoutAreNotResumed() throws {
    func layout(_ name: String, _ count: Int) -> ShardLayout {
      let spec = TensorSpec(name: name, dtype: .u8, shape: [count])
      return ShardLayout(singleFile: "a.safetensors", tensors: [spec])
    }
    try withTemporaryFolder { folder in
      let path = "\(folder)/a.safetensors"
      let missing = SystemError(path: path, call: "open", code: ENOENT)
      #expect(throws: SafetensorsError.system(missing)) {
        try ShardWriter(layout: layout("a", 8), folder: folder, resume: true)
      }
      _ = try ShardWriter(layout: layout("a", 8), folder: folder, resume: false)
      #expect(throws: Never.self) {
        try ShardWriter(layout: layout("a", 8), folder: folder, resume: true)
      }
      let size = layout("a", 8).shards[0].byteCount
      let differs = SafetensorsError.shardSizeDiffers(file: path, expected: size + 1, found: size)
      #expect(throws: differs) {
        try ShardWriter(layout: layout("a", 9), folder: folder, resume: true)
      }
      #expect(throws: SafetensorsError.shardHeaderDiffers(file: path)) {
        try ShardWriter(layout: layout("b", 8), folder: folder, resume: true)
      }
    }
  }

  @Test func aFolderThatIsMissingIsASystemError() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/no/\(layout.shards[0].fileName)"
      let missing = SystemError(path: path, call: "open", code: ENOENT)
      #expect(throws: SafetensorsError.system(missing)) {
        try ShardWriter(layout: layout, folder: "\(folder)/no", resume: false)
      }
    }
  }

  @Test(arguments: [("b", 0, 1), ("a", -1, 1), ("a", 8, 1), ("a", 0, 9), ("a", Int.max, 1)])
  func unknownNamesAndOffsetsBeyondTheTensorAreProgrammersErrors(
    name: String, offset: Int, count: Int
  ) async throws {
    try await withTemporaryFolder { folder in
      await #expect(processExitsWith: .failure) {
        [name, offset, count, folder = folder as String] in
        let spec = TensorSpec(name: "a", dtype: .u8, shape: [8])
        let layout = ShardLayout(singleFile: "a.safetensors", tensors: [spec])
        // An error thrown here ends the process without a trap, which fails the test.
        guard let writer = try? ShardWriter(layout: layout, folder: folder, resume: false)
        else { return }
        try? write([UInt8](repeating: 0, count: count), to: name, at: offset, writer)
      }
    }
  }

  /// NaN and both infinities, in the first and in a later part of a tensor.
  @Test(arguments: [
    (DType.bf16, [[0xc0, 0x7f], [0x80, 0x7f], [0x80, 0xff]]),
    (.f16, [[0x00, 0x7e], [0x00, 0x7c], [0x00, 0xfc]]),
    (.f32, [[0, 0, 0xc0, 0x7f], [0, 0, 0x80, 0x7f], [0, 0, 0x80, 0xff]]),
    (.f64, [[0, 0, 0, 0, 0, 0, 0xf8, 0x7f], [0, 0, 0, 0, 0, 0, 0xf0, 0xff]]),
    (.f8E4M3, [[0x7f], [0xff]]), (.f8E5M2, [[0x7c], [0xfe]]),
  ])
  func aNumberThatIsNoneIsNeverWritten(dtype: DType, none: [[UInt8]]) throws {
    try withTemporaryFolder { folder in
      let layout = ShardLayout(
        tensors: [TensorSpec(name: "w", dtype: dtype, shape: [3, 2000])], maximumShardBytes: 100_000
      )
      let writer = try ShardWriter(layout: layout, folder: folder, resume: false)
      let good = [UInt8](repeating: 0x3c, count: 3000 * dtype.byteWidth)
      try write(good, to: "w", writer)
      for (bytes, place) in none.flatMap({ none in [0, 17, 2999].map { (none, $0) } }) {
        var bad = good
        bad.replaceSubrange(place * dtype.byteWidth..<(place + 1) * dtype.byteWidth, with: bytes)
        #expect(throws: NonFiniteOutput(tensor: "w", element: 3000 + place)) {
          try write(bad, to: "w", at: good.count, writer)
        }
      }
      try write(good, to: "w", at: good.count, writer)
      #expect(writer.takeChecksums().count == 1)
    }
  }
}
