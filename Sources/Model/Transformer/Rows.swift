// Rows of matrices added and gathered by all threads.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// Rows of one task.
private let taskRows = 16

extension Matrix {
  /// self += other.
  package func add(_ other: Matrix, backend: Backend) {
    backend.ledger.note(Operation(.elements, [count]))
    let parts = ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      let part = parts[index]
      unsafe sluice_add_scaled(
        other.row(part.lowerBound), 1, row(part.lowerBound), part.count * columns)
    }
  }

  /// self = factor * other.
  func become(_ other: Matrix, times factor: Float, backend: Backend) {
    backend.ledger.note(Operation(.elements, [count]))
    let parts = ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      let first = parts[index].lowerBound
      unsafe sluice_scale(other.row(first), factor, row(first), parts[index].count * columns)
    }
  }

  /// self[rows[i]] += weights[i] * other[i]; no row twice.
  func add(_ other: Matrix, to rows: [(row: Int, weight: Float)], backend: Backend) {
    backend.ledger.note(Operation(.elements, [rows.count * columns]))
    let parts = ranges(of: rows.count, by: taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        unsafe sluice_add_scaled(
          other.row(place), rows[place].weight, row(rows[place].row), columns)
      }
    }
  }

  /// self = cap * tanh(self / cap).
  package func capSoftly(at cap: Float, backend: Backend) {
    backend.ledger.note(Operation(.elements, [count]))
    let parts = ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      unsafe sluice_soft_cap(row(parts[index].lowerBound), cap, parts[index].count * columns)
    }
  }

  /// self *= factor.
  package func multiply(by factor: Float, backend: Backend) {
    backend.ledger.note(Operation(.elements, [count]))
    let parts = ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      let first = unsafe row(parts[index].lowerBound)
      unsafe sluice_scale(first, factor, first, parts[index].count * columns)
    }
  }

  /// self *= other.
  func multiply(by other: Matrix, backend: Backend) {
    backend.ledger.note(Operation(.elements, [count]))
    let parts = ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      let own = unsafe row(parts[index].lowerBound)
      unsafe sluice_multiply(
        own, other.row(parts[index].lowerBound), own, parts[index].count * columns)
    }
  }

  /// self *= activation(gates), which are used up: a gate for each number, or for as many as make up a gate's share of a
  /// row.
  func multiply(
    by gates: Matrix, after activation: GroupedQuerySpec.GateActivation, backend: Backend
  ) {
    backend.ledger.note(Operation(.elements, [count]))
    let parts = ranges(of: rows, by: taskRows)
    let share = columns / gates.columns
    backend.forEach(parts.count) { index in
      let (first, count) = (parts[index].lowerBound, parts[index].count)
      let (own, gate) = unsafe (row(first), gates.row(first))
      switch activation {
      case .sigmoid: unsafe sluice_sigmoid(gate, count * gates.columns)
      case .softplus: unsafe sluice_softplus(gate, count * gates.columns)
      }
      if share == 1 { return unsafe sluice_multiply(own, gate, own, count * columns) }
      for place in 0..<count * gates.columns {
        let head = unsafe own + place * share
        unsafe sluice_scale(head, gate[place], head, share)
      }
    }
  }

  /// Row i times factors[i, 0].
  func multiply(byRows factors: Matrix, backend: Backend) {
    let parts = ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        unsafe sluice_scale(row(place), factors.row(place)[0], row(place), columns)
      }
    }
  }

  /// Row i times factors[i].
  package func multiply(byRows factors: [Float], backend: Backend) {
    let parts = ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        unsafe sluice_scale(row(place), factors[place], row(place), columns)
      }
    }
  }

  /// Some columns of every row, copied.
  func columns(_ range: Range<Int>, into name: String, backend: Backend) -> Matrix {
    columns([range], ofEach: columns, into: name, backend: backend)
  }

  /// Some of every `width` columns of every row, copied: the first range of all of them, then the next.
  func columns(
    _ ranges: [Range<Int>], ofEach width: Int, into name: String, backend: Backend
  ) -> Matrix {
    let groups = columns / width
    let result = backend.matrix(
      name, rows: rows, columns: groups * ranges.reduce(0) { $0 + $1.count })
    backend.ledger.note(Operation(.elements, [result.count]))
    let parts = LinearAlgebra.ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        let from = unsafe row(place)
        var to = unsafe result.row(place)
        for range in ranges {
          for group in 0..<groups {
            unsafe to.update(from: from + group * width + range.lowerBound, count: range.count)
            unsafe to += range.count
          }
        }
      }
    }
    return result
  }

  /// The rows of both, one behind the other.
  func beside(_ other: Matrix, into name: String, backend: Backend) -> Matrix {
    let result = backend.matrix(name, rows: rows, columns: columns + other.columns)
    backend.ledger.note(Operation(.elements, [result.count]))
    let parts = ranges(of: rows, by: taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        let to = unsafe result.row(place)
        unsafe to.update(from: row(place), count: columns)
        unsafe (to + columns).update(from: other.row(place), count: other.columns)
      }
    }
    return result
  }

  /// The given rows, copied one after the other.
  package func gathered(_ rows: [Int], into name: String, backend: Backend) -> Matrix {
    let result = backend.matrix(name, rows: rows.count, columns: columns)
    backend.ledger.note(Operation(.elements, [result.count]))
    let parts = ranges(of: rows.count, by: taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        unsafe result.row(place).update(from: row(rows[place]), count: columns)
      }
    }
    return result
  }
}

extension Backend {
  /// A matrix of zeros, as large as another.
  func zeros(_ name: String, like other: Matrix) -> Matrix {
    let result = matrix(name, rows: other.rows, columns: other.columns)
    compute { result.fill(0) }
    return result
  }
}
