// The schema as the tree that rows are put together by.
// Source: Melnik et al., Dremel (VLDB 2010), sections 4.1 and 4.2; apache/parquet-format LogicalTypes.md, lists.

/// A field, list or element. Each value of a leaf column is stored with two levels: how many of its optional and repeated
/// ancestors are there (definition), and at which repeated ancestor it goes on with a list (repetition).
final class SchemaNode: Sendable {
  enum Shape: Sendable {
    /// - Parameter column: number of the leaf, in the order of the file's columns.
    case leaf(column: Int, LeafType)
    case structure([SchemaNode])
    /// - Parameters:
    ///   - itemDefinition: from this definition level on there is an item.
    ///   - repetition: the repetition level of the second item and those that follow.
    case list(SchemaNode, itemDefinition: Int, repetition: Int)
  }

  let name: String
  let shape: Shape
  /// From this definition level on the node is there; below it is null, or one of its ancestors is.
  let definition: Int
  let isOptional: Bool
  /// Below this definition level an ancestor is missing, and this node means nothing.
  var parentDefinition: Int { isOptional ? definition - 1 : definition }
  /// The leaf columns at and below the node; never empty.
  let columns: Range<Int>

  init(name: String, shape: Shape, definition: Int, isOptional: Bool, columns: Range<Int>) {
    self.name = name
    self.shape = shape
    self.definition = definition
    self.isOptional = isOptional
    self.columns = columns
  }
}

/// The names that lead to a column. Columns share the beginnings of theirs: if each column had them all written out, a long
/// name above many columns would fill any memory.
final class SchemaPath: Sendable {
  private let outer: SchemaPath?
  private let name: String

  init(_ name: String, in outer: SchemaPath?) {
    self.name = name
    self.outer = outer
  }

  var text: String { outer.map { $0.text + "." + name } ?? name }
}

/// What a leaf column stores.
struct LeafType: Sendable {
  let path: SchemaPath
  let physical: PhysicalType
  let isUnsigned: Bool
  let maximumDefinition: Int
  let maximumRepetition: Int
  /// The meaning or type that cannot be read, where there is one.
  let foreign: String?
}

struct ParquetSchema: Sendable {
  let fields: [SchemaNode]
  let leaves: [LeafType]

  init(_ elements: [SchemaElement]) throws(FileProblem) {
    var builder = Builder(elements: elements)
    fields = try builder.root()
    leaves = builder.leaves
  }
}

private struct Builder {
  private static let maximumDepth = 64

  let elements: [SchemaElement]
  var next = 0
  var leaves: [LeafType] = []

  /// What the ancestors of a node add up to.
  private struct Context {
    var path: SchemaPath?
    var depth = 0
    var definition = 0
    var repetition = 0
    var foreign: String?
  }

  init(elements: [SchemaElement]) {
    self.elements = elements
  }

  mutating func root() throws(FileProblem) -> [SchemaNode] {
    let root = try take()
    guard root.type == nil else { throw .damaged("the schema has no root") }
    let fields = try children(of: root, Context())
    guard next == elements.count else {
      throw .damaged("\(elements.count - next) schema elements belong to no group")
    }
    return fields
  }

  private mutating func take() throws(FileProblem) -> SchemaElement {
    guard next < elements.count else { throw .damaged("the schema ends too early") }
    defer { next += 1 }
    return elements[next]
  }

  private mutating func children(
    of group: SchemaElement, _ context: Context
  ) throws(FileProblem) -> [SchemaNode] {
    guard group.children > 0, group.children <= elements.count - next else {
      throw .damaged("a group of \(group.children) fields in the schema")
    }
    var nodes: [SchemaNode] = []
    // By bytes: `String` calls both spellings of an accented letter equal, JSON objects do not.
    var names: Set<[UInt8]> = []
    for _ in 0..<group.children {
      let node = try self.node(try take(), context)
      guard names.insert(Array(node.name.utf8)).inserted else {
        throw .damaged("two fields `\(node.name)` in the schema")
      }
      nodes.append(node)
    }
    return nodes
  }

  private mutating func node(
    _ element: SchemaElement, _ outer: Context, ignoringRepetition: Bool = false
  ) throws(FileProblem) -> SchemaNode {
    guard let name = element.name else { throw .damaged("a field without name in the schema") }
    var context = outer
    context.depth += 1
    guard context.depth <= Self.maximumDepth else {
      throw .damaged("the schema is nested more than \(Self.maximumDepth) deep")
    }
    let path = SchemaPath(name, in: outer.path)
    context.path = path
    context.foreign = context.foreign ?? element.foreignMeaning
    if element.repetition == .repeated, !ignoringRepetition {
      return try bareList(element, name: name, context)
    }
    let isOptional = element.repetition == .optional
    if isOptional { context.definition += 1 }
    let first = leaves.count
    let shape: SchemaNode.Shape
    if element.type != nil {
      shape = leaf(element, path, context)
    } else if element.isList, element.children == 1, next < elements.count,
      elements[next].repetition == .repeated
    {
      shape = try list(context)
    } else {
      shape = .structure(try children(of: element, context))
    }
    return SchemaNode(
      name: name, shape: shape, definition: context.definition, isOptional: isOptional,
      columns: first..<leaves.count)
  }

  /// A repeated field outside of a list group: its values are a list that is never null.
  private mutating func bareList(
    _ element: SchemaElement, name: String, _ outer: Context
  ) throws(FileProblem) -> SchemaNode {
    var context = outer
    context.definition += 1
    context.repetition += 1
    let first = leaves.count
    let item = try node(element, context, ignoringRepetition: true)
    return SchemaNode(
      name: name,
      shape: .list(item, itemDefinition: context.definition, repetition: context.repetition),
      definition: outer.definition, isOptional: false, columns: first..<leaves.count)
  }

  /// Inside a list group stands one repeated field. It is a shell around the element if it is a group of one field
  /// (whatever the names, but for two that the format reserves), else it is the element itself.
  private mutating func list(_ outer: Context) throws(FileProblem) -> SchemaNode.Shape {
    var context = outer
    context.definition += 1
    context.repetition += 1
    context.depth += 1
    let shell = elements[next]
    let isElement =
      shell.type != nil || shell.children != 1 || shell.name == "array"
      || shell.name?.hasSuffix("_tuple") == true
      || (next + 1 < elements.count && elements[next + 1].repetition == .repeated)
    _ = try take()
    let item =
      isElement
      ? try node(shell, context, ignoringRepetition: true) : try node(try take(), context)
    return .list(item, itemDefinition: context.definition, repetition: context.repetition)
  }

  private mutating func leaf(
    _ element: SchemaElement, _ path: SchemaPath, _ context: Context
  ) -> SchemaNode.Shape {
    let physical = element.type ?? .byteArray
    let isForeign = physical == .int96 || physical == .fixedLengthByteArray
    let type = LeafType(
      path: path, physical: physical, isUnsigned: element.isUnsigned,
      maximumDefinition: context.definition, maximumRepetition: context.repetition,
      foreign: context.foreign ?? (isForeign ? physical.name : nil))
    leaves.append(type)
    return .leaf(column: leaves.count - 1, type)
  }
}
