"""Chat templates: what would take all time or memory is refused; those of real models, written
here after their kind, say to the letter what `transformers` makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import hostile_templates
import jinja2
import jinja2.ext
import jinja2.sandbox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import outcomes_of

from tfx_transformer.errors import InputError
from tfx_transformer.text import sandbox
from tfx_transformer.text.prompts import ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer

FAMILIES = sorted((Path(__file__).parent / "chat_templates").glob("*.jinja"))


# Hostile ones


@pytest.fixture(scope="module")
def outcomes():
    return outcomes_of("hostile_templates")


@pytest.mark.parametrize("name", hostile_templates.CASES)
def test_a_hostile_template_is_refused_in_time(outcomes, name):
    outcome = outcomes[name]
    assert outcome["good"], outcome
    assert outcome["said"].startswith(f"{hostile_templates.FILE}: the chat template ")
    assert "\n  " in outcome["said"], "a remedy follows"
    assert len(outcome["said"]) < 1_000


def test_many_hostile_templates_are_tried(outcomes):
    assert outcomes.keys() == hostile_templates.CASES.keys()
    assert len(outcomes) > 100


def test_a_long_special_token_is_refused():
    with pytest.raises(InputError, match="Expected 2 to 100 characters"):
        ChatTemplate("", Tokenizer.train([], 270, ["a" * 101]))


def test_too_many_special_tokens_are_refused():
    tokenizer = Tokenizer.train([], 262, ROLE_TOKENS)
    tokenizer.special_tokens |= {f"<{i:098}>": 300 + i for i in range(10_001)}
    with pytest.raises(InputError, match="the special tokens are too many"):
        ChatTemplate("", tokenizer)


# Real ones, beside Jinja set up as `transformers` does


class Tracker(jinja2.ext.Extension):
    """As in `transformers`."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_support")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _support(self, context, caller):
        return caller()


def raise_exception(message):
    raise jinja2.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


NAMES = {
    "raise_exception": raise_exception,
    "strftime_now": lambda form: f"the day of {form}",
    "bos_token": "<s>",
    "eos_token": "</s>",
}


def plain(text: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Tracker, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= NAMES
    return environment.from_string(text)


def said(function, *arguments, **variables) -> tuple[str, str]:
    try:
        return "", function(*arguments, **variables)
    except Exception as error:
        return type(error).__name__, str(error)


class Both:
    """A template here and there."""

    def __init__(self, text: str) -> None:
        self.environment = sandbox.ChatEnvironment(NAMES)
        self.template = self.environment.compile_template(text)
        self.plain = plain(text)

    def compared(self, messages: list[Mapping], **variables) -> str:
        """What both say; returns it, or the name of the error that both raise."""
        found = said(self.environment.render_template, self.template, messages, **variables)
        assert found == said(self.plain.render, messages=messages, **variables)
        return found[0] or found[1]


def share(both: Both, messages: list[Mapping]) -> float:
    """What of its allowance a rendering has spent."""
    characters = sum(len(m["content"]) for m in messages)
    allowed = sandbox.LEAST_ALLOWANCE + sandbox.ALLOWANCE_PER_MESSAGE * len(messages)
    allowed += sandbox.ALLOWANCE_PER_CHARACTER * characters
    return 1 - both.environment._left / allowed


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda path: path.stem)
def family(request):
    return Both(request.param.read_text(encoding="utf-8"))


def message(role: str, content: str, **more) -> dict:
    return {"role": role, "content": content, **more}


PARAMETERS = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "description": " Where <it> is\n", "enum": ["a", "b"]},
        "days": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "",
            "nullable": True,
        },
        "how": {"type": ["string", "number"], "description": "猫", "default": {"a": [1, None]}},
        "more": {"type": "object", "additionalProperties": {"type": "boolean"}, "description": "d"},
        "other": {"oneOf": [{"type": "number"}, {"type": "string", "description": "s"}]},
    },
    "required": ["place"],
}
FUNCTION = {"name": "weather", "description": 'Tells "it".', "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": FUNCTION | {"return": {"type": "string"}}}] * 2
CALL = {"name": "weather", "arguments": {"place": "Köln & <x>", "days": [1, 2]}}
CALLS = [{"id": "abcdefghi", "type": "function", "function": CALL}]
CONVERSATIONS = {
    "a question": [message("user", "Hi")],
    "with a system": [message("system", " Be kind. /no_think\n"), message("user", "Hi")],
    "turns": [
        message("system", "s"),
        message("user", " Hi\n"),
        message("assistant", "<think>\nhm\n</think>\n\nHello! "),
        message("user", "猫 & <b>\u2028"),
        message("assistant", ""),
        message("user", "x"),
    ],
    "calls": [
        message("user", "Weather?"),
        message("assistant", "", tool_calls=CALLS, thinking="hm"),
        message("tool", 'warm & "dry"', tool_call_id="abcdefghi"),
        message("tool", "{}", tool_call_id="abcdefghi"),
        message("assistant", "It is warm."),
        message("user", "Thanks"),
    ],
    "an open call": [message("user", "?"), message("assistant", "x", tool_calls=CALLS)],
    "no question": [message("assistant", "a"), message("assistant", "b")],
    "nothing": [],
}


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["", "tools"])
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("asks", [True, False])
def test_a_real_template_says_the_same(family, name, tools, asks):
    variables = {"add_generation_prompt": asks, "tools": tools, "documents": None}
    family.compared(CONVERSATIONS[name], **variables)


