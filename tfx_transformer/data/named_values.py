"""The words by which requests name values of an `enum`, such as 消して for "off".

They are found in pairs of requests that differ in one value and in one place.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.data.wordings import Piece, is_run
from tfx_transformer.text.tools import Call

# Most pieces of a name, and most pairs of requests that are compared for one argument.
_LONGEST = 8
_MOST_PAIRS = 200_000
# Rounds of the search: with the names of a room known, more requests differ in one place.
_ROUNDS = 3


class Named(NamedTuple):
    """A request with its names of values: pieces; and the arguments that no piece shows."""

    pieces: list[Piece]
    hidden: dict[str, Any]


class Names:
    """The names of the values of one argument.

    Attributes:
        values: the value of each name.
        others: for each name, the names of other values that have been in its place, and how often;
            by the value as JSON.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.others: dict[str, dict[str, Counter[str]]] = {}

    def add(self, name: str, value: Any, other: str, value_of_other: Any) -> None:
        """Add two names that have been in the same place."""
        self.values[name] = value
        by_value = self.others.setdefault(name, {})
        by_value.setdefault(json.dumps(value_of_other), Counter())[other] += 1

    def keep_shortest(self) -> None:
        """Remove pairs of names that hold other names of the same values, such as those of whole
        phrases."""
        values = dict(self.values)
        kept = Names()
        for name, by_value in self.others.items():
            for counts in by_value.values():
                for other, count in counts.items():
                    pair = (name, values[name]), (other, values[other])
                    if not any(_holds_shorter(*one, values) for one in pair):
                        for _ in range(count):
                            kept.add(*pair[0], *pair[1])
        self.values, self.others = kept.values, kept.others

    def of(self, value: Any) -> list[str]:
        """Return the names of a value, those with most pairs first."""
        found = [name for name, one in self.values.items() if _same(one, value)]
        return sorted(found, key=lambda name: (-self._pairs(name), -len(name), name))

    def draw(self, name: str, rng: np.random.Generator) -> tuple[str, Any]:
        """Return another name with its value, or the same one: each value that has been in the
        place of this name is as likely, and its names by how often they have been there."""
        by_value = list(self.others[name].values())
        index = int(rng.integers(len(by_value) + 1))
        if index == len(by_value):
            return name, self.values[name]
        counts = by_value[index]
        shares = np.array(list(counts.values())) / counts.total()
        drawn = list(counts)[rng.choice(len(shares), p=shares)]
        return drawn, self.values[drawn]

    def _pairs(self, name: str) -> int:
        return sum(counts.total() for counts in self.others[name].values())


def find_names(
    requests: Sequence[list[Piece]], calls: Sequence[Call], schemas: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Named], dict[tuple[str, str], Names]]:
    """Return each request with pieces for the values that it names by other words, and the names of
    each argument, by tool and argument.

    Two requests of one tool that have the same words but for one place, and the same arguments but
    for one value of an `enum`, name that value there. A name is kept if no request with another
    value has it.

    Args:
        requests: the pieces of each request, which show some of its values.
        calls: its call.
        schemas: by tool, the JSON Schema of each argument.
    """
    found: dict[tuple[str, str], Names] = {}
    named = [Named(*pair) for pair in zip(requests, map(_hidden, requests, calls), strict=True)]
    for _ in range(_ROUNDS):
        places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, (call, one) in enumerate(zip(calls, named, strict=True)):
            for argument in one.hidden:
                if _is_choice(schemas[call.name].get(argument, {})):
                    places[call.name, argument].append(index)
        for key, indices in places.items():
            _learn(key, indices, calls, named, found.setdefault(key, Names()))
        before = sum(len(one.hidden) for one in named)
        named = [_show(call.name, one, found) for call, one in zip(calls, named, strict=True)]
        if sum(len(one.hidden) for one in named) == before:
            break
    return named, found


def _hidden(pieces: Sequence[Piece], call: Call) -> dict[str, Any]:
    shown = {piece.name for piece in pieces}
    return {name: value for name, value in call.arguments.items() if name not in shown}


