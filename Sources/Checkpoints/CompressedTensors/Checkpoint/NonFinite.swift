// Where the reason lies that a number of a checkpoint is NaN or infinite.

package import Models
package import Safetensors
internal import LinearAlgebra
internal import Tensors

/// A stored number that is NaN or infinite; of a vector, in its row 0.
package struct NonFiniteNumber: Sendable {
  /// As it is stored.
  package let tensor: StoredTensor
  package let row: Int
  package let column: Int

  fileprivate init(_ place: (tensor: StoredTensor, row: Int, column: Int)) {
    (tensor, row, column) = place
  }
}

extension CheckpointWeights {
  /// Rows that are looked at together.
  private static let rows = 64

  /// The first one in the tensors of some claims, where there is one.
  package func firstNonFinite(in claims: some Sequence<TensorClaim>) -> NonFiniteNumber? {
    for claim in claims {
      let parameter = parameter(claim.name)
      defer { release(parameter) }
      if parameter.shape.count == 2 {
        let weight = rows(of: parameter)
        for range in ranges(of: weight.rows, by: Self.rows) {
          if let bad = weight.matrix(range).firstNonFinite {
            let (row, column) = (range.lowerBound + bad / weight.columns, bad % weight.columns)
            return origin(ofNonFinite: parameter, row: row, column: column)
              ?? NonFiniteNumber(parameter.origin(row: row, column: column))
          }
        }
      } else if let bad = parameter.vector().firstIndex(where: { !$0.isFinite }) {
        return NonFiniteNumber(parameter.origin(element: bad))
      }
    }
    return nil
  }

  /// The weight of the largest magnitude in the tensors of some claims.
  package func largest(
    in claims: some Sequence<TensorClaim>
  ) -> (place: NonFiniteNumber, value: Float)? {
    var largest: (place: NonFiniteNumber, value: Float)?
    for claim in claims {
      let parameter = parameter(claim.name)
      defer { release(parameter) }
      func look(_ values: [Float], row: Int, columns: Int) {
        for (index, value) in values.enumerated()
        where value.magnitude > largest?.value.magnitude ?? 0 {
          let place =
            parameter.shape.count == 2
            ? parameter.origin(row: row + index / columns, column: index % columns)
            : parameter.origin(element: index)
          largest = (NonFiniteNumber(place), value)
        }
      }
      if parameter.shape.count == 2 {
        let weight = rows(of: parameter)
        for range in ranges(of: weight.rows, by: Self.rows) {
          look(weight.matrix(range).values, row: range.lowerBound, columns: weight.columns)
        }
      } else {
        look(parameter.vector(), row: 0, columns: claim.shape.reduce(1, *))
      }
    }
    return largest
  }

  /// The stored number because of which a number of a weight is not finite: that one, or the scale it is multiplied by;
  /// nil where both are finite and their product is not.
  package func origin(
    ofNonFinite parameter: StoredParameter, row: Int, column: Int
  ) -> NonFiniteNumber? {
    // Codes and scales were looked at when the checkpoint was verified, or are products of finite ones.
    if parameter.isCoded { return nil }
    if let scale = scale(of: parameter, row: row, column: column) {
      let columns = scale.tensor.shape.last ?? 1
      if !vector(scale.tensor.name)[scale.row * columns + scale.column].isFinite {
        return NonFiniteNumber(scale)
      }
    }
    let place = parameter.origin(row: row, column: column)
    let (tensor, row, column) = place
    let width = tensor.dtype.byteWidth
    let start = (row * (tensor.shape.last ?? 1) + column) * width
    let isFinite = unsafe tensor.withBytes {
      unsafe tensor.dtype.firstNonFinite(
        UnsafeRawBufferPointer(rebasing: $0[start..<start + width])) == nil
    }
    return isFinite ? nil : NonFiniteNumber(place)
  }
}
