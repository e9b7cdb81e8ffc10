// What the reference computed, and the way from token ids to the input of layer 0.

package import CompressedTensors
internal import LinearAlgebra
internal import Models
package import Safetensors
package import Tensors
internal import Transformer

extension SafetensorsFile {
  /// The numbers of a tensor of a weight type.
  package func floats(_ name: String) throws -> [Float] {
    guard let tensor = self[name] else { throw NoSuchTensor(name: name) }
    return tensor.floats
  }

  package func matrix(_ name: String, columns: Int) throws -> Matrix {
    let values = try floats(name)
    return Matrix(rows: values.count / columns, columns: columns, values: values)
  }
}

package struct NoSuchTensor: Error {
  package let name: String
}

extension StoredTensor {
  package var bytes: [UInt8] { unsafe withBytes { unsafe Array($0) } }

  package var floats: [Float] {
    let count = byteCount / dtype.byteWidth
    return unsafe [Float](unsafeUninitializedCapacity: count) { result, initialized in
      unsafe withBytes {
        unsafe dtype.decode($0.baseAddress!, count: count, into: result.baseAddress!)
      }
      initialized = count
    }
  }

  /// The elements of an I32 or I64 tensor.
  package var integers: [Int] {
    let count = byteCount / dtype.byteWidth
    return unsafe withBytes { bytes in
      (0..<count).map { index in
        dtype == .i64
          ? unsafe Int(bytes.loadUnaligned(fromByteOffset: index * 8, as: Int64.self))
          : unsafe Int(bytes.loadUnaligned(fromByteOffset: index * 4, as: Int32.self))
      }
    }
  }
}

extension Checkpoint {
  /// The embeddings of tokens, `[T, H]`: the input of layer 0.
  package func embed(_ tokens: [Int32]) -> Matrix {
    let table = StoredWeight(weights.tensor(spec.embedding))
    let result = Matrix(rows: tokens.count, columns: spec.hiddenSize)
    for (row, token) in tokens.enumerated() {
      unsafe table.decode(Int(token)..<Int(token) + 1, into: result.row(row))
    }
    for place in 0..<(spec.embeddingScale == 1 ? 0 : result.count) {
      unsafe result.base[place] *= spec.embeddingScale
    }
    return result
  }
}

/// The largest difference, over the largest magnitude of `expected`; infinite where sizes differ or anything is NaN.
package func relativeError(_ found: [Float], _ expected: [Float]) -> Float {
  guard found.count == expected.count, (found + expected).allSatisfy({ !$0.isNaN }) else {
    return .infinity
  }
  let scale = expected.map(abs).max() ?? 0
  return zip(found, expected).map { abs($0 - $1) }.max().map { $0 / max(scale, 1e-30) } ?? 0
}