def _is_choice(schema: Mapping[str, Any]) -> bool:
    return "enum" in schema or schema.get("type") == "boolean"


def _learn(
    key: tuple[str, str],
    indices: Sequence[int],
    calls: Sequence[Call],
    named: Sequence[Named],
    names: Names,
) -> None:
    """Add the names of one argument that pairs of requests show."""
    argument = key[1]
    groups: dict[Any, list[int]] = defaultdict(list)
    for index in indices:
        pieces, hidden = named[index]
        rest = {name: value for name, value in hidden.items() if name != argument}
        shown = sorted(piece.name for piece in pieces if piece.name)
        groups[json.dumps([rest, shown], sort_keys=True)].append(index)
    texts = {index: [piece.key or " " for piece in named[index].pieces] for index in indices}
    pairs = (pair for group in groups.values() for pair in itertools.combinations(group, 2))
    values = {index: calls[index].arguments[argument] for index in indices}
    precise: dict[tuple[str, str], bool] = {}
    for one, other in itertools.islice(pairs, _MOST_PAIRS):
        if _same(values[one], values[other]):
            continue
        spans = _difference(texts[one], texts[other])
        if spans is None:
            continue
        sides = [
            (_text(named[index].pieces, *span).lower(), values[index])
            for index, span in zip((one, other), spans, strict=True)
        ]
        for name, value in sides:
            if (name, json.dumps(value)) not in precise:
                precise[name, json.dumps(value)] = not any(
                    _count(named[i].pieces, name) and not _same(values[i], value) for i in indices
                )
        if all(precise[name, json.dumps(value)] for name, value in sides):
            names.add(*sides[0], *sides[1])
            names.add(*sides[1], *sides[0])
    names.keep_shortest()


def _holds_shorter(name: str, value: Any, values: Mapping[str, Any]) -> bool:
    """Return True if a part of a name is a name of the same value."""
    return any(one != name and one in name and _same(values[one], value) for one in values)


def _difference(
    one: Sequence[str], other: Sequence[str]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the start and end in each of two texts between which alone they differ; None if they
    differ in more than some words, or in a value."""
    start, shorter = 0, min(len(one), len(other))
    while start < shorter and one[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and one[-1 - end] == other[-1 - end]:
        end += 1
    while start and any(is_run(text[start - 1 : start + 1]) for text in (one, other)):
        start -= 1
    while end and any(is_run(text[len(text) - end - 1 :][:2]) for text in (one, other)):
        end -= 1
    spans = (start, len(one) - end), (start, len(other) - end)
    parts = one[slice(*spans[0])], other[slice(*spans[1])]
    if all(0 < len(part) <= _LONGEST and "\0" not in "".join(part) for part in parts):
        return spans
    return None


def _show(tool: str, named: Named, found: Mapping[tuple[str, str], Names]) -> Named:
    """Return a request with pieces for the hidden values whose names are in it exactly once."""
    pieces, hidden = named.pieces, dict(named.hidden)
    for argument, value in named.hidden.items():
        names = found.get((tool, argument))
        for name in names.of(value) if names is not None else ():
            if _count(pieces, name) == 1:
                start, end = next(_places(pieces, name))
                shown = Piece(_text(pieces, start, end), argument, value)
                pieces = [*pieces[:start], shown, *pieces[end:]]
                del hidden[argument]
                break
    return Named(pieces, hidden)


def _places(pieces: Sequence[Piece], name: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each place where pieces are a name; upper case does not matter."""
    for start in range(len(pieces)):
        text = ""
        for end in range(start, min(start + _LONGEST, len(pieces))):
            if pieces[end].name or not name.startswith(text := text + pieces[end].text.lower()):
                break
            if text == name:
                yield start, end + 1


def _count(pieces: Sequence[Piece], name: str) -> int:
    return sum(1 for _ in _places(pieces, name))


def _text(pieces: Sequence[Piece], start: int, end: int) -> str:
    return "".join(piece.text for piece in pieces[start:end])


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)
