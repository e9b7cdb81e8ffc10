// Products and Gram matrices of GLM-4.7's shapes beside the peak of the cores, for tools/bench --products.
//
// One JSON object a line: case, engine, threads, tokens, operations a second, and the peak that was measured beside it.

import Glibc
import LinearAlgebra
import Tensors
import peaks

/// [outputs, inputs].
let shapes = [(1536, 5120), (5120, 1536), (12288, 5120), (1024, 5120), (5120, 12288)]
let tokenCounts = [64, 128, 256, 1024, 4096]
let gramChannels = [1536, 5120, 6144]
let gramTokens = 1024
/// Weights of one shape that take turns, so that they come from memory as a model's do.
let weightBytes = 128 << 20

func seconds(_ body: () -> Void) -> Double {
  let elapsed = ContinuousClock().measure(body).components
  return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
}

/// Operations a second of all threads together, the best of a few tries.
func peak(_ engine: Engine, threads: Int) -> Double {
  let workers = Workers(threads: threads)
  let rounds = 1_000_000
  return (0..<3).map { _ in
    let done = Matrix(zeros: 1, threads)
    let time = seconds {
      workers.forEach(threads) { index in
        unsafe done.base[index] = Float(engine == .bf16 ? peak_bf16(rounds) : peak_f32(rounds))
      }
    }
    return Double(done.values.reduce(0, +)) / time
  }.max()!
}

func numbers(_ rows: Int, _ columns: Int) -> Matrix {
  let result = Matrix(rows: rows, columns: columns)
  var state: UInt32 = 1
  for index in 0..<result.count {
    state = state &* 1_664_525 &+ 1_013_904_223
    unsafe result.base[index] = Float(Int32(bitPattern: state)) / 2_147_483_648
  }
  return result
}

/// Operations a second of the best round; a peak before and after, of which the better counts.
func report(
  _ name: String, _ engine: Engine, threads: Int, tokens: Int, operations: Double, calls: Int,
  _ body: (Int) -> Void
) {
  let before = peak(engine, threads: threads)
  var best = Double.infinity
  var spent = 0.0
  for round in 0... where round < 3 || spent < 0.5 {
    let time = seconds { for call in 0..<calls { body(call) } } / Double(calls)
    best = min(best, time)
    spent += time * Double(calls)
    if round >= 2 && spent >= 0.5 { break }
  }
  let top = max(before, peak(engine, threads: threads))
  print(
    #"{"case": "\#(name)", "engine": "\#(engine.rawValue)", "threads": \#(threads), "tokens": \#(tokens), "#
      + #""rate": \#(operations / best), "peak": \#(top)}"#)
  fflush(nil)
}

let threadCounts = [1, CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1])! : 2]
let engines = Engine.allCases.filter(\.isAvailable)
for (outputs, inputs) in shapes {
  let first = numbers(outputs, inputs)
  let copies = max(1, weightBytes / (2 * first.count))
  let weights = (0..<copies).map { _ in BF16Rows(rounding: first) }
  for tokens in tokenCounts {
    let x = numbers(tokens, inputs)
    for engine in engines where engine == .bf16 || tokens <= 1024 {
      for threads in threadCounts {
        let workers = Workers(threads: threads, engine: engine)
        let calls = tokens >= 1024 ? min(2, copies) : copies
        report(
          "[\(outputs), \(inputs)]", engine, threads: threads, tokens: tokens,
          operations: 2 * Double(tokens) * Double(inputs) * Double(outputs), calls: calls
        ) { _ = Gemm.multiply(x, by: weights[$0], workers: workers) }
      }
    }
  }
}
for channels in gramChannels {
  let (x, gram) = (numbers(gramTokens, channels), Matrix(zeros: channels, channels))
  for engine in engines {
    for threads in threadCounts {
      let workers = Workers(threads: threads, engine: engine)
      // Of a symmetric matrix half is enough.
      report(
        "Gram \(channels)", engine, threads: threads, tokens: gramTokens,
        operations: Double(gramTokens) * Double(channels) * Double(channels + 1), calls: 1
      ) { _ in Gemm.addGram(of: x, to: gram, workers: workers) }
    }
  }
}
