"""Pieces of requests, and the words by which they name values, with results by hand."""

import json
import time

import numpy as np
import pytest

from tfx_transformer.data import read_tool_calls, texts_without_values, vary_tool_calls
from tfx_transformer.data.invented import Words
from tfx_transformer.data.named_values import find_names
from tfx_transformer.data.wordings import Wordings, cut, wording
from tfx_transformer.text.prompts import ROLE_TOKENS
from tfx_transformer.text.tokenizer import CALL_PATTERN, Tokenizer
from tfx_transformer.text.tools import Call, Tools

LAMP = {"properties": {"room": {"enum": ["hall", "bath"]}, "state": {"enum": ["on", "off"]}}}
TIMER = {"properties": {"amount": {"type": "integer"}, "unit": {"enum": ["seconds", "minutes"]}}}
TOOLS = Tools([{"name": "lamp", "parameters": LAMP}, {"name": "timer", "parameters": TIMER}])


def named(rows):
    """The pieces of each request with the names of its values, and all names."""
    calls = [Call(tool, arguments) for _, tool, arguments in rows]
    schemas = {name: parameters["properties"] for name, parameters in TOOLS.parameters.items()}
    return find_names([cut(text) for text, _, _ in rows], calls, schemas)


def lamp(text, room, state):
    return text, "lamp", {"room": room, "state": state}


def shown(pieces):
    return {piece.name: piece.text for piece in pieces if piece.name}


def test_pieces_of_a_request():
    pieces = cut(
        "Book  yoga at 7:30, 玄関で!", [("title", 6, 10, "yoga"), ("time", 14, 18, "7:30")]
    )
    assert [piece.text for piece in pieces] == [
        "Book", "  ", "yoga", " ", "at", " ", "7:30", ",", " ", "玄", "関", "で", "!"
    ]  # fmt: skip
    assert [piece.key for piece in pieces[:4]] == ["book", "", "\0title", ""]
    assert pieces[2].value == "yoga" and cut("") == []


def test_values_are_named_where_two_requests_differ():
    rows = [
        lamp("玄関の電気をつけて", "hall", "on"),
        lamp("浴室の電気をつけて", "bath", "on"),
        lamp("浴室の電気を消して", "bath", "off"),
        lamp("玄関、オン", "hall", "on"),
        lamp("玄関、オフ", "hall", "off"),
        lamp("すぐに浴室をオフにして", "bath", "off"),
        lamp("暗い", "bath", "on"),
    ]
    found, names = named(rows)
    assert names["lamp", "room"].values == {"玄関": "hall", "浴室": "bath"}
    assert names["lamp", "state"].values == {
        "つけ": "on",
        "消し": "off",
        "オン": "on",
        "オフ": "off",
    }
    assert [shown(one.pieces) for one in found] == [
        {"room": "玄関", "state": "つけ"},
        {"room": "浴室", "state": "つけ"},
        {"room": "浴室", "state": "消し"},
        {"room": "玄関", "state": "オン"},
        {"room": "玄関", "state": "オフ"},
        {"room": "浴室", "state": "オフ"},
        {},
    ]
    assert found[-1].hidden == {"room": "bath", "state": "on"}
    # A name is replaced by those that have been in its place, and by no others.
    rng = np.random.default_rng(1)
    drawn = {names["lamp", "state"].draw("オン", rng) for _ in range(40)}
    assert drawn == {("オン", "on"), ("オフ", "off")}


def test_words_that_other_values_have_too_are_no_names():
    rows = [
        lamp("Light the hall up", "hall", "on"),
        lamp("Light the hall down", "hall", "off"),
        lamp("Light up again, or put it off", "bath", "off"),
        ("Start a 7 Second timer", "timer", {"amount": 7, "unit": "seconds"}),
        ("start a 7 minute timer", "timer", {"amount": 7, "unit": "minutes"}),
        ("a minute or two", "timer", {"amount": 2, "unit": "minutes"}),
    ]
    found, names = named(rows)
    assert not names["lamp", "state"].values, "up is there for off too"
    assert names["timer", "unit"].values == {"second": "seconds", "minute": "minutes"}
    assert shown(found[3].pieces) == {"unit": "Second"}
    assert shown(found[5].pieces) == {"unit": "minute"}


