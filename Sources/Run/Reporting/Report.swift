// What a run came to, as values: what it worked on, what it decided, what it cost.
//
// Letters of this target: T calibration tokens, E experts, K experts per token, G group size. Layers and experts count
// from 0, as in the names of tensors.

package struct Report: Sendable, Equatable {
  package var subject: Subject
  package var choices: Choices
  package var cost: Cost
  /// How far the output is from its model, where that was measured; the last one last.
  package var evaluations: [EvaluationRecord]

  package init(
    subject: Subject, choices: Choices, cost: Cost, evaluations: [EvaluationRecord] = []
  ) {
    self.subject = subject
    self.choices = choices
    self.cost = cost
    self.evaluations = evaluations
  }
}

/// What a run worked on, and how far it is.
package struct Subject: Sendable, Equatable {
  /// As it was named.
  package var model: String
  /// What people call it, and where it is found from any folder.
  package var modelName: String
  package var modelPath: String
  package var output: String
  package var architecture: String
  package var layers: LayerCount
  /// Bytes of all tensors.
  package var sourceBytes: Int
  package var outputBytes: Int
  /// Columns that share a scale; the largest where schemes differ, nil where none has groups.
  package var groupSize: Int?
  /// The layers that are quantized, `layers 3-91`; empty where that is not known.
  package var quantized: String
  /// What stays as it is, and why.
  package var left: [String]
  /// Options that change output bytes, by the name the user knows them by.
  package var settings: [Setting]
  /// The words of the command line; none where they are not known.
  package var command: [String]
  /// The program's version and the processor of the last process; empty where they are not known.
  package var version: String
  package var processor: String
  /// Of a finished run when it was done; seconds since 1970.
  package var lastCommit: Int
  package var progress: Progress

  package init(
    model: String, modelName: String? = nil, modelPath: String? = nil, output: String,
    architecture: String, layers: LayerCount, sourceBytes: Int,
    outputBytes: Int, groupSize: Int?, quantized: String = "", left: [String] = [],
    settings: [Setting], command: [String], version: String = "", processor: String = "",
    lastCommit: Int, progress: Progress
  ) {
    self.model = model
    self.modelName = modelName ?? model
    self.modelPath = modelPath ?? model
    self.output = output
    self.architecture = architecture
    self.layers = layers
    self.sourceBytes = sourceBytes
    self.outputBytes = outputBytes
    self.groupSize = groupSize
    self.quantized = quantized
    self.left = left
    self.settings = settings
    self.command = command
    self.version = version
    self.processor = processor
    self.lastCommit = lastCommit
    self.progress = progress
  }
}

package struct Setting: Sendable, Equatable {
  package let name: String
  package let value: String

  package init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

package enum Progress: Sendable, Equatable {
  case finished
  /// Stopped, or still going on.
  ///
  /// - layer: of the step that is next; nil for one outside the layers.
  /// - share: of the whole run's arithmetic, 0 to 1; nil where there is none.
  case unfinished(step: String, layer: Int?, share: Double?)
}

/// What a run took, over all its processes up to the last commit of each.
package struct Cost: Sendable, Equatable {
  package var processes: Int
  package var processorSeconds: Double
  /// Processes that shared the work at last.
  package var ranks: Int
  /// Threads and memory of the last process.
  package var threads: Int
  package var budgetBytes: Int
  /// The most that lay in scratch.
  package var scratchBytes: Int
  /// In the order in which a run takes them.
  package var steps: [StepCost]

  package init(
    processes: Int, processorSeconds: Double, ranks: Int = 1, threads: Int, budgetBytes: Int,
    scratchBytes: Int,
    steps: [StepCost]
  ) {
    self.processes = processes
    self.processorSeconds = processorSeconds
    self.ranks = ranks
    self.threads = threads
    self.budgetBytes = budgetBytes
    self.scratchBytes = scratchBytes
    self.steps = steps
  }

  package var wallSeconds: Double { steps.reduce(0) { $0 + $1.seconds } }
  package var peakBytes: Int { steps.map(\.peakBytes).max() ?? 0 }
}

/// A step over all layers: its time, and its memory at its largest.
package struct StepCost: Sendable, Equatable {
  package var step: String
  package var seconds: Double
  /// The peak of the resident set, by samples; by the kernel's own mark (VmHWM) for the step that took most.
  package var peakBytes: Int
  /// Heap and mapped files when a sample was largest: their sum may be less than the peak.
  package var heapBytes: Int
  package var mappedBytes: Int
  package var plannedBytes: Int?

  package init(
    step: String, seconds: Double, peakBytes: Int, heapBytes: Int, mappedBytes: Int,
    plannedBytes: Int?
  ) {
    self.step = step
    self.seconds = seconds
    self.peakBytes = peakBytes
    self.heapBytes = heapBytes
    self.mappedBytes = mappedBytes
    self.plannedBytes = plannedBytes
  }
}
