// The flag that lets unknown keys of config.json pass.

import ArgumentParser

struct ConfigKeyArguments: ParsableArguments {
  @Option(
    name: .customLong("accept-config-key"),
    help: ArgumentHelp(
      """
      A key of config.json that Sluice does not know and that does not change the forward pass \
      (repeatable), e.g. my_tool_version, or rope_scaling.note where it lies deeper.
      """, valueName: "name"))
  var names: [String] = []

  var accepted: Set<String> { Set(names) }
}