def test_a_shorter_name_takes_the_place_of_one_that_was_found_before():
    """The rooms are known after the first round; only then the last two rows differ in a word."""
    room, loud = {"enum": ["hall", "bath"]}, {"type": "boolean"}
    tools = Tools([{"name": "bell", "parameters": {"properties": {"room": room, "loud": loud}}}])
    rows = [
        ("hall lamp", "bell", '{"room": "hall"}'),
        ("bath lamp", "bell", '{"room": "bath"}'),
        ("Make the big noise now", "bell", '{"room": "hall", "loud": true}'),
        ("Make some calm now", "bell", '{"room": "hall", "loud": false}'),
        ("Noise, hall", "bell", '{"room": "hall", "loud": true}'),
        ("Calm, bath", "bell", '{"room": "bath", "loud": false}'),
    ]
    examples = read_tool_calls(rows, tools)
    schemas = {"bell": {"room": room, "loud": loud}}
    found, names = find_names([cut(text) for text, _, _ in rows], examples.calls, schemas)
    assert names["bell", "loud"].values == {"noise": True, "calm": False}
    said = [shown(one.pieces).get("loud") for one in found[2:]]
    assert said == ["noise", "calm", "Noise", "Calm"]
    varied = vary_tool_calls(examples, 20, 1)
    pairs = zip(varied.utterances, (call.arguments for call in varied.calls), strict=True)
    said = {(text[0].lower() + text[1:], arguments.get("loud")) for text, arguments in pairs}
    assert ("make the big calm now", False) in said and ("make some noise now", True) in said
    assert "Noise, bath" in varied.utterances


def test_names_among_many_short_requests_are_found_soon():
    """Every two of these requests differ in less than a name may have."""
    rows = [lamp(f"w{n} x{7 * n}", "hall", "on" if n % 2 else "off") for n in range(700)]
    begin = time.process_time()
    found, names = named(rows)
    assert time.process_time() - begin < 30  # minutes, if each name is compared with all others
    assert len(names["lamp", "state"].values) == 700 and found[7].hidden == {"room": "hall"}


def test_variants_name_other_values_by_their_words():
    rows = [
        ("電気をつけて", "lamp", '{"state": "on"}'),
        ("電気を消して", "lamp", '{"state": "off"}'),
        ("明かりをつけて", "lamp", '{"state": "on"}'),
    ]
    varied = vary_tool_calls(read_tool_calls(rows, TOOLS), 20, 1)
    pairs = {
        (text, call.arguments["state"])
        for text, call in zip(varied.utterances, varied.calls, strict=True)
    }
    assert pairs >= {(text, json.loads(state)["state"]) for text, _, state in rows} | {
        ("明かりを消して", "off")
    }
    assert all(("消" in text) == (state == "off") for text, state in pairs)
    none = vary_tool_calls(read_tool_calls(rows, TOOLS), 0)
    assert (none.utterances, none.varied) == ([text for text, _, _ in rows], 0)


def test_wordings_are_put_together_at_a_word_or_value():
    texts = ["find X on the net", "please look for X", "say X", "X on"]
    requests = [cut(text, [("q", text.index("X"), text.index("X") + 1, n)])
                for n, text in enumerate(texts)]  # fmt: skip
    other = Wordings(requests, ["a", "a", None, "b"])
    rng = np.random.default_rng(3)
    made = {"".join(p.text for p in other.spliced(i, rng)) for i in (0, 1) for _ in range(60)}
    assert made == {"find X", "please look for X on the net", *texts[:2]}
    values = {p.value for _ in range(60) for p in other.spliced(0, rng) if p.name}
    assert values == {0}, "a value stays with its name"
    for index in (2, 3):
        assert other.spliced(index, rng) is requests[index]


def test_some_words_are_left_out():
    texts = ["Please put X on my calendar, now", "日曜にXをカレンダーに書いて", "put X on it"]
    slots = [[("q", text.index("X"), text.index("X") + 1, "X")] for text in texts]
    requests = [cut(*one) for one in zip(texts, slots, strict=True)]
    other = Wordings(requests, ["en", "ja", "short"])
    rng = np.random.default_rng(5)
    found = [{"".join(p.text for p in other.shortened(i, pieces, rng)) for _ in range(300)}
             for i, pieces in enumerate(requests)]  # fmt: skip
    english, japanese, short = found
    assert {"put X on my calendar, now", "X on my calendar, now", "Please put X, now"} <= english
    assert "Please X on my calendar, now" in english
    assert all("X" in one and one == one.strip() and "  " not in one for one in english)
    assert all(len(one.split()) >= 4 for one in english)
    assert "Xを書いて" not in japanese and "日曜にXを書いて" not in japanese, "six characters"
    assert all("Xを" in one and ("カレンダー" in one or "カ" not in one) for one in japanese)
    assert all(("日曜" in one) == ("日" in one) for one in japanese)
    assert short == {"put X on it"}


