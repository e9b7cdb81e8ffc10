#!/usr/bin/env python3
"""Writes the goldens of fixtures/templates with transformers' own renderer.

usage: make_template_fixtures.py OUT [--random N --seed S]

OUT holds the family templates, *.jinja, written by hand; each is rendered with every conversation of template_contexts.py
into renders.json. The one-line templates of template_probes.py go to probes.json. With --random, N random templates are
judged instead, into random.json, for a comparison that is not kept. Now is always 31 July 2024, 14:05:09.
"""
import argparse
import copy
import datetime
import importlib.metadata
import json
import os
import traceback
import warnings

from jinja2 import exceptions
from transformers.utils import chat_template_utils

import random_templates
import template_contexts
import template_probes


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 31, 14, 5, 9)


chat_template_utils.datetime = Frozen
# Of the code Jinja2 makes from `(1)[x]` and the like.
warnings.simplefilter("ignore", SyntaxWarning)


def judged(template, messages, tools=None, documents=None, add_generation_prompt=False, variables=None):
    """{"ok": text} or {"error": class, "line": line}; the line is left out where Python names one of its own."""
    # `list|indent` adds to the list itself, before it fails.
    variables = copy.deepcopy(variables or {})
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            [messages], tools=tools, documents=documents, chat_template=template, add_generation_prompt=add_generation_prompt,
            **variables)
        return {"ok": rendered[0]}
    except exceptions.TemplateSyntaxError as error:
        return {"error": "syntax", "line": error.lineno}
    except SyntaxError:
        return {"error": "syntax"}
    except Exception as error:
        kind = ("refused" if isinstance(error, exceptions.SecurityError) else
                "undefined" if isinstance(error, exceptions.UndefinedError) else
                "raised" if type(error) is exceptions.TemplateError else "failed")
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
        return {"error": kind, **({"line": lines[-1]} if lines else {})}


def write(path, head, cases):
    """One case a line."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("{" + "".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=True)},\n" for key, value in head.items()))
        file.write('"cases": [\n' + ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases) + "\n]}\n")


def probe_cases(templates):
    return [{"template": template, **judged(template, [], variables=template_probes.VARIABLES)} for template in templates]


def render_cases(folder):
    for file in sorted(name for name in os.listdir(folder) if name.endswith(".jinja")):
        with open(os.path.join(folder, file), encoding="utf-8", newline="") as source:
            template = source.read()
        for name, context in template_contexts.CONTEXTS.items():
            variables = {**template_contexts.SPECIAL_TOKENS, **context.get("variables", {})}
            yield {"template": file, "context": name, **judged(template, **{**context, "variables": variables})}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out"), parser.add_argument("--random", type=int), parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    variables = {"variables": template_probes.VARIABLES}
    if args.random:
        cases = probe_cases(random_templates.templates(args.seed, args.random))
        # What Python prints with an address differs from run to run.
        cases = [case for case in cases if "object at 0x" not in case.get("ok", "") and "<function" not in case.get("ok", "")]
        write(os.path.join(args.out, "random.json"), variables, cases)
        return
    write(os.path.join(args.out, "probes.json"), variables, probe_cases(template_probes.probes()))
    write(os.path.join(args.out, "renders.json"),
          {"special_tokens": template_contexts.SPECIAL_TOKENS, "contexts": template_contexts.CONTEXTS}, list(render_cases(args.out)))
    print(json.dumps({name: importlib.metadata.version(name) for name in ("transformers", "jinja2", "markupsafe")}))


if __name__ == "__main__":
    main()
