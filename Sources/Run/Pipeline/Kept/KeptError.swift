// Everything that keeps a run from kept states, worded for those who asked for them.

internal import Planning

/// Kept states that a run must not touch, or that belong to other work.
package enum KeptError: Error, CustomStringConvertible, Equatable {
  case foreign(path: String)
  case inside(path: String, folder: String, what: String)
  case inUse(path: String)
  case severalProcesses(count: Int)
  case damaged(path: String, problem: String)
  case otherOption(path: String, option: String, kept: String, asked: String)
  case otherTokens(path: String, data: String, model: String)
  case otherSource(path: String, model: String, problem: String)
  case fileDamaged(path: String)
  case noSpace(path: String, needed: Int, free: Int)

  package var description: String {
    switch self {
    case .foreign(let path):
      "\(path): not empty, and no states that Sluice kept; choose a new or empty folder for --keep-states"
    case .inside(let path, let folder, let what):
      "\(path): lies in the folder of the \(what), \(folder); choose another --keep-states"
    case .inUse(let path):
      "\(path): another run keeps its states there; wait for it or stop it first, or choose another --keep-states"
    case .severalProcesses(let count):
      "--keep-states is for one process (found \(count)); leave one of them out"
    case .damaged(let path, let problem):
      "\(path): \(problem); choose another --keep-states, or remove the folder: then all of it is made again"
    case .otherOption(let path, let option, let kept, let asked):
      "\(path) was kept with \(option) \(kept), this run has \(asked); use the same, or another --keep-states"
    case .otherTokens(let path, let data, let model):
      "\(path) was kept with other calibration tokens, though all flags are the same: \(data), or the tokenizer or chat "
        + "template in \(model), has changed; put it back, or use another --keep-states"
    case .otherSource(let path, let model, let problem):
      "\(path) was kept of other weights than those in \(model) (\(problem)); put them back, or use another --keep-states"
    case .fileDamaged(let path):
      "\(path): not as it was kept, and removed; give the same command again: what is missing is made again"
    case .noSpace(let path, let needed, let free):
      "\(path): \(bytesText(needed)) are needed for kept states, \(bytesText(free)) are free; free some space, use "
        + "fewer --samples, or choose another --keep-states"
    }
  }
}
