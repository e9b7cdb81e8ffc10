// What is wrong inside a parquet file, before the file's name is known.

/// Becomes a `DatasetError` where the file is known.
struct FileProblem: Error {
  enum Kind {
    case damaged(String)
    case unsupported(expected: String, found: String, wayOut: String)
  }

  let kind: Kind
  /// The part of the file, a column or the footer; filled in by the outermost caller that knows it.
  var place: String?

  static func damaged(_ problem: String, at place: String? = nil) -> FileProblem {
    FileProblem(kind: .damaged(problem), place: place)
  }

  static func unsupported(
    _ place: String? = nil, expected: String, found: String, wayOut: String = Self.rewrite
  ) -> FileProblem {
    FileProblem(
      kind: .unsupported(expected: expected, found: found, wayOut: wayOut), place: place)
  }

  /// A part of the file that is sound, but needs more memory than there is for it.
  static func tooLarge(_ what: String, _ limit: Int, _ found: Int? = nil) -> FileProblem {
    .unsupported(
      expected: "\(what) of at most \(limit >> 20) MiB",
      found: found.map { "\($0 >> 20) MiB" } ?? "more",
      wayOut: "raise --memory, or write the file again in smaller rows and row groups")
  }

  private static let rewrite = "write the file again with `datasets` or pyarrow"

  func error(file: String) -> DatasetError {
    let place = place ?? "parquet"
    return switch kind {
    case .damaged(let problem):
      .damaged(file: file, place: place, problem: problem)
    case .unsupported(let expected, let found, let wayOut):
      .unsupported(file: file, what: place, expected: expected, found: found, wayOut: wayOut)
    }
  }

  /// This problem, said to be at `place` unless it knows better.
  func located(_ place: @autoclosure () -> String) -> FileProblem {
    FileProblem(kind: kind, place: self.place ?? place())
  }
}
