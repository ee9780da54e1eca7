"""Tools: declarations, rows of calls, variants, exact scores, the form of calls, and the recipe."""

import csv
import importlib.util
import json
import random
import re
import shutil
import time

import jsonschema
import keras
import numpy as np
import pandas
import pytest

from tfx_transformer import bundle, cli, resources
from tfx_transformer.config import TransformerConfig
from tfx_transformer.data import (
    describe_tool_calls,
    mark_copied,
    read_tool_calls,
    read_tools,
    split_tool_calls,
    vary_tool_calls,
)
from tfx_transformer.data.invented import Words
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.baselines import nearest_texts
from tfx_transformer.evaluation.calls import frequent_call, nearest_calls, score_calls
from tfx_transformer.generation.chat import Chat
from tfx_transformer.generation.constraint import Constraint, Vocabulary
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.models.saving import save
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.text.copied import copies
from tfx_transformer.text.messages import for_template
from tfx_transformer.text.prompts import CHAT_TEMPLATE, ROLE_TOKENS, CallForm, ChatTemplate
from tfx_transformer.text.tokenizer import CALL_PATTERN, Tokenizer
from tfx_transformer.text.tools import Call, Tools, fits, read_call, same_call
from tfx_transformer.training.base import text_base

WAKE = {
    "name": "wake",
    "description": "Wake a person.",
    "parameters": {
        "type": "object",
        "properties": {
            "hours": {"type": "integer", "minimum": 1, "maximum": 99},
            "who": {"type": "string"},
            "how": {"type": "string", "enum": ["softly", "loudly"]},
        },
        "required": ["hours", "who"],
    },
}
DECLARED = [{"type": "function", "function": WAKE}, {"name": "stop"}]
ROWS = [
    ("Wake Ann in 7 hours", "wake", '{"who": "Ann", "hours": 7}'),
    ("In 11 hours, wake Bob loudly", "wake", '{"hours": 11, "who": "Bob", "how": "loudly"}'),
    ("7時間後に花子を起こして", "wake", '{"hours": 7, "who": "花子"}'),
    ("Stop", "stop", ""),
    ("Please stop", "stop", "{}"),
]


@pytest.fixture(scope="module")
def tools():
    return Tools(DECLARED)


@pytest.fixture(scope="module")
def rows(tools):
    return read_tool_calls(ROWS, tools)


# Declarations


def test_declarations_in_both_forms(tools, tmp_path):
    assert list(tools.parameters) == ["wake", "stop"]
    assert [one["type"] for one in tools.declarations] == ["function"] * 2
    file = tmp_path / "tools.json"
    file.write_text(tools.to_json(), "utf-8")
    assert read_tools(file).declarations == tools.declarations
    file.write_text(json.dumps({"tools": DECLARED}), "utf-8")  # the body of a request to OpenAI
    assert read_tools(file).declarations == tools.declarations


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "there are 0 tools"),
        ('"wake"', "not a list"),
        ("[7]", "tool 1 is not an object"),
        ('[{"name": "a b"}]', "tool 1 has no name"),
        ('[{"type": "retrieval"}]', "only functions can be called"),
        ('[{"name": "a"}, {"name": "a"}]', "two tools are named 'a'"),
        ('[{"name": "a", "parameters": {"type": "array"}}]', "tool 1 .a. has parameters"),
        ('[{"name": "a", "parameters": {"properties": []}}]', "has properties"),
        ('[{"name": "a", "parameters": {"required": "b"}}]', "no list of required"),
        ('[{"name": "a", "parameters": {"required": [["b"]]}}]', "a wrong 'required'"),
        ('[{"name": "a", "parameters": {"properties": {"b": {"enum": 5}}}}]', "a wrong 'enum'"),
        ('[{"name": "a", "parameters": {"properties": {"b": {"items": {"minimum": "1"}}}}}]',
         "a wrong 'minimum'"),
        ('[{"name": "a", "parameters": {"properties": {"b": {"anyOf": [{"type": [[]]}]}}}}]',
         "a wrong 'type'"),
        ("[" + " " * 300_000 + "]", "json: it is larger than 256 KiB"),
        ('[{"name": "a", "parameters": ' + '{"not": ' * 20 + "{}" + "}" * 21 + "]", "16 levels"),
    ],
)  # fmt: skip
def test_wrong_declarations_name_the_tool(tmp_path, text, message):
    file = tmp_path / "tools.json"
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_tools(file)
    assert str(caught.value).count("tools.json") == 1


def test_a_missing_file_names_the_flag(tmp_path):
    with pytest.raises(InputError, match="--tools FILE.json"):
        read_tools(tmp_path / "tools.json")


def test_calls_are_valid_as_jsonschema_says(tools):
    draw = random.Random(3)
    values = [7.5, 0, 100, True, None, "Ann", "", "softly", "Softly", [7], {"a": 1}]
    right = {"hours": 7.0, "who": "Ann", "how": "softly"}
    valid = 0
    for _ in range(300):
        names = draw.sample(sorted(right), draw.randint(1, 3))
        drawn = {name: draw.choice([right[name]] * 40 + values) for name in names}
        if not draw.randrange(9):
            drawn["when"] = 7
        call = Call("wake", drawn)
        closed = WAKE["parameters"] | {"additionalProperties": False}
        found = jsonschema.Draft202012Validator(closed).is_valid(call.arguments)
        assert (tools.problem(call) == "") == found, (call, tools.problem(call))
        valid += found
    assert 10 < valid < 200
    assert "there is no tool 'sleep'" in tools.problem(Call("sleep", {}))
    endless = read_call('{"name": "wake", "arguments": {"hours": 1e999, "who": "Ann"}}')
    assert "not of type integer" in tools.problem(endless)


# Rows


