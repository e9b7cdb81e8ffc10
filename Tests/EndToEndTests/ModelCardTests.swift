// The model card of an output: what it says, what it leaves out, and when it is written.

import SystemIO
import Testing
import TestSupport

@Suite struct ModelCardTests {
  private func text(_ path: String) throws -> String {
    String(decoding: try FileSystem.readFile(path), as: UTF8.self)
  }

  private static let sourceCard = """
    ---
    license: other
    license_name: glm
    license_link: LICENSE
    language:
    - en
    - zh
    secret: no business of others
    pipeline_tag: text-generation
    ---
    # The model
    """

  @Test
  func `a card tells source, scheme, data, recipe, distance and licence, and no place or time`()
    throws
  {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/GLM-5M")
      try write(Self.sourceCard.utf8, to: "\(model.path)/README.md")
      let (output, other) = ("\(folder)/out", "\(folder)/other")
      let options =
        quickly + [
          "--group-size", "64", "--ignore", "model.layers.0.*", "--evaluate-on",
          "\(fixtureCalibration)[:2]",
        ]
      let run = try quantize(model.path, to: output, options)
      #expect(run.stdout.contains("KL to the reference: mean "), "\(run)")
      #expect(!run.stderr.contains(" evaluate "), "what comes next is not what was done")
      let card = try text("\(output)/README.md")
      let head = """
        ---
        license: other
        license_name: glm
        license_link: LICENSE
        language:
        - en
        - zh
        pipeline_tag: text-generation
        library_name: transformers
        tags:
        - compressed-tensors
        - w4a16
        - awq
        - vllm
        - sluice
        ---

        # GLM-5M-W4A16

        """
      #expect(card.hasPrefix(head), "\(card)")
      for line in [
        "| scheme | W4A16 in groups of 64 |", "| quantized | layers 1-3 (93 Linears) |",
        "| left as they are | layer 0; routers, norms, embeddings, lm_head |",
        "| method | AWQ's scales, then compensated rounding |",
        "| calibration data | calibration.jsonl: 6 sequences, ", "\nvllm serve GLM-5M-W4A16\n",
        "\n| calibration.jsonl[:2] | ", "```yaml\n", "That of the base model: other.",
      ] { #expect(card.contains(line), "\(line) in \(card)") }
      for word in [folder, "secret", "2026", "# The model", "base_model"] {
        #expect(!card.contains(word), "\(word) in \(card)")
      }
      let verify = try Program.run(["verify", output, "--source", model.path])
      #expect(verify.end == .exit(0) && !verify.stdout.contains("README"), "\(verify)")
      #expect(verify.stdout.contains("fits --tensor-parallel-size 2 of vllm serve"), "\(verify)")

      // The same to the byte elsewhere, by other means, and after it was lost.
      try quantize(model.path, to: other, options + ["--threads", "1"])
      #expect(try text("\(other)/README.md") == card)
      try FileSystem.remove("\(output)/README.md")
      let again = try quantize(model.path, to: output, options)
      #expect(again.stderr.contains("made again, as it was gone or changed: README.md"))
      #expect(try text("\(output)/README.md") == card)
      #expect(again.stdout == "", "measured once")

      // A later evaluation is told; what somebody wrote is left alone.
      let evaluate = ["evaluate", output, "--text", fixtureCalibration, "--samples", "3"]
      #expect(try Program.run(evaluate).end == .exit(0))
      #expect(try text("\(output)/README.md").contains("\n| calibration.jsonl | "))
      try write("mine".utf8, to: "\(output)/README.md")
      #expect(try Program.run(evaluate + ["--pack"]).end == .exit(0))
      #expect(try text("\(output)/README.md") == "mine")

      // Without a card the model's own is copied; another wish is another output.
      let plain = "\(folder)/plain"
      try quantize(model.path, to: plain, quickly + ["--no-card"])
      #expect(try text("\(plain)/README.md") == Self.sourceCard)
      expectRefusal(
        try Program.run(["quantize", model.path, "--output", plain] + quickly), ["--no-card"])
      try quantize(model.path, to: plain, quickly + ["--restart"])
      #expect(try text("\(plain)/README.md").contains("# GLM-5M-W4A16"))
    }
  }

  @Test func `data that cannot measure is refused before work starts`() throws {
    try withTemporaryFolder { folder in
      expectRefusal(
        try Program.run(
          ["quantize", fixtureModel, "-o", "\(folder)/out", "--evaluate-on", "none.jsonl"]
            + quickly), ["none.jsonl"])
      #expect(!FileSystem.exists("\(folder)/out"))
      // Memory that is enough to quantize, and not to measure.
      let small = [
        "quantize", fixtureModel, "-o", "\(folder)/out", "--no-smoothing", "--memory", "50MiB",
      ]
      expectRefusal(
        try Program.run(small + ["--evaluate-on", fixtureCalibration]),
        ["--memory 50 MiB is too small: the step `head` needs"])
      #expect(!FileSystem.exists("\(folder)/out"))
      #expect(try Program.run(small).end == .exit(0))
    }
  }
}
