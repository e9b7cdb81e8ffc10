// Activations as inference engines quantize them before a product.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// What becomes of the activation that a Linear reads. Scales are found in float32, as engines find them, but for those
/// that the file holds.
///
/// Source: compressed-tensors 0.20 `forward.py` (`fake_quantize`, `compute_dynamic_scales_and_zp`).
package struct ActivationQuantizer: Sendable {
  private let quantizer: WeightQuantizer
  /// Those of a row's groups, which every row shares; nil where each row or group finds its own.
  private let scales: [Float]?
  /// Of scales of two levels.
  private let globalScale: Float

  /// - Parameters:
  ///   - arguments: of activations that `isServed`.
  ///   - columns: of the activation.
  ///   - stored: the number that the file has for them, where they are not dynamic.
  package init(_ arguments: QuantizationArguments, columns: Int, stored: Float) {
    quantizer = WeightQuantizer(arguments, columns: columns, dtype: .f32)
    let isWhole = arguments.dynamic == .never && !quantizer.needsLargest
    scales = isWhole ? [stored] : nil
    globalScale = quantizer.needsLargest ? stored : 1
  }

  /// For keys or values of a cache.
  ///
  /// - Parameters:
  ///   - columns: of all heads.
  ///   - stored: the scales that the file has for them.
  package init(_ scheme: CacheScheme, columns: Int, stored: [Float]) {
    precondition(columns % stored.count == 0, "\(stored.count) scales for \(columns) columns")
    quantizer = WeightQuantizer(.e4m3, groupSize: columns / stored.count, scaleType: .f32)
    scales = stored
    globalScale = 1
  }

  /// Whether activations can be computed as `arguments` say: on their own, or with one stored number.
  package static func isServed(_ arguments: QuantizationArguments) -> Bool {
    NumberFormat(arguments) != nil && strategies(arguments.dynamic).contains(arguments.strategy)
      && (arguments.dynamic != .local || arguments.type == .float)
  }

  /// The numbers that may share a scale which is made at some time.
  package static func strategies(
    _ dynamic: QuantizationArguments.Dynamic
  ) -> [QuantizationArguments.Strategy] {
    switch dynamic {
    case .always: [.token, .group]
    case .never: [.tensor]
    case .local: [.tensorGroup]
    }
  }

  /// The stored number under which the largest magnitude gets the largest code: a scale, or the global scale that
  /// divides scales.
  ///
  /// Source: compressed-tensors 0.20 `calculate_qparams`, `generate_gparam`.
  ///
  /// - Parameter dtype: that it is stored in; a scale that would be 0 there is the step between 1 and the next number.
  package static func stored(
    _ arguments: QuantizationArguments, largest: Float, as dtype: DType
  ) -> Float {
    guard let numbers = NumberFormat(arguments) else {
      preconditionFailure("nothing is rounded to \(arguments.words)")
    }
    if ScaleFormat(arguments, dtype: .f32) == .twoLevel {
      return WholeWeight.globalScale(largest: largest)
    }
    let scale = Float(numbers.scale(lowest: Double(-largest), highest: Double(largest)))
    let stored = dtype.rounded([scale])[0]
    return stored > 0 ? stored : dtype.epsilon
  }

  /// Rows of one task.
  private static let taskRows = 16

  /// What a product takes for `x` `[T, columns]`.
  package func rounded(_ x: Matrix, backend: Backend) -> Matrix {
    let result = backend.matrix("quantized activations", rows: x.rows, columns: x.columns)
    round(x, into: result, backend: backend)
    return result
  }

  /// - Parameter result: may be x itself.
  package func round(_ x: Matrix, into result: Matrix, backend: Backend) {
    backend.ledger.note(Operation(.elements, [x.count]))
    let parts = ranges(of: x.rows, by: Self.taskRows)
    let kernel = quantizer.kernel(globalScale: globalScale)
    let groups = quantizer.groups(of: x.columns)
    let fixed = scales
    backend.forEach(parts.count) { index in
      var codes = [Int8](repeating: 0, count: x.columns)
      var (scales, zeros) = (
        fixed ?? [Float](repeating: 0, count: groups), [Int8](repeating: 0, count: groups)
      )
      let fixedZeros = [Float](repeating: 0, count: fixed == nil ? 0 : groups)
      var errors = [Float](repeating: 0, count: fixed == nil ? 0 : x.columns)
      for row in parts[index] {
        let from = unsafe x.row(row)
        let to = unsafe result.row(row)
        // What is no number stays so, and who looks at the results finds it.
        if unsafe sluice_first_nonfinite(from, x.columns) < x.columns {
          if unsafe from != to { unsafe to.update(from: from, count: x.columns) }
          continue
        }
        if fixed != nil {
          unsafe sluice_round_within(
            from, x.columns, kernel, scales, fixedZeros, &codes, &errors)
        } else {
          _ = unsafe sluice_quantize_row(from, x.columns, kernel, &codes, &scales, &zeros)
        }
        unsafe sluice_values_of_codes(codes, scales, zeros, x.columns, kernel, to)
      }
    }
  }
}