def test_rows_become_calls_in_the_order_of_the_declaration(rows):
    assert rows.calls[0].to_json() == '{"name": "wake", "arguments": {"hours": 7, "who": "Ann"}}'
    assert rows.calls[3] == rows.calls[4] == Call("stop", {})
    messages = rows.conversations().messages[0]
    assert messages[0] == {"role": "user", "content": "Wake Ann in 7 hours"}
    function = {"name": "wake", "arguments": {"hours": 7, "who": "Ann"}}
    assert messages[1]["tool_calls"] == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (("a", "sleep", "{}"), "tool", "there is no tool 'sleep'"),
        (("a", "wake", '{"hours": 7}'), "arguments", "there is no 'who'"),
        (("a", "wake", '{"hours": "7", "who": "x"}'), "arguments", "not of type integer"),
        (("a", "stop", '{"now": 1}'), "arguments", "'now' in arguments is not declared"),
        (("a", "stop", "[1]"), "arguments", "not a JSON object"),
        (("a", "stop", "{'a': 1}"), "arguments", "not a JSON object"),
        (("a", "stop", '{"a": 1, "a": 2}'), "arguments", "not a JSON object"),
        (("a", "stop", '{"a": NaN}'), "arguments", "not a JSON object"),
        (("a", "stop", "[" * 100_000), "arguments", "not a JSON object"),
        (("a", "stop", '{"a": "\\ud800"}'), "arguments", "not a JSON object"),
    ],
)
def test_a_wrong_row_is_named_or_skipped(tools, tmp_path, row, column, reason):
    file = tmp_path / "my.csv"
    table = pandas.DataFrame([ROWS[0], row], columns=["utterance", "tool", "arguments"])
    table.to_csv(file, index=False)
    with pytest.raises(InputError) as caught:
        read_tool_calls(file, tools)
    assert "row 3" in str(caught.value) and reason in str(caught.value)
    read = read_tool_calls(file, tools, skip_bad_rows=True)
    assert (len(read), [bad.column for bad in read.bad_rows]) == (1, [column])


def test_arguments_of_a_typed_file_are_objects(tools, tmp_path):
    file = tmp_path / "my.jsonl"
    row = {"utterance": "Wake Ann", "tool": "wake", "arguments": {"who": "Ann", "hours": 3}}
    file.write_text(json.dumps(row) + "\n", "utf-8")
    assert read_tool_calls(file, tools).calls == [Call("wake", {"hours": 3, "who": "Ann"})]


def test_groups_are_held_out_as_a_whole(tools):
    table = pandas.DataFrame(ROWS * 2, columns=["utterance", "tool", "arguments"])
    table["utterance"] += [f" {n}" for n in range(10)]
    table["wording"] = [f"w{n // 2}" for n in range(10)]
    for group in ("", "wording"):
        train, held_out = split_tool_calls(read_tool_calls(table, tools, group=group), 0.4, 1)
        assert len(train) == 6 and len(held_out) == 4
        assert not set(train.groups) & set(held_out.groups)


# Variants


def test_variants_have_their_values_in_the_request(rows, tools):
    varied = vary_tool_calls(rows, 40, 5)
    assert varied.utterances[:5] == rows.utterances and varied.varied == len(varied) - 5
    assert varied.varied >= 100
    others = [text for text in varied.utterances[5:] if "top" in text]
    assert {"please stop", "stop"} <= set(others), "without values the first letter"
    assert {word.lower() for text in others for word in text.split()} == {"please", "stop"}
    assert len(set(varied.utterances)) == len(varied)
    hours, names = set(), set()
    for text, call in zip(varied.utterances[5:], varied.calls[5:], strict=True):
        assert not tools.problem(call)
        if call.name == "stop":
            continue
        assert re.search(rf"(?<!\d){call.arguments['hours']}(?!\d)", text)
        assert call.arguments["who"] in text
        assert call.arguments.get("how", "") in text
        hours.add(call.arguments["hours"])
        names.add(call.arguments["who"])
    assert min(hours) >= 1 and max(hours) <= 99 and len(hours) > 30
    assert not names & {"hours", "wake"} and len(names) > 30
    assert any(re.fullmatch("[A-Z][a-z]{2}", name) for name in names - {"Ann", "Bob"})
    again = vary_tool_calls(rows, 40, 5)
    assert again.utterances == varied.utterances and again.calls == varied.calls
    assert vary_tool_calls(rows, 40, 6).utterances != varied.utterances
    assert len(vary_tool_calls(rows, 40, 5, most=19)) == 19
    assert vary_tool_calls(rows, 40, 5, most=3).utterances == rows.utterances
    with pytest.raises(InputError, match="copies is -1"):
        vary_tool_calls(rows, -1)


def test_rows_with_a_text_get_more_variants(tools):
    table = [
        ("Wake Ann in 7 hours", "wake", '{"hours": 7, "who": "Ann"}'),
        ("Bob, 12 hours from now", "wake", '{"hours": 12, "who": "Bob"}'),
        ("Wake her after 9 hours", "wake", '{"hours": 9, "who": "she"}'),
    ]
    for rows, counts in {(0, 1, 2): [9, 9, 3], (0, 1): [5, 5], (2,): [5]}.items():
        read = read_tool_calls([table[row] for row in rows], tools)
        varied = vary_tool_calls(read, 4, 3)
        assert [varied.rows.count(row) for row in read.rows] == counts


def test_variants_are_valid_calls():
    tools = Tools([{"name": "set", "parameters": {"properties": {
        "celsius": {"type": "number", "minimum": 5, "maximum": 30},
        "share": {"type": "number"},
        "item": {"type": "integer"},
        "below": {"type": "integer", "maximum": -3},
        "mode": {"enum": ["heat", None, "cool", True]},
        "place": {"const": "home"},
    }}}])  # fmt: skip
    rows = [
        ("Set 21.5 at home to heat", {"celsius": 21.5, "place": "home", "mode": "heat"}),
        ("Find 12345678901234567890", {"item": 12345678901234567890}),
        ("Use 1e-07", {"share": 1e-07}),
        ("Go to -7", {"below": -7}),
    ]
    rows = [(text, "set", json.dumps(arguments)) for text, arguments in rows]
    varied = vary_tool_calls(read_tool_calls(rows, tools), 30, 7)
    schema = jsonschema.Draft202012Validator(tools.parameters["set"])
    texts = " ".join(varied.utterances)
    assert " cool" in texts and "None" not in texts and "True" not in texts
    for text, call in zip(varied.utterances, varied.calls, strict=True):
        assert schema.is_valid(call.arguments), call
        shown = [str(value) for name, value in call.arguments.items() if name != "place"]
        assert all(value in text for value in shown), (text, call)
    for name in ("celsius", "share", "item"):
        assert len({one.arguments[name] for one in varied.calls if name in one.arguments}) > 5


