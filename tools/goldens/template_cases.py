"""Chat templates and contexts: one small case for each construct, then whole templates shaped like the real families'."""

import json
import pathlib
import re
from typing import NamedTuple

FOLDER = pathlib.Path(__file__).resolve().parent / "templates"

WEATHER = {
    "name": "get_weather",
    "description": "Weather <now> & \"later\" in a city, e.g. Z\u00fcrich",
    "parameters": {"type": "object", "required": ["city"],
                   "properties": {"city": {"type": "string"},
                                  "days": {"type": "integer", "enum": [1, 2, 3]},
                                  "units": {"type": ["string", "null"], "default": None}}},
}
ADD = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": ADD}]
CALL = {"type": "function", "id": "call_1",
        "function": {"name": "get_weather",
                     "arguments": {"city": "Z\u00fcrich", "days": 2, "wind": True,
                                   "tags": ["a", "b"]}}}
SYSTEM = {"role": "system", "content": "  Be brief.\n"}
USER, REPLY = {"role": "user", "content": "Hi \u4f60\u597d!"}, {"role": "assistant", "content": "Hello."}
CHAT = [SYSTEM, USER, REPLY, {"role": "user", "content": "And now?\n\n"}]
THINKING = [USER,
            {"role": "assistant", "content": "<think>\nold thoughts\n</think>\n\nFirst answer."},
            {"role": "user", "content": "More?"},
            {"role": "assistant", "content": "", "reasoning_content": "I should ask.",
             "tool_calls": [CALL]},
             {"role": "tool", "content": "{\"t\": 21}", "name": "get_weather"},
            {"role": "tool", "content": "windy"}, {"role": "assistant", "content": "It is 21."}]
PARTS = [{"role": "user",
          "content": [{"type": "text", "text": "Look: "}, {"type": "image"},
                      {"type": "text", "text": "what is it?"}]}]
DATA = {"n": 7, "neg": -7, "x": 2.5, "zero": 0, "s": " Hello World ", "word": "ashlar", "empty": "",
        "nothing": None, "yes": True, "no": False,
        "xs": [3, 1, 2, 3], "words": ["pear", "Apple", "fig"],
        "d": {"b": 1, "a": [1, 2], "c": {"k": "v"}}, "nested": [[1, 2], [3, 4]],
        "people": [{"name": "Mia", "age": 9, "kind": "child"},
                   {"name": "Tom", "age": 41, "kind": "adult"},
                   {"name": "Ana", "age": 33, "kind": "adult"}],
        "html": "<a href='x'>\"&\u00e9\u2028</a>", "text": "one\ntwo\n\nthree"}


class Case(NamedTuple):
    template: str
    context: dict
    fails: bool = False
    rare: bool = False


