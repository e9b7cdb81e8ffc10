// Numbers drawn from a seed and an index: the same in every run, on every machine, in any order.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) of seed and index.
package func draw(_ seed: UInt64, _ index: Int) -> UInt64 {
  var z = seed &+ UInt64(index &+ 1) &* 0x9e37_79b9_7f4a_7c15
  z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
  z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
  return z ^ (z >> 31)
}
