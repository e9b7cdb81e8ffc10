// The hash against the examples that its authors published.

import SystemIO
import Testing

@Suite struct FNV1aTests {
  /// Source: draft-eastlake-fnv, appendix "FNV test vectors".
  @Test(arguments: [
    ("", 0x811c_9dc5 as UInt32, 0xcbf2_9ce4_8422_2325 as UInt64),
    ("a", 0xe40c_292c, 0xaf63_dc4c_8601_ec8c), ("foobar", 0xbf9c_f968, 0x8594_4171_f739_67e8),
  ])
  func `hashes are those of the published examples`(text: String, narrow: UInt32, wide: UInt64) {
    var hashes = (FNV1a<UInt32>(), FNV1a<UInt64>())
    hashes.0.add(text.utf8)
    for byte in text.utf8 { hashes.1.add(byte) }
    #expect(hashes.0.value == narrow && hashes.1.value == wide)
  }
}
