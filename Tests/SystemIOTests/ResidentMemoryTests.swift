// The kernel's own count, against memory this test takes.

import SystemIO
import Testing

@Suite struct ResidentMemoryTests {
  /// In a process of its own: in this one other tests take and free memory at the same time.
  @Test func takingMemoryShowsInAnonymousAndPeakBytes() async {
    await #expect(processExitsWith: .success) {
      let byteCount = 64 << 20
      let before = ResidentMemory.current()
      let block = [UInt8](repeating: 1, count: byteCount)
      let after = withExtendedLifetime(block) { ResidentMemory.current() }
      precondition(after.anonymousBytes - before.anonymousBytes > byteCount / 2)
      precondition(after.peakBytes > before.anonymousBytes + byteCount / 2)
      precondition(after.residentBytes >= after.anonymousBytes)
      precondition(after.fileBytes > 0)
    }
  }

  @Test func processorTimeGrowsWithWork() {
    let before = processorSeconds()
    var state: UInt64 = 1
    while processorSeconds() - before < 0.01 { state = state &* 6_364_136_223_846_793_005 &+ 1 }
    #expect(state != 0)
    #expect(processorSeconds() > before)
  }
}
