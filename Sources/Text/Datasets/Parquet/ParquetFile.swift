// The rows of a parquet file.

internal import JSON
internal import SystemIO

/// One row group is open at a time, and of it one page of each column.
final class ParquetFile: RowSource {
  let rowCount: Int
  var columns: [String] { schema.fields.map(\.name) }

  private let file: MappedFile
  private let room: Room
  private let schema: ParquetSchema
  private let rowGroups: [RowGroup]
  private let fields: [SchemaNode]
  private var nextGroup = 0
  private var assembler: RowAssembler?
  private var leftInGroup = 0
  private var row = 0

  /// - Parameter columns: those to read; nil for all.
  init(path: String, columns: ChosenColumns?, _ room: Room) throws(DatasetError) {
    self.room = room
    do {
      file = try MappedFile(path: path)
    } catch {
      throw .unreadable(error)
    }
    let footer: ParquetFooter
    do throws(FileProblem) {
      footer = try Self.footer(of: file, room)
      schema = try ParquetSchema(footer.schema)
      guard
        footer.rowGroups.allSatisfy({ [leaves = schema.leaves] in $0.columns.count == leaves.count }
        )
      else {
        throw .damaged("a row group lacks columns of the schema")
      }
    } catch {
      throw error.located("footer").error(file: path)
    }
    rowGroups = footer.rowGroups
    rowCount = footer.rows
    fields = schema.fields.filter { columns?.contains($0.name) ?? true }
    if let columns, let missing = columns.wanted.subtracting(fields.map(\.name)).min() {
      throw .missingColumn(file: path, column: missing, found: schema.fields.map(\.name))
    }
  }

  func next() throws(DatasetError) -> SourceRow? {
    guard try openGroup() else { return nil }
    do throws(FileProblem) {
      guard let value = try assembler?.next() else { preconditionFailure("no row group is open") }
      leftInGroup -= 1
      row += 1
      if leftInGroup == 0 { try closeGroup() }
      return SourceRow(line: row, value: value)
    } catch {
      throw located(error)
    }
  }

  func skip(_ count: Int) throws(DatasetError) -> Int {
    var left = count
    while left > 0 {
      if leftInGroup == 0, nextGroup < rowGroups.count, rowGroups[nextGroup].rows <= left {
        // A whole row group: nothing of it is read.
        left -= rowGroups[nextGroup].rows
        row += rowGroups[nextGroup].rows
        nextGroup += 1
        continue
      }
      guard try next() != nil else { break }
      left -= 1
    }
    return count - left
  }

  // MARK: Row groups

  /// False after the last row.
  private func openGroup() throws(DatasetError) -> Bool {
    while leftInGroup == 0 {
      guard nextGroup < rowGroups.count else { return false }
      let group = rowGroups[nextGroup]
      nextGroup += 1
      if group.rows == 0 { continue }
      var readers: [ColumnReader?] = Array(repeating: nil, count: schema.leaves.count)
      for field in fields {
        for column in field.columns {
          let leaf = schema.leaves[column]
          do throws(FileProblem) {
            readers[column] = try ColumnReader(file, group.columns[column], leaf, room)
          } catch {
            throw located(error.located("column `\(leaf.path.text)`"))
          }
        }
      }
      assembler = RowAssembler(fields: fields, columns: readers, room)
      leftInGroup = group.rows
    }
    return true
  }

  private func closeGroup() throws(FileProblem) {
    try assembler?.finish()
    assembler = nil
  }

  private func located(_ problem: FileProblem) -> DatasetError {
    var problem = problem.located("rows")
    if rowGroups.count > 1 { problem.place = "row group \(nextGroup), \(problem.place ?? "")" }
    return problem.error(file: file.path)
  }

  // MARK: Footer

  /// `PAR1`, pages, footer, its length in four bytes, `PAR1`.
  private static func footer(of file: MappedFile, _ room: Room) throws(FileProblem) -> ParquetFooter
  {
    let result = unsafe file.withBytes { bytes -> Result<ParquetFooter, FileProblem> in
      do throws(FileProblem) {
        return .success(try unsafe footer(in: bytes, room))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  private static func footer(
    in bytes: UnsafeRawBufferPointer, _ room: Room
  ) throws(FileProblem) -> ParquetFooter {
    guard bytes.count >= 12 else {
      throw .damaged("expected 12 bytes at least, found \(bytes.count)", at: "file")
    }
    let mark = unsafe Array(bytes[(bytes.count - 4)...])
    if mark == Array("PARE".utf8) { throw ParquetFooter.encrypted }
    guard mark == Array("PAR1".utf8), unsafe bytes[..<4].elementsEqual("PAR1".utf8) else {
      throw .damaged("does not begin and end with `PAR1`", at: "file")
    }
    let length = unsafe Int(
      UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: bytes.count - 8, as: UInt32.self)))
    let end = bytes.count - 8
    guard length <= end - 4 else {
      throw .damaged("a footer of \(length) bytes in a file of \(bytes.count)")
    }
    let footer = unsafe UnsafeRawBufferPointer(rebasing: bytes[(end - length)..<end])
      .assumingMemoryBound(to: UInt8.self)
    guard length <= room.footerBytes else { throw .tooLarge("metadata", room.footerBytes, length) }
    return try ParquetFooter(
      unsafe Span(_unsafeElements: footer), dataEnd: end - length, limit: room.footerBytes)
  }
}
