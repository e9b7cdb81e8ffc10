"""One-line templates, one for each rule of the language that chat templates depend on."""

# What the probes may use besides literals.
VARIABLES = {
    "text": "héllo <b> & 'x'",
    "empty": "",
    "none_value": None,
    "yes": True,
    "no": False,
    "one": 1,
    "float_one": 1.0,
    "big": 12345678901234567890123,
    "list": [3, 1, 2],
    "strings": ["b", "A", "c", "a"],
    "nested": {"a": {"b": [10, {"c": "deep"}]}, "items": "shadow", "é": "accent"},
    "messages_like": [
        {"role": "user", "content": "Hi", "n": 2},
        {"role": "assistant", "content": None, "n": 1},
        {"role": "tool", "content": "", "n": 3},
    ],
    "arguments": {"city": "Zürich", "ratio": 1.0, "deep": {"null": None, "flag": False}, "tags": ["a", 1e16]},
    "spaces": " \t\n\u00a0x\u2003\u200b\u3000",
    "decomposed": "e\u0301",
    "composed": "\u00e9",
    "emoji": "👨‍👩‍👧x",
    "crlf": "a\r\nb\rc\nd",
}

EXPRESSIONS = """
1 == 1.0 == true
1 == true and 0 == false
'a' == 'b'
decomposed == composed
decomposed|length
composed in decomposed
emoji|length
emoji[0]
emoji[::-1]
crlf|length
crlf.split('\\n')
crlf.splitlines()
'a' < 1
'a' < 'B'
[1, 2] < [1, 3]
(1, 'a') < (1, 'b')
none < 1
1 in [1.0]
'x' in 'text'
1 in 'text'
'a' in {'a': 1}
'b' not in {'a': 1}
1 < 2 < 3
1 < 3 < 2
1 == 1 != 2
not 1 == 2
not 'a' is string
not (none is none)
true and 'x'
'' or 'y'
0 or none
none and missing.attribute
-1|abs
(-1)|abs
-2 ** 2
2 ** -1
2 ** 100
2 ** 3 ** 2
7 // 2
-7 // 2
7.5 // 2
7 % 3
-7 % 3
7 % -3
7.5 % 2
-7.5 % 2
1 / 2
4 / 2
1 / 0
1 // 0
1 % 0
10 * 'ab'
'ab' * 3
-1 * 'ab'
[1, 2] * 2
[1] + [2]
(1,) + (2, 3)
[1] + (2,)
'a' + 1
1 + 1.5
true + true
big + 1
big * big
big // 7
big % 7
-big // 7
big / 3
9223372036854775807 + 1
-9223372036854775808 - 1
0.1 + 0.2
1e16
123456789012345678.0
1e15
1e-4
1e-5
1e100
1.0
100.0
-0.0
5e-324
1.7976931348623157e308
3.14159
0x1F + 0b11 + 0o17
1_000
1_000.5
010
00
1.5.real
1.
'%s and %s' % ('a', 1)
'%d%%' % 50
'%5.2f|' % 3.14159
'%-5s|%5s|' % ('a', 'b')
'%05d' % -42
'%x %X %o' % (255, 255, 8)
'%+d' % 3
'%r' % 'q'
'%s'
'%s' % undefined_name
'%s %s' % 'a'
'%s' % ('a', 'b')
'%(a)s' % {'a': 1}
'%e' % 12345.678
'%g %g %g' % (1e10, 1e-10, 0.5)
'%c%c' % (65, 'b')
'%.2s' % 'abc'
'%d' % 'x'
'a' ~ 1 ~ none ~ 2.0 ~ true
'a' ~ missing ~ 'b'
1 ~ 2 + 3
'a' 'b' "c"
'tab\\there \\'q\\' "d" \\x41 \\u00e9 \\101 \\q'
'\\é'
missing
missing ~ 'x'
missing.attribute
missing['key']
missing + 1
1 + missing
missing == none
missing == other_missing
missing is defined
missing is undefined
missing is none
missing|length
missing|list
missing|join(',')
missing|items|list
missing|upper
missing|tojson
missing|int
missing|default('d')
none_value|default('d')
none_value|default('d', true)
''|default('d', boolean=true)
missing()
missing[1:]
missing is string
missing is iterable
missing is sequence
missing is mapping
[missing]
nested.a.b[1].c
nested['a']['b'][0]
nested.a.b.0
nested.a.zzz
nested.a.zzz.y
nested['items']
nested.items is callable
text|attr('upper') is callable
none_value[1:]
nested.items()
nested.é
nested.get('a')
nested.get('q')
nested.get('q', 'd')
nested.keys()
nested.values()|list
list[10]
list['0']
list[-1]
list[1.0]
list[true]
list.length
text.length
list.append(4)
list.pop()
nested.update({})
nested.pop('a')
nested.setdefault('z', 1)
list.sort()
list.append
text.__class__
''.__class__.__mro__
nested.__class__
nested['__class__']
messages_like[0].zzz
messages_like[0].zzz.y
messages_like|map(attribute='role')|list
messages_like|map(attribute='zzz')|list
messages_like|map(attribute='zzz', default='D')|join('-')
messages_like|selectattr('role', 'equalto', 'user')|list
messages_like|selectattr('content')|list|length
messages_like|rejectattr('content')|map(attribute='role')|join
messages_like|selectattr('role', 'in', ['user', 'tool'])|list|length
messages_like|selectattr('role', 'equalto', 'user')|length
messages_like|sort(attribute='n')|map(attribute='role')|join(',')
messages_like|sort(attribute='n', reverse=true)|map(attribute='n')|join(',')
strings|sort
strings|sort(case_sensitive=true)
strings|sort(reverse=true)
strings|unique|list
strings|map('upper')|join
strings|map('nosuch')|join
strings|reject('equalto', 'A')|list
strings|select('in', ['a', 'b'])|list
list|sort|first
list|first
list|last
[]|first
[]|last
list|min ~ list|max ~ list|sum
list|reverse|list
text|reverse
list|join(', ')
messages_like|join(',', attribute='role')
list|string
list|length
none|length
5|length
list|map('string')|list
list is iterable
text is iterable
text is string
text|safe is string
nested is mapping
nested is sequence
list is sequence
none is none
no is false
yes is true
1 is true
1 is number
true is number
true is integer
1.0 is float
'a' is number
1 is boolean
no is boolean
3 is odd
4 is even
9 is divisibleby 3
9 is divisibleby(2)
'a' is in ['a']
'ab' is in 'xaby'
'abc' is lower
'ABC' is upper
range is callable
1 is sameas 1
none is sameas none
1 is eq 1
2 is gt 1
'x' is nosuchtest
'x' is string is string
'x'|nosuchfilter
'x'|nosuchfilter if false else 'fine'
'Hello World foo-bar'|title
"they're bill's"|title
"they're bill's".title()
'hELLO wORLD'|capitalize
'ß straße'|upper
'İI'|lower
'ΑΣ ΑΣΑ Σ'|lower
'ǆ'|title
'ﬁx'.capitalize()
'ab'.upper() ~ 'AB'.lower()
'aB'.swapcase()
spaces|trim|length
spaces.strip()|length
'xxhixx'.strip('x')
'xxhixx'.lstrip('x') ~ 'xxhixx'.rstrip('x')
'<think>a'.lstrip('<think>')
'  a  '|trim
'--a--'|trim('-')
'\\n\\na\\n'.lstrip('\\n')
' a  b c '.split()
' a  b c '.split(' ')
'a,b,c'.split(',', 1)
'a,b,c'.rsplit(',', 1)
'a b c'.split(none, 1)
' a  b c '.split(none, 1)
' a  b c '.rsplit(none, 1)
'  '.split(none, 0)
spaces.split()
'a,b'.split(sep=',')
'a'.split('')
''.split()
''.split('x')
'a</think>b</think>c'.split('</think>')[-1]
'a</think>b'.split('</think>')[0].split('<think>')[-1]
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.startswith('a') and 'abc'.endswith(('x', 'c'))
'abc'.startswith('b', 1)
'abc'.endswith(1)
'abc'.find('c') ~ 'abc'.find('z')
'abc'.index('z')
'abab'.count('ab')
'aXbX'.replace('X', 'é')
'aXbX'.replace('X', '', 1)
'abc'.replace('', '-')
'aXbX'|replace('X', 'y')
'a1'|replace(1, 2)
'abc'[1]
'abc'[-1]
'abc'[5]
'abc'['x']
'abc'[1:]
'abc'[:-1]
'abc'[::-1]
'abc'[::2]
'abc'[5:]
list[1:]
list[:1]
list[::-1]
list[-2:]
list[::0]
list['a':]
nested[1:]
(1, 2, 3)[1:]
'-'.join(['a', 'b'])
'-'.join([1])
'abc'.zfill(5) ~ '-1'.zfill(4)
'abc'.center(8, '*') ~ 'abc'.ljust(5) ~ '|' ~ 'abc'.rjust(5)
'abc'|center(9)
'a b'.isalpha() or 'ab1'.isalnum()
'12'.isdigit() and '½'.isnumeric()
'abc'.removeprefix('a').removesuffix('c')
'{} {1}'.format(1, 2)
'{} {}'.format(1, 'b')
'{0} {name!r:>5} {0:03d} {x:.2f}'.format(7, name='q', x=1)
'{a[b]} {a.b}'.format(a={'b': 1})
'{:,}'.format(1234567)
'abc'.nosuch
'abc'.nosuch()
none.attribute
none()
5()
'x'()
list|tojson
arguments|tojson
arguments|tojson(indent=2)
arguments|tojson(indent=4)
arguments|tojson(ensure_ascii=true)
arguments|tojson(separators=(',', ':'))
arguments|tojson(sort_keys=true)
{}|tojson(indent=2)
[]|tojson(indent=2)
[[], {}, [1]]|tojson(indent=1)
"a\\"b\\\\c\\n\\t\\u2028\\x7f</script>&'"|tojson
'😀'|tojson(ensure_ascii=true)
'😀'|tojson
1e16|tojson
none|tojson ~ true|tojson
{1: 'a', none: 'b', true: 'c', 1.5: 'd'}|tojson
(1, 2)|tojson
range(2)|tojson
namespace(a=1)|tojson
big|tojson
arguments|string
arguments
{'a': "x'y", 'b': [1, none], 'c': (1,)}
{'a': 1, 'a': 2}
{1: 'int', 1.0: 'float', true: 'bool'}
{[]: 1}
(1,)
()
[1, [2, [3]], 'q"', "q'", "q'\\""]
['\\n\\t\\\\', 'é', '\\x00', '\\u200b', '\\x7f']
true ~ false ~ none
True ~ False ~ None
range(3)
range(3)|list
range(5, 0, -2)|list
range(1, 4)[1]
range(100000)|length
range(100001)
range(0, 10, 0)
range('a')
dict(a=1, b=2)
dict({'a': 1}, b=2)
dict([('x', 1)])
'5'|int ~ ' 7 '|int ~ '0x1f'|int ~ '0x1f'|int(base=16) ~ 'z'|int ~ 'z'|int(-1) ~ '3.7'|int ~ 3.9|int ~ none|int
'1.5'|float ~ 'z'|float ~ '1e3'|float ~ 2|float ~ ' .5 '|float ~ 'inf'|float
2.5|round ~ 3.5|round ~ 2.675|round(2) ~ 7|round ~ 2.1|round(0, 'ceil') ~ 2.9|round(method='floor')
1234|round(-2) ~ 15|round(-1) ~ 25|round(-1)
'a\\nb\\n\\nc'|indent
'a\\nb\\n\\nc'|indent(2, true, true)
'a\\nb'|indent('>>')
'hello world this is long'|truncate(12)
'hello world this is long'|truncate(12, true, '!', 0)
'a b-c d'|wordcount
'%s!'|format('x')
[1, 2, 3, 4, 5]|batch(2)|list
[1, 2, 3, 4, 5]|batch(2, 'x')|list
[1, 2, 3, 4, 5]|slice(2)|list
{'b': 1, 'A': 2}|dictsort
{'b': 1, 'A': 2}|dictsort(true)
{'b': 1, 'A': 2}|dictsort(by='value', reverse=true)
nested|items|first
'x'|items|list
{'a': 1}|list
{'a': 1}.items()|list
'<a>' + ('x'|safe)
'<a>' ~ ('x'|safe)
('<x>'|safe) + '<a>'
'<a>'|escape
'<a>'|safe|escape
'<a>'|e|string
('%s'|safe) % '<a>'
['<a>'|safe]
('<'|safe).join(['<', '>'])
'a'|upper|lower
'x' if true
'x' if false
('x' if false).y
'x' if false else 'y' if false else 'z'
1 if missing else 2
loop
self_missing.x
namespace(a=1).a
namespace(a=1).b
namespace(a=1)
namespace({'a': 1}, b=2).b
raise_exception('Only <user> roles: ' ~ 1)
raise_exception()
raise_exception(1)
strftime_now('%Y-%m-%d')
strftime_now('%d %b %Y, %H:%M:%S %p %A %B %a %j %y %I %e %-d %-m')
strftime_now('%c|%x|%X|%D|%F|%T|%U|%W|%V|%G|%u|%w|%%|%Z|%z|%Q')
strftime_now(1)
lipsum is defined
from_json('{}')
'{}'|from_json
nested|attr('a')
nested.a.b[1]['c'][0]
{'a': {'b': 1}}.a.b
[1, 2, 3].index(2)
(1, 2, 1).count(1)
'a' is not string
'a' is not none and 1 is not string
[1, 2, 3,]
{'a': 1,}
(1, 2,)
list|map('tojson')|join(';')
dict(**{'a': 1})
dict(*[[('a', 1)]])
range(*[1, 3])|list
'abc'|list
'a'|default
true|string|lower
none|string
1.0|string
[none, true]|string
text is escaped
'b' > 'a' and 'B' < 'a'
'z'|float(1.5)
1|float|int
(1, 2) == [1, 2]
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
[1, 2, 3]|sum(start=10)
messages_like|sum(attribute='n')
[3, 'a']|sort
'abc' | first ~ 'abc' | last
+1 - -1
1 if 1 else 2 + 3
-'a'
'a' 'b' ~ 'c'
'abc'.islower() and 'Abc'.istitle()
""".strip("\n").split("\n")

