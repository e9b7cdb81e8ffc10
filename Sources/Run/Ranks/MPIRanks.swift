// Ranks over MPI: messages of a few bytes between each rank and rank 0, and signs of life.

#if MPI
  internal import CMPI
  internal import Dispatch
  internal import Glibc
  internal import Synchronization
  internal import SystemIO

  /// The ranks of an MPI job.
  ///
  /// Every message goes to rank 0 or comes from there. A timer answers questions and looks whether the others live: the
  /// main thread may be at work for hours.
  package final class MPIRanks: Ranks {
    package let rank: Int
    package let count: Int

    private enum Tag: Int32 {
      case gather = 1
      case gathered, question, answer, alive
    }

    /// A message on its way.
    @safe private final class Sending {
      private var request: sluice_mpi_request?
      private let bytes: UnsafeMutableRawBufferPointer

      init(_ value: [UInt8], to: Int, _ tag: Tag) {
        unsafe bytes = .allocate(byteCount: max(1, value.count), alignment: 8)
        unsafe bytes.copyBytes(from: value)
        _ = unsafe sluice_mpi_send(
          bytes.baseAddress, Int32(value.count), Int32(to), tag.rawValue, &request)
      }

      /// Whether it left, or cannot leave.
      var isDone: Bool { unsafe sluice_mpi_is_done(&request) != 0 }

      deinit { unsafe bytes.deallocate() }
    }

    /// What is used under the lock: MPI is called by one thread at a time.
    private struct Shared {
      var sending: [Sending] = []
      var answer: (@Sendable (Int, [UInt8]) -> [UInt8])?
      var told: [Double]
      /// When each rank was last heard of.
      var heard: [ContinuousClock.Instant]
      var said = ContinuousClock.now
      var mine = 0.0
      var isOver = false
      var hosts: [String] = []
    }

    private let lock = Mutex(())
    nonisolated(unsafe) private var shared: Shared
    nonisolated(unsafe) private let timer: any DispatchSourceTimer
    private let parent = getppid()

    private static let milliseconds = 10
    private static let secondsBetweenSigns = 1.0
    /// Without a sign of life, a rank is taken for lost.
    private static let patience = 15.0

    /// A launcher may wait for a rank that never comes.
    private static let secondsToStart = 120

    package init() throws(RankError) {
      let late = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "start of MPI"))
      late.setEventHandler {
        Self.leave(
          "MPI did not start within \(Self.secondsToStart) seconds: another rank may be missing; nothing was changed"
        )
      }
      late.schedule(deadline: .now() + .seconds(Self.secondsToStart))
      late.resume()
      defer { late.cancel() }
      if sluice_mpi_begin() != 0 { throw .noMPI(problem: "does not start, or not for threads") }
      rank = Int(sluice_mpi_rank())
      count = Int(sluice_mpi_count())
      unsafe shared = Shared(
        told: Array(repeating: 0, count: count),
        heard: Array(repeating: ContinuousClock.now, count: count))
      unsafe timer = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "ranks"))
      unsafe timer.setEventHandler { [unowned self] in look() }
      unsafe timer.schedule(deadline: .now(), repeating: .milliseconds(Self.milliseconds))
      unsafe timer.resume()
      let names = try gather(Array(FileSystem.hostName().utf8))
      locked { $0.hosts = names.map { String(decoding: $0, as: UTF8.self) } }
    }

    private func locked<Result>(_ body: (inout Shared) -> Result) -> Result {
      lock.withLock { _ in unsafe body(&shared) }
    }

    package func finish() {
      locked { $0.isOver = true }
      unsafe timer.cancel()
      locked { shared in
        _ = sluice_mpi_end()
        shared.sending = []
      }
    }

    package func gather(_ value: [UInt8]) throws(RankError) -> [[UInt8]] {
      if rank > 0 {
        send(value, to: 0, .gather)
        return unpacked(receive(from: 0, .gathered))
      }
      var values = [value]
      for other in 1..<count { values.append(receive(from: other, .gather)) }
      let all = packed(values)
      for other in 1..<count { send(all, to: other, .gathered) }
      return values
    }

    package func answer(_ body: (@Sendable (Int, [UInt8]) -> [UInt8])?) {
      locked { $0.answer = body }
    }

    package func ask(_ question: [UInt8]) throws(RankError) -> [UInt8] {
      if rank == 0 { return locked { $0.answer }?(0, question) ?? [] }
      send(question, to: 0, .question)
      return receive(from: 0, .answer)
    }

    package func tell(_ number: Double) {
      locked { shared in
        shared.mine = number
        shared.told[rank] = number
      }
    }

    package var told: [Double] { locked { $0.told } }

    package func end(_ code: Int32) {
      // Where the launcher is gone, nobody else ends this process.
      alarm(5)
      locked { shared in
        shared.isOver = true
        sluice_mpi_abort(code)
      }
      _exit(code)
    }

    // MARK: Messages

    private func send(_ value: [UInt8], to: Int, _ tag: Tag) {
      locked { send(value, to: to, tag, &$0) }
    }

    private func send(_ value: [UInt8], to: Int, _ tag: Tag, _ shared: inout Shared) {
      shared.sending.append(Sending(value, to: to, tag))
    }

    private func receive(from: Int, _ tag: Tag) -> [UInt8] {
      while true {
        if let message = locked({ _ in next(from: from, tag) }) { return message.bytes }
        usleep(1000)
      }
    }

    /// Called under the lock.
    private func next(from: Int?, _ tag: Tag) -> (sender: Int, bytes: [UInt8])? {
      var sender: Int32 = 0
      let size = unsafe sluice_mpi_next(Int32(from ?? -1), tag.rawValue, &sender)
      if size < 0 { return nil }
      var bytes = [UInt8](repeating: 0, count: Int(size))
      _ = unsafe bytes.withUnsafeMutableBytes {
        unsafe sluice_mpi_receive($0.baseAddress, size, sender, tag.rawValue)
      }
      return (Int(sender), bytes)
    }

    // MARK: Looking after the others

    private func look() {
      var lost: String?
      locked { shared in
        if shared.isOver { return }
        shared.sending.removeAll(where: \.isDone)
        let now = ContinuousClock.now
        if rank == 0 {
          while let question = next(from: nil, .question) {
            shared.heard[question.sender] = now
            let answer = shared.answer?(question.sender, question.bytes) ?? []
            send(answer, to: question.sender, .answer, &shared)
          }
        }
        while let sign = next(from: nil, .alive) {
          shared.heard[sign.sender] = now
          if sign.bytes.count == 8 {
            shared.told[sign.sender] = Double(
              bitPattern: sign.bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) })
          }
        }
        if (now - shared.said).seconds >= Self.secondsBetweenSigns {
          shared.said = now
          let bits = shared.mine.bitPattern
          let sign = (0..<8).map { UInt8(truncatingIfNeeded: bits >> (8 * UInt64($0))) }
          for other in rank == 0 ? Array(1..<count) : [0] { send(sign, to: other, .alive, &shared) }
        }
        for other in rank == 0 ? Array(1..<count) : [0]
        where (now - shared.heard[other]).seconds > Self.patience {
          lost =
            "rank \(other)\(Self.host(other, shared.hosts)) gave no sign of life for \(Int(Self.patience)) seconds"
        }
      }
      if getppid() != parent { lost = "the launcher that started this rank is gone" }
      if let lost {
        Self.tell(
          "rank \(rank)\(Self.host(rank, locked { $0.hosts })) stops: \(lost); what was durable is kept, and the same command goes on"
        )
        end(1)
      }
    }

    private static func tell(_ problem: String) {
      _ = unsafe "error: \(problem)\n".withCString { unsafe write(2, $0, strlen($0)) }
    }

    private static func leave(_ problem: String) -> Never {
      tell(problem)
      _exit(1)
    }

    private static func host(_ rank: Int, _ hosts: [String]) -> String {
      rank < hosts.count ? " on \(hosts[rank])" : ""
    }

    // MARK: Several values in one message

    private func packed(_ values: [[UInt8]]) -> [UInt8] {
      values.flatMap { value in
        (0..<8).map { UInt8(truncatingIfNeeded: value.count >> (8 * $0)) } + value
      }
    }

    private func unpacked(_ bytes: [UInt8]) -> [[UInt8]] {
      var values: [[UInt8]] = []
      var rest = bytes[...]
      while rest.count >= 8 {
        let size = rest.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        rest = rest.dropFirst(8)
        values.append(Array(rest.prefix(size)))
        rest = rest.dropFirst(size)
      }
      return values
    }
  }

  extension Duration {
    fileprivate var seconds: Double {
      Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
  }
#endif
