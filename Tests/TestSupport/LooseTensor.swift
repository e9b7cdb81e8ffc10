// Tensors taken out of their files, and files made of them.

internal import Safetensors
internal import SystemIO
package import Tensors

/// A stored tensor, taken out of its file.
package struct LooseTensor: Sendable {
  package var name: String
  package var dtype: DType
  package var shape: [Int]
  package var bytes: [UInt8]

  package init(name: String, dtype: DType, shape: [Int], bytes: [UInt8]) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.bytes = bytes
  }

  /// A tensor of a weight type, from float32.
  package init(_ name: String, _ shape: [Int], _ values: [Float], as dtype: DType) {
    self.init(name: name, dtype: dtype, shape: shape, bytes: dtype.encoded(values))
  }

  /// Writes a safetensors file.
  package static func write(_ tensors: [LooseTensor], to path: String) throws {
    let specs = tensors.map { TensorSpec(name: $0.name, dtype: $0.dtype, shape: $0.shape) }
    let shard = ShardLayout(singleFile: "model.safetensors", tensors: specs).shards[0]
    var bytes = shard.header + [UInt8](repeating: 0, count: shard.byteCount - shard.header.count)
    let contents = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.bytes) })
    for (spec, offset) in shard.tensors {
      let content = contents[spec.name] ?? []
      precondition(content.count == spec.byteCount, "\(spec.name) has \(content.count) bytes")
      bytes.replaceSubrange(offset..<offset + spec.byteCount, with: content)
    }
    try replaceFile(path, with: bytes)
  }
}
