// The processes that share the work of a run: one, or those that a launcher such as mpirun started.

internal import Glibc

/// What a run asks of the processes that work on it. Each has a number, its rank, from 0; rank 0 alone writes the state of
/// the run.
package protocol Ranks: AnyObject, Sendable {
  var rank: Int { get }
  var count: Int { get }

  /// Hands in a value, waits for all ranks to do so, and gives the values of all, by rank.
  func gather(_ value: [UInt8]) throws(RankError) -> [[UInt8]]

  /// On rank 0: how questions are answered from now on. Several threads may call it, and it calls nothing of this.
  func answer(_ body: (@Sendable (_ rank: Int, _ question: [UInt8]) -> [UInt8])?)

  /// Asks rank 0.
  func ask(_ question: [UInt8]) throws(RankError) -> [UInt8]

  /// A number that the others may see a little later.
  func tell(_ number: Double)

  /// On rank 0: the last number that each rank told.
  var told: [Double] { get }

  /// Leaves when all is done: all ranks come here.
  func finish()

  /// Ends all ranks, as one of them cannot go on.
  func end(_ code: Int32)
}

/// A process that cannot work with the others.
package enum RankError: Error, CustomStringConvertible, Equatable {
  /// The program was built without MPI, and a launcher started several of it.
  case withoutMPI(processes: Int)
  case oneOnly(command: String, processes: Int)
  case noMPI(problem: String)
  case other(rank: Int, host: String, what: String, found: String, expected: String)

  package var description: String {
    switch self {
    case .withoutMPI(let processes):
      "started as one of \(processes) processes, and this program was built without MPI; build it with "
        + "`swift build -c release --traits MPI`, or start it alone"
    case .oneOnly(let command, let processes):
      "started as one of \(processes) processes, and `sluice \(command)` is the work of one; only `sluice quantize` shares "
        + "its work"
    case .noMPI(let problem): "MPI: \(problem)"
    case .other(let rank, let host, let what, let found, let expected):
      "rank \(rank) on \(host): \(what) is \(found), rank 0 has \(expected); all ranks need the same"
    }
  }
}

/// A run in one process.
package final class OneProcess: Ranks {
  package init() {}

  package var rank: Int { 0 }
  package var count: Int { 1 }
  package func gather(_ value: [UInt8]) -> [[UInt8]] { [value] }
  package func answer(_ body: (@Sendable (Int, [UInt8]) -> [UInt8])?) {}
  package func ask(_ question: [UInt8]) -> [UInt8] { [] }
  package func tell(_ number: Double) {}
  package var told: [Double] { [] }
  package func finish() {}
  package func end(_ code: Int32) {}
}

/// How the processes of a run find each other.
package enum Launcher {
  /// Whether the program can be one of several.
  package static var isBuiltIn: Bool {
    #if MPI
      true
    #else
      false
    #endif
  }

  /// Variables that launchers set: Open MPI's mpirun, MPICH's and Slurm's PMI, and PMIx.
  /// Source: orte/mca/schizo/ompi of Open MPI 4; src/pmi of MPICH 4; srun(1), `--mpi`.
  private static let counts = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"]
  private static let numbers = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"]

  private static func number(_ names: [String]) -> Int? {
    names.lazy.compactMap { name in
      unsafe getenv(name).flatMap { unsafe Int(String(cString: $0)) }
    }.first
  }

  private static var processes: Int { number(numbers) == nil ? 1 : number(counts) ?? 1 }

  /// Refuses a command that several processes cannot share.
  package static func check(_ command: [String]) throws(RankError) {
    if processes > 1, let first = command.first, first != "quantize", !first.hasPrefix("-") {
      throw .oneOnly(command: first, processes: processes)
    }
  }

  /// The processes of this run; this one alone where no launcher started several.
  package static func start() throws(RankError) -> any Ranks {
    if processes < 2 { return OneProcess() }
    #if MPI
      return try MPIRanks()
    #else
      throw .withoutMPI(processes: processes)
    #endif
  }
}
