// What of a run fewer than all threads do, by step, for tools/bench --serial.
//
//     benching serial MODEL IDS OUTPUT THREADS MEMORY SAMPLES LENGTH COUNT…
//
// One JSON object for each step: processor seconds, those of its loops by their number of tasks, of what lies between them
// and of what was done side by side, with loops of its own, and seconds on the clock; for each COUNT of threads, seconds predicted, and those in which some of them have nothing to do.

import Calibration
import LinearAlgebra
import Pipeline
import Planning
import Tensors

func reportSerial(_ words: [String]) throws {
  let numbers = words[3...].compactMap { Int($0) }
  var options = QuantizeOptions(
    model: words[0], output: words[2], memory: numbers[1], threads: numbers[0])
  options.data = CalibrationSource(
    path: words[1], selection: RowSelection(samples: numbers[2], sequenceLength: numbers[3]))
  options.restarts = true
  var steps: [StepSummary] = []
  let run = try QuantizeModel(QuantizePlan(options)) { event in
    if case .finished(let summary) = event { steps = summary.steps }
  }
  run.ledger.loops.start()
  try run.run()
  for step in RunStep.allCases {
    guard let loops = run.usedLoops[step] else { continue }
    let wall = steps.first { $0.step == step }?.seconds ?? 0
    let tasks = loops.tasks.sorted { $0.key < $1.key }.map { #""\#($0.key)": \#($0.value)"# }
    let counts = numbers[4...].map { threads in
      #""\#(threads)": [\#(loops.seconds(threads: threads)), \#(loops.serialSeconds(threads: threads))]"#
    }
    print(
      #"{"step": "\#(step.rawValue)", "seconds": \#(wall), "processor": \#(loops.processorSeconds), "#
        + #""outside": \#(loops.outside), "side_by_side": \#(loops.sideBySideSeconds), "#
        + #""loops": {\#(tasks.joined(separator: ", "))}, "threads": {\#(counts.joined(separator: ", "))}}"#
    )
  }
}
