// Every probe and every family template against transformers' renderer, to the byte.

import ChatTemplates
import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct GoldenTests {
  @Test func everyProbeOfTheLanguageGivesWhatJinja2Gives() throws {
    try expectProbes(fixturePath("templates/probes.json"), atLeast: 600)
  }

  /// For a comparison with fresh random templates: `make_template_fixtures.py OUT --random N`.
  @Test(.enabled(if: unsafe getenv("SLUICE_RANDOM_TEMPLATES") != nil))
  func randomTemplatesGiveWhatJinja2Gives() throws {
    let path = unsafe String(cString: getenv("SLUICE_RANDOM_TEMPLATES"))
    try expectProbes(path, atLeast: 1)
  }

  private func expectProbes(_ path: String, atLeast count: Int) throws {
    let file = try readJSON(path)
    let variables = pairs(file["variables"])
    let cases = try #require(file["cases"]?.array)
    #expect(cases.count >= count)
    for probe in cases {
      let probe = try #require(probe.object)
      let template = try #require(probe["template"]?.string)
      let golden = Outcome(golden: probe)
      let outcome = Outcome { () throws(TemplateError) in try render(template, variables) }
      #expect(
        outcome.agrees(with: golden), "\(template.debugDescription): \(outcome), not \(golden)")
    }
  }

  @Test func everyFamilyRendersEveryConversationToTheByte() throws {
    let file = try readJSON(fixturePath("templates/renders.json"))
    let specialTokens = pairs(file["special_tokens"])
    let contexts = try #require(file["contexts"]?.object)
    let cases = try #require(file["cases"]?.array)
    #expect(cases.count >= 16 * 25)
    for rendered in cases {
      let rendered = try #require(rendered.object)
      let name = try #require(rendered["template"]?.string)
      let contextName = try #require(rendered["context"]?.string)
      let context = try #require(contexts[contextName]?.object)
      let template = try ChatTemplateFiles.template(file: fixturePath("templates/\(name)"))
      let golden = Outcome(golden: rendered)
      let outcome = Outcome { () throws(TemplateError) in
        try template.render(
          messages: context["messages"] ?? [], tools: context["tools"],
          documents: context["documents"],
          variables: specialTokens + pairs(context["variables"]),
          addGenerationPrompt: context["add_generation_prompt"]?.bool ?? false, date: frozen)
      }
      #expect(outcome.agrees(with: golden), "\(name), \(contextName): \(outcome), not \(golden)")
    }
  }

  @Test func theFixtureModelsTemplateRenders() throws {
    let files = try ChatTemplateFiles.find(folder: fixturePath("glm4-moe-4m"))
    #expect(files.specialTokens.map(\.0) == ["eos_token", "pad_token"])
    let text = try files.template().render(
      messages: [
        .object(JSONObject([("role", "user"), ("content", "Hi")])),
        .object(JSONObject([("role", "assistant"), ("content", " Ho ")])),
      ], variables: files.specialTokens, addGenerationPrompt: true, date: frozen)
    #expect(text == "[gMASK]<sop><|user|>\nHi<|assistant|>\n\nHo<|assistant|>\n")
  }
}
