// Writes the commit that is checked out into a Swift file of the target that uses this plugin.

import Foundation
import PackagePlugin

/// A new commit compiles that one file and links the program again, nothing else.
@main struct SourceCommit: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: any Target) -> [Command] {
    let root = context.package.directoryURL
    let file = context.pluginWorkDirectoryURL.appending(path: "SourceCommit.swift")
    // git adds a line to this file whenever another commit is checked out. Without the file there is nothing to wait for.
    let log = gitFolder(of: root).appending(path: "logs/HEAD")
    let isThere = FileManager.default.fileExists(atPath: log.path(percentEncoded: false))
    return [
      .buildCommand(
        displayName: "Commit of the sources", executable: URL(filePath: "/bin/sh"),
        arguments: [
          "-c", script, "SourceCommit", root.path(percentEncoded: false),
          file.path(percentEncoded: false),
        ],
        inputFiles: isThere ? [log] : [], outputFiles: [file])
    ]
  }

  /// Leaves the file as it is where the commit is the one that it has: then nothing is compiled.
  private var script: String {
    """
    commit=$(git -C "$1" rev-parse --short=12 HEAD 2>/dev/null) || commit=unknown
    text="let sourceCommit = \\"$commit\\""
    [ "$(cat "$2" 2>/dev/null)" = "$text" ] || printf '%s\\n' "$text" > "$2"
    """
  }

  /// In a worktree of git `.git` is a file that names the folder.
  private func gitFolder(of root: URL) -> URL {
    let git = root.appending(path: ".git")
    guard let text = try? String(contentsOf: git, encoding: .utf8), text.hasPrefix("gitdir: ")
    else { return git }
    return URL(
      filePath: text.dropFirst("gitdir: ".count).trimmingCharacters(in: .newlines), relativeTo: root
    )
  }
}
