"""The words by which requests name booleans and values of an `enum`, such as 消して for "off".

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
    """A request, and which values of its call it shows.

    pieces: of the request; hidden: the arguments that no piece shows, with their values.
    """

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

    def add(self, name: str, value: Any, other: str, value_of_other: Any, count: int = 1) -> None:
        """Add a name, and another one that has been in its place `count` times."""
        self.values[name] = value
        by_value = self.others.setdefault(name, {})
        by_value.setdefault(json.dumps(value_of_other), Counter())[other] += count

    def keep_shortest(self) -> None:
        """Remove names that hold another name of the same value, such as whole phrases."""
        long = {name for names in self._by_value().values() for name in _that_hold_another(names)}
        if not long:
            return
        kept = Names()
        for name, by_value in self.others.items():
            for counts in by_value.values():
                for other, count in counts.items():
                    if name not in long and other not in long:
                        kept.add(name, self.values[name], other, self.values[other], count)
        self.values, self.others = kept.values, kept.others

    def ranks(self) -> dict[str, dict[str, int]]:
        """Return the rank of each name of a value, from 0 for the one with most pairs; by the value
        as JSON."""
        ranks = {}
        for value, names in self._by_value().items():
            ordered = sorted(names, key=lambda name: (-self._pairs(name), -len(name), name))
            ranks[value] = {name: rank for rank, name in enumerate(ordered)}
        return ranks

    def draw(self, name: str, rng: np.random.Generator) -> tuple[str, Any]:
        """Return another name with its value, or the same one. Each value that has been in the
        place of this name is equally likely, and its names by how often they have been there."""
        by_value = list(self.others[name].values())
        index = int(rng.integers(len(by_value) + 1))
        if index == len(by_value):
            return name, self.values[name]
        counts = by_value[index]
        shares = np.array(list(counts.values())) / counts.total()
        drawn = list(counts)[rng.choice(len(shares), p=shares)]
        return drawn, self.values[drawn]

    def _by_value(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name, value in self.values.items():
            found[json.dumps(value)].append(name)
        return found

    def _pairs(self, name: str) -> int:
        return sum(counts.total() for counts in self.others[name].values())


def find_names(
    requests: Sequence[list[Piece]], calls: Sequence[Call], schemas: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Named], dict[tuple[str, str], Names]]:
    """Return each request with pieces for the values that it names by other words, and the names of
    each argument, by tool and argument.

    If two requests of one tool have the same words but for one place, and the same arguments but
    for one boolean or value of an `enum`, they name that value there. A name is kept if it is in no
    request that hides another value of the argument.

    Args:
        requests: the pieces of each request, which show some of its values.
        calls: the call of each request.
        schemas: by tool, the JSON Schema of each argument.
    """
    found: dict[tuple[str, str], Names] = {}
    given = [Named(*pair) for pair in zip(requests, map(_hidden, requests, calls), strict=True)]
    named = given
    for _ in range(_ROUNDS):
        places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, (call, one) in enumerate(zip(calls, named, strict=True)):
            for argument in one.hidden:
                if _is_choice(schemas[call.name].get(argument, {})):
                    places[call.name, argument].append(index)
        for key, indices in places.items():
            _learn(key[1], indices, named, found.setdefault(key, Names()))
        before = sum(len(one.hidden) for one in named)
        ranks = {key: names.ranks() for key, names in found.items()}
        # From the beginning: a shorter name may be in the place of an earlier one.
        named = [_show(call.name, one, ranks) for call, one in zip(calls, given, strict=True)]
        if sum(len(one.hidden) for one in named) == before:
            break
    return named, found


def _hidden(pieces: Sequence[Piece], call: Call) -> dict[str, Any]:
    shown = {piece.name for piece in pieces}
    return {name: value for name, value in call.arguments.items() if name not in shown}


def _is_choice(schema: Mapping[str, Any]) -> bool:
    return "enum" in schema or schema.get("type") == "boolean"


def _learn(argument: str, indices: Sequence[int], named: Sequence[Named], names: Names) -> None:
    """Add the names of one argument that pairs of requests show.

    Args:
        argument: its name.
        indices: of the requests that hide its value.
        named: all requests.
        names: the names that are known, to which others are added.
    """
    values = {index: json.dumps(named[index].hidden[argument]) for index in indices}
    pairs = Counter(_named_by_pairs(argument, indices, named, values))
    candidates = {name for pair in pairs for name, _ in pair}
    having: dict[str, set[str]] = defaultdict(set)
    for name, value in names.values.items():
        having[name].add(json.dumps(value))
    for index in indices:
        for name in candidates.intersection(text for text, _, _ in _runs(named[index].pieces)):
            having[name].add(values[index])
    for (one, other), count in pairs.items():
        if all(having[name] == {value} for name, value in (one, other)):
            both = (one[0], json.loads(one[1])), (other[0], json.loads(other[1]))
            names.add(*both[0], *both[1], count)
            names.add(*both[1], *both[0], count)
    names.keep_shortest()


def _named_by_pairs(
    argument: str, indices: Sequence[int], named: Sequence[Named], values: Mapping[int, str]
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Yield, for each pair of requests that differ in one place, both words there in lower case,
    each with the value of its request.

    Args:
        argument, indices, named: see `_learn`.
        values: the value of each request, as JSON.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index in indices:
        pieces, hidden = named[index]
        rest = {name: value for name, value in hidden.items() if name != argument}
        shown = sorted(piece.name for piece in pieces if piece.name)
        groups[json.dumps([rest, shown], sort_keys=True)].append(index)
    keys = {index: [piece.key or " " for piece in named[index].pieces] for index in indices}
    pairs = (pair for group in groups.values() for pair in itertools.combinations(group, 2))
    for one, other in itertools.islice(pairs, _MOST_PAIRS):
        spans = None if values[one] == values[other] else _difference(keys[one], keys[other])
        if spans is not None:
            first, second = (
                _text(named[index].pieces, *span).lower()
                for index, span in zip((one, other), spans, strict=True)
            )
            yield (first, values[one]), (second, values[other])


def _that_hold_another(names: Sequence[str]) -> list[str]:
    """Return the names that contain another name of the list."""
    known, lengths = set(names), {len(name) for name in names}
    return [
        name
        for name in names
        if any(
            name[start : start + length] in known
            for length in lengths
            if length < len(name)
            for start in range(len(name) - length + 1)
        )
    ]


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


def _show(
    tool: str, named: Named, ranks: Mapping[tuple[str, str], Mapping[str, Mapping[str, int]]]
) -> Named:
    """Return a request with pieces for the hidden values whose names are in it exactly once.

    Args:
        tool: its tool.
        named: the request.
        ranks: by tool and argument, what `Names.ranks` returns.
    """
    pieces, hidden = named.pieces, dict(named.hidden)
    for argument, value in named.hidden.items():
        ranked = ranks.get((tool, argument), {}).get(json.dumps(value), {})
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for text, start, end in _runs(pieces) if ranked else ():
            if text in ranked:
                places[text].append((start, end))
        if once := [name for name, found in places.items() if len(found) == 1]:
            ((start, end),) = places[min(once, key=ranked.__getitem__)]
            shown = Piece(_text(pieces, start, end), argument, value)
            pieces = [*pieces[:start], shown, *pieces[end:]]
            del hidden[argument]
    return Named(pieces, hidden)


def _runs(pieces: Sequence[Piece]) -> Iterator[tuple[str, int, int]]:
    """Yield the text in lower case, the start and the end of each run of pieces that may be a name:
    at most `_LONGEST` pieces, without the value of an argument."""
    for start in range(len(pieces)):
        text = ""
        for end in range(start, min(start + _LONGEST, len(pieces))):
            if pieces[end].name:
                break
            text += pieces[end].text.lower()
            yield text, start, end + 1


def _text(pieces: Sequence[Piece], start: int, end: int) -> str:
    return "".join(piece.text for piece in pieces[start:end])
