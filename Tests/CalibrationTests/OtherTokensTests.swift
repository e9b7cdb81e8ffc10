// How many tokens of others an expert sees.

import Calibration
import Testing

@Suite struct OtherTokensTests {
  @Test(arguments: [
    (256, 131_072, 4096), (1024, 131_072, 4096), (1536, 131_072, 6144), (4096, 131_072, 16_384),
    (256, 4097, 4096),
  ])
  func `auto is four tokens for each channel, and 4096 at least`(
    channels: Int, tokens: Int, count: Int
  ) {
    #expect(OtherTokens.auto.count(channels: channels, of: tokens) == count)
  }

  @Test(arguments: [(256, 4096), (256, 100), (1536, 6144), (1536, 0)])
  func `where there are no more tokens than that, auto is all`(channels: Int, tokens: Int) {
    #expect(OtherTokens.auto.count(channels: channels, of: tokens) == nil)
  }

  @Test func `a number is that number, whatever the expert`() {
    #expect(OtherTokens.number(0).count(channels: 1536, of: 1000) == 0)
    #expect(OtherTokens.number(999).count(channels: 1536, of: 1000) == 999)
    #expect(OtherTokens.number(1000).count(channels: 1536, of: 1000) == nil)
    #expect(OtherTokens.all.count(channels: 1536, of: 1_000_000) == nil)
  }
}