# Expressions, each printed between brackets so that spaces show; rendered with DATA.
EXPRESSIONS = (
    # arithmetic and comparison
    "n + 2", "n - 10", "n * 3", "n / 2", "8 / 2", "n // 2", "neg // 2", "n % 3", "neg % 3",
    "n ** 2", "x * 2", "x // 1", "7.0", "1e3", "1 + 2 * 3 - 4 / 2", "(1 + 2) * 3", "-n", "+n",
    "-n ** 2", "0.1 + 0.2",
    "1 < 2 < 3", "1 < 3 < 2", "1 == 1.0", "'a' < 'b'", "xs == [3, 1, 2, 3]", "n != 7",
    "n >= 7 and n <= 7", "not n == 7", "not zero", "n and 0", "0 or 'x'", "none or empty or 'last'",
    "yes and not no", "1 in xs", "9 not in xs", "'b' in d", "'lo' in s", "not ('q' in s)",
    "true", "false", "none", "True", "None", "'a' ~ 1 ~ none ~ true ~ 2.0", "1 ~ (2 + 3)",
    "'a' * 3", "[1] * 2 + [2]", "'x' if n > 5 else 'y'", "'x' if n > 9",
    "('p' if no else 'q') ~ 'r'", "yes + yes", "1 if nothing is none else 2",
    # literals, indexing, slices
    "[1, 'a', none, true, 2.5, [], {}]", "{'a': 1, 'b': [1, {'c': none}], 1: 2}", "(1, 'two')",
    "(1,)", "()", "(1)", "d.b", "d['a'][1]", "d.c.k", "d.missing is defined", "xs[0]", "xs[-1]",
    "xs[1:]", "xs[:-1]", "xs[::-1]", "xs[1:3]", "xs[::2]", "xs[5:]",
    "word[0]", "word[-1]", "word[::-1]", "word[1:4]", "nested[1][0]", "people[0].name",
    "people[-1]['age']", "messages[0].role", "messages[0]['content'][0]", "d.get('b')",
    "d.get('zz')", "d.get('zz', 5)", "'esc: \\n\\t\\\\ \\' \\x41 \\u00e9'", "\"dq 'in' dq\"",
    # filters
    "s | trim", "s | length", "xs | length", "d | length", "s | upper", "s | lower",
    "'hello wORLD o\\'neil x-y' | title", "'hELLO wORLD' | capitalize", "xs | join(', ')",
    "xs | join", "people | join(', ', attribute='name')", "nothing | default('d')",
    "missing | default('d')",
    "missing | default", "empty | default('d')", "empty | default('d', true)",
    "nothing | default('d', boolean=true)", "'a-b-c' | replace('-', '+')",
    "'a-b-c' | replace('-', '+', 2)", "n | string ~ '!'", "html | safe",
    "words | reject('equalto', 'fig') | list", "xs | select('odd') | list",
    "xs | reject('odd') | list", "[0, 1, '', 'a', none] | select | list",
    "[0, 1, '', 'a', none] | reject | list",
    "people | selectattr('kind', 'equalto', 'adult') | map(attribute='name') | list",
    "people | rejectattr('kind', 'equalto', 'adult') | map(attribute='name') | join",
    "people | selectattr('age', 'gt', 10) | list | length",
    "[{'a': 1}, {'b': 2}] | selectattr('a') | list",
    "[{'a': 1}, {'b': 2}] | selectattr('a', 'defined') | list",
    "[{'a': 1}, {'b': 2}] | map(attribute='a', default='-') | list", "words | map('upper') | list",
    "words | map('length') | sum", "words | map('replace', 'p', 'P') | join('/')", "xs | first",
    "xs | last", "word | first", "word | list",
    "'42' | int + 1", "'4x2' | int", "'4x2' | int(5)", "3.9 | int", "'0x1F' | int(0, 16)",
    "'2.5' | float", "'z' | float", "7 | float", "xs | unique | list", "words | unique | join",
    "xs | sort", "xs | sort(reverse=true)", "words | sort", "words | sort(case_sensitive=true)",
    "people | sort(attribute='age') | map(attribute='name') | list",
    "d | dictsort", "{'b': 1, 'A': 2} | dictsort", "{'x': 2, 'y': 1} | dictsort(reverse=true)",
    "xs | reverse | list", "word | reverse", "2.567 | round", "2.567 | round(2)", "2.5 | round",
    "2.1 | round(method='ceil')", "2.9 | round(0, 'floor')", "neg | abs", "-2.5 | abs", "xs | min",
    "xs | max", "words | min", "people | max(attribute='age')",
    "xs | sum", "xs | sum(start=10)", "people | sum(attribute='age')", "[] | sum", "text | indent",
    "text | indent(2, true)", "text | indent(2, blank=true)", "text | indent('> ')",
    "d | items | list", "html | tojson", "d | tojson", "d | tojson(indent=2)",
    "xs | tojson(indent=4)", "d | tojson(sort_keys=true)", "'\u00fc' | tojson(ensure_ascii=true)",
    "xs | tojson(separators=(',', ':'))",
    "none | tojson", "2.0 | tojson", "1e22 | tojson", "[true, 1.5, 'a\\n\\u0007\\\"'] | tojson",
    "{} | tojson(indent=2)", "[[]] | tojson(indent=1)",
    # methods
    "' a b '.strip()", "'xxaxx'.strip('x')", "' a '.lstrip() ~ '|'", "'|' ~ ' a '.rstrip()",
    "'\\n\\na\\n'.rstrip('\\n')", "'a,b,,c'.split(',')", "' a  b c '.split()",
    "'a-b-c'.split('-', 1)", "'a-b-c'.rsplit('-', 1)", "'</think>x</think>y'.split('</think>')[-1]",
    "'a\\nb\\n'.splitlines()", "word.startswith('ash')", "word.endswith(('x', 'lar'))",
    "word.endswith('x')",
    "word.replace('a', 'A')", "word.replace('a', 'A', 1)", "word.upper()", "'ABC'.lower()",
    "'hello world'.title()", "'hello'.capitalize()", "word.find('l')", "word.find('q')",
    "word.count('a')", "','.join(words)", "word.removeprefix('ash')", "word.removesuffix('lar')",
    "d.items() | list", "d.keys() | list", "d.values() | list",
    # tests
    "n is defined", "missing is defined", "missing is undefined", "nothing is none",
    "nothing is not none", "s is string", "n is string", "d is mapping", "xs is mapping",
    "xs is iterable", "s is iterable", "n is iterable", "xs is sequence", "s is sequence",
    "d is sequence", "n is number", "x is number", "yes is number", "n is integer", "x is integer",
    "yes is integer", "x is float", "n is float",
    "yes is boolean", "n is boolean", "yes is true", "1 is true", "no is false", "0 is false",
    "4 is even", "n is odd", "9 is divisibleby 3", "9 is divisibleby(4)", "n is equalto 7",
    "n is eq 7", "n is ne 7", "n is lt 8", "n is le(7)", "n is gt 8", "n is ge 7", "3 is in xs",
    "'q' is in s", "n is not in xs",
    "none is defined", "[] is iterable and [] is not string and [] is not mapping",
    "missing is defined and missing.x",
    # globals
    "range(3) | list", "range(1, 6, 2) | list", "range(3, 0, -1) | list", "namespace(a=1).a",
    "strftime_now('at')", "strftime_now('%Y') | length",
)

