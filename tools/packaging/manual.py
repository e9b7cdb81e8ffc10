"""Manual pages, from the definitions of the commands (`sluice --experimental-dump-help`). A module, not a command.

swift-argument-parser's own plugin, `generate-manual`, would build the program once more, and fills the examples as if they
were prose.
"""

EXIT_CODES = [("0", "Done."), ("1", "Failed, or findings."), ("64", "Wrong usage."), ("130", "Stopped; may go on.")]


def pages(program, release):
    """Name of the file -> text: a page for the program, and one for each command."""
    commands = [command for command in program["subcommands"] if command["commandName"] != "help"]
    names = {f"sluice-{command['commandName']}": command for command in commands}
    result = {"sluice.1": page("sluice", program, release, sorted(names), commands)}
    for name, command in names.items():
        result[f"{name}.1"] = page(name, command, release, ["sluice"])
    return result


def page(name, command, release, others, commands=()):
    words = name.replace("-", " ")
    arguments = [argument for argument in command["arguments"] if argument["shouldDisplay"]]
    # What every command has stands on the program's page alone.
    if not commands:
        arguments = [each for each in arguments if not {"help", "version"} & set(long_names(each))]
    abstract = command["abstract"].rstrip(".")
    lines = [f'.TH {name.upper()} 1 {release.date:%Y-%m-%d} "sluice {release.number}" "User Commands"',
             # Names of options and schemes are copied: no hyphen and no space that is not theirs.
             ".nh", ".ad l", ".SH NAME", rf"{name} \- {escaped(abstract[0].lower() + abstract[1:])}", ".SH SYNOPSIS"]
    if commands:
        lines += [r".B sluice", r"\fICOMMAND\fR [\fIOPTIONS\fR]"]
    else:
        lines += [rf".B {escaped(words)}", " ".join([r"[\fIOPTIONS\fR]"] + [w for w in map(needed, arguments) if w])]
    prose, examples = parts(command.get("discussion", ""))
    lines += [".SH DESCRIPTION", *with_breaks(prose)]
    if commands:
        lines.append(".SH COMMANDS")
        for each in commands:
            lines += [".TP", rf"\fBsluice\-{each['commandName']}\fR(1)", escaped(each["abstract"])]
    lines.append(".SH OPTIONS")
    for argument in arguments:
        text = argument.get("abstract", "")
        if "defaultValue" in argument and "Default:" not in text:
            text += f" Default: {argument['defaultValue']}."
        lines += [".TP", title(argument), escaped(text)]
    if examples:
        lines += [".SH EXAMPLES", ".nf", *(escaped(line) for line in examples), ".fi"]
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT_CODES:
        lines += [".TP", rf".B {code}", meaning]
    lines += [".SH SEE ALSO", ",\n".join(rf"\fB{escaped(other)}\fR(1)" for other in others)]
    return "\n".join(lines) + "\n"


def long_names(argument):
    return [name["name"] for name in argument.get("names", []) if name["kind"] == "long"]


def needed(argument):
    """An argument in the synopsis; nothing for an option that may be left out."""
    value = rf"\fI{escaped(argument['valueName'])}\fR"
    if argument["kind"] == "positional":
        value += " ..." if argument["isRepeating"] else ""
        return f"[{value}]" if argument["isOptional"] else value
    return "" if argument["isOptional"] else rf"\fB{escaped('--' + long_names(argument)[0])}\fR {value}"


def title(argument):
    value = rf"\fI{escaped(argument['valueName'])}\fR"
    if argument["kind"] == "positional":
        return value
    names = [("-" if name["kind"] == "short" else "--") + name["name"] for name in argument["names"]]
    return ", ".join(rf"\fB{escaped(name)}\fR" for name in names) + (f" {value}" if argument["kind"] == "option" else "")


def parts(discussion):
    """Paragraphs of prose, and lines of examples."""
    prose, examples = [], []
    for paragraph in discussion.split("\n\n"):
        lines = paragraph.split("\n")
        if lines[0] == "EXAMPLES":
            examples = [line[2:] for line in lines[1:]]
        elif not paragraph.startswith("Exit codes:"):
            prose.append(escaped(" ".join(lines)))
    return prose, examples


def with_breaks(paragraphs):
    for index, paragraph in enumerate(paragraphs):
        if index:
            yield ".PP"
        yield paragraph


def escaped(text):
    r"""Text that troff prints as it is: `-` as the sign that options have, and no line that begins with a command."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text[:1] in (".", "'") else text
