// A checkpoint whose Linears have tensors of their own, stored anew with Linears that share some.

internal import JSON
internal import Safetensors
internal import SystemIO
package import Tensors

package struct SharedSource {
  /// How the experts of a layer lie in two tensors.
  package enum Experts: String, Sendable, CaseIterable {
    /// `[E, 2F, H]`, all rows of gate before those of up, and `[E, H, F]`.
    case rows
    /// `[E, H, 2F]`, all columns of gate before those of up, and `[E, F, H]`.
    case columns
    /// A row of gate and a row of up in turn.
    case alternatingRows
    case alternatingColumns

    package var alternates: Bool { self == .alternatingRows || self == .alternatingColumns }
    var areTurned: Bool { self == .columns || self == .alternatingColumns }
  }

  package let tensors: [LooseTensor]
  private let folder: String

  /// - Parameter dtype: of all matrices; nil to leave them as they are.
  package init(_ folder: String, as dtype: DType? = nil) throws {
    self.folder = folder
    tensors = try ShardedModel(folder: folder).tensors.map { stored in
      if let dtype, stored.shape.count == 2 {
        return LooseTensor(stored.name, stored.shape, stored.floats, as: dtype)
      }
      return LooseTensor(
        name: stored.name, dtype: stored.dtype, shape: stored.shape, bytes: stored.bytes)
    }
  }

  /// The tensors with some of them joined.
  ///
  /// - Parameters:
  ///   - experts: nil for a tensor for each.
  ///   - joins: whether q, k and v are one, and gate and up of what is no routed expert.
  package func joined(experts: Experts?, joins: Bool) -> [LooseTensor] {
    var left = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0) })
    var result: [LooseTensor] = []
    func take(_ names: [String]) -> [LooseTensor]? {
      let taken = names.compactMap { left[$0] }
      if taken.count < names.count { return nil }
      for name in names { left[name] = nil }
      return taken
    }
    func modules(_ end: String) -> [String] {
      tensors.filter { $0.name.hasSuffix(end) }.map { String($0.name.dropLast(end.count)) }
    }
    if let experts {
      for list in modules(".experts.0.gate_proj.weight").map({ $0 + ".experts" }) {
        var (gateUp, down) = ([LooseTensor](), [LooseTensor]())
        while let own = take(
          ["gate_proj", "up_proj", "down_proj"].map { "\(list).\(down.count).\($0).weight" })
        {
          let both = experts.alternates ? alternating(own[0], own[1]) : stacked(Array(own[..<2]))
          gateUp.append(experts.areTurned ? turned(both) : both)
          down.append(experts.areTurned ? turned(own[2]) : own[2])
        }
        result.append(listed(gateUp, as: list + ".gate_up_proj"))
        result.append(listed(down, as: list + ".down_proj"))
      }
    }
    if joins {
      for (parts, name) in [
        (["q_proj", "k_proj", "v_proj"], "qkv_proj"), (["gate_proj", "up_proj"], "gate_up_proj"),
      ] {
        for end in [".weight", ".bias"] {
          for module in modules(".\(parts[0])\(end)") {
            guard let own = take(parts.map { "\(module).\($0)\(end)" }) else { continue }
            var joined = stacked(own)
            joined.name = "\(module).\(name)\(end)"
            result.append(joined)
          }
        }
      }
    }
    return (result + left.values).sorted { $0.name < $1.name }
  }

  /// Writes the checkpoint: what lies beside its weights, some tensors in one file, and an index.
  package func write(_ tensors: [LooseTensor], to model: String) throws {
    try FileSystem.createFolder(model)
    for name in try FileSystem.list(folder) where !name.contains("safetensors") {
      try FileSystem.copyFile(from: "\(folder)/\(name)", to: "\(model)/\(name)")
    }
    let file = "model-00001-of-00001.safetensors"
    try LooseTensor.write(tensors, to: "\(model)/\(file)")
    let map = JSONObject(tensors.map { ($0.name, .string(file)) })
    let index = JSONObject([
      ("metadata", .object(JSONObject())), ("weight_map", .object(map)),
    ])
    try replaceFile(
      model + "/model.safetensors.index.json",
      with: Array(JSONValue.object(index).serialized().utf8))
  }

  // MARK: Bytes

  private func stacked(_ parts: [LooseTensor]) -> LooseTensor {
    var result = parts[0]
    result.shape[0] = parts.reduce(0) { $0 + $1.shape[0] }
    result.bytes = parts.flatMap(\.bytes)
    return result
  }

  private func alternating(_ first: LooseTensor, _ second: LooseTensor) -> LooseTensor {
    let row = first.bytes.count / first.shape[0]
    var result = first
    result.shape[0] *= 2
    result.bytes = []
    for start in stride(from: 0, to: first.bytes.count, by: row) {
      result.bytes += first.bytes[start..<start + row]
      result.bytes += second.bytes[start..<start + row]
    }
    return result
  }

  /// Rows as columns.
  private func turned(_ matrix: LooseTensor) -> LooseTensor {
    let (rows, columns, width) = (matrix.shape[0], matrix.shape[1], matrix.dtype.byteWidth)
    var result = matrix
    result.shape = [columns, rows]
    for row in 0..<rows {
      for column in 0..<columns {
        for byte in 0..<width {
          let (to, from) = (column * rows + row, row * columns + column)
          result.bytes[to * width + byte] = matrix.bytes[from * width + byte]
        }
      }
    }
    return result
  }

  private func listed(_ matrices: [LooseTensor], as name: String) -> LooseTensor {
    LooseTensor(
      name: name, dtype: matrices[0].dtype, shape: [matrices.count] + matrices[0].shape,
      bytes: matrices.flatMap(\.bytes))
  }
}
