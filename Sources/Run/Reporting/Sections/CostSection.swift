// What the run took, step by step.

extension Report {
  var costSection: HTML {
    let processes =
      cost.processes > 1
      ? "Summed over \(whole(cost.processes)) processes; what each did after its last commit does not count, as it was done again."
      : "Up to the last commit."
    return """
      <section id="cost">
      <h2>Memory and time</h2>
      <p class="finding">\(duration(cost.wallSeconds))\(cost.ranks > 1 ? " summed over ranks" : ""), \(duration(cost.processorSeconds)) of processor time on \
      \(cost.ranks > 1 ? "\(cost.ranks) ranks of " : "")\(counted(cost.threads, "thread")); at most \(size(cost.peakBytes)) of memory of \
      \(size(cost.budgetBytes)) allowed, \(size(cost.scratchBytes)) of scratch on disk.</p>
      \(stepTable)\
      <p class="note">\(processes) Memory is the resident set of the process, at its peak in any layer: \
      of the whole run as the kernel counts it (VmHWM), of the other steps by a hundred samples a second; \
      the mark on its bar is what was planned. Heap and mapped files are those of the \
      largest sample: together they may be less than the peak. Threads and allowance are those of the last process.</p>
      </section>

      """
  }

  private var stepTable: HTML {
    let largest = cost.steps.map { max($0.peakBytes, $0.plannedBytes ?? 0) }.max() ?? 0
    let longest = cost.steps.map(\.seconds).max() ?? 0
    let rows = cost.steps.map { step -> [Cell] in
      [
        .text("\(step.step) <small>\(Self.meaning(of: step.step))</small>"),
        .number(duration(step.seconds)),
        .text("\(bar(longest > 0 ? step.seconds / longest : nil))"),
        .number(size(step.peakBytes)), .text(memoryBar(step, of: largest)),
        .extra(number: step.plannedBytes.map(size)), .extra(number: size(step.heapBytes)),
        .extra(number: size(step.mappedBytes)),
      ]
    }
    return table(
      "Time and memory by step",
      [
        .text("Step"), .number("time"), .text("<span class=\"hidden\">time, as a bar</span>"),
        .number("peak"),
        .text("<span class=\"hidden\">peak, as a bar</span>"),
        .extra(number: "planned"), .extra(number: "heap"), .extra(number: "mapped files"),
      ], rows)
  }

  /// - Parameter largest: what the end of the bar stands for.
  private func memoryBar(_ step: StepCost, of largest: Int) -> HTML {
    let all = Double(max(1, largest))
    let used = min(1, Double(step.peakBytes) / all)
    let mark = step.plannedBytes.map { planned -> HTML in
      "<b style=\"left:\(figure(100 * min(1, Double(planned) / all)))%\"></b>"
    }
    return """
      <span class="bar"><i class="\(step.peakBytes > cost.budgetBytes ? "over" : "after")" \
      style="width:\(figure(100 * used))%"></i>\(mark)</span>
      """
  }

  private static func meaning(of step: String) -> String {
    switch step {
    case "load": "opening the model and the data"
    case "copy": "unchanged tensors, embeddings"
    case "attend": "attention, its scales and weights"
    case "experts": "MLPs, their scales and weights"
    case "advance": "the next layer's input"
    case "check": "reading files for their checksums"
    default: ""
    }
  }
}
