// States of mixers that remember: one of a fixed size for each head of each sequence, which begins with zeros.

internal import LinearAlgebra
internal import Tensors

extension Backend {
  /// Every head of every sequence, on all threads, each with a state of its own.
  ///
  /// - Parameters:
  ///   - heads: of a sequence, or whatever else keeps a state for itself.
  ///   - rows: of a state; it has one more, for what a token changes.
  func forEachState(
    _ name: String, _ heads: Int, of sequences: [Range<Int>], rows: Int, columns: Int,
    _ body: @Sendable (_ head: Int, _ sequence: Range<Int>, _ state: Matrix) -> Void
  ) {
    let buffer = TaskBuffer(name, floats: (rows + 1) * columns)
    let tasks = sequences.flatMap { sequence in (0..<heads).map { (sequence, $0) } }
    forEach(tasks.count, each: [buffer]) { index in
      let state = Matrix(name, rows: rows + 1, columns: columns, from: memory)
      state.fill(0)
      body(tasks[index].1, tasks[index].0, state)
    }
  }
}