# What Jinja has and no template of a published model is known to use; rows marked "rare".
RARE_EXPRESSIONS = (
    "people | groupby('kind') | map('first') | list", "xs | batch(2) | list",
    "'one two three' | wordcount", "'abcdefghij' | truncate(6, true, '')",
    "'%s-%d' | format('a', 3)", "xs | count", "'a b' | urlencode", "'x' | center(5)",
    "d.items is callable", "'trim' is filter", "'odd' is test",
    "n is sameas n", "'ABC' is upper", "'abc' is lower", "dict(a=1, b=2)", "joiner('|') is defined",
    "cycler('a', 'b').next()", "html | escape",
    "html | e", "'12'.isdigit()", "'ab'.isalpha()", "'A'.isupper()", "'7'.zfill(3)",
    "'a=b'.partition('=')", "'{} {}'.format('a', 1)", "1_000", "0x1F",
    "2 ** -1", "10 ** 20", "123456789012345678901234567890", "xs.index(2)", "xs.count(3)",
    "d.copy().get('b')", "{'x': 2, 'y': 1} | dictsort(by='value')", "word.index('l')",
)

# Statements and layout: (template, more context); None marks one that must fail.
STATEMENTS = (
    ("{% for x in xs %}{{ loop.index0 }}{{ loop.index }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}", {}),
    ("{% for x in xs %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}", {}),
    ("{% for x in xs %}{% if loop.previtem is defined and loop.previtem > x %}down{% else %}up{% endif %}{{ '' if loop.last else ',' }}{% endfor %}", {}),
    ("{% for x in [] %}never{% else %}none at all{% endfor %}", {}),
    ("{% for x in xs if x != 3 %}{{ loop.index }}/{{ loop.length }}={{ x }} {% else %}no{% endfor %}", {}),
    ("{% for x in xs if x > 9 %}{{ x }}{% else %}nobody{% endfor %}", {}),
    ("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in d | items %}{{ loop.index }}{{ k }}{% endfor %}", {}),
    ("{% for a, b in nested %}{{ a }}-{{ b }} {% endfor %}{% for (a, b) in nested %}{{ a + b }} {% endfor %}", {}),
    ("{% for k in d %}{{ k }}{% endfor %}|{% for c in word %}{{ c }}.{% endfor %}", {}),
    ("{% for x in xs %}{% for y in xs %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
     {}),
    ("{% for x in xs %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x) }}{{ loop.depth }}{% endfor %}",
     {}),
    ("{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}", {}),
    ("{% for m in messages recursive %}{{ m.role }}{% endfor %}", {"messages": CHAT}),
    ("{% set x = 1 %}{% for i in xs %}{% set x = i %}{% endfor %}{{ x }}", {}),
    ("{% set ns = namespace(n=0, found=false) %}{% for i in xs %}{% set ns.n = ns.n + i %}{% if i == 2 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }} {{ ns.found }}", {}),
    ("{% set a, b = 1, 'z' %}{{ a }}{{ b }}{% set c = a if b == 'z' else 0 %}{{ c }}", {}),
    ("{% set block %}  <{{ n }}>\n{% endset %}[{{ block }}]{% set up | upper | trim %} shout {% endset %}[{{ up }}]", {}),
    ("{% if n > 8 %}a{% elif n > 6 %}b{% else %}c{% endif %}{% if nothing %}d{% elif empty %}e{% endif %}", {}),
    ("{% if messages and messages[0].role == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ rest | length }}", {"messages": CHAT}),
    ("{% macro tag(name, body='-', sep=': ') %}<{{ name }}{{ sep }}{{ body }}>{% endmacro %}{{ tag('a') }}{{ tag('b', 2) }}{{ tag(name='c', sep='=') }}{{ tag(body=n, name='d') }}", {}),
    ("{% macro count(k) %}{{ k }}{% if k > 0 %},{{ count(k - 1) }}{% endif %}{% endmacro %}{{ count(4) }}", {}),
    ("{% macro show(v, depth=0) %}{% if v is mapping %}{% for k, w in v.items() %}\n{{ '  ' * depth }}{{ k }}:{{ show(w, depth + 1) }}{% endfor %}{% elif v is string or v is not iterable %} {{ v }}{% else %}{% for w in v %}\n{{ '  ' * depth }}-{{ show(w, depth + 1) }}{% endfor %}{% endif %}{% endmacro %}{{ show(d) }}", {}),
    ("{% macro outer() %}{{ n }}{{ caller() if caller is defined else 'no caller' }}{% endmacro %}{{ outer() }}{% call outer() %}body{% endcall %}", {}),
    ("{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}{{ m.name }}",
     {}),
    ("{% macro m(a, b) %}{{ a is defined }}{{ b is defined }}{% endmacro %}{{ m(1) }}", {}),
    ("{% filter upper %}abc {{ word }}{% endfilter %}", {}),
    ("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}", {}),
    ("{% raw %}{{ not }} {% rendered %}{# at all #}{% endraw %}!", {}),
    ("a{# a comment {{ n }} {% if %} #}b{#- tight -#} c", {}),
    ("  {%- if true -%}  a  {%- endif -%}  b", {}),
    ("line\n  {% if true %}\n  inside\n  {% endif %}\nend\n", {}),
    ("line\n  {%+ if true %}\n  inside\n  {% endif +%}\nend\n\n", {}),
    ("a\n  {{ n }}  \n  {# gone #}\nb {{- n -}} \n c", {}),
    ("{% for x in xs %}\n    * {{ x }}\n{% endfor %}\n\ndone\n", {}),
    ("{%- for x in xs -%}\n    * {{ x }}\n{%- endfor -%}\n\ndone\n\n", {}),
    ("{{ '{{' }} {{ '%}' }} {{ \"}}\" }} { { % } #", {}),
    ("{% generation %}a{{ n }}{% endgeneration %}b", {}),
    ("{%- for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}[{{ m.content | trim }}]{% endif %}{% endfor %}", {"messages": CHAT}),
    ("[{{ missing }}][{{ d.missing }}][{{ nothing }}][{{ messages[0].name }}]", {"messages": CHAT}),
    ("{{ tools is none }}{{ tools is defined }}{{ documents is none }}{{ add_generation_prompt }}",
     {}),
    ("{% for t in tools %}{{ t | tojson }}\n{{ t.function | tojson(indent=4) }}\n{% endfor %}",
     {"tools": TOOLS}),
    ("{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}{{ eos_token if m.role == 'assistant' else '\\n' }}{% endfor %}", {"messages": CHAT, "bos_token": "<s>", "eos_token": "</s>"}),
    ("{% for m in messages[::-1] %}{% set i = (messages | length - 1) - loop.index0 %}{{ i }}{{ m.role[0] }} {% endfor %}", {"messages": CHAT}),
    ("{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}odd{% else %}ok{% endif %} {% endfor %}", {"messages": CHAT[1:]}),
    ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | map('trim') | join('|') }}", {"messages": CHAT}),
    ("{{ (messages | last).content }}{{ (messages | map(attribute='role') | unique | list) }}",
     {"messages": CHAT}),
    ("{{ d }}{{ people[0] }}{{ words }}{{ [\"it's\", 'say \"x\"', 'both \\' \"', '\\n', '\u00e9', 1.0, 1e16, 1e-7] }}", {}),
    ("{{ 1.0 }} {{ 1e16 }} {{ 1234567890123456789 }} {{ 1e-5 }} {{ 3.0 * 2 }} {{ 10 ** 15 }} {{ 7 / 7 }} {{ 2.50 }}", {}),
    ("{{ enable_thinking is defined and enable_thinking is false }}{{ '\\n<think>' if not enable_thinking else '' }}", {"enable_thinking": False}),
    ("{% set content = messages[0].content if messages[0].content is string else (messages[0].content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('')) %}{{ content }}", {"messages": PARTS}),
    ("{% for part in messages[0]['content'] %}{% if part['type'] == 'image' or 'image' in part %}<img>{% elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}", {"messages": PARTS}),
    ("{{ xs.append(4) }}{{ xs }}", None),
    ("{{ xs.pop() }}", None), ("{{ d.update({'z': 1}) }}", None), ("{{ d.pop('b') }}", None),
    ("{% set xs2 = xs + [4] %}{{ xs2 }}{{ xs2.insert(0, 1) }}", None),
    ("{{ raise_exception('stop: ' ~ n) }}", None),
    ("{% if n %}{{ raise_exception('no') }}{% endif %}", None), ("{{ 1 / 0 }}", None),
    ("{{ missing.x }}", None), ("{{ missing() }}", None), ("{{ 'a' + 1 }}", None),
    ("{{ n | nosuchfilter }}", None),
    ("{% if n is nosuchtest %}{% endif %}", None), ("{% for x in xs %}", None), ("{{ n", None),
    ("{% endif %}", None), ("{{ ''.__class__ }}{{ ''.__class__.mro() }}", None),
    ("{% nosuchtag %}", None), ("{% for x in nothing %}{% endfor %}", None),
    ("{{ n.foo.bar }}", None), ("{% set a, b = 1 %}", None), ("{% break %}", None),
    ("{{ 1 ~ 2 + 3 }}", None), ("{{ ['a', 1] | sort }}", None),
    ("{{ range(1000000) | length }}", None), ("{{ word.encode('utf-8').nope() }}", None),
)