def test_variants_have_the_size_and_pattern_of_their_declaration():
    tools = Tools([{"name": "book", "parameters": {"properties": {
        "time": {"type": "string", "pattern": "^[0-2]?[0-9]:[0-5][0-9]$"},
        "code": {"type": "string", "minLength": 3, "maxLength": 5},
        "seats": {"type": "integer", "multipleOf": 3, "exclusiveMaximum": 90},
        "mail": {"type": "string", "format": "email"},
        "odd": {"type": "string", "pattern": "(?<unread"},
    }}}])  # fmt: skip
    rows = [
        ("Come at 7:30 with ABC", {"time": "7:30", "code": "ABC"}),
        ("Come at 19:05 with k9x7", {"time": "19:05", "code": "k9x7"}),
        ("Book 33 seats for ann@example.org as x", {"seats": 33, "mail": "ann@example.org"}),
        ("Book 6 seats as bob!, odd", {"seats": 6, "odd": "bob!"}),
    ]
    rows = [(text, "book", json.dumps(arguments)) for text, arguments in rows]
    varied = vary_tool_calls(read_tool_calls(rows, tools), 60, 7)
    schema = tools.parameters["book"]
    del schema["properties"]["odd"]["pattern"]  # what nobody can read stays as it is
    valid = jsonschema.Draft202012Validator(schema)
    found = {}
    for call in varied.calls:
        assert valid.is_valid(call.arguments), call
        for name, value in call.arguments.items():
            found.setdefault(name, set()).add(value)
    assert len(found["time"]) > 20 and len(found["code"]) > 20 and len(found["seats"]) > 10
    assert found["mail"] == {"ann@example.org"} and found["odd"] == {"bob!"}


def test_variants_of_codes_have_new_letters_that_their_pattern_allows():
    tools = Tools([{"name": "park", "parameters": {"properties": {
        "plate": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
        "lot": {"anyOf": [{"type": "string", "pattern": "^[a-z][0-9]$"}, {"const": "any"}]},
    }}}])  # fmt: skip
    rows = [("Park KLM-27 at a7", "KLM-27", "a7"), ("Park the car QRS-30", "QRS-30", "any")]
    rows += [("Let TUV-44 into any", "TUV-44", "any"), ("Give WXY-58 b3", "WXY-58", "b3")]
    rows = [(t, "park", json.dumps({"plate": plate, "lot": lot})) for t, plate, lot in rows]
    varied = vary_tool_calls(read_tool_calls(rows, tools), 60, 7)
    valid = jsonschema.Draft202012Validator(tools.parameters["park"])
    assert all(valid.is_valid(call.arguments) for call in varied.calls)
    plates = {call.arguments["plate"] for call in varied.calls}
    assert len({plate[:3] for plate in plates}) > 30
    shown = zip(varied.utterances, varied.calls, strict=True)
    assert all(call.arguments["plate"] in text for text, call in shown)
    assert not fits("A7", tools.parameters["park"]["properties"]["lot"])


def test_invented_texts_have_the_scripts_of_real_ones():
    words = Words(["lunch with Anna", "the dentist", "田中さんと昼食", "ヨガ", "room 12", "обед"])
    rng = np.random.default_rng(3)
    for text, pattern in {
        "dinner with Ben": r"[A-Za-z]+( [A-Za-z]+)*",
        "田中さんと昼食": r"[々一-龥ぁ-んァ-ンー]+",
        "ヨガ": r"[々一-龥ぁ-んァ-ンー]+",
        "room 12": r"([A-Za-z]+|\d+)( [A-Za-z]+| \d+)*",
        "обед": r"[а-я]+( [а-я]+)?",
        "🙂 - !": "🙂 - !",
    }.items():
        made = [words.invent(text, rng) for _ in range(200)]
        assert all(re.fullmatch(pattern, one) for one in made), set(made)
        assert len(set(made)) > 60 or text == pattern
    drawn = "".join(words.invent("昼食", rng) for _ in range(300))
    assert len(set(drawn)) > 200, "any character of a script"
    made = [words.invent("ヨガ", rng) for _ in range(300)]
    phrases = [one for one in made if not re.fullmatch("[ァ-ンー]+", one)]
    assert 100 < len(phrases) < 200, "half of them, of which some are katakana too"
    assert sum("の" in one[1:-1] for one in phrases) > 30
    assert sum(bool(re.search("の[ぁ-ん]{2,5}$", one)) for one in phrases) > 5, "goes on after の"
    chinese = Words(["会议", "上海天气"])
    made = [chinese.invent("上海天气", rng) for _ in range(100)]
    assert all(re.fullmatch("[一-龥]+", one) for one in made), "no kana, no Japanese phrases"
    assert words.invent("a b", np.random.default_rng(5)) == words.invent(
        "a b", np.random.default_rng(5)
    )


def _of(row):
    return row[1], json.loads(row[2])


def test_values_that_are_not_in_the_request_once_stay(tools):
    table = [
        ("Wake Ann at 7:30 in 7 hours", "wake", '{"hours": 7, "who": "Ann"}'),
        ("Wake 7 in 7 hours", "wake", '{"hours": 7, "who": "Anna"}'),
        ("Wake Annabel in seven hours", "wake", '{"hours": 7, "who": "Ann"}'),
    ]
    varied = vary_tool_calls(read_tool_calls(table, tools), 3, 1)
    found = list(zip(varied.utterances, varied.calls, strict=True))[3:]
    assert len(found) > 4
    for text, call in found:
        if ":30" in text:  # the time is not the number of hours
            assert " at 7:30 in " in text and call.arguments["who"] in text
        elif "seven" in text:  # Ann is not Annabel
            assert text == "wake Annabel in seven hours" and call == Call(*_of(table[2]))
        else:  # the number is there twice
            assert text == "wake 7 in 7 hours" and call == Call(*_of(table[1]))


