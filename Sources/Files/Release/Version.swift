// Which version of Sluice this is, and which commit it was built from.

package enum Version {
  package static let number = "0.1.0"

  /// Twelve digits of the commit that was checked out, or `unknown` outside of a git checkout. tools/SourceCommit
  /// writes it down.
  package static let commit = sourceCommit

  package static let text = "\(number) (\(commit))"
}
