// Why a template does not parse or a chat does not render.

/// A place in a template: its name, the line and the construct that stands there.
package struct TemplatePlace: Sendable, Equatable {
  package let template: String
  /// Counted from 1.
  package let line: Int
  /// Such as `{% for %}` or `filter "join"`; empty where only the line is known.
  package let construct: String

  package init(template: String, line: Int, construct: String) {
    self.template = template
    self.line = line
    self.construct = construct
  }
}

package enum TemplateError: Error, Sendable, Equatable {
  /// The template itself is wrong, whatever the chat.
  case syntax(TemplatePlace, String)
  /// The template called `raise_exception`: it does not accept this chat.
  case raised(TemplatePlace, String)
  /// An undefined value was used where only a value will do.
  case undefined(TemplatePlace, String)
  /// What the sandbox refuses: changing a list or dict, private attributes.
  case refused(TemplatePlace, String)
  /// Any other error of the template language: wrong types, wrong arguments.
  case failed(TemplatePlace, String)
  /// A limit against runaway templates was reached.
  case tooLarge(TemplatePlace, String)

  package var place: TemplatePlace {
    switch self {
    case .syntax(let place, _), .raised(let place, _), .undefined(let place, _),
      .refused(let place, _), .failed(let place, _), .tooLarge(let place, _):
      place
    }
  }

  package var message: String {
    switch self {
    case .syntax(_, let message), .raised(_, let message), .undefined(_, let message),
      .refused(_, let message), .failed(_, let message), .tooLarge(_, let message):
      message
    }
  }
}

extension TemplateError: CustomStringConvertible {
  package var description: String {
    let place = place
    let construct = place.construct.isEmpty ? "" : " in \(place.construct)"
    let what =
      switch self {
      case .syntax: "the template is malformed: \(message)"
      case .raised: "the template refuses this chat: \(message)"
      case .undefined, .failed: message
      case .refused: "not allowed in a template: \(message)"
      case .tooLarge: "\(message); a template that needs more is not supported"
      }
    let before =
      switch self {
      case .syntax: "download it again, or "
      case .raised: "leave the chat out, or "
      case .undefined, .refused, .failed, .tooLarge: ""
      }
    return "\(place.template) line \(place.line)\(construct): \(what); "
      + "\(before)give another template with `--chat-template`"
  }
}

/// An error before its place is known; `ChatTemplate` adds that.
struct Fault: Error {
  enum Kind {
    case syntax, raised, undefined, refused, failed, tooLarge
  }

  let kind: Kind
  let message: String
  /// Set by the lexer and the parser, which know better than the interpreter's current line.
  var line: Int?
  var construct: String?

  init(_ kind: Kind, _ message: String, line: Int? = nil, construct: String? = nil) {
    self.kind = kind
    self.message = message
    self.line = line
    self.construct = construct
  }

  /// Wrong types, values and arguments: what Python raises as TypeError, ValueError and others.
  static func failed(_ message: String) -> Fault { Fault(.failed, message) }

  func placed(template: String, line: Int, construct: String) -> TemplateError {
    let place = TemplatePlace(
      template: template, line: self.line ?? line, construct: self.construct ?? construct)
    return switch kind {
    case .syntax: .syntax(place, message)
    case .raised: .raised(place, message)
    case .undefined: .undefined(place, message)
    case .refused: .refused(place, message)
    case .failed: .failed(place, message)
    case .tooLarge: .tooLarge(place, message)
    }
  }
}