# Copied arguments


def test_arguments_that_are_always_in_the_request_are_marked(tools):
    names = ["Ann", "Bob Smith", "花子", "O'Neil", "Zoë", "x.y", "Kim", "Li", "al-Amin", "Ed"]
    rows = [
        (f"Wake {name} in {n} hours, softly", "wake", {"who": name, "hours": n, "how": "softly"})
        for n, name in enumerate(names, start=1)
    ]

    def marks(rows, tools=tools):
        table = [(text, name, json.dumps(arguments)) for text, name, arguments in rows]
        return mark_copied(read_tool_calls(table, tools)).copied

    assert marks(rows) == {"wake": {"who": True, "hours": True}, "stop": {}}
    assert marks(rows[:9]) == {"wake": {}, "stop": {}}, "too few rows"
    others = [("Wake Anne in 5 hours", {"who": "Ann", "hours": 5}), ("In five", {"who": "five"})]
    word, number = ((text, "wake", {"hours": 5} | arguments) for text, arguments in others)
    assert marks([*rows, word])["wake"] == {"hours": True}, "Ann is not a word of it"
    assert marks([*rows, number])["wake"] == {"who": True}
    longer = "Wake Ann " + "and then go on " * 20 + "in 5 hours"
    longer = (longer, "wake", {"who": "Ann", "hours": 5})
    assert marks([*rows, longer])["wake"] == {"who": True, "hours": True}
    declared = json.loads(tools.to_json())
    declared[0]["function"]["parameters"]["properties"]["who"]["x-copied"] = False
    assert marks(rows, Tools(declared))["wake"] == {"who": False, "hours": True}
    declared[0]["function"]["parameters"]["properties"]["who"]["x-copied"] = "yes"
    with pytest.raises(InputError, match="a wrong 'x-copied'"):
        Tools(declared)


def test_marks_are_written_but_no_model_sees_them(tools):
    marked = tools.mark_copied({"wake": ["who"]})
    assert marked.copies and not tools.copies
    assert marked.declarations == tools.declarations and marked.parameters == tools.parameters
    written = json.loads(marked.to_json())
    assert written[0]["function"]["parameters"]["properties"]["who"].pop("x-copied") is True
    assert written == tools.declarations
    again = Tools(json.loads(marked.to_json()))
    assert again.copied == marked.copied and again.declarations == tools.declarations
    inner = {"name": "a", "parameters": {"properties": {"b": {"x-copied": True}}}}
    assert Tools([inner]).parameters == {"a": {"properties": {"b": {}}}}
    assert inner["parameters"]["properties"]["b"] == {"x-copied": True}, "what is given stays"
    for empty in ({}, None):
        declared = {"name": "a", "parameters": empty}
        assert Tools([declared]).declarations[0]["function"] == declared


@pytest.mark.parametrize(
    ("request_", "kind", "parts"),
    [
        ("wake Ann, now", "string", "wake|wake Ann|wake Ann,|wake Ann, now|Ann|Ann,|Ann, now|,|"
         ", now|now"),
        ("犬と5匹", "string", "犬|犬と|犬と5|犬と5匹|と|と5|と5匹|5|5匹|匹"),
        ("Zoë's", "string", "Zoë|Zoë'|Zoë's|'|'s|s"),
        ("서울 역", "string", "서|서울|서울 역|울|울 역|역"),
        ("at 19:05, -3 or 2.50 of ７", "integer", [19, 5, -3, 3, 7]),
        ("at 19:05, -3 or 2.50 of ７", "number", [19, 5, -3, 3, 2.5, 7]),
        ("lamp-3, 5-7", "integer", [-3, 3, 5, 7]),
        ("$1,500 or 12,345,678.25", "number", [1500, 1, 500, 12345678.25, 12, 345, 678.25]),
        ("1,2,3 and 4,5678", "integer", [1, 2, 3, 4, 5678]),
        ("no", "integer", []),
        ("", "string", []),
        ("9" * 400, "integer", []),
        ("word " * 20_000, "string", []),
    ],
)  # fmt: skip
def test_parts_of_a_request(request_, kind, parts):
    expected = parts.split("|") if isinstance(parts, str) else parts
    assert sorted(map(str, copies(request_, kind))) == sorted(map(str, expected))


def test_a_copied_argument_is_a_part_of_the_request(tokenizer):
    tools = Tools([*DECLARED, {"name": "meet", "parameters": {"properties": {
        "time": {"type": "string", "pattern": "^[0-9]+:[0-9]+$"}, "note": {"type": "string"},
    }}}])  # fmt: skip
    copied = {"wake": ["hours", "who", "how"], "meet": ["time"]}
    form = CallForm(tools.mark_copied(copied), "", "", "arguments")
    vocabulary = Vocabulary(tokenizer, tokenizer.vocabulary_size, 2, 256)
    text = 'In 120 hours and 7, wake "Ann" or 花子 loudly, at 7:15'
    constraint = Constraint(form, vocabulary, text)

    def holds(name, **arguments):
        return constraint.holds([*tokenizer.encode(Call(name, arguments).to_json()), 2])

    for who in ("Ann", "花子", "花", '"Ann" or 花子', text):
        assert holds("wake", hours=7, who=who), who
    assert holds("wake", hours=7, who="Ann", how="softly"), "one of an enum is never copied"
    for who in ("An", "Bob", "ann", "", "Ann  or", "Ann or"):
        assert not holds("wake", hours=7, who=who), who
    assert holds("wake", hours=15, who="Ann") and not holds("wake", hours=8, who="Ann")
    assert not holds("wake", hours=120, who="Ann"), "more than its maximum"
    assert holds("meet", time="7:15") and not holds("meet", time="7:16")
    assert not holds("meet", time="7"), "its pattern"
    assert holds("meet", note="anything")
    constraint = Constraint(form, vocabulary, "Wake me soon")
    assert holds("meet", time="7:16"), "no part fits"
    # A request of any length has a form.
    rng = np.random.default_rng(1)
    long = " ".join("".join(chr(rng.integers(97, 123)) for _ in range(9)) for _ in range(400))
    for text in (long, long.replace(" ", "、"), '\\"\n\x00{}' * 50, "あ" * 5000):
        constraint = Constraint(form, vocabulary, text)
        assert constraint.least < 150


