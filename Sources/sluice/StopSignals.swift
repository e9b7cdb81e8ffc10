// What asks the program to stop: SIGINT, SIGTERM and SIGHUP.

internal import Dispatch
internal import Glibc
internal import Pipeline

/// Hands these signals to a function. A signal that is ignored when the program starts stays ignored: `nohup` and jobs of
/// scripts rely on that.
final class StopSignals {
  private let sources: [any DispatchSourceSignal]

  init(
    on queue: DispatchQueue = .global(), _ handler: @escaping @Sendable (_ number: Int32) -> Void
  ) {
    sources = [SIGINT, SIGTERM, SIGHUP].filter { !Self.isIgnored($0) }.map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { handler(number) }
      source.resume()
      return source
    }
  }

  /// The first signal stops a run at its next commit, another one at once.
  convenience init(requesting interruption: Interruption) {
    self.init { number in
      Console.news("stopping at the next commit; once more to stop at once")
      interruption.request()
      signal(number, SIG_DFL)
    }
  }

  func stop() { for source in sources { source.cancel() } }

  private static func isIgnored(_ number: Int32) -> Bool {
    var action = sigaction()
    unsafe sigaction(number, nil, &action)
    // A function pointer compares as the number it is.
    return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }
}
