// Memory that a kernel may be wrong about: any alignment, and guards on both sides.

import CKernels

/// Elements that start `offset` elements after a 64-byte boundary, between bytes that nobody may change.
@safe final class KernelMemory<Element: BitwiseCopyable> {
  let start: UnsafeMutablePointer<Element>
  private let whole: UnsafeMutableRawBufferPointer
  private let used: Range<Int>
  private let count: Int
  private let guardByte: UInt8 = 0xa5

  init(_ values: [Element], offset: Int = 0) {
    let stride = MemoryLayout<Element>.stride
    count = values.count
    used = 64 + offset * stride..<64 + (offset + values.count) * stride
    unsafe whole = .allocate(byteCount: used.upperBound + 64, alignment: 64)
    for index in unsafe whole.indices { unsafe whole[index] = guardByte }
    unsafe start = (whole.baseAddress! + used.lowerBound).bindMemory(
      to: Element.self, capacity: values.count)
    for (index, value) in values.enumerated() { unsafe start[index] = value }
  }

  deinit { unsafe whole.deallocate() }

  var values: [Element] { unsafe Array(UnsafeBufferPointer(start: start, count: count)) }

  func element(_ index: Int) -> Element {
    precondition(index < count)
    return unsafe start[index]
  }

  var guardsStand: Bool {
    unsafe whole.indices.allSatisfy { unsafe used.contains($0) || whole[$0] == guardByte }
  }
}

/// Calls `body` under every instruction set that this CPU has; only the calling thread is affected.
func forEachInstructionSet(_ body: (String) throws -> Void) rethrows {
  defer { sluice_use_instruction_set(nil) }
  for name in ["portable", "avx2", "avx512", "avx512_bf16"]
  where unsafe sluice_use_instruction_set(name) == 1 { try body(name) }
}

/// Every length up to four AVX-512 vectors and a bit, at an aligned and at a misaligned start.
let lengthsAndOffsets = (0...67).flatMap { length in [0, 3].map { (length, $0) } }

func isClose(_ found: Float, _ expected: Double, relative: Double = 1e-6, absolute: Double = 0)
  -> Bool
{
  abs(Double(found) - expected) <= relative * abs(expected) + absolute
}