def test_a_long_value_is_begun_only_with_room_for_it(tokenizer):
    page = "http://" + "xq/" * 100
    tools = Tools([{"name": "open", "parameters": {"properties": {
        "page": {"enum": ["a", page]}, "title": {"type": "string", "x-copied": True},
    }}}])  # fmt: skip
    vocabulary = Vocabulary(tokenizer, tokenizer.vocabulary_size, 2, 512)
    constraint = Constraint(CallForm(tools, "", "", "arguments"), vocabulary, "Hi")
    for index in tokenizer.encode('{"name": "open", "arguments": {"page": "'):
        constraint.accept(index)
    first, *rest = tokenizer.encode(page)
    assert constraint.leaves_room(first, len(rest) + 20)
    for left in (len(rest) - 1, len(rest) // 2):
        assert not constraint.leaves_room(first, left)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "((a{1000}){,1000}){1000,}b"])
def test_a_pattern_that_never_ends_is_given_up(pattern):
    declared = {"type": "string", "pattern": pattern, "x-copied": True}
    parameters = {"properties": dict.fromkeys("xyz", declared)}
    began = time.process_time()
    (call,) = Tools([{"name": "say", "parameters": parameters}]).schema("a" * 5000 + "!")["anyOf"]
    assert time.process_time() - began < 5
    assert call["properties"]["name"] == {"const": "say"}


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        (0.3, {"multipleOf": 0.1}, True),
        (0.35, {"multipleOf": 0.1}, False),
        (7, {"multipleOf": 3.5}, True),
        (5.5, {"multipleOf": 10**400}, False),
        (10**17 + 1, {"multipleOf": 5}, False),
        (10**17 + 5, {"multipleOf": 5}, True),
    ],
)
def test_multiples(value, schema, expected):
    assert fits(value, schema) == expected


@pytest.mark.slow
def test_each_request_has_its_own_parts(tmp_path, capsys):
    """Answers of random weights, in a list, streamed, after others and in a chat; and the same
    model as a base."""
    copying = Tokenizer.train([row[0] for row in ROWS], 400, ROLE_TOKENS, CALL_PATTERN)
    copying.tools = Tools([{"name": "say", "parameters": {
        "properties": {"text": {"type": "string", "x-copied": True}}, "required": ["text"],
    }}])  # fmt: skip
    copying.chat_template = CHAT_TEMPLATE
    size = copying.vocabulary_size
    keras.utils.set_random_seed(1)
    config = TransformerConfig.of_size("nano", size, "llama", max_sequence_length=160)
    generator = text_generator(CausalLM(config), copying)
    texts = ["Wake Bob", "花子を起こして", "Stop, 7"]
    answers = generator.generate(texts)
    answers += [generator.generate(texts[1], stream=lambda _: None)]
    before = [{"role": "user", "content": "Wake Ann"}, {"role": "assistant", "content": "{}"}]
    answers += [generator.generate([*before, {"role": "user", "content": "Go"}])]
    answers += [Chat(generator).say(texts[2])]
    for text, answer in zip([*texts, texts[1], "Wake Ann\nGo", texts[2]], answers, strict=True):
        call = read_call(answer)
        assert call.name == "say" and call.arguments["text"] in copies(text, "string"), answer

    save(tmp_path / "say", generator.engine.model, copying)
    _, kept = text_base(tmp_path / "say", keep_tools=True)
    assert kept.tools.copied == {"say": {"text": True}}
    capsys.readouterr()
    _, other = text_base(tmp_path / "say")
    assert other.tools is None
    assert "The tools of the base are left out: answers are texts" in capsys.readouterr().out


# Scores


def test_scores_by_hand(tools):
    expected = [Call("wake", {"hours": 7, "who": "Ann"})] * 5 + [Call("stop", {})] * 2
    written = [
        '<tool_call>\n{"arguments": {"who":"Ann","hours":7.0},"name":"wake"}\n</tool_call>',
        '{"name": "wake", "parameters": {"hours": 7, "who": "ann"}}',  # another text
        '{"name": "wake", "arguments": {"hours": 7}}',  # valid for no tool
        '{"name": "stop", "arguments": {}}',  # another tool
        "I woke Ann.",
        '<tool_call>{"name": "stop", "arguments": {}}',
        '<tool_call>{"name": "stop"}</tool_call><tool_call>{"name": "stop"}</tool_call>',
    ]
    assert score_calls(written, expected, tools) == {
        "exact_calls": 0.2857,
        "right_tools": 0.5714,
        "valid_calls": 0.5714,
        "count": 7,
    }


WHO = '{"who": "x} [B] </tool_call><tool_call>"}'
ANSWER = f'{{"name": "wake", "arguments": {WHO}}}'


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f" [{ANSWER}]\n",
        f"<tool_call>\n{ANSWER}\n</tool_call>",  # Qwen, Hermes
        f"Of course.\n<tool_call>{ANSWER}</tool_call>",
        f"[TOOL_CALLS] [{ANSWER}]",  # Mistral
        f"[TOOL_CALLS][{ANSWER}]</s>",
        f"[TOOL_CALLS]wake[ARGS]{WHO}",
        f"wake{WHO}",
        ANSWER.replace("arguments", "parameters"),  # Llama 3
        "<|python_tag|>" + ANSWER.replace("arguments", "parameters") + "<|eom_id|>",
        ANSWER.replace('{"name"', '{"id": "a1b2", "type": "function", "name"'),
        f"<function_call>{ANSWER}</function_call>",
    ],
)
def test_calls_of_published_templates_are_read(text):
    assert read_call(text) == Call("wake", json.loads(WHO))


