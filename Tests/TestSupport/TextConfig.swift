// What a config.json says of its text model, to be read and changed.

package import JSON
internal import Models

extension JSONObject {
  /// The object of the text model: this one, or one within it.
  package var text: JSONObject {
    get { Architectures.text(of: self) }
    set {
      let path = Architectures.textPath(of: self)
      if path.isEmpty { self = newValue } else { self[path] = .object(newValue) }
    }
  }

  /// What errors put before the keys of that object.
  package var textPrefix: String {
    Architectures.textPath(of: self).map { $0 + "." }.joined()
  }
}