# Whole templates, from templates/*.jinja: (file, contexts).
WHOLE = (
    ("thinking",
     ({"messages": CHAT}, {"messages": CHAT, "add_generation_prompt": True},
      {"messages": CHAT, "add_generation_prompt": True, "enable_thinking": False},
                  {"messages": THINKING},
                  {"messages": THINKING, "tools": TOOLS, "add_generation_prompt": True},
                  {"messages": THINKING[:5], "tools": TOOLS, "add_generation_prompt": True})),
    ("headers",
     ({"messages": CHAT, "bos_token": "<|begin_of_text|>"},
      {"messages": CHAT, "tools": TOOLS, "add_generation_prompt": True,
       "bos_token": "<|begin_of_text|>", "date_string": "01 Jan 2030"},
                 {"messages": THINKING, "tools": TOOLS, "tools_in_user_message": False,
                  "bos_token": "<|begin_of_text|>"},
                  {"messages": CHAT[1:], "builtin_tools": ["search", "code_interpreter"],
                   "bos_token": "<B>"})),
    ("turns",
     ({"messages": CHAT, "bos_token": "<bos>", "add_generation_prompt": True},
      {"messages": CHAT[1:], "bos_token": "<bos>"}, {"messages": PARTS, "bos_token": "<bos>"})),
    ("channels",
     ({"messages": CHAT, "add_generation_prompt": True},
      {"messages": THINKING, "tools": TOOLS, "reasoning_effort": "high"},
      {"messages": PARTS, "model_identity": "You are Ashlar."})),
    ("latent",
     ({"messages": CHAT, "bos_token": "<b>", "eos_token": "<e>", "add_generation_prompt": True},
      {"messages": CHAT, "bos_token": "<b>", "eos_token": "<e>", "add_generation_prompt": True,
       "thinking": True},
                {"messages": THINKING, "tools": TOOLS, "bos_token": "<b>", "eos_token": "<e>"})),
)