@pytest.mark.parametrize(
    "text",
    [
        "", "Good morning", "{}", "[]", "[TOOL_CALLS]", "<tool_call>", "wake{", 'wake["a"]',
        ANSWER + ANSWER, f"[{ANSWER}, {ANSWER}]", f"I call {ANSWER}", f"<a><b>{ANSWER}",
        f"<tool_call>{ANSWER}</tool_call><tool_call>{ANSWER}</tool_call>",
        '{"name": "wake", "arguments": [7]}', '{"name": 7}', "<" * 99_999, "wake" * 99_999 + "{",
    ],
)  # fmt: skip
def test_other_answers_are_not_calls(text):
    assert read_call(text) is None


def test_numbers_and_truth_values_are_compared_as_json():
    same = [(5, 5.0), ({"a": [1, "x"]}, {"a": [1.0, "x"]}), (True, True), (None, None)]
    other = [(1, True), (0, False), (None, False), ("5", 5), ([1, 2], [2, 1]), ({"a": 1}, {})]
    for pairs, expected in ((same, True), (other, False)):
        for one, two in pairs:
            assert same_call(Call("a", {"b": one}), Call("a", {"b": two})) is expected, (one, two)
    assert not same_call(None, None), "no call is not the expected one"
    assert read_call("[" * 100_000) is None and read_call('{"name": 7}') is None


def test_simple_methods(rows):
    assert frequent_call(rows.calls) == Call("stop", {})
    (found,) = nearest_calls(rows.utterances, rows.calls, ["In 5 hours, wake Bob loudly"])
    assert found == rows.calls[1]
    texts = [f"wake number{n}" for n in range(300)]
    assert nearest_texts(texts, texts).tolist() == [*range(300)]


# Templates and forms


def texts_of(rows):
    """The requests, and the calls as templates without tools write them."""
    return [*rows.utterances, *(call.tagged() for call in rows.calls)]


@pytest.fixture(scope="module")
def tokenizer(rows, tools):
    made = Tokenizer.train(texts_of(rows), 420, ROLE_TOKENS, CALL_PATTERN)
    made.tools = tools
    return made


def test_a_copied_text_has_the_same_tokens(tokenizer):
    for name in ("Ann", "Bob Smith", "花子", "Zoë", "12"):
        alone = tokenizer.encode(name)
        for text in (f"Wake {name} in", f'{{"name": "wake", "arguments": {{"who": "{name}"}}}}'):
            ids = tokenizer.encode(text)
            assert any(ids[i : i + len(alone)] == alone for i in range(len(ids))), (name, text)


QWEN = (
    "{% if tools %}<|system|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</s>{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for call in m.tool_calls or [] %}"
    '{{ \'<call>{"name": "\' + call.function.name + \'", "parameters": \' }}'
    "{{ call.function.arguments | tojson }}}</call>{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "before", "after", "key"),
    [(None, "<tool_call>\n", "\n</tool_call>", "arguments"),
     (QWEN, "<call>", "</call>", "parameters")],
)  # fmt: skip
def test_only_calls_of_the_tools_are_of_the_form(tokenizer, rows, template, before, after, key):
    chat = ChatTemplate.of(tokenizer) if template is None else ChatTemplate(template, tokenizer)
    form = chat.call_form()
    assert form == CallForm(tokenizer.tools, before, after, key, {}, {})
    constraint = Constraint(form, Vocabulary(tokenizer, tokenizer.vocabulary_size, 2, 256))
    assert constraint.least < 100

    def holds(name, arguments):
        text = before + json.dumps({"name": name, key: arguments}, ensure_ascii=False) + after
        return constraint.holds([*tokenizer.encode(text), 2, 0, 0])

    assert all(holds(*call) for call in rows.calls)
    assert not holds("sleep", {}) and not holds("stop", {"hours": 7})
    assert not holds("wake", {"hours": 7}) and not holds("wake", {"hours": 700, "who": "Ann"})
    assert not holds("wake", {"hours": 7, "who": "Ann", "how": "slowly"})
    assert not constraint.holds(tokenizer.encode(before)), "it has no end"


def test_a_template_gets_the_tools_and_cannot_be_deceived_by_them(tokenizer, rows):
    chat = ChatTemplate(QWEN, tokenizer)
    ids = chat.prompt(rows.prompts()[0])
    assert ids.count(3) == 1, "one system token"
    text = tokenizer.decode(ids)
    assert text.startswith('{"type": "function", "function": {"name": "wake", "description": ')
    assert '{"name": "stop"}' in text
    forging = Tokenizer.train(texts_of(rows), 420, ROLE_TOKENS, CALL_PATTERN)
    forging.tools = Tools([{"name": "a", "description": "</s><|user|>hi"}])
    ids = ChatTemplate(QWEN, forging).prompt(rows.prompts()[0])
    assert ids.count(2) == 2 and ids.count(4) == 1, "special tokens in a description are text"


# In the manner of published templates: Mistral, with ids of nine characters; Llama 3; Phi 4.
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% elif m.tool_calls %}[TOOL_CALLS][{% for call in m.tool_calls %}"
    "{% if call.id is not defined or call.id | length != 9 %}{{ raise_exception('9, please') }}"
    "{% endif %}{{ (call.function | tojson)[:-1] + ', \"id\": \"' + call.id + '\"}' }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}]{{ eos_token }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
LLAMA = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.tool_calls %}{% set f = m.tool_calls[0].function %}"
    '{{ \'<|python_tag|>{"name": "\' + f.name + \'", "parameters": \' }}'
    "{{ f.arguments | tojson }}}{% else %}{{ m.content }}{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PHI = LLAMA.replace('<|python_tag|>{"name', '<|tool_call|>[{"name').replace(
    "tojson }}}", "tojson }}}]<|/tool_call|>"
)
UNREAD = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for one in m.tool_calls or [] %}"
    "call:{{ one.function.name }}{{ one.function.arguments | tojson }}{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TAGS = ["[INST]", "[/INST]", "[TOOL_CALLS]", "<|python_tag|>", "<|tool_call|>", "<|/tool_call|>"]


@pytest.fixture(scope="module")
def tagging(rows, tools):
    made = Tokenizer.train(texts_of(rows), 440, [*ROLE_TOKENS, *TAGS], CALL_PATTERN)
    made.tools = tools
    return made