def test_every_real_template_takes_a_question(family):
    assert "Hi" in family.compared(CONVERSATIONS["a question"], add_generation_prompt=True)


texts = st.text(max_size=30) | st.sampled_from(["<think>a</think>b", "/think", " \n", "<|x|>", "&"])


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), texts)))
@settings(max_examples=40, deadline=None)
def test_a_real_template_says_the_same_of_any_conversation(family, turns):
    messages = [message(role, content) for role, content in turns]
    family.compared(messages, add_generation_prompt=True, tools=None, documents=None)


@pytest.mark.parametrize(
    ("count", "length"), [(1, 3), (8, 80), (600, 300), (3, 400_000)], ids=lambda n: str(n)
)
def test_a_real_template_spends_less_than_a_tenth(family, count, length):
    turns = [("user", "assistant")[n % 2] for n in range(count - 1)]
    words = ("<think>hm</think> word and " * length)[:length]
    messages = [message("system", words), *(message(role, words) for role in turns)]
    family.compared(messages, add_generation_prompt=True, tools=None, documents=None)
    assert share(family, messages) < 0.1


def test_a_real_template_makes_prompts():
    tokens = [*ROLE_TOKENS, "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = Tokenizer.train([], 300, tokens)
    text = next(p for p in FAMILIES if p.stem == "qwen3").read_text(encoding="utf-8")
    template = ChatTemplate(text, tokenizer, end_id=tokenizer.special_tokens["<|im_end|>"])
    ids = template.prompt([message("system", "s"), message("user", "Hi <|im_end|>")])
    start, end = (tokenizer.special_tokens[t] for t in ("<|im_start|>", "<|im_end|>"))
    encode = tokenizer.encode
    assert ids == [
        *(start, *encode("system\ns"), end, *encode("\n")),
        *(start, *encode("user\nHi <|im_end|>"), end, *encode("\n")),
        *(start, *encode("assistant\n")),
    ]


# What Jinja has, one by one

EXPRESSIONS = [
    "1 + 2 * 3 - 4 // 3 % 2",
    "7 / 2",
    "2 ** 10, 2.5 ** 2, -3, +4, 1.5 * 100000000",
    "'a' * 3 ~ [1] * 2 ~ 2 * 'b'",
    "[1] + [2], 'a' + 'b', (1,) + (2,)",
    "1 < 2 < 3, 1 < 3 < 2, 'a' == 'a' != 'b', 3 in [1, 2] or 'a' in 'cat'",
    "'x' not in {'x': 1}, 1 in range(3), 'a' in messages[0]",
    "'%s is %d%%' % ('a', 3)",
    "'%(a)s' % {'a': 'b'}, '%s-%s'|format(1, 2), '{} {a:>5}'.format(1, a='猫')",
    "messages[::-1][0].content[1:-1], messages[0]['content'][::2], 'abc'[-1]",
    "messages|length, messages|count, messages|first, messages|last",
    "messages|map(attribute='role')|list, messages|map('length')|list",
    "messages|selectattr('role', 'equalto', 'user')|list|length",
    "messages|rejectattr('role', 'in', ['user'])|map(attribute='content')|join('|')",
    "[1, 2, 3]|select('odd')|list, [1, 2, 3]|reject('even')|list, [0, 1]|select|list",
    "'abc'|list, 'abc'|reverse, [1, 2]|reverse|list, 'abc'|join('-')",
    "[3, 1, 2]|sort, [3, 1]|max, [3, 1]|min, ['b', 'A']|sort(case_sensitive=true, reverse=true)",
    "['a', 'A', 'b']|unique|list, {'b': 1, 'a': 2}|dictsort, {'a': 1}|items|list",
    "messages|sort(attribute='content')|map(attribute='content')|list",
    "' a b '|trim, 'xax'|trim('x'), 'a'|upper, 'A'|lower, 'ab c'|title, 'ab'|capitalize",
    "'a<b'|e, ('a<b'|safe) ~ '<', ('<'|safe) + '<'",
    "'a\nb\n\nc'|indent(2), 'a\nb'|indent('> ', true)",
    "'aXbX'|replace('X', '--'), 'aaa'|replace('a', 'b', 2), 'aaa'.replace('a', '', 1), 1|string",
    "'3'|int, 'x'|int(7), 'ff'|int(base=16), '1.5'|float, -3|abs",
    "none|default('d'), ''|d('e', true), nothing|d, [nothing]|first is defined",
    "{'a': [1, 'é'], 'b': none}|tojson, [{'a': 1}]|tojson(indent=2), {'b': 1, 'a': 2}|tojson("
    "sort_keys=true, separators=(',', ':')), 'é'|tojson(ensure_ascii=true), 'x'|tojson",
    "' a '.strip(), 'xax'.lstrip('x'), 'xax'.rstrip('x'), 'ab'.startswith(('a', 'b')), 'a'.upper()",
    "'a-b-c'.split('-'), 'a b'.split(), 'a-b-c'.rsplit('-', 1), 'a-b'.partition('-')",
    "'a\nb'.splitlines(), 'a b'.split(sep=' ', maxsplit=1)",
    "'-'.join(['a', 'b']), '-'.join(messages|map(attribute='role'))",
    "'abcb'.find('b'), 'abcb'.count('b'), 'abcb'.rfind('b', 0, 2)",
    "'ab'.removeprefix('a'), 'a1'.isalnum(), 'aß'.title(), 'ß'.upper(), 'aB'.swapcase()",
    "{'a': 1}.get('a'), {'a': 1}.get('b', 2), {'a': 1}.items()|list",
    "{'a': 1}.keys(), {'a': 1}.values(), {'a': 1}.copy(), [1].copy()",
    "[1, 2, 1].count(1), (1, 2).index(2), dict(a=1), dict([('a', 1)]), dict({'a': 1}, **{'b': 2})",
    "nothing, nothing is defined, nothing|default('x'), messages[0].nothing is undefined",
    "1 is number, 'a' is string, [] is iterable, {} is mapping, none is none",
    "true is boolean, 1.5 is float, 1 is integer, messages is sequence, range is callable",
    "3 is odd, 4 is even, 6 is divisibleby 3, 1 is eq 1, 1 is in [1], 'a' is lower, 1 is sameas 1",
    "'a' if messages else 'b', ('a' if nothing), not nothing, 1 and 2, 0 or 3",
    "range(3)|list, range(5, 1, -2)|list, namespace(a=1).a, 'a' 'b'",
    "1.0, 1e3, 0x10, 1_000, 'a\\tb', [1, [2, {'a': (3,)}]], {'a': messages[0].role}",
]  # fmt: skip
STATEMENTS = [
    "{% for i in range(5) %}{{ loop.index }}/{{ loop.length }}{{ loop.revindex0 }}{{ loop.first }}"
    "{{ loop.last }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in 'abc' if i != 'b' %}{{ i }}{{ loop.index }}{% else %}none{% endfor %}",
    "{% for i in [] %}{% else %}none{% endfor %}{% for i in nothing %}x{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i > 5 %}{% break %}{% endif %}"
    "{{ i }}{{ loop.changed(i // 2) }}{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }}{{ ', ' if not loop.last }}"
    "{% endfor %}",
    "{% for i in [1, 2] %}{% for j in [3] %}{{ loop.index }}{{ i }}{{ j }}{% endfor %}{% endfor %}",
    "{% set n = namespace(a=0) %}{% for i in [1, 2] %}{% set n.a = n.a + i %}{% endfor %}{{ n.a }}",
    "{% set a = 1 %}{% for i in [1] %}{% set a = 2 %}{% endfor %}{{ a }}"
    "{% set a, b = 3, 4 %}{{ b }}",
    "{% set a %}x{{ 1 }}{% endset %}{{ a }}{% set b | upper %}y{% endset %}{{ b }}",
    "{% macro m(a, b='c') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}"
    "{{ m(1) }}{{ m(1, 2, 3, d=4) }}{{ m(*[1, 2]) }}{{ m.name }}",
    "{% macro m() %}<{{ caller('x') }}>{% endmacro %}{% call(a) m() %}{{ a }}{% endcall %}",
    "{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}",
    "{% with a = 1 %}{{ a }}{% endwith %}{{ a }}{% filter upper %}ab{{ 'c' }}{% endfilter %}",
    "  {% if true %}\n  a\n  {% endif %}\n{%- if true -%} b {%- endif %}\n{# c #}\n"
    "{% raw %}{{ }}{% endraw %}",
    "{% generation %}{% set a = 1 %}{{ a }}{{ messages[0].role }}{% endgeneration %}{{ a }}",
    "{% for m in messages %}{% generation %}{{ loop.index }}{{ m.content }}"
    "{% endgeneration %}{% endfor %}",
    "{{ raise_exception('why') }}", "{{ 1 / 0 }}", "{{ nothing.a }}", "{{ 'a' + 1 }}",
    "{{ [][0].a }}", "{{ 'a'.__class__ }}", "{{ messages.append(1) }}", "{{ [1]|first|first }}",
    "{{ strftime_now('%Y') }}", "{{ 1(2) }}", "{{ messages[0]() }}", "{{ range(1, 2, 3, 4) }}",
]  # fmt: skip


@pytest.mark.parametrize("text", [f"{{{{ ({e},) }}}}" for e in EXPRESSIONS] + STATEMENTS)
def test_what_templates_write_is_what_jinja_makes_of_it(text):
    messages = [message("user", "abc"), message("assistant", "Ab")]
    Both(text).compared(messages)


def test_an_allowance_is_that_of_one_rendering():
    both = Both("{% for i in range(9999) %}{{ messages[0].content }}{% endfor %}")
    for _ in range(20):
        both.compared([message("user", "a")])
    assert share(both, [message("user", "a")]) > 0.1, "twenty of them would be more than it"