# Whole templates: white space control, scopes, tags, errors of syntax.
TEMPLATES = [
    "a\n",
    "a\n\n",
    "a\r\nb\rc\r\n",
    "\n",
    "",
    "{% if true %}\nx\n{% endif %}\ny\n",
    "{{ 1 }}\n{{ 2 }}\n",
    "{# comment #}\nx",
    "  {# comment #}  \nx",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc",
    "a\n  {%+ if true %}\n  b\n  {%+ endif +%}\nc",
    "a\n\t\u00a0{% if true %}b{% endif %}",
    "a  {% if true %}b{% endif %}",
    "  {{ 1 }}",
    "a \n {{- 1 -}} \n b",
    "a \n\u2003{%- if true -%}\u3000\n b {%- endif %}",
    "a {#- c -#} b",
    "{% if true -%}\n\n  x\n{%- endif %}",
    "{% if true +%}\nx{% endif %}",
    "a\n  {%- if true %} b{% endif %}",
    "{{- 'x' -}}",
    "{{+ 1 }}",
    "{{ '}}' }}{{ '%}' }}{{ \"{{\" }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{% raw %}{{ x }}{% endraw %}",
    "{% raw %}\n {{ x }}\n {% endraw %}\ny",
    "{%- raw -%} {{ x }} {%- endraw -%} y",
    "{% for x in list %}{{ x }}{% endfor %}",
    "{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.length }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in list %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{{ loop.nextitem.y if loop.last else '' }}{% endfor %}",
    "{% for x in list if x > 1 %}{{ x }}:{{ loop.index }}/{{ loop.length }} {% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.last }}{{ loop.previtem }}{% else %}none{% endfor %}",
    "{% for x in [] %}x{% else %}empty{% endfor %}",
    "{% for x in list %}{% break %}{% else %}else after break{% endfor %}",
    "{% for x in list %}{% continue %}{% else %}else after continue{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% if loop.index == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for k, v in nested.items() %}{{ k }}{% endfor %}",
    "{% for k, v in arguments|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [[1]] %}{{ a }}{% endfor %}",
    "{% for a, b in [1] %}{{ a }}{% endfor %}",
    "{% for c in 'héy' %}[{{ c }}]{% endfor %}",
    "{% for x in missing %}x{% else %}none{% endfor %}",
    "{% for x in none_value %}x{% endfor %}",
    "{% for x in 5 %}x{% endfor %}",
    "{% for x in {'a': 1} %}{{ x }}{% endfor %}",
    "{% for x in list %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(x > 1) }}{% endfor %}",
    "{% for x in list %}{% for y in 'ab' %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in list recursive %}{{ x }}{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}@{{ loop.depth }}){% else %}{{ x }}{% endif %}{% endfor %}",
    "{% for x in [1] %}{{ loop([2]) }}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i + 10 %}{{ x }};{% endfor %}{{ x }}",
    "{% for i in [1, 2] %}{{ y is defined }}{% set y = i %}{{ y is defined }}{% endfor %}{{ y is defined }}",
    "{% if true %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% if false %}{% set text = 5 %}{% endif %}{{ text }}",
    "{% set ns = namespace(found=false) %}{% for x in list %}{% if x == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a + 1 %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}",
    "{% set d = {} %}{% set d.a = 1 %}",
    "{% set missing_ns.a = 1 %}",
    "{% set nested.a = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1] %}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set x %}block {{ 1 }}{% endset %}[{{ x }}]{{ x is string }}",
    "{% set x | upper | trim %} block {{ 1 }} {% endset %}[{{ x }}]",
    "{% set x %}{% set inner = 1 %}{% endset %}{{ inner is defined }}",
    "{% filter upper %}abc{{ 'd' }}{% endfilter %}",
    "{% filter replace('a', 'b')|upper %}abc{% set q = 1 %}{% endfilter %}{{ q is defined }}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% with a = 1, b = a %}{{ b }}{% endwith %}",
    "{% macro m(a, b=2, c=b) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c=5) }} {{ m() }}",
    "{% macro m(a=b, b=2) %}{{ a }}|{{ b }}{% endmacro %}{% set b = 9 %}{{ m() }} {{ m(b=3) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}",
    "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}",
    "{% macro m() %}{{ i is defined }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}",
    "{% macro m() %}{{ loop is defined }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}",
    "{% for i in [1, 2] %}{% macro m() %}{{ i }}{{ loop.index }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}",
    "{% if none_value %}{% macro m() %}x{% endmacro %}{% endif %}{{ m is defined }}{{ m() }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f() %}{% macro g() %}g{% endmacro %}{{ g() }}{% endmacro %}{{ f() }}{{ g is defined }}",
    "{% macro m(a) %}[{{ caller() }}]{% endmacro %}{% call m(1) %}body{{ one }}{% endcall %}",
    "{% macro m() %}{{ caller(1, b=2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro m(a, a) %}{% endmacro %}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m() %}x{% endmacro %}{{ m }}{{ m.name }}{{ m.arguments }}",
    "{% macro m() %}  x  {% endmacro %}{{ m()|trim }}{{ m() is string }}",
    "{% generation %}a{{ 1 }}{% set q = 1 %}{% endgeneration %}{{ q is defined }}",
    "{%- generation -%} a {%- endgeneration -%} b",
    "{% for m in messages_like %}{% generation %}{{ m.role }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{% for i in list %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}",
    "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}c",
    "{% set g = list|select('gt', 1) %}{{ g|list }}{{ g|list }}",
    "{% set g = list|map('string') %}{{ 'yes' if g else 'no' }}{{ g|first }}{{ g|join }}",
    "{% print 1, 'a' %}",
    "{% if 1 %}a{% elif 2 %}b{% else %}c{% endif %}",
    "{% if missing %}a{% elif [] %}b{% else %}c{% endif %}",
    "{% if 1: %}a{% endif %}",
    "{% if 'x'|nosuch %}{% endif %}",
    "{% if false %}{{ 'x'|nosuch }}{% endif %}fine",
    "{% if false %}{% for i in [] %}{{ i|nosuch }}{% endfor %}{% endif %}",
    "{% for i in [] %}{{ i|nosuch }}{% endfor %}",
    "{% set loop = 1 %}{{ loop }}",
    "{% for i in [] %}{% set loop = 1 %}{% endfor %}",
    "{% break %}",
    "{% if %}{% endif %}",
    "{% if true %}",
    "{% endif %}",
    "{% for x in %}{% endfor %}",
    "{% for x %}{% endfor %}",
    "{% for 1 in list %}{% endfor %}",
    "{% set %}",
    "{% set 1 = 2 %}",
    "{% set true = 2 %}",
    "{% set none = 2 %}",
    "{% set a.b.c = 2 %}",
    "{% set a['b'] = 2 %}",
    "{% do list.append(1) %}",
    "{% unknown %}",
    "{% %}",
    "{{ }}",
    "{{ 1 2 }}",
    "{{ 1 + }}",
    "{{ (1 }}",
    "{{ [1 }}",
    "{{ {'a' 1} }}",
    "{{ 'a }}",
    "{{ a b }}",
    "{{ a.1b }}",
    "{{ a. }}",
    "{{ a[] }}",
    "{{ f(a=1, 2) }}",
    "{{ f(a=1, a=2) }}",
    "{{ a | }}",
    "{{ a is }}",
    "{{ a is not }}",
    "{{ a ! b }}",
    "{{ a ? b : c }}",
    "{{ a && b }}",
    "{{ $ }}",
    "{{ x",
    "{% if x",
    "{# x",
    "{% raw %}x",
    "{ { } }",
    "{{ '\\x4' }}",
    "{% if true %}\n{% for x in list %}\n{{ x }}\n{% endif %}",
    "one\ntwo\n{{ missing.x }}\n",
    "one\n{% for x in list %}\n  {{ x }}\n  {{ missing.x }}\n{% endfor %}",
    "{% macro m() %}\n{{ 1 + 'a' }}\n{% endmacro %}\n\n{{ m() }}",
    "{% if one == 1 %}\n\n{{ raise_exception('bad') }}{% endif %}",
    "{% include 'other' %}",
    "{% if false %}{% include 'other' %}{% endif %}fine",
    "{{ strftime_now('%H') if strftime_now is defined else 'x' }}",
    "{{ list|length > 2 and 'more' or 'less' }}",
    "{{- '\\n' -}}\n  x",
    "{%if true%}x{%endif%}",
    "{{'a'}}{{\"b\"}}",
    "{{ [1,2,3][0:2]|join('') }}",
    "{{ 'a' if true else }}",
    "{{ a if b if c }}",
    "{% for i in range(3) %}{{ i }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for m in messages_like[::-1] %}{{ m.role }}{{ (messages_like|length - 1) - loop.index0 }}{% endfor %}",
    "{% set content = messages_like[0].content %}{% if content is string %}{{ content }}{% endif %}",
    "{% set x = messages_like[1:] %}{{ x|length }}{{ x[0].content is none }}{{ x[0]['content'] == none }}",
    "{% set q = '' %}{% for x in list %}{% set q = q ~ x %}{% endfor %}[{{ q }}]",
    "{{ messages_like[0]['content'] + '\n' }}",
    "{{ 'x' ~\n  'y' }}\n{{ 'z'\n}}w",
    "a{% if true %}  \n  b{% endif %}  \n  c",
    "{% if true %}   {% if true %}   x   {% endif %}   {% endif %}",
    "\t{% if true %}\n\t\tx\n\t{% endif %}\n\ty\n\n\n",
    "{{ \"a\nb\" }}{{ 'c\r\nd' }}",
]


def probes():
    for expression in EXPRESSIONS:
        yield "{{ " + expression + " }}"
    yield from TEMPLATES
