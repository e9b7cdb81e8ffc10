// README.md and the pages of the documentation, held against the project and the program that they speak of.
//
//   SLUICE_WRITE_PAGES=1 tools/test --filter PagesTests      writes what is made from code anew

import CompressedTensors
import Glibc
import Models
import Quantization
import SystemIO
import Testing
import TestSupport
import Tokenization

private let catalog = "Sources/sluice/Sluice.docc"
private let pages = ((try? FileSystem.list(projectPath(catalog))) ?? []).filter {
  $0.hasSuffix(".md")
}
private let texts = ["README.md"] + pages.map { "\(catalog)/\($0)" }

private func text(_ path: String) throws -> String {
  try String(decoding: FileSystem.readFile(projectPath(path)), as: UTF8.self)
}

private func page(_ name: String) throws -> String { try text("\(catalog)/\(name).md") }

/// The lines between a comment and the next `<!-- end -->`.
private func part(_ name: String, of page: String) throws -> Substring {
  let start = try #require(page.firstRange(of: "<!-- \(name) -->\n")).upperBound
  let end = try #require(page[start...].firstRange(of: "<!-- end -->")).lowerBound
  return page[start..<end]
}

/// What stands in backticks in the first column of a table, row by row.
private func firstColumn(_ table: some StringProtocol) -> [String] {
  table.split(separator: "\n").compactMap { line in
    line.hasPrefix("| `") ? String(line.split(separator: "`")[1]) : nil
  }
}

/// Commands between fences, a line each, without the prompt and with the lines that a backslash or an indent joins.
private func commands(in text: String) -> [String] {
  var result: [String] = []
  var isCode = false
  for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
    if line.hasPrefix("```") {
      isCode.toggle()
    } else if isCode {
      let words = line.split(separator: " ").filter { $0 != "$" && $0 != "\\" }
      if line.hasPrefix("    "), !result.isEmpty {
        result[result.count - 1] += " " + words.joined(separator: " ")
      } else {
        result.append(words.joined(separator: " "))
      }
    }
  }
  return result
}

/// The words in backticks that stand in a text, outside of fences.
private func codeSpans(in text: String) -> [String] {
  text.split(separator: "```", omittingEmptySubsequences: false).enumerated()
    .filter { $0.offset % 2 == 0 }
    .flatMap { $0.element.matches(of: /`([^`]+)`/).map { String($0.1) } }
}

private let subcommands = [
  "quantize", "requantize", "plan", "status", "report", "inspect", "verify", "evaluate", "compare",
]

/// What the program says of a subcommand.
private let help: [String: String] = Dictionary(
  uniqueKeysWithValues: subcommands.map { name in
    (name, (try? Program.run([name, "--help"]).stdout) ?? "")
  })

private func options(in text: String) -> Set<String> {
  Set(text.matches(of: /(?:^|[\s\[(`|])(--[a-z][a-z0-9-]*)/).map { String($0.1) })
}

/// The files of `tools` and of its folders that are for people to run.
private func tools() throws -> [String] {
  let folders = ["tools", "tools/fixtures", "tools/judges", "tools/faults"]
  return try folders.flatMap { folder in
    try FileSystem.list(projectPath(folder)).map { "\(folder)/\($0)" }
  }.filter { FileSystem.isFile(projectPath($0)) }
}

@Suite struct PagesTests {
  @Test func `README fits into 8 KB`() throws {
    #expect(try FileSystem.fileSize(projectPath("README.md")) <= 8192)
  }

