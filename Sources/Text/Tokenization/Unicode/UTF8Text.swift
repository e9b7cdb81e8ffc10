// Scalars in a byte array that is known to be UTF-8.

/// The scalar that starts at `position`, and where the next one does.
@inline(__always)
func scalar(in text: [UInt8], at position: Int) -> (value: UInt32, end: Int) {
  scalar(in: text.span, at: position)
}

/// The scalar at a place of a text that is known to be UTF-8, too.
@inline(__always)
func scalar(in text: Span<UInt8>, at position: Int) -> (value: UInt32, end: Int) {
  let first = UInt32(text[position])
  if first < 0x80 { return (first, position + 1) }
  let second = UInt32(text[position + 1]) & 0x3F
  if first < 0xE0 { return ((first & 0x1F) << 6 | second, position + 2) }
  let third = UInt32(text[position + 2]) & 0x3F
  if first < 0xF0 { return ((first & 0x0F) << 12 | second << 6 | third, position + 3) }
  let fourth = UInt32(text[position + 3]) & 0x3F
  return ((first & 0x07) << 18 | second << 12 | third << 6 | fourth, position + 4)
}

/// How many bytes a scalar has, by its first.
func scalarLength(_ lead: UInt8) -> Int {
  lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
}

/// Where the scalar that ends before `position` starts.
func scalarStart(in text: [UInt8], before position: Int) -> Int {
  var start = position - 1
  while text[start] & 0xC0 == 0x80 { start -= 1 }
  return start
}

@inline(__always)
func append(_ scalar: UInt32, to text: inout [UInt8]) {
  switch scalar {
  case 0..<0x80:
    text.append(UInt8(truncatingIfNeeded: scalar))
  case 0x80..<0x800:
    text.append(0xC0 | UInt8(truncatingIfNeeded: scalar >> 6))
    text.append(0x80 | UInt8(truncatingIfNeeded: scalar & 0x3F))
  case 0x800..<0x10000:
    text.append(0xE0 | UInt8(truncatingIfNeeded: scalar >> 12))
    text.append(0x80 | UInt8(truncatingIfNeeded: scalar >> 6 & 0x3F))
    text.append(0x80 | UInt8(truncatingIfNeeded: scalar & 0x3F))
  default:
    text.append(0xF0 | UInt8(truncatingIfNeeded: scalar >> 18))
    text.append(0x80 | UInt8(truncatingIfNeeded: scalar >> 12 & 0x3F))
    text.append(0x80 | UInt8(truncatingIfNeeded: scalar >> 6 & 0x3F))
    text.append(0x80 | UInt8(truncatingIfNeeded: scalar & 0x3F))
  }
}

/// `bytes`, or what is left of them when everything that is not UTF-8 became U+FFFD.
func repaired(_ bytes: [UInt8]) -> [UInt8] {
  do {
    _ = try UTF8Span(validating: bytes.span)
    return bytes
  } catch {
    return Array(String(decoding: bytes, as: UTF8.self).utf8)
  }
}
