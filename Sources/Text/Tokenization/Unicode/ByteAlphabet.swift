// GPT-2's spelling of bytes as printable characters, in which byte-level vocabularies are written.

/// Source: openai/gpt-2, `bytes_to_unicode`: printable Latin-1 stands for itself, the other 68
/// bytes take U+0100 and up in order.
enum ByteAlphabet {
  static let scalars: [UInt32] = {
    var next: UInt32 = 0x100
    return (0..<256 as Range<UInt32>).map { byte -> UInt32 in
      if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE {
        return byte
      }
      next += 1
      return next - 1
    }
  }()

  private static let bytes: [Int16] = {
    var bytes = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar)] = Int16(byte) }
    return bytes
  }()

  static func byte(of scalar: UInt32) -> UInt8? {
    guard scalar < 0x144 else { return nil }
    let byte = bytes[Int(scalar)]
    return byte < 0 ? nil : UInt8(byte)
  }

  /// The bytes that `text` spells, or nil where a scalar stands for none.
  static func bytes(spelledBy text: [UInt8]) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var position = 0
    while position < text.count {
      let (value, end) = scalar(in: text, at: position)
      guard let byte = byte(of: value) else { return nil }
      result.append(byte)
      position = end
    }
    return result
  }
}