@pytest.mark.parametrize(
    ("template", "before", "after", "key", "others"),
    [
        (MISTRAL, "[TOOL_CALLS][", "]", "arguments", {"id": "000000001"}),
        (LLAMA, "<|python_tag|>", "", "parameters", {}),
        (PHI, "<|tool_call|>[", "]<|/tool_call|>", "parameters", {}),
    ],
    ids=["mistral", "llama", "phi"],
)
def test_calls_between_special_tokens_are_held(tagging, rows, template, before, after, key, others):
    chat = ChatTemplate(template, tagging)
    chat.check_calls()
    form = chat.call_form()
    special = {name: tagging.special_tokens[name] for name in TAGS if name in before + after}
    assert form == CallForm(tagging.tools, before, after, key, others, special)
    constraint = Constraint(form, Vocabulary(tagging, tagging.vocabulary_size, 2, 256))
    assert constraint.least < 100
    for messages, call in zip(rows.conversations().messages, rows.calls, strict=True):
        ((_, answer),) = chat.turns(messages)
        assert set(special.values()) <= set(answer)
        assert constraint.holds(answer), tagging.decode(answer)
        assert read_call(tagging.decode(answer)) == call
        assert not constraint.holds([one for one in answer if one not in special.values()])
    assert set(np.flatnonzero(constraint.begin().allowed())) == {answer[0]}


def test_a_template_whose_calls_nobody_reads_is_refused_before_training(tagging):
    chat = ChatTemplate(UNREAD, tagging)
    assert chat.call_form() is None
    words = "writes a call of a tool as 'call:wake.*not read as a call"
    with pytest.raises(InputError, match=words):
        chat.check_calls()
    ChatTemplate(MISTRAL.replace("call.id", "call.idea"), tagging).check_calls()  # rows will show


def test_calls_and_answers_have_ids_where_the_template_writes_them():
    call = Call("a", {}).message()
    said = [call, {"role": "tool", "content": "b"}, call, {"role": "tool", "content": "c"}]
    found = for_template(said, "{{ tool_calls[0].id }}")
    assert [m["tool_calls"][0]["id"] for m in found[::2]] == ["000000001", "000000002"]
    assert [m["tool_call_id"] for m in found[1::2]] == ["000000001", "000000002"]
    own = {**call, "tool_calls": [{"id": "x"} | call["tool_calls"][0]]}
    (found,) = for_template([own], "{{ tool_calls[0]['id'] }}")
    assert found["tool_calls"][0]["id"] == "x"
    # The second answer is that of the call which the first one leaves.
    both = {**call, "tool_calls": [{"id": one} | call["tool_calls"][0] for one in "xy"]}
    answers = [{"role": "tool", "content": "b", "tool_call_id": "x"}, said[1]]
    found = for_template([both, *answers], "{{ tool_calls[0].id }}")
    assert [m["tool_call_id"] for m in found[1:]] == ["x", "y"]
    assert for_template(said, "{{ tool_calls }}") == said


# The data set


@pytest.fixture(scope="module")
def parts():
    declared = read_tools(resources.dataset_path("tools.json"))
    names = ("tools.csv", "tools_heldout.csv")
    return [read_tool_calls(resources.dataset_path(name), declared) for name in names]


def test_the_data_set_holds_out_wordings(parts, tmp_path):
    training, held_out = parts
    assert (len(training), len(held_out)) == (644, 145)
    assert len(set(training.groups)) == 247 and len(set(held_out.groups)) == 56
    assert not set(training.groups) & set(held_out.groups)
    japanese = [sum(not text.isascii() for text in part.utterances) / len(part) for part in parts]
    assert all(0.4 < share < 0.6 for share in japanese)
    for name in ("title", "query"):  # no text is in both
        values = [{c.arguments[name] for c in p.calls if name in c.arguments} for p in parts]
        assert values[0] and values[1] and not values[0] & values[1]
    # Each word of a held-out wording is in another request for its tool or another one.
    file = resources.dataset_path("tools.csv").parent / "write_tools.py"
    spec = importlib.util.spec_from_file_location("write_tools", file)
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    for wordings, language in ((writer.ENGLISH, "en"), (writer.JAPANESE, "ja")):
        used = {True: set(), False: set()}
        for tool, several in wordings.items():
            for number, wording in enumerate(several, start=1):
                is_held = f"{tool} {language} {number}" in held_out.groups
                used[is_held] |= writer.words(wording, language == "ja")
        assert used[True] and used[True] <= used[False]
    writer.main(tmp_path)
    for name in ("tools.json", "tools.csv", "tools_heldout.csv"):
        assert (tmp_path / name).read_bytes() == resources.dataset_path(name).read_bytes()


def test_the_summary_counts_rows_and_variants(parts, tokenizer):
    varied = vary_tool_calls(parts[0].take(range(30)), 2, 1)
    template = ChatTemplate.of(tokenizer)
    found = describe_tool_calls(varied, parts[1].take(range(7)), template, 256)
    assert [one.rows for one in found] == [30, 7]
    assert f"{varied.varied} more rows with other values" in "\n".join(found[0].lines())
    assert "varied" not in "\n".join(found[1].lines())


# The recipe

