"""Pieces of requests, and the words by which they name values, with results by hand."""

import json
import time

import numpy as np

from tfx_transformer.data import read_tool_calls, vary_tool_calls
from tfx_transformer.data.named_values import find_names
from tfx_transformer.data.wordings import cut
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
    begin = time.monotonic()
    found, names = named(rows)
    assert time.monotonic() - begin < 30  # minutes, if each name is compared with all others
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
    assert pairs == {(text, json.loads(state)["state"]) for text, _, state in rows} | {
        ("明かりを消して", "off")
    }
    none = vary_tool_calls(read_tool_calls(rows, TOOLS), 0)
    assert (none.utterances, none.varied) == ([text for text, _, _ in rows], 0)
