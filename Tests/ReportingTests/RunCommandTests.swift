// The command of a run that was planned.

import Reporting
import Testing

@Suite struct RunCommandTests {
  private func command(_ words: String, _ flags: [String] = []) -> String {
    runCommand(planned: words.split(separator: " ").map(String.init), with: flags)
      .joined(separator: " ")
  }

  @Test func `what was planned is run, into a folder to be named`() {
    #expect(
      command("sluice plan GLM --memory 8GiB --within 12h --json")
        == "sluice quantize GLM --memory 8GiB --output OUT")
    #expect(
      command("sluice plan GLM --within=12h -o out --ignore plan")
        == "sluice quantize GLM -o out --ignore plan")
    #expect(
      command("sluice plan GLM --hosts 2 --within 100h --threads 4 --hosts=3")
        == "sluice quantize GLM --threads 4 --output OUT")
    #expect(command("sluice plan plan --output=out") == "sluice quantize plan --output=out")
  }

  @Test func `settings take the place of those that were planned`() {
    let flags = ["--expert-tokens auto", "--samples 64", "--rounding fast"]
    #expect(
      command("sluice plan GLM --samples 512 --expert-tokens=all -o out --within 1h", flags)
        == "sluice quantize GLM -o out --expert-tokens auto --samples 64 --rounding fast")
  }
}