  @Test(arguments: texts)
  func `every link leads to a file, a heading or a page that is there`(path: String) throws {
    let folder = path.split(separator: "/").dropLast().joined(separator: "/")
    for match in try text(path).matches(of: /\]\(([^)\s]+)\)/) {
      let link = String(match.1)
      if link.hasPrefix("https://") { continue }
      if link.hasPrefix("doc:") {
        #expect(pages.contains(link.dropFirst(4) + ".md"), "\(link) in \(path)")
        continue
      }
      let parts = link.split(separator: "#", omittingEmptySubsequences: false).map(String.init)
      let file = folder.isEmpty ? parts[0] : "\(folder)/\(parts[0])"
      try #require(FileSystem.exists(projectPath(file)), "\(link) in \(path)")
      if parts.count == 2 {
        let headings = try text(file).split(separator: "\n").filter { $0.hasPrefix("#") }.map {
          $0.drop { $0 == "#" || $0 == " " }.lowercased().map { $0 == " " ? "-" : $0 }
        }
        #expect(headings.contains(Array(parts[1])), "\(link) in \(path)")
      }
    }
  }

  @Test func `README and the first page lead to every page`() throws {
    #expect(pages.count > 10)
    for name in pages where name != "Sluice.md" {
      #expect(try text("README.md").contains("(\(catalog)/\(name)"), "\(name)")
      #expect(try page("Sluice").contains("(doc:\(name.dropLast(3)))"), "\(name)")
    }
  }

  @Test(arguments: texts)
  func `every path of the project that a text names is there`(path: String) throws {
    let words = try text(path).split { $0.isWhitespace || "`()[],;:#'\"".contains($0) }
    for word in words
    where ["Sources/", "Tests/", "fixtures/", "tools/"].contains(where: word.hasPrefix) {
      let name = word.hasSuffix(".") ? word.dropLast() : word
      #expect(FileSystem.exists(projectPath(String(name))), "\(name) in \(path)")
    }
  }

  @Test(arguments: texts)
  func `every option, choice and default that a text shows is the program's`(path: String) throws {
    var found = 0
    for command in try commands(in: text(path)) + codeSpans(in: text(path)) {
      let words = command.split(separator: " ")
      guard words.count > 1, words[0] == "sluice", !words[1].hasPrefix("-") else { continue }
      let help = try #require(help[String(words[1])], "`\(command)` in \(path)")
      found += 1
      for option in options(in: command) {
        #expect(options(in: help).contains(option), "`\(option)` in `\(command)`")
      }
      for match in command.matches(of: /\[--[a-z-]+ ([^\]]+)\]/) {
        // Placeholders are in capitals alone.
        for value in match.1.split(separator: "|") where !value.allSatisfy(\.isUppercase) {
          #expect(help.contains(value), "`\(match.0)` in \(path)")
        }
      }
    }
    if path.hasSuffix("Guide.md") { #expect(found > 10) }
  }

  @Test(arguments: texts)
  func `every option in a sentence is one of the program or of a tool`(path: String) throws {
    let known = options(in: try (Array(help.values) + tools().map(text)).joined(separator: "\n"))
    for span in try codeSpans(in: text(path)) where span.hasPrefix("--") {
      for option in options(in: span) { #expect(known.contains(option), "`\(span)` in \(path)") }
    }
  }

  @Test func `the subcommands of these tests are the program's`() throws {
    let help = try Program.run(["--help"]).stdout
    let start = try #require(help.firstRange(of: "SUBCOMMANDS:\n")).upperBound
    let end = try #require(help[start...].firstRange(of: "\n\n")).lowerBound
    let names = help[start..<end].matches(of: /(?:^|\n)  (\w+)/).map { String($0.1) }
    #expect(names == subcommands)
  }

  /// Holds a part of a page against what the code makes of it, or writes it.
  private func check(_ name: String, of page: String, is text: String) throws {
    var whole = try EndToEndTests.page(page)
    let written = try part(name, of: whole)
    if unsafe getenv("SLUICE_WRITE_PAGES") != nil {
      whole.replaceSubrange(written.startIndex..<written.endIndex, with: text)
      try replaceFile(pagePath("\(page).md"), with: Array(whole.utf8))
    } else {
      #expect(
        written == text, "SLUICE_WRITE_PAGES=1 tools/test --filter PagesTests writes it anew")
    }
  }

  @Test func `the page of commands is what the program says of them`() throws {
    let reference = try CommandReference(Program.run(["--experimental-dump-help"]).stdout)
    for name in subcommands { #expect(reference.text.contains("## sluice \(name)\n"), "\(name)") }
    try check("commands", of: "Commands", is: reference.text)
  }

  @Test func `the table of architectures is the list in the code`() throws {
    let rows = Architectures.all.map {
      "| `\($0.name)` | \($0.models) | \($0.attention) | \($0.feedForward) |\n"
    }
    let table =
      "| class in config.json | models | attention | feed-forward |\n|---|---|---|---|\n"
      + rows.joined()
    try check("architectures", of: "Architectures", is: table)
  }

  @Test func `README counts the architectures`() throws {
    #expect(try text("README.md").contains("[\(Architectures.all.count) classes]("))
  }

  @Test func `the schemes of the page are the program's`() throws {
    let names = CompressionFormats.presets.map(\.name)
    #expect(try firstColumn(part("schemes", of: page("RecipesAndSchemes"))) == names)
    #expect(try text("README.md").contains("| compressed-tensors, \(names.count) presets |"))
  }

  @Test func `the guide lists the tokenizer files in their order`() throws {
    let table = try part("tokenizers", of: page("Guide"))
    let names = codeSpans(in: String(table)).filter {
      Tokenizer.fileNames.contains($0)
    }
    #expect(names == Tokenizer.fileNames)
  }

  @Test func `the guide lists the columns of data that are known by name`() throws {
    let help = try #require(help["quantize"]).split { $0.isWhitespace }.joined(separator: " ")
    let known = try #require(help.firstMatch(of: /Found without this: ([^.]+)\./)).1
    #expect(
      try firstColumn(part("columns", of: page("Guide"))).sorted()
        == known.split(separator: ", ").map(String.init).sorted())
  }

  @Test func `the guide installs the libraries that setup looks for`() throws {
    let libraries = /[a-z0-9]+-dev/
    // What some tests need alone comes at its end.
    let needed = try #require(text("tools/setup").split(separator: "# Some tests need").first)
    let setup = Set(needed.matches(of: libraries).map { String($0.0) })
    let line = try #require(commands(in: page("Guide")).first { $0.hasPrefix("apt-get install") })
    #expect(Set(line.matches(of: libraries).map { String($0.0) }) == setup)
  }

  @Test func `the source map lists the targets in their order`() throws {
    let manifest = try #require(text("Package.swift").split(separator: "// What measures").first)
    let declaration = /\.(?:systemLibrary|target|executableTarget)\(\s*name: "(\w+)"/
    let declared = manifest.matches(of: declaration).map { String($0.1) }
    #expect(declared.count > 20)
    // The system libraries share a row.
    let listed = try part("targets", of: page("HowItWorks")).split(separator: "\n")
      .filter { $0.hasPrefix("| `") }
      .flatMap { codeSpans(in: String($0.split(separator: "|")[0])) }
    #expect(listed == declared)
  }

  @Test func `the page for contributors lists the wings in their order`() throws {
    let declared = try text("Package.swift").matches(of: /\(\s*"([A-Z][A-Za-z]*)",\s*\[\s*\./)
      .map { String($0.1) }
    #expect(declared.count == 8)
    let listed = try page("Contributing").matches(of: /\n- `(\w+)`:/).map { String($0.1) }
    #expect(listed == declared + ["sluice"])
    #expect(try FileSystem.list(projectPath("Sources")) == listed.sorted())
  }

  @Test func `every command in tools is on the page for contributors`() throws {
    let page = try page("Contributing")
    for tool in try tools() where !tool.contains(".") {
      #expect(page.contains("`\(tool)"), "\(tool)")
    }
  }

  @Test func `every file that a run leaves is described`() throws {
    let page = try page("Formats")
    for name in try QuickRun.made.get().records {
      #expect(page.contains("`\(name)`"), "\(name)")
    }
  }
}
