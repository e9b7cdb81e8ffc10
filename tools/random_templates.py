"""Random small templates: expressions over the probes' variables, and statements around them."""
import random

ATOMS = ["text", "empty", "none_value", "yes", "no", "one", "float_one", "big", "list", "strings", "nested", "arguments",
         "messages_like", "spaces", "missing", "0", "1", "2", "-1", "3", "1.5", "0.0", "-2.5", "1e20", "1e-7", "true", "false",
         "none", "''", "'a'", "'A b-c'", "' x '", "'a,b,c'", "'ß'", "'<&>'", "[]", "[1, 'a']", "(1, 2)", "()", "{}",
         "{'a': 1, 'b': none}", "range(4)", "'12'", "'-3.5'", "decomposed", "emoji", "crlf", "'x'|safe", "'%s'", "nested.a",
         "messages_like[0]", "messages_like[0].role", "namespace(a=1)", "arguments.items()"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in"]
FILTERS = ["abs", "batch(2)|list", "capitalize", "center(9)", "count", "d('D')", "default('D', true)", "dictsort", "e", "escape",
           "first", "float", "forceescape", "format(1)", "indent", "indent(2, true)", "int", "int(7)", "items|list", "join", "join('-')",
           "last", "length", "list", "lower", "map('upper')|list", "map(attribute='role')|list", "max", "min", "reject('none')|list",
           "rejectattr('content')|list", "replace('a', 'b')", "replace('', '.')", "reverse|list", "round", "round(1)", "round(-1)",
           "safe", "select|list", "select('string')|list", "selectattr('role')|list", "slice(2)|list", "sort", "sort(reverse=true)",
           "string", "sum", "title", "tojson", "tojson(indent=2)", "tojson(sort_keys=true)", "trim", "trim('a')", "truncate(5, true, '', 0)",
           "unique|list", "upper", "wordcount", "attr('upper')|string|length > 5"]
TESTS = ["odd", "even", "divisibleby 2", "defined", "undefined", "none", "boolean", "false", "true", "integer", "float", "lower",
         "upper", "string", "mapping", "number", "sequence", "iterable", "callable", "escaped", "in [1, 'a', none]", "eq 1", "ne 'a'",
         "gt 1", "le 2", "not none", "not string"]
METHODS = ["upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", "lstrip('a ')", "rstrip(' c')", "split()", "split(',')",
           "split(none, 1)", "rsplit(' ', 1)", "splitlines()", "startswith('a')", "endswith('c')", "find('a')", "count('a')", "replace('a', 'é')",
           "join(['p', 'q'])", "zfill(5)", "center(7, '*')", "partition(',')", "isdigit()", "isalpha()", "istitle()", "islower()", "isspace()",
           "isalnum()", "isupper()", "isnumeric()", "isprintable()", "isidentifier()", "items()|list", "keys()|list", "values()|list", "get('a')", "get('zz', 1)",
           "index(1)", "format(1, a=2)", "removeprefix('a')", "expandtabs()", "a", "role", "append(1)", "is_integer()", "zzz", "casefold()", "rjust(6)"]
# Slices take their bounds from variables: Jinja2 folds constant ones, where errors become undefined values.
SUBSCRIPTS = ["[0]", "[-1]", "[1]", "['a']", "['role']", "[one:]", "[:-one]", "[::-one]", "[::one + 1]", "[-one:]", "[none_value:2]", "[5]"]


def expression(rng, depth):
    if depth == 0:
        return rng.choice(ATOMS)
    inner = lambda: expression(rng, depth - 1)
    kind = rng.randrange(10)
    if kind < 3:
        return f"({inner()}) {rng.choice(OPERATORS)} ({inner()})"
    if kind < 5:
        return f"({inner()})|{rng.choice(FILTERS)}"
    if kind == 5:
        return f"({inner()}) is {rng.choice(TESTS)}"
    if kind < 8:
        return f"({inner()}).{rng.choice(METHODS)}" if kind == 6 else f"({inner()}){rng.choice(SUBSCRIPTS)}"
    if kind == 8:
        return rng.choice([f"{inner()} if {inner()} else {inner()}", f"not {inner()}", f"-({inner()})", f"({rng.choice(ATOMS)}) ** {rng.choice(['2', '-1', 'yes'])}", f"{inner()}|{rng.choice(FILTERS)}"])
    return rng.choice([f"[{inner()}, {inner()}]", f"({inner()}, {inner()})", "{'k': " + inner() + "}", f"'%s|%r' % ({inner()}, {inner()})",
                       f"'%d %.2f' % ({inner()}, {inner()})", f"'{{}}{{!r}}'.format({inner()}, {inner()})",
                       f"'%{rng.choice('+- 0#')}{rng.randrange(9)}.{rng.randrange(4)}{rng.choice('srdefgxX')}' % ({inner()},)",
                       f"'{{:{rng.choice(['', '<', '>', '^', '=', '*^'])}{rng.choice(['', '+', ' '])}{rng.choice(['', '0'])}{rng.randrange(1, 12)}"
                       f"{rng.choice(['', ',', '.2', '.3'])}{rng.choice(['', 'd', 'f', 'e', 'g', 's', 'x', '%'])}}}'.format({inner()})"])


def body(rng, depth):
    space = lambda: rng.choice(["", " ", "\n", "\n  ", "\t", " \n", "\n\n"])
    dash = lambda: rng.choice(["", "", "-", "+"])
    # A plus before `}}` would be an operator.
    show = lambda e: "{{" + rng.choice(["", "-"]) + f" {e} " + rng.choice(["", "-"]) + "}}"
    tag = lambda t: "{%" + dash() + f" {t} " + dash() + "%}"
    parts = []
    for _ in range(rng.randrange(1, 4)):
        kind = rng.randrange(9) if depth else rng.randrange(3)
        e = expression(rng, rng.randrange(2))
        inner = lambda: body(rng, depth - 1)
        if kind == 0:
            parts.append(rng.choice(["text", "x y", "é", "{", "}", "#"]))
        elif kind < 3:
            parts.append(show(rng.choice([e, "x", "y", "loop.index0", "loop.last", "x is defined", "ns.a"])))
        elif kind == 3:
            parts.append(tag(f"if {e}") + inner() + rng.choice(["", tag("else") + inner(), tag(f"elif {rng.choice(ATOMS)}") + inner()]) + tag("endif"))
        elif kind == 4:
            parts.append(tag(f"for x in {rng.choice(['list', 'strings', '[]', e, 'range(3)', 'text', 'list if x > 1'])}") + inner()
                         + rng.choice(["", "", tag("if x == 1") + tag(rng.choice(["break", "continue"])) + tag("endif")])
                         + rng.choice(["", tag("else") + inner()]) + tag("endfor"))
        elif kind == 5:
            parts.append(tag(f"set {rng.choice('xy')} = {e}"))
        elif kind == 6:
            parts.append(tag(f"set {rng.choice('xy')}") + inner() + tag("endset"))
        elif kind == 7:
            parts.append("{#" + dash().replace("+", "") + " note " + rng.choice(["", "-"]) + "#}" + tag(f"macro m(x, y={rng.choice(ATOMS)})") + inner() + tag("endmacro")
                         + show(rng.choice(["m(1)", "m()", "m(1, y=2)", "m(x, 3)"])))
        else:
            parts.append(tag("set ns = namespace(a=0)") + tag("for i in list") + tag("set ns.a = ns.a + i") + inner() + tag("endfor") + show("ns.a"))
        parts.append(space())
    return space().join(parts)


def templates(seed, count):
    rng = random.Random(seed)
    for index in range(count):
        yield body(rng, 2) if index % 4 == 0 else "{{ " + expression(rng, rng.randrange(1, 4)) + " }}"