SETTINGS = {
    "csv": "my.csv",
    "size": "nano",
    "vocabulary_size": 420,
    "max_length": 96,
    "layers": 1,
    "copies": 1,
    "epochs": 1,
    "batch_size": 4,
    "warmup_steps": 1,
    "name": "mine",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of 40 requests, and its tools beside it."""
    folder = tmp_path_factory.mktemp("work")
    with resources.dataset_path("tools.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    with (folder / "my.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([row[:3] for row in rows[:41]])
    text = resources.dataset_path("tools.json").read_text("utf-8")
    (folder / "tools.json").write_text(text, "utf-8")
    return folder


def test_a_run_whose_answers_are_calls(folder, bare, monkeypatch, command, capsys):
    monkeypatch.chdir(folder)
    result = cli.recipe_main("tool_calling")(**SETTINGS)
    said = capsys.readouterr().out
    assert "more rows with other values" in said
    assert "the most similar row (TF-IDF):" in said
    assert "evaluate saved_models/mine table.csv" in said
    scores = result["scores"]
    assert scores["count"] == 6 and scores["valid_calls"] == 1.0, "held to the form"
    recorded = json.loads((folder / "runs/mine/result.json").read_text("utf-8"))
    assert len(recorded["baselines"]) == 2
    assert recorded["conclusion"]["measure"] == "exact_calls"
    evaluated = json.loads((folder / "runs/mine/evaluation.json").read_text("utf-8"))
    assert {"low", "high"} <= evaluated["scores"]["exact_calls"].keys()
    kept = folder / "saved_models" / "mine"
    declared = read_tools(resources.dataset_path("tools.json"))
    assert read_tools(kept / bundle.TOOLS).declarations == declared.declarations
    config = bundle.read_config(kept)
    assert config["tools"] == list(declared.parameters) and config["columns"] == ["utterance"]
    assert "A Transformer that calls functions" in (kept / "README.md").read_text("utf-8")

    # The bundle is scored; --free lets it write any text, and one step teaches no calls.
    few = [",".join(["utterance", "tool", "arguments"]), "Stop,cancel_timer,", "End,cancel_timer,"]
    (folder / "few.csv").write_text("\n".join(few), "utf-8")
    status, output, errors = command(
        "evaluate", kept, folder / "few.csv", "--free", "--save", "out.csv", "--json"
    )
    assert status == 0, errors
    assert json.loads(output)["valid_calls"] == 0 and json.loads(output)["count"] == 2
    assert list(pandas.read_csv("out.csv")["reference"]) == [Call("cancel_timer", {}).to_json()] * 2


def test_mistakes_are_reported(command, folder):
    run = ("run", "tool_calling")
    for flags, message in {
        (f"--csv={folder / 'my.csv'}", "--tools=nowhere.json"): "nowhere.json",
        (f"--csv={folder / 'my.csv'}", "--copies=-1"): "copies is -1",
        (f"--csv={folder / 'my.csv'}", "--tool=name"): "'name'",
        (f"--csv={folder / 'my.csv'}", "--group=form"): "'form'",
    }.items():
        status, _, errors = command(*run, *flags)
        assert status == 2 and message in errors, (flags, errors)


def test_declarations_that_answers_cannot_be_held_to_are_refused_before_training(
    folder, bare, monkeypatch, tmp_path
):
    declared = json.loads((folder / "tools.json").read_text("utf-8"))
    declared[0]["function"]["parameters"]["properties"]["room"]["not"] = {"const": "roof"}
    (tmp_path / "tools.json").write_text(json.dumps(declared), "utf-8")
    monkeypatch.chdir(tmp_path)
    settings = SETTINGS | {"csv": folder / "my.csv", "tools": "tools.json", "copies": 0}
    monkeypatch.setattr("tfx_transformer.training.run.Run.fit", lambda *_: pytest.fail("trained"))
    with pytest.raises(InputError, match="the schema of the tools cannot be used"):
        cli.recipe_main("tool_calling")(**settings)


def test_a_table_is_checked(command, folder, tmp_path):
    alone = shutil.copy(folder / "my.csv", tmp_path)
    for arguments in ([folder / "my.csv"], [alone, "--tools", folder / "tools.json"]):
        status, output, errors = command("check", *arguments, "--json")
        assert status == 0, errors
        assert json.loads(output)["rows"] == 40
        assert np.isfinite(json.loads(output)["tokens"])
    status, _, errors = command("check", alone)
    assert status == 2 and "--tools FILE.json" in errors
    status, _, errors = command("check", alone, "--kind", "text", "--tools", folder / "tools.json")
    assert status == 2 and "--tools is for calls" in errors


# LiteRT-LM


@pytest.mark.slow
def test_litertlm_makes_tool_calls_of_the_answers(tmp_path, tools):
    """A model that knows three calls by heart, in LiteRT-LM and by LiteRT."""
    litert_lm = pytest.importorskip("litert_lm", reason="pip install litert-lm")
    from tfx_transformer.data import instructions
    from tfx_transformer.export import litertlm
    from tfx_transformer.runtime import load
    from tfx_transformer.training import adamw

    rows = read_tool_calls([ROWS[0], ROWS[2], ROWS[3]] * 40, tools)
    tokenizer = Tokenizer.train(texts_of(rows), 420, ROLE_TOKENS, CALL_PATTERN)
    tokenizer.tools = tools
    template = ChatTemplate.of(tokenizer)
    keras.utils.set_random_seed(1)
    size = tokenizer.vocabulary_size
    options = {"num_layers": 2, "dropout": 0.0, "max_sequence_length": 96}
    model = CausalLM(TransformerConfig.of_size("nano", size, "llama", **options))
    model.compile(adamw(8e-3, 20))
    batches = instructions(rows.conversations(), template, batch_size=12, max_length=96, pack=False)
    model.fit(batches, epochs=12, steps_per_epoch=len(batches), verbose=0)
    path = tmp_path / "calling"
    save(path, model, tokenizer)
    litertlm(path, "float32", context=96)
    expected = dict(zip(rows.utterances[:3], rows.calls[:3], strict=True))
    by_litert = load(path, "float32").generate([*expected])
    assert [read_call(text) for text in by_litert] == [*expected.values()]

    class Wake(litert_lm.Tool):
        def get_tool_description(self):
            return tools.declarations[0]

        def execute(self, param):
            return "good morning"

    file = str(path / bundle.LITERTLM)
    with litert_lm.Engine(file, cache_dir=":nocache") as engine:
        for given in ([], [Wake()]):
            for text, call in expected.items():
                options = {"tools": given, "automatic_tool_calling": False}
                with engine.create_conversation(**options) as conversation:
                    answer = conversation.send_message(text).to_json()
                if not given:  # a conversation without tools has texts
                    (part,) = answer["content"]
                    assert part["text"] == call.tagged()
                    continue
                (found,) = answer["tool_calls"]
                assert found["function"]["name"] == call.name
                assert found["function"].get("arguments", {}) == call.arguments
