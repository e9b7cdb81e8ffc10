// What asks the program to stop: SIGINT, SIGTERM and SIGHUP.

internal import Dispatch
internal import Glibc
internal import Pipeline
internal import Synchronization

/// Hands these signals to a function. A signal that is ignored when the program starts stays ignored: `nohup` and jobs of
/// scripts rely on that.
///
/// A command has one of these from its beginning to its end, and changes what is done: libdispatch puts its own handler of
/// a signal in place for the first source of a process alone, so that a second one would hear nothing.
final class StopSignals {
  typealias Handler = @Sendable (_ number: Int32) -> Void

  private final class Receiver: Sendable {
    private let handler: Mutex<Handler>

    init(_ handler: @escaping Handler) { self.handler = Mutex(handler) }

    func handle(_ handler: @escaping Handler) { self.handler.withLock { $0 = handler } }

    func receive(_ number: Int32) {
      let handler = self.handler.withLock { $0 }
      handler(number)
    }
  }

  private let receiver: Receiver
  private let numbers: [Int32]
  private let sources: [any DispatchSourceSignal]

  init(_ handler: @escaping Handler) {
    let receiver = Receiver(handler)
    // A queue of its own, as all others may be at work.
    let queue = DispatchQueue(label: "signals")
    numbers = [SIGINT, SIGTERM, SIGHUP].filter { !Self.isIgnored($0) }
    sources = numbers.map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { receiver.receive(number) }
      source.resume()
      return source
    }
    self.receiver = receiver
  }

  /// The first signal stops a run at its next commit, another one at once.
  convenience init(requesting interruption: Interruption) {
    self.init { number in
      Console.news("stopping at the next commit; once more to stop at once")
      interruption.request()
      signal(number, SIG_DFL)
    }
  }

  /// From here on, this is done.
  func handle(_ handler: @escaping Handler) { receiver.handle(handler) }

  /// From here on, signals do nothing, a second one included.
  func hold() {
    receiver.handle { _ in }
    for number in numbers { signal(number, SIG_IGN) }
  }

  /// From here on, a signal ends the program.
  func stop() {
    for source in sources { source.cancel() }
    for number in numbers { signal(number, SIG_DFL) }
  }

  private static func isIgnored(_ number: Int32) -> Bool {
    var action = sigaction()
    unsafe sigaction(number, nil, &action)
    // A function pointer compares as the number it is.
    return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }
}
