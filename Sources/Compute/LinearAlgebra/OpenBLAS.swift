// The matrix products of OpenBLAS, opened when they are first needed.

internal import Glibc

/// OpenBLAS starts threads of its own as soon as it is loaded, and takes memory for each; where the process may not have
/// so many threads or so much memory, it waits for ever or kills the process. So the program does not link it, but opens
/// it itself: by then the library can be told to start none.
@safe enum OpenBLAS {
  private typealias Product =
    @convention(c) (
      CInt, CInt, CInt, CInt, CInt, CInt, Float, UnsafePointer<Float>, CInt, UnsafePointer<Float>,
      CInt, Float, UnsafeMutablePointer<Float>, CInt
    ) -> Void
  private typealias KernelName = @convention(c) () -> UnsafePointer<CChar>?

  @safe private struct Library: @unchecked Sendable {
    let product: Product
    /// The name of the kernels for this CPU, e.g. "SkylakeX".
    let kernels: String
  }

  /// Debian's name, which has the version of the interface in it, and the one of a library that was built by hand.
  private static let names = ["libopenblas.so.0", "libopenblas.so"]

  private static let library: Result<Library, MissingBLAS> = {
    unsafe setenv("OPENBLAS_NUM_THREADS", "1", 1)
    var problem = ""
    for name in names {
      if let handle = unsafe dlopen(name, RTLD_NOW | RTLD_LOCAL) {
        guard let product = unsafe dlsym(handle, "cblas_sgemm"),
          let kernels = unsafe dlsym(handle, "openblas_get_corename")
        else {
          problem = "\(name) has no `cblas_sgemm` or is no OpenBLAS"
          continue
        }
        let name = unsafe unsafeBitCast(kernels, to: KernelName.self)()
        return .success(
          unsafe Library(
            product: unsafeBitCast(product, to: Product.self),
            kernels: name.map { unsafe String(cString: $0) } ?? ""))
      }
      if problem.isEmpty {
        problem = unsafe dlerror().map { unsafe String(cString: $0) } ?? "\(name) cannot be opened"
      }
    }
    return .failure(MissingBLAS(problem: problem))
  }()

  static func open() throws(MissingBLAS) { _ = try library.get() }

  static var kernels: String { (try? library.get().kernels) ?? "" }

  /// c `[rows, columns]` = a b (+ c), row-major.
  static func product(
    transposeA: Bool, transposeB: Bool, rows: Int, columns: Int, inner: Int,
    a: UnsafePointer<Float>, aStride: Int, b: UnsafePointer<Float>, bStride: Int, add: Bool,
    c: UnsafeMutablePointer<Float>, cStride: Int
  ) {
    guard case .success(let library) = library else {
      preconditionFailure("products before `Gemm.check`")
    }
    unsafe library.product(
      rowMajor, transposeA ? transposed : asItIs, transposeB ? transposed : asItIs,
      CInt(rows), CInt(columns), CInt(inner), 1, a, CInt(aStride), b, CInt(bStride), add ? 1 : 0,
      c, CInt(cStride))
  }

  /// Numbers of `cblas.h`.
  private static let (rowMajor, asItIs, transposed): (CInt, CInt, CInt) = (101, 111, 112)
}

/// No OpenBLAS on this machine.
package struct MissingBLAS: Error, CustomStringConvertible, Equatable {
  package let problem: String
  package var description: String {
    "OpenBLAS cannot be used (\(problem)); install it: apt-get install libopenblas0"
  }
}