def zoo_cases(template):
    yield Case(template, {"messages": CHAT})
    yield Case(template, {"messages": CHAT, "add_generation_prompt": True})
    yield Case(template, {"messages": CHAT[1:], "add_generation_prompt": True})
    yield Case(template, {"messages": PARTS, "add_generation_prompt": True})
    yield Case(template, {"messages": [], "add_generation_prompt": True})
    yield Case(template, {"messages": [USER, SYSTEM]}, fails=True)
    yield Case(template, {"messages": [{"role": "tool", "content": "x"}]}, fails=True)
    yield Case(template, {"messages": [{"role": "user"}]}, fails=True)
    yield Case(template, {"messages": [{"role": "user", "content": None}]}, fails=True)


def all_cases(zoo_template):
    yield from zoo_cases(zoo_template)
    for expression in EXPRESSIONS:
        yield Case("[{{ " + expression + " }}]", dict(DATA, messages=CHAT))
    for expression in RARE_EXPRESSIONS:
        yield Case("[{{ " + expression + " }}]", dict(DATA, messages=CHAT), rare=True)
    for template, more in STATEMENTS:
        yield Case(template, dict(DATA, **(more or {})), fails=more is None)
    for name, contexts in WHOLE:
        template = (FOLDER / f"{name}.jinja").read_text()
        for context in contexts:
            yield Case(template, context)
    strict = (FOLDER / "turns.jinja").read_text()
    yield Case(strict, {"messages": [USER, USER], "bos_token": "<bos>"}, fails=True)


def used(case):
    """Only the data a case names, so that the file stays small; what is not ours to leave out stays."""
    optional = {*DATA, "messages"} if case.context.keys() >= DATA.keys() else ()
    return {k: v for k,
            v in case.context.items() if k not in optional or re.search(rf"\b{k}\b", case.template)}


def cases(zoo_template):
    """Every context says explicitly what apply_chat_template always passes."""
    defaults = {"messages": [], "tools": None, "documents": None, "add_generation_prompt": False}
    for case in all_cases(zoo_template):
        yield case._replace(context=json.loads(json.dumps({**defaults, **used(case)})))
