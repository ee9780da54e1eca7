"""Chat templates that someone wrote to take all time or all memory; `limited.py` runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfx_transformer.text.prompts import ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer

SECONDS = 1.0

FILE = Path("hub", "model", "chat_template.jinja")
MESSAGES = [{"role": "user", "content": "Hi"}]


def often(body: str, rounds: str = "range(99999)") -> str:
    return f"{{% for i in {rounds} %}}{body}{{% endfor %}}"


def growing(value: str, first: str = "'a&'", rounds: int = 99) -> str:
    """`n.x` becomes `value`, again and again."""
    step = f"{{% set n.x = {value} %}}"
    return f"{{% set n = namespace(x={first}) %}}" + often(step, f"range({rounds})")


LONG = growing("n.x ~ n.x", "'aaaaaaaa'", 17)  # a million characters, which is allowed
# 2^60 numbers to whoever reads them, 60 lists in memory.
LISTS = growing("[n.x, n.x]", "[1]", 60)
TUPLES = growing("(n.x, n.x)", "(1,)", 60)
OBJECTS = growing("{'a': n.x, 'b': n.x}", "{'a': 1}", 60)
# Slow to search in: nearly every place begins like what is looked for.
ALIKE = "{% set s = 'a' * 2490 %}{% set t = 'a' * 1200 ~ 'b' %}"

TEMPLATES = {
    # Numbers
    "power": "{{ 7 ** 9999999 }}",
    "squares": growing("n.x * n.x", "3"),
    "digits": "{{ " + "9" * 65_000 + " }}",
    "hexadecimal digits": "{% set a = 0x" + "f" * 60_000 + " %}" + often("{% set b = a * a %}"),
    "digits of another base": LONG + "{% set a = n.x|int(base=16) %}{{ a * a * a > 1 }}",
    "bytes of a number": "{{ (5).to_bytes(10 ** 9) }}",
    "rounded to billions": "{{ 5|round(-10 ** 9) }}",
    # Loops
    "loops in loops": often(often("")),
    "loops that print": often(often("{{ i }}")),
    "a loop that skips": often("{% for j in range(99999) if false %}{% endfor %}"),
    "loops over lists": "{% set a = range(99999)|list %}" + often("{% for j in a %}{% endfor %}"),
    "a loop that asks for its length": often(often("{{ loop.length }}{{ loop.last }}")),
    "a loop that compares": often("{{ loop.changed(range(99999)|list) }}"),
    "a range that is too long": "{% for i in range(10 ** 9) %}{% endfor %}",
    "a loop that calls itself": "{% for i in [1] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "filters over filters": often("{% set x = range(99)|map('string')|map('upper')|list %}"),
    "filters that wait": growing("n.x|map('string')", "[1]", 9999) + "{{ n.x|list }}",
    "attributes of attributes": "{{ range(99999)|map(attribute='a" + ".a" * 30_000
    + "', default='x')|list }}",
    "undefined things": often("{% set x = ({}).a %}{% set y = ''['b'] %}{% set z = 1['c'] %}"),
    # Macros
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice":
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
        "{{ m(60) }}",
    "callers of callers":
        "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% macro r(n) %}{% if n %}"
        "{% call m() %}{{ r(n - 1) }}{% endcall %}{% endif %}{% endmacro %}{{ r(50) }}",
    "a macro that doubles": "{% macro m(a) %}{{ a }}{{ a }}{% endmacro %}" + growing("m(n.x)"),
    "a block that calls itself": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "macros in macros": "".join(f"{{% macro a{i}() %}}" for i in range(90))
    + "{{ a }}" * 2000 + "{% endmacro %}" * 90,
    # Texts that grow
    "a text times a billion": "{{ 'a' * 10 ** 9 }}",
    "a billion times a text": "{{ 10 ** 9 * 'a' }}",
    "a list times a billion": "{{ [1] * 10 ** 9 }}",
    "doubled by ~": growing("n.x ~ n.x"),
    "doubled by +": growing("n.x + n.x"),
    "doubled by join": growing("[n.x, n.x]|join"),
    "doubled by join, a method": growing("''.join([n.x, n.x])"),
    "doubled by a format": growing("'%s%s'|format(n.x, n.x)"),
    "doubled by %": growing("'%s%s' % (n.x, n.x)"),
    "doubled by format, a method": growing("'{0}{0}'.format(n.x)"),
    "doubled by a filter": growing("n.x|replace('a', 'aa')"),
    "doubled by a method": growing("n.x.replace('a', 'aa')"),
    "doubled by a block": "{% set n = namespace(x='a') %}"
    + often("{% set b %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = b %}"),
    "longer by escape": growing("(n.x|e).replace('a', 'aa') ~ ''"),
    "longer by JSON": growing("n.x|tojson", "'\"'"),
    "replaced in a chain": "{{ 'x'|replace('', 'y' * 1000)|replace('y', 'z' * 1000)"
    "|replace('z', 'w' * 1000) }}",
    "joined by a long text": LONG + "{{ range(99999)|join(n.x) }}",
    "a list of long texts": LONG + "{% set m = namespace(x=[]) %}"
    + often("{% set m.x = m.x + [n.x ~ i] %}"),
    "long output": often("x" * 60_000),
    "long constants": often("{{ '" + "x" * 60_000 + "' }}"),
    "a long macro": "{% macro m() %}" + "x" * 60_000 + "{% endmacro %}" + often("{{ m() }}"),
    # Widths
    "a wide %": "{{ '%99999999999d' % 1 }}",
    "a wide % in a test": "{{ '%999999999d' is odd }}",
    "a wide % in another test": "{{ ['%999999999d']|select('divisibleby', 7)|list }}",
    "a width for %": "{{ '%*d' % (999999999, 1) }}",
    "a wide format": "{{ '%999999999d'|format(1) }}",
    "a wide key": "{{ '%(a(b)c)999999999d' % {'a(b)c': 1} }}",
    "a wide field": "{{ '{:>999999999}'.format(1) }}",
    "a width for a field": "{{ '{:>{w}}'.format(1, w=999999999) }}",
    "a wide field of a mapping": "{{ '{a:>999999999}'.format_map({'a': 1}) }}",
    "centred": "{{ 'a'|center(10 ** 9) }}",
    "justified": "{{ 'a'.ljust(10 ** 9) }}",
    "filled with zeros": "{{ 'a'.zfill(10 ** 9) }}",
    "tabulators": "{{ '\t'.expandtabs(10 ** 9) }}",
    "indented": "{{ 'a\nb'|indent(10 ** 9) }}",
    "indented, and empty": "{{ ''|indent(10 ** 9) }}",
    "indented by a text": LONG + "{{ n.x.replace('a', '\n')|indent(n.x) }}",
    "indented JSON": "{{ [1]|tojson(indent=10 ** 9) }}",
    "deeply indented JSON": growing("[n.x]", "range(9999)|list", 90)
    + "{{ n.x|tojson(indent=32) }}",
    "JSON with long commas": LONG + "{{ range(9999)|list|tojson(separators=(n.x, n.x)) }}",
    "filled up": "{{ [1]|batch(10 ** 9, 0)|list }}",
    "words of no meaning": "{{ lipsum(n=10 ** 6) }}",
    "a long date": LONG + "{{ strftime_now(n.x) }}",
    # Much to read, little to hold
    "lists printed": LISTS + "{{ n.x }}",
    "lists joined": LISTS + "{{ n.x ~ '' }}",
    "lists compared": LISTS + "{{ n.x == [n.x[0], n.x[1] + []] }}",
    "lists sought": LISTS + "{{ n.x in [n.x + []] }}",
    "lists as JSON": LISTS + "{{ n.x|tojson }}",
    "lists as texts": LISTS + "{{ n.x|string|length }}",
    "lists formatted": LISTS + "{{ '{0}'.format(n.x) }}",
    "lists as arguments": LISTS + "{{ range(" + "n.x, " * 2000 + ") }}",
    "lists in an error": LISTS + "{{ raise_exception(n.x) }}",
    "lists that are missing": LISTS + "{{ {}[n.x].a }}",
    "objects printed": OBJECTS + "{{ n.x }}",
    "objects compared": OBJECTS + "{{ n.x == {'a': n.x, 'b': 1} }}",
    "views compared": TUPLES + "{{ {'a': n.x}.items() == {'a': n.x + ()}.items() }}",
    "a tuple as key": TUPLES + "{{ {n.x: 1} }}",
    "a tuple looked up": TUPLES + "{{ {}[n.x] }}",
    "a tuple looked up by get": TUPLES + "{{ {}.get(n.x) }}",
    "a tuple sought": TUPLES + "{{ n.x in {} }}",
    "a tuple as a filter": TUPLES + "{{ [1]|map(n.x)|list }}",
    "a tuple as a test": TUPLES + "{{ [1]|select(n.x)|list }}",
    "a tuple once": TUPLES + "{{ [n.x]|unique|list }}",
    "a tuple too deep to hash": growing("(n.x,)", "1", 40_000) + "{{ {n.x: 1} }}",
    "parts of views": TUPLES + "{{ {}.keys() - [n.x] }}",
    "sorted": TUPLES + "{{ [n.x + (), n.x + ()]|sort }}",
    # Much to search
    "searched": ALIKE + often("{% if t in s %}{% endif %}"),
    "searched by a test": ALIKE + "{{ ([t] * 9999)|select('in', s)|list }}",
    "searched by a method": ALIKE + often("{{ s.find(t) }}"),
    "searched for replacement": ALIKE + often("{{ s|replace(t, '') }}"),
    "searched from behind": LONG + often("{{ n.x.rfind('b' ~ n.x[:500000]) }}"),
    "split from behind": LONG + "{{ n.x.rsplit('b' ~ n.x[:500000]) }}",
    "stripped": LONG + "{{ n.x.strip(n.x|replace('a', 'b') ~ 'a') }}",
    "split": growing("n.x ~ n.x", "'ab '", 99) + "{{ n.x.split() }}",
    "searched in a range": often("{% if 'x' in range(99999) %}{% endif %}"),
    "counted in a range": often("{{ range(99999).count('x') }}"),
    "slices": "{% set a = range(99999)|list %}" + often("{% set b = a[1:] %}"),
    "slices of a text": LONG + often("{% set b = n.x[1:] %}"),
    # What only the sandbox itself may call
    "free rounds": often("", "range(99999)|map('each item', 0)|first"),
    "a raise": "{{ [-10 ** 9]|map('enter a body')|list }}" + often(often("")),
    # Much to compile
    "many nodes": "{{a}}" * 13_000,
    "many names": "".join(f"{{% set a{i} = 1 %}}" for i in range(3_000)),
    "many operands": "{{ a" + " + a" * 15_000 + " }}",
    "many brackets": "{{ " + "[" * 30_000,
    "many conditions": "{% if a %}" * 3_000 + "{% endif %}" * 3_000,
}  # fmt: skip


def _case(text: str) -> Callable[[Path], Callable[[], object]]:
    def prepare(folder: Path) -> Callable[[], object]:
        tokenizer = Tokenizer.train([], 262, ROLE_TOKENS)
        tokenizer.chat_template, tokenizer.chat_template_file = text, FILE
        return lambda: ChatTemplate.of(tokenizer).prompt(MESSAGES)

    return prepare


CASES = {name: _case(text) for name, text in TEMPLATES.items()}
