// Names, dtypes and shapes to exact headers and byte offsets, before any byte is written.

package import JSON
package import Tensors

/// A tensor to be written.
package struct TensorSpec: Sendable, Equatable {
  package let name: String
  package let dtype: DType
  package let shape: [Int]
  package let byteCount: Int

  /// - Parameter shape: of a size that fits in `Int`; anything else is a programmer's error.
  package init(name: String, dtype: DType, shape: [Int]) {
    guard let byteCount = Tensors.byteCount(dtype, shape) else {
      preconditionFailure("`\(name)`: no size for \(dtype.rawValue) \(shape)")
    }
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.byteCount = byteCount
  }
}

/// Where every tensor of an output will lie.
package struct ShardLayout: Sendable {
  package struct Shard: Sendable {
    package let fileName: String
    /// The first bytes of the file: 8 of length, then JSON padded to a multiple of 8.
    package let header: [UInt8]
    /// In offset order; offsets count from the start of the file.
    package let tensors: [(spec: TensorSpec, offset: Int)]
    /// The size of the file.
    package let byteCount: Int
  }

  package let shards: [Shard]

  // Shard and position in it, by name.
  private let positions: [String: (shard: Int, position: Int)]

  /// Fills shards in the given order, each until the next tensor would exceed the maximum, or its header the format's.
  ///
  /// - Parameters:
  ///   - tensors: no name twice.
  ///   - maximumShardBytes: of tensor data; a single tensor may be bigger.
  package init(
    tensors: [TensorSpec], maximumShardBytes: Int, prefix: String = "model",
    maximumHeaderBytes: Int = Header.maximumBytes
  ) {
    var groups: [[TensorSpec]] = []
    var bytes = 0
    var headerBytes = 0
    for tensor in tensors {
      let entryBytes = Self.entryBytes(tensor)
      if groups.isEmpty || bytes + tensor.byteCount > maximumShardBytes
        || headerBytes + entryBytes > maximumHeaderBytes
      {
        groups.append([])
        bytes = 0
        // What stands there beside the tensors.
        headerBytes = 1 << 10
      }
      groups[groups.count - 1].append(tensor)
      bytes += tensor.byteCount
      headerBytes += entryBytes
    }
    self.init(
      groups.enumerated().map { index, group in
        let fileName =
          "\(prefix)-\(Self.fiveDigits(index + 1))-of-\(Self.fiveDigits(groups.count)).safetensors"
        return Shard(fileName: fileName, tensors: group)
      })
  }

  /// One file of the given name.
  package init(singleFile fileName: String, tensors: [TensorSpec]) {
    self.init([Shard(fileName: fileName, tensors: tensors)])
  }

  private init(_ shards: [Shard]) {
    var positions: [String: (shard: Int, position: Int)] = [:]
    for (index, shard) in shards.enumerated() {
      for (position, tensor) in shard.tensors.enumerated() {
        let known = positions.updateValue((index, position), forKey: tensor.spec.name)
        precondition(known == nil, "`\(tensor.spec.name)` is planned twice")
      }
    }
    self.shards = shards
    self.positions = positions
  }

  /// The shard a tensor goes to and its offset from the start of that file.
  package func location(of name: String) -> (shard: Int, offset: Int, spec: TensorSpec)? {
    guard let place = positions[name] else { return nil }
    let tensor = shards[place.shard].tensors[place.position]
    return (place.shard, tensor.offset, tensor.spec)
  }

  /// Bytes of all tensors, without headers.
  package var totalTensorBytes: Int {
    shards.reduce(0) { $0 + $1.byteCount - $1.header.count }
  }

  /// The content of model.safetensors.index.json.
  package func index(totalParameters: Int) -> JSONValue {
    let places = positions.sorted { $0.key < $1.key }
    let metadata = JSONObject([
      ("total_parameters", .int(totalParameters)),
      ("total_size", .int(totalTensorBytes)),
    ])
    let weightMap = JSONObject(
      places.map { ($0.key, .string(shards[$0.value.shard].fileName)) })
    return ["metadata": .object(metadata), "weight_map": .object(weightMap)]
  }

  /// What a tensor's entry in a header takes at most: every byte of a name may be escaped, and numbers have 20 digits.
  private static func entryBytes(_ tensor: TensorSpec) -> Int {
    6 * tensor.name.utf8.count + 21 * (tensor.shape.count + 2) + 64
  }

  private static func fiveDigits(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }
}

extension ShardLayout.Shard {
  fileprivate init(fileName: String, tensors: [TensorSpec]) {
    // Wide elements first: the data starts at a multiple of 8, so that every tensor is aligned to
    // its element width, which torch needs.
    let widths = Set(tensors.map(\.dtype.byteWidth)).sorted(by: >)
    let ordered = widths.flatMap { width in tensors.filter { $0.dtype.byteWidth == width } }

    // As text from the beginning: large models have hundreds of thousands of entries.
    var text = #"{"__metadata__":{"format":"pt"}"#
    var end = 0
    for tensor in ordered {
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      text +=
        ",\(JSONValue.string(tensor.name).serialized()):{\"dtype\":\"\(tensor.dtype.rawValue)\","
      text += "\"shape\":[\(shape)],\"data_offsets\":[\(end),\(end + tensor.byteCount)]}"
      end += tensor.byteCount
    }
    var json = Array((text + "}").utf8)
    json.append(contentsOf: repeatElement(UInt8(ascii: " "), count: -json.count & 7))
    precondition(json.count <= Header.maximumBytes, "\(fileName): too many tensors for one header")
    let length = (0..<8).map { UInt8(truncatingIfNeeded: json.count >> (8 * $0)) }

    self.fileName = fileName
    header = length + json
    byteCount = header.count + end
    var offset = header.count
    self.tensors = ordered.map { tensor in
      defer { offset += tensor.byteCount }
      return (tensor, offset)
    }
  }
}
