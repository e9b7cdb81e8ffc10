// What stops a run because of its numbers, its source or this machine.

internal import Calibration
internal import CompressedTensors
internal import JSON
package import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Recipes
internal import Safetensors
internal import ScratchStore
internal import SystemIO
package import Tensors
internal import Transformer

/// What stops a run.
package enum QuantizeError: Error, CustomStringConvertible, Equatable {
  case nonFiniteWeight(file: String, tensor: String, row: Int, column: Int)
  /// A packed weight has another shape than its own file says.
  case wrongStoredShape(file: String, tensor: String, problem: String)
  case nonFiniteActivation(layer: Int, tap: String, channel: Int, largest: String?)
  /// The number is one, and what becomes of it is none.
  case overflow(file: String, tensor: String, row: Int, column: Int, dtype: DType)
  case infiniteScale(file: String, tensor: String, row: Int, columns: Range<Int>, dtype: DType)
  /// - part: what is kept: keys or values.
  case infiniteCacheScale(
    layer: Int, module: String, part: String, largest: Float, dtype: DType)
  case missingInstructions(engine: Engine)
  /// - place: the file, or the folder where the file is not there yet.
  case engineRounds(place: String, tensor: String, dtype: DType)

  package var description: String {
    switch self {
    case .nonFiniteWeight(let file, let tensor, let row, let column):
      "\(file): `\(tensor)` holds NaN or infinity at [\(row), \(column)]; download the file again"
    case .wrongStoredShape(let file, let tensor, let problem):
      "\(file): `\(tensor)` \(problem); download the file again"
    case .nonFiniteActivation(let layer, let tap, let channel, let largest):
      "layer \(layer): \(tap) is NaN or infinite in channel \(channel)"
        + (largest.map { ", and the largest weight near it is \($0)" } ?? "")
        + "; check the weights of this layer and the ones before, and the calibration data"
    case .overflow(let file, let tensor, let row, let column, let dtype):
      "\(file): `\(tensor)` is finite at [\(row), \(column)], but with the scales that are folded in it goes beyond "
        + "\(dtype.rawValue); use --no-smoothing, or look at why its numbers are that large"
    case .infiniteScale(let file, let tensor, let row, let columns, let dtype):
      "\(file): `\(tensor)` has numbers in row \(row), columns \(columns.lowerBound) to \(columns.upperBound - 1), "
        + "whose range goes beyond \(dtype.rawValue), so that their scale would be infinite; use --scheme W4A16, or "
        + "--ignore the module"
    case .infiniteCacheScale(let layer, let module, let part, let largest, let dtype):
      "layer \(layer): the \(part) of `\(module)` go up to \(largest), whose scale goes beyond \(dtype.rawValue); "
        + "leave --kv-cache out, or look at why they are that large"
    case .missingInstructions(let engine):
      "--engine \(engine.rawValue): this CPU has \(CPU.instructionSet), not AVX512_BF16; use --engine f32"
    case .engineRounds(let place, let tensor, let dtype):
      "\(place): `\(tensor)` is \(dtype.rawValue), and --engine bf16 is for weights in BF16 or FP8; use --engine f32"
    }
  }
}

extension QuantizeError {
  init(_ number: NonFiniteNumber) {
    self = .nonFiniteWeight(
      file: number.tensor.file.path, tensor: number.tensor.name, row: number.row,
      column: number.column)
  }
}
