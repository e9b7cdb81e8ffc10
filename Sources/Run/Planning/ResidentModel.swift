// What lies between a ledger and the resident set of a process: the program itself, what it knows of the model, threads,
// and pages that the kernel maps beside those that are asked for. Measured; `tools/bench --memory` shows what became of
// it.

package enum ResidentModel {
  /// What the process holds beside its work: code, Swift's runtime, OpenBLAS's tables, and what is too small to be planned;
  /// with MPI built in its libraries, too, which are loaded by every process. Measured: 33 MiB of code and tables, 2 to
  /// 4 MiB of the heap. It grows with the program: `PeakTests` hold every step's peak against its plan.
  #if MPI
    package static let processBytes = 38 << 20
  #else
    package static let processBytes = 37 << 20
  #endif
  /// What is kept of a source tensor and the output tensors it becomes: names, shapes, places. Measured on the 44,691
  /// tensors of GLM-4.7's shapes.
  private static let tensorBytes = 4 << 10
  /// With MPI, and for each process of the job on one machine. Measured: 6 to 11 MiB more with 2 to 4 ranks there.
  private static let (mpiBytes, rankBytes) = (16 << 20, 1 << 20)
  /// Code that reads recipes and their patterns, and nothing else. Measured: 3.9 MiB.
  private static let recipeBytes = 4 << 20
  /// On top while a run is prepared.
  private static let preparedBytes = 768
  /// From the end of a plan to the first step: code that is touched for the first time, journals and files that are
  /// opened. Measured: 0.6 to 1.7 MiB.
  private static let openingBytes = 2 << 20
  /// What is kept of an output tensor's checksum, and of one in the shard that is read back.
  private static let (checksumBytes, headerBytes) = (192, 448)
  /// A thread's stack and small buffers.
  private static let threadBytes = 1 << 20
  /// OpenBLAS's packing buffers for each calling thread, where matrices are large enough to fill them.
  private static let packingBytes = 3 << 20
  /// Pages that the kernel maps around those that are asked for: pieces of 2 MiB at both ends of a tensor that is read
  /// and of the one that is read next. More of them do not add up, since whoever lets a tensor go lets go of them too.
  private static let neighbourBytes = 8 << 20
  /// What the kernel maps at a touch of a file that is read for its checksum: a huge page.
  private static let pieceBytes = 2 << 20

  package static var process: MemoryUse {
    MemoryUse("the process and its libraries", processBytes)
  }

  /// What MPI takes in each of several processes: its library, and what processes of one machine share.
  ///
  /// - Parameter ofHost: how many of the processes are on one machine.
  package static func ranks(_ count: Int, ofHost: Int) -> MemoryUse {
    MemoryUse("MPI", count > 1 ? mpiBytes + ofHost * rankBytes : 0)
  }

  package static func recipe(isRead: Bool) -> MemoryUse {
    MemoryUse("recipe", isRead ? recipeBytes : 0)
  }

  /// What the names and headers of so many tensors in the source take.
  package static func names(_ tensors: Int) -> MemoryUse {
    MemoryUse("names and headers", tensors * tensorBytes)
  }

  package static func namesBeingPrepared(_ tensors: Int) -> MemoryUse {
    MemoryUse("names, being prepared", tensors * preparedBytes)
  }

  /// What loading takes beyond what is planned anyway.
  ///
  /// - Parameter measured: the peak of the process when the plan was made; 0 where that is not known.
  package static func loading(_ measured: Int, beyond base: Int) -> MemoryUse {
    MemoryUse(
      "tokenizer and data", measured > 0 ? max(0, measured + openingBytes - base) : 0)
  }

  /// Ids in blocks, and the sequences they were cut from.
  package static func tokens(_ count: Int) -> MemoryUse {
    MemoryUse("calibration tokens", count * 16)
  }

  /// - Parameter largestWeight: bytes of the largest weight in float32.
  package static func threads(_ count: Int, largestWeight: Int) -> MemoryUse {
    MemoryUse("threads and BLAS", count * (threadBytes + min(packingBytes, largestWeight)))
  }

  /// - Parameter others: bytes of the model beside the weights that are mapped: there is no more around them.
  package static func pagesAround(others: Int) -> MemoryUse {
    MemoryUse("pages around them", max(0, min(neighbourBytes, others / 8)))
  }

  /// Files that are read for their checksums.
  ///
  /// - Parameters:
  ///   - outputs: tensors of the output.
  ///   - share: of them in the largest shard.
  ///   - largest: bytes of the largest tensor.
  ///   - all: bytes of the larger of source and output.
  package static func checking(
    threads: Int, outputs: Int, share: Double, largest: Int, all: Int
  ) -> [MemoryUse] {
    let window = min(largest, Windows.checkedBytes) + min(pieceBytes, all / 8)
    return [
      MemoryUse("windows of source or output", threads * window),
      MemoryUse(
        "checksums and a header",
        outputs * checksumBytes + Int(Double(outputs) * min(1, share)) * headerBytes),
    ]
  }
}

/// A weight that is written unpacked.
package enum WeightTile {
  /// Decoded and encoded by each thread at a time.
  package static let rows = 64
}

/// How much of a mapped file is touched at a time.
package enum Windows {
  package static let bytes = 16 << 20
  /// By each thread, while files are read for their checksums.
  package static let checkedBytes = 4 << 20
}
