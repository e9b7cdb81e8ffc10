// What tools/faults/fuzz feeds with hostile bytes. Every outcome but a crash, a hang or too much memory is good.

import ChatTemplates
import Datasets
import Glibc
import JSON
import Safetensors
import SystemIO
import Tokenization

typealias Bytes = UnsafeRawBufferPointer

private func environment(_ name: String) -> String {
  guard let value = unsafe getenv(name) else {
    fatalError("\(name) is not set; run tools/faults/fuzz")
  }
  return unsafe String(cString: value)
}

private let target = environment("SLUICE_FUZZ_TARGET")
/// For targets that read a path: a folder in memory.
private let folder = environment("SLUICE_FUZZ_FOLDER")

private let text = "[gMASK]<s> Héllo\n\n wörld's 12345 ▁\u{301}日本"

/// The first eight bytes say how large the file is; the file up to the end of its header follows.
private func fuzzHeader(_ bytes: Bytes) {
  guard bytes.count >= 16 else { return }
  let size = unsafe Int(clamping: UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)))
  let file = unsafe Bytes(rebasing: bytes[8...])
  let length = unsafe UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
  // The parser asks its caller for the whole header where the file has it.
  if length <= file.count - 8 || length > size - 8 {
    _ = try? unsafe Header.parse(bytes: file, fileByteCount: size, path: "fuzz")
  }
}

private func fuzzJSON(_ bytes: Bytes) {
  guard let value = try? unsafe JSONValue.parse(bytes) else { return }
  for indent in [nil, 2] {
    let text = value.serialized(indent: indent)
    guard let again = try? JSONValue.parse(Array(text.utf8)), again == value else {
      fatalError("comes back as another value: \(text)")
    }
  }
}

/// A tokenizer in a folder with no other file.
private func fuzzTokenizer(_ bytes: Bytes, _ name: String) {
  _ = unsafe write(bytes, name)
  guard let tokenizer = try? Tokenizer(folder: folder),
    let ids = try? tokenizer.encode(text, addSpecialTokens: true)
  else { return }
  _ = try? tokenizer.decode(ids)
}

/// All rows one by one, then past some of them.
private func readRows(_ bytes: Bytes, _ name: String) {
  let path = unsafe write(bytes, name)
  guard let dataset = try? Dataset(path: path) else { return }
  do throws(DatasetError) {
    let reader = dataset.makeReader()
    while try reader.next() != nil {}
  } catch {}
  do throws(DatasetError) {
    let reader = dataset.makeReader()
    try reader.skip(to: 3)
    _ = try reader.next()
    _ = try dataset.rowCount()
  } catch {}
}

private func write(_ bytes: Bytes, _ name: String) -> String {
  let path = "\(folder)/\(name)"
  guard let file = unsafe fopen(path, "w") else { fatalError("cannot write \(path)") }
  let written = unsafe fwrite(bytes.baseAddress, 1, bytes.count, file)
  guard unsafe fclose(file) == 0, written == bytes.count else { fatalError("cannot write \(path)") }
  return path
}

/// One input for the target.
private func exercise(_ bytes: Bytes) {
  switch target {
  case "header": unsafe fuzzHeader(bytes)
  case "json": unsafe fuzzJSON(bytes)
  case "jsonlines": unsafe readRows(bytes, "rows.jsonl")
  case "parquet": unsafe readRows(bytes, "rows.parquet")
  case "sentencepiece": unsafe fuzzTokenizer(bytes, "tokenizer.model")
  case "template": unsafe ChatTemplate.exercise(Array(bytes))
  case "tokenizer": unsafe fuzzTokenizer(bytes, "tokenizer.json")
  default: fatalError("no target `\(target)`")
  }
}

#if Fuzzing
  /// libFuzzer's way in for programs with a `main` of their own.
  @_silgen_name("LLVMFuzzerRunDriver")
  private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ testOneInput: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
  ) -> CInt

  var argumentCount = CommandLine.argc
  var arguments = unsafe CommandLine.unsafeArgv
  let status = unsafe runDriver(&argumentCount, &arguments) { start, count in
    unsafe exercise(Bytes(start: start, count: count))
    return 0
  }
  exit(status)
#else
  // Without libFuzzer: every file of the command line once.
  for path in CommandLine.arguments.dropFirst() {
    guard let bytes = try? FileSystem.readFile(path) else { fatalError("cannot read \(path)") }
    unsafe bytes.withUnsafeBytes { unsafe exercise($0) }
  }
#endif