@pytest.mark.parametrize("negated", ["do not wake me, please", "never wake me up, please"])
def test_variants_have_no_words_of_another_tool(negated):
    tools = Tools([{"name": "wake"}, {"name": "sleep"}])
    rows = [("Wake me please", "wake", ""), (negated, "sleep", ""), ("Wake me", "wake", "")]
    varied = vary_tool_calls(read_tool_calls(rows, tools), 60, 1)
    tool_of = {}
    for text, call in zip(varied.utterances, varied.calls, strict=True):
        tool_of.setdefault(wording(cut(text)), set()).add(call.name)
    assert tool_of["wake", "me"] == tool_of["wake", "me", "please"] == {"wake"}
    assert all(len(names) == 1 for names in tool_of.values()) and len(tool_of) > 5


def test_words_of_other_requests_are_added():
    texts = [
        "find X on the net",
        "please look for X",
        "Xのことを検索して",
        "ネットでXを探して",
        "say X",
    ]
    slots = [[("q", text.index("X"), text.index("X") + 1, "X")] for text in texts]
    requests = [cut(*one) for one in zip(texts, slots, strict=True)]
    other = Wordings(requests, ["en", "en", "ja", "ja", None])
    rng = np.random.default_rng(7)
    found = [{"".join(p.text for p in other.lengthened(i, pieces, rng)) for _ in range(400)}
             for i, pieces in enumerate(requests)]  # fmt: skip
    english, japanese = found[1], found[2]
    assert {"please look for X on the net", "please net look for X"} <= english
    assert all("X" in one and one == one.strip() and "  " not in one for one in english)
    assert {"ネットでXのことを検索して", "Xのことを探して検索して"} <= japanese
    assert not any("探X" in one or "Xネ" in one or "検ネ" in one for one in japanese)
    assert found[4] == {"say X"}, "its wording stays"


def test_words_that_join_others_stay():
    words = Words(["tea with Ann", "yoga with Bob", "lunch with Tom", "the dentist", "a walk"])
    rng = np.random.default_rng(5)
    made = [words.invent("tea with Ann", rng) for _ in range(300)]
    parts = [one.split() for one in made]
    assert words.joining == {"with"} and len(set(made)) > 100
    assert all(one[-1] != "with" for one in parts)
    assert sum(one[1:2] == ["with"] for one in parts) > 200
    assert sum("with" not in one for one in parts) > 10, "it goes with the word before it"


def test_values_are_no_words_of_the_tokenizer():
    rows = [
        ("Remember yoga class", "note", {"text": "yoga class"}),
        ("タイマーを15分", "note", {"minutes": 15}),
        ("Lights off, yoga", "note", {"state": "off", "text": "walk"}),
    ]
    texts, number = {"type": "string"}, {"type": "integer"}
    state = {"type": "string", "enum": ["on", "off"]}
    properties = {"text": texts, "minutes": number, "state": state}
    tools = Tools([{"name": "note", "parameters": {"properties": properties}}])
    read = read_tool_calls([(*row[:2], json.dumps(row[2])) for row in rows], tools)
    found = texts_without_values(read)
    assert found[:3] == ["Remember ", "remember ", "Remember "] and found[4] == "タイマーを分"
    assert found[8] == "Lights off, yoga", "only values in both places"
    called = [text.split("\n")[1] for text in found[3::4]]
    assert called == [
        '{"name": "note", "arguments": {"text": ""}}',
        '{"name": "note", "arguments": {"minutes": 0}}',
        '{"name": "note", "arguments": {"text": "walk", "state": "off"}}',
    ]
    tokenizer = Tokenizer.train(found, 420, ROLE_TOKENS, CALL_PATTERN)
    for word, count in {"Remember": 1, "remember": 1, "Off": 1, "を": 1, "class": 3}.items():
        assert (len(tokenizer.encode(word)) == 1) == (count == 1), word
