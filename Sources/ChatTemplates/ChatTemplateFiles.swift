package import JSON
package enum ChatTemplateFiles {
  package static func specialTokens(folder: String) throws -> [(String, JSONValue)] { [] }
  package static func find(folder: String, name: String?) throws -> (template: ChatTemplate, String) {
    (try ChatTemplate("", name: ""), "")
  }
}
