// Products and Gram matrices of GLM-4.7's shapes beside the peak of the cores, for tools/bench --products.
//
//     benching THREADS            one JSON object a line: case, engine, threads, tokens, operations a second and the
//                                 peak that was measured beside them, on the clock and of a processor second
//     benching THREADS avx2       the same in float32 beside the peak of 256-bit vectors: with OPENBLAS_CORETYPE=Haswell,
//                                 products as on a CPU that has no wider ones
//     benching limits THREADS     what that many cores can do at most, together: operations and bytes a second;
//                                 and operations of a processor second
//     benching serial …           see Serial.swift

import Glibc
import LinearAlgebra
import Tensors
import peaks

/// [outputs, inputs].
let shapes = [(1536, 5120), (5120, 1536), (12288, 5120), (1024, 5120), (5120, 12288)]
let tokenCounts = [8, 16, 32, 64, 128, 256, 1024, 4096]
let gramChannels = [1536, 5120, 6144]
let gramTokens = 1024
/// Weights of one shape that take turns, so that they come from memory as a model's do.
let weightBytes = 128 << 20

/// What some work took, in seconds.
struct Time {
  /// On the clock.
  var wall = Double.infinity
  /// Seconds of all threads together: what other work on the machine takes does not count, nor does waiting.
  var processor = Double.infinity

  init() {}

  init(of body: () -> Void) {
    let before = Self.processorSeconds
    let elapsed = ContinuousClock().measure(body).components
    wall = Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
    processor = Self.processorSeconds - before
  }

  private static var processorSeconds: Double {
    var now = timespec()
    unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
  }

  /// The better of both, each for itself.
  func best(_ other: Time) -> Time {
    var result = self
    result.wall = min(wall, other.wall)
    result.processor = min(processor, other.processor)
    return result
  }
}

/// The best of a few tries, for as many operations a thread as `peakOperations` says.
func peak(_ engine: Engine, threads: Int) -> Time {
  let backend = Backend(threads: threads)
  return (0..<3).reduce(Time()) { best, _ in
    best.best(
      Time {
        backend.forEach(threads) { _ in
          _ = engine == .bf16 ? peak_bf16(peakRounds) : peakOfFloats(peakRounds)
        }
      })
  }
}

let peakRounds = 1_000_000

let isAVX2 = CommandLine.arguments.dropFirst(2).first == "avx2"

func peakOfFloats(_ rounds: Int) -> Double { isAVX2 ? peak_avx2(rounds) : peak_f32(rounds) }

func peakOperations(_ engine: Engine) -> Double {
  engine == .bf16 ? peak_bf16(1) : peakOfFloats(1)
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

/// The best round; a peak before and after, of which the better counts.
func report(
  _ name: String, _ engine: Engine, threads: Int, tokens: Int, operations: Double, calls: Int,
  _ body: (Int) -> Void
) {
  var top = peak(engine, threads: threads)
  var best = Time()
  var spent = 0.0
  for round in 0... {
    let time = Time { for call in 0..<calls { body(call) } }
    best = best.best(time)
    spent += time.wall
    if round >= 2 && spent >= 0.5 { break }
  }
  top = top.best(peak(engine, threads: threads))
  let all = operations * Double(calls)
  let most = peakOperations(engine) * Double(peakRounds * threads)
  print(
    #"{"case": "\#(name)", "engine": "\#(engine.rawValue)", "threads": \#(threads), "#
      + #""tokens": \#(tokens), "rate": \#(all / best.wall), "peak": \#(most / top.wall), "#
      + #""processor_rate": \#(all / best.processor), "processor_peak": \#(most / top.processor)}"#)
  fflush(nil)
}

/// Bytes a second that some threads read together, each from numbers of its own.
func bandwidth(threads: Int) -> Double {
  let parts = (0..<threads).map { _ in numbers(1, 32 << 20) }
  let backend = Backend(threads: threads)
  let best = (0..<5).reduce(Time()) { best, _ in
    best.best(
      Time {
        backend.forEach(threads) { index in
          unsafe parts[index].base.withMemoryRebound(
            to: UInt64.self, capacity: parts[index].count / 2
          ) {
            // Never true, which the compiler does not know.
            if unsafe read_through($0, parts[index].count / 2) == 1 { print() }
          }
        }
      })
  }
  return Double(threads * parts[0].count * 4) / best.wall
}

if CommandLine.arguments.dropFirst().first == "limits" {
  let threads = Int(CommandLine.arguments[2])!
  let rates = Engine.allCases.flatMap { engine in
    let operations = peakOperations(engine) * Double(peakRounds * threads)
    let time = peak(engine, threads: threads)
    return [
      #""\#(engine.rawValue)": \#(operations / time.wall)"#,
      #""\#(engine.rawValue)_processor": \#(operations / time.processor)"#,
    ]
  }
  print("{\(rates.joined(separator: ", ")), \"bytes\": \(bandwidth(threads: threads))}")
  exit(0)
}

if CommandLine.arguments.dropFirst().first == "serial" {
  try reportSerial(CommandLine.arguments.dropFirst(2).map(\.self))
  exit(0)
}

let threadCounts = [1, CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1])! : 2]
let engines = isAVX2 ? [Engine.f32] : Engine.allCases.filter(\.isAvailable)
for (outputs, inputs) in shapes {
  let first = numbers(outputs, inputs)
  let copies = max(1, weightBytes / (2 * first.count))
  let weights = (0..<copies).map { _ in BF16Rows(rounding: first) }
  for tokens in tokenCounts {
    let x = numbers(tokens, inputs)
    for engine in engines where engine == .bf16 || tokens <= 1024 {
      for threads in threadCounts {
        let backend = Backend(threads: threads, engine: engine)
        let calls = tokens >= 1024 ? min(2, copies) : copies
        report(
          "[\(outputs), \(inputs)]", engine, threads: threads, tokens: tokens,
          operations: 2 * Double(tokens) * Double(inputs) * Double(outputs), calls: calls
        ) { _ = Gemm.multiply(x, by: weights[$0], backend: backend) }
      }
    }
  }
}
for channels in gramChannels {
  let (x, gram) = (numbers(gramTokens, channels), Matrix(zeros: channels, channels))
  for engine in engines {
    for threads in threadCounts {
      let backend = Backend(threads: threads, engine: engine)
      // Half of a symmetric matrix is enough.
      report(
        "Gram \(channels)", engine, threads: threads, tokens: gramTokens,
        operations: Double(gramTokens) * Double(channels) * Double(channels + 1), calls: 1
      ) { _ in Gemm.addGram(of: x, to: gram, backend: backend) }
    }
  }
}
