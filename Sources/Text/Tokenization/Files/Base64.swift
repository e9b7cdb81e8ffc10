// Bytes written as base64.

/// The bytes behind `text`, padded with `=` to a multiple of four; nil where it is not base64.
func base64(_ text: some BidirectionalCollection<UInt8>) -> [UInt8]? {
  let length = text.count
  guard length % 4 == 0 else { return nil }
  var digits = text[...]
  for _ in 0..<2 where digits.last == UInt8(ascii: "=") { digits.removeLast() }
  var result: [UInt8] = []
  result.reserveCapacity(length / 4 * 3)
  var bits: UInt32 = 0
  var count = 0
  for byte in digits {
    let value: UInt8
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = byte - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): value = byte - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): value = byte - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): value = 62
    case UInt8(ascii: "/"): value = 63
    default: return nil
    }
    bits = bits << 6 | UInt32(value)
    count += 6
    if count >= 8 {
      count -= 8
      result.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
    }
  }
  return result
}
