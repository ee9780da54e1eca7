"""More rows of tool calls: the same requests with other values, and in other words.

A model learns to copy values from requests into calls only if it sees many of them, and where a
value ends only if many words follow it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.data.invented import Words, other_letters
from tfx_transformer.data.named_values import Named, find_names
from tfx_transformer.data.tool_calls import ToolCalls
from tfx_transformer.data.wordings import Piece, Wordings, cut, is_unspaced, wording
from tfx_transformer.errors import InputError
from tfx_transformer.text.copied import can_be_copied
from tfx_transformer.text.tools import Call, fits

_TRIES = 5
# Most rows and variants: some minutes of training on two cores.
MOST_VARIED = 40_000
# Share of the new texts that have other words; the rest are texts of other rows.
_INVENTED = 0.8
# Shares of the variants that are put together from two wordings, of those with fewer words, and of
# those with more.
_SPLICED, _SHORTENED, _LENGTHENED = 0.5, 0.25, 0.4
# The largest whole number that is drawn, and its digits: NumPy draws 64 bits.
_MOST_DIGITS = 18
_LARGEST = 10**_MOST_DIGITS - 1
# Turns for each copy. Rows with a text get a variant in every turn, other rows in every fourth. If
# all rows are of one kind, they get one in every second turn.
_TURNS, _TURNS_OF_OTHERS, _TURNS_OF_ALL = 2, 4, 2


class _Slot(NamedTuple):
    """An argument whose value is in the request: its name, and the place of the value."""

    name: str
    start: int
    end: int


@dataclasses.dataclass
class _Pool:
    """The values of an argument that is varied.

    words: those of all texts in the table's calls; texts: its texts, with True those that are
    ASCII; digits: those of the longest whole number.
    """

    words: Words
    texts: dict[bool, list[str]] = dataclasses.field(default_factory=dict)
    digits: int = 1


def vary_tool_calls(
    examples: ToolCalls, copies: int, seed: int = 0, most: int = MOST_VARIED
) -> ToolCalls:
    """Return the examples, followed by up to `copies` variants of each. If only some requests show
    a text without `enum`, these have up to twice as many variants and the others half as many:
    texts are what a model copies least well.

    An argument is varied if the request has its value exactly once. The value of an `enum` may
    differ in case. It, or a boolean, may also be named by other words, which are found in pairs of
    requests (see `find_names`). The variant has a new value in both places. For an `enum` it is any
    of its values; for a whole number, one from `minimum` to `maximum`, with at most as many digits
    as those of other rows; for another number, one with other digits; for a text, that of another
    row, in four of five variants with other words (see `Words.invent`): from those a model learns
    to copy texts that it has never seen. A new value has the `pattern` and size of the declaration;
    for words that a `pattern` does not allow, letters and digits are replaced one by one.

    If the request shows all its arguments, half of the variants have the end of another request for
    the same tool, a quarter have fewer words, and four of ten have more (see `Wordings`). In half
    of the variants the first letter changes its case, unless a value begins there. A variant is
    left out if its request exists already, if a request for another tool has its words, or if its
    call is not valid.

    Args:
        copies: most variants of each row, twice or half of it as above; 0 adds none.
        seed: draws the values.
        most: rows and variants at which no more variants are added.

    Raises:
        InputError: copies is below 0.
    """
    if copies < 0:
        raise InputError(f"copies is {copies}.\n  Expected 0 or more.")
    if not copies or len(examples.calls) >= most:
        return examples
    rng = np.random.default_rng(seed)
    slots = [_slots(*pair, examples) for pair in _pairs(examples)]
    maker = _Maker(examples, slots)
    utterances, calls = list(examples.utterances), list(examples.calls)
    indices = list(range(len(calls)))
    known = set(utterances)
    for turn in range(_TURNS * copies):
        for index in maker.rows_of_turn(turn):
            for _ in range(_TRIES if len(calls) < most else 0):
                text, call = maker.varied(index, rng)
                if text and text not in known and not examples.tools.problem(call):
                    known.add(text)
                    utterances.append(text)
                    calls.append(call)
                    indices.append(index)
                    break
    groups = examples.groups and [examples.groups[index] for index in indices]
    rows = [examples.rows[index] for index in indices]
    return dataclasses.replace(
        examples,
        utterances=utterances,
        calls=calls,
        groups=groups,
        rows=rows,
        varied=len(calls) - len(slots),
    )


def texts_without_values(examples: ToolCalls) -> list[str]:
    """Return the requests and calls without the texts and numbers that are in both, to train a
    tokenizer on.

    So the words of requests become whole tokens, with and without a capital, and the words of
    values are put together from pieces, as those of values that were never seen. A model then knows
    them apart.
    """
    texts = []
    for text, call in _pairs(examples):
        slots = [(*slot, None) for slot in _slots(text, call, examples)
                 if "enum" not in _schema(examples, call, slot.name)]  # fmt: skip
        words = "".join("" if piece.name else piece.text for piece in cut(text, slots))
        empty = {name: type(call.arguments[name])() for name, *_ in slots}
        texts += [words, words.lower(), words.title()]
        texts.append(Call(call.name, call.arguments | empty).tagged())
    return texts


def _pairs(examples: ToolCalls):
    return zip(examples.utterances, examples.calls, strict=True)


def _schema(examples: ToolCalls, call: Call, name: str) -> Mapping[str, Any]:
    declared = examples.tools.parameters[call.name].get("properties", {})
    return declared.get(name, {})


def _slots(utterance: str, call: Call, examples: ToolCalls) -> list[_Slot]:
    """Return the arguments whose values can be replaced, in the order of their places; none of
    them overlaps another."""
    found = []
    for name, value in call.arguments.items():
        schema = _schema(examples, call, name)
        if not _can_be_shown(value) or value == "" or "const" in schema:
            continue
        choices = _choices(schema) if "enum" in schema else None
        flags = re.IGNORECASE if choices else re.NOFLAG
        places = list(re.finditer(_pattern(str(value)), utterance, flags))
        if len(places) == 1 and (choices is None or len(choices) > 1):
            found.append(_Slot(name, *places[0].span()))
    found.sort(key=lambda slot: slot.start)
    kept: list[_Slot] = []
    for slot in found:
        if not kept or slot.start >= kept[-1].end:
            kept.append(slot)
    return kept


def _can_be_shown(value: Any) -> bool:
    """Return True if a request can have a value as its text."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    """Return the values of an `enum` that a request can have."""
    return [one for one in schema["enum"] if _can_be_shown(one)]


def _pattern(value: str) -> str:
    """Return the regular expression of a value that is not a part of a longer word or number."""
    before = r"(?<![A-Za-z0-9])" if value[0].isascii() and value[0].isalnum() else ""
    after = r"(?![A-Za-z0-9])" if value[-1].isascii() and value[-1].isalnum() else ""
    if value[0].isdigit():
        before += r"(?<![0-9][:.,])"
    if value[-1].isdigit():
        after += r"(?![:.,][0-9])"
    return before + re.escape(value) + after


def _pools(examples: ToolCalls, slots: Sequence[list[_Slot]]) -> dict[tuple[str, str], _Pool]:
    """Return the values of each argument that is varied somewhere, by tool and argument."""
    pools: dict[tuple[str, str], _Pool] = {}
    words = Words(
        call.arguments[slot.name]
        for call, found in zip(examples.calls, slots, strict=True)
        for slot in found
        if isinstance(call.arguments[slot.name], str)
        and "enum" not in _schema(examples, call, slot.name)
    )
    for call, found in zip(examples.calls, slots, strict=True):
        for slot in found:
            pool = pools.setdefault((call.name, slot.name), _Pool(words))
            value = call.arguments[slot.name]
            if isinstance(value, str):
                pool.texts.setdefault(value.isascii(), []).append(value)
            elif isinstance(value, int):
                pool.digits = max(pool.digits, len(str(abs(value))))
    return pools


class _Maker:
    """Makes variants of examples.

    Args:
        slots: the arguments that each request shows.
    """

    def __init__(self, examples: ToolCalls, slots: Sequence[list[_Slot]]) -> None:
        self._examples = examples
        self._pools = _pools(examples, slots)
        requests = [
            cut(text, [(*slot, call.arguments[slot.name]) for slot in found])
            for (text, call), found in zip(_pairs(examples), slots, strict=True)
        ]
        parameters = examples.tools.parameters.items()
        schemas = {name: one.get("properties", {}) for name, one in parameters}
        self._named, self._names = find_names(requests, examples.calls, schemas)
        kinds = [self._kind(*pair) for pair in zip(examples.calls, self._named, strict=True)]
        pieces = [one.pieces for one in self._named]
        self._wordings = Wordings(pieces, kinds)
        self._tools: dict[tuple[str, ...], set[str]] = {}
        self._with_text = [index for index in range(len(slots)) if self._has_text(index)]
        for one, call in zip(pieces, examples.calls, strict=True):
            self._tools.setdefault(wording(one), set()).add(call.name)

    def _kind(self, call: Call, named: Named) -> tuple | None:
        """Return what requests have in common whose wordings may be put together."""
        declared = self._examples.tools.parameters[call.name].get("properties", {})
        if any("const" not in declared.get(name, {}) for name in named.hidden):
            return None
        shown = sorted(piece.name for piece in named.pieces if piece.name)
        plain = "".join(piece.text for piece in named.pieces if not piece.name)
        return call.name, *shown, is_unspaced(plain)

    def rows_of_turn(self, turn: int) -> Sequence[int]:
        """Return the indices of the rows that get a variant in a turn."""
        every = range(len(self._named))
        if len(self._with_text) in (0, len(every)):
            return every if turn % _TURNS_OF_ALL == 0 else ()
        return every if turn % _TURNS_OF_OTHERS == 0 else self._with_text

    def _has_text(self, index: int) -> bool:
        """Return True if a request shows a text that is not one of a few choices."""
        call = self._examples.calls[index]
        return any(
            isinstance(piece.value, str) and "enum" not in _schema(self._examples, call, piece.name)
            for piece in self._named[index].pieces
            if piece.name
        )

    def varied(self, index: int, rng: np.random.Generator) -> tuple[str, Call]:
        """Return a request and its call with other values, often in other words; "" for the request
        if its words are those of another tool."""
        call, pieces = self._examples.calls[index], self._named[index].pieces
        if rng.random() < _SPLICED:
            pieces = self._wordings.spliced(index, rng)
        if rng.random() < _SHORTENED:
            pieces = self._wordings.shortened(index, pieces, rng)
        if rng.random() < _LENGTHENED:
            pieces = self._wordings.lengthened(index, pieces, rng)
        tools = self._tools.get(wording(pieces))
        if tools is not None and call.name not in tools:
            return "", call
        arguments = dict(call.arguments)
        made = []
        for piece in pieces:
            if piece.name:
                piece = self._other(piece, call, rng)
                arguments[piece.name] = piece.value
            made.append(piece.text)
        text = "".join(made)
        if rng.integers(2) and not (pieces and pieces[0].name):
            text = text[:1].swapcase() + text[1:]
        return text, Call(call.name, arguments)

    def _other(self, piece: Piece, call: Call, rng: np.random.Generator) -> Piece:
        """Return a piece that shows another value of its argument."""
        schema = _schema(self._examples, call, piece.name)
        names = self._names.get((call.name, piece.name))
        if names is not None and piece.text.lower() in names.others:
            shown, value = names.draw(piece.text.lower(), rng)
        else:
            pool = self._pools[call.name, piece.name]
            value = _other(piece.value, schema, pool, rng)
            shown = str(value)
        if piece.text[:1].isupper() and ("enum" in schema or isinstance(value, bool)):
            shown = shown[:1].upper() + shown[1:]
        return Piece(shown, piece.name, value)


def _other(value: Any, schema: Mapping[str, Any], pool: _Pool, rng: np.random.Generator) -> Any:
    """Return another value of an argument that fits its schema; the same one if none is found."""
    if "enum" in schema:
        choices = _choices(schema)
        return choices[rng.integers(len(choices))]
    # Such as KX-207 for AB-123: words of other lengths fit no pattern of a code.
    has_letters = "pattern" in schema and any(map(str.isalpha, str(value)))
    for _ in range(_TRIES):
        if isinstance(value, str):
            made: Any = _other_text(value, schema, pool, rng)
            if has_letters and not fits(made, schema):
                made = other_letters(value, rng)
        elif isinstance(value, int):
            made = _other_number(schema, pool.digits, rng)
        else:
            digits, exponent, power = repr(value).partition("e")
            made = float(_random_digits(digits, rng) + exponent + power)
        if fits(made, schema):
            return made
    return value


def _other_text(
    value: str, schema: Mapping[str, Any], pool: _Pool, rng: np.random.Generator
) -> str:
    """Return a text of another row, most often with other words."""
    alike = pool.texts[value.isascii()]
    drawn = alike[rng.integers(len(alike))]
    if rng.random() >= _INVENTED or not can_be_copied({"type": "string"} | schema):
        return drawn
    return pool.words.invent(drawn, rng)


def _other_number(schema: Mapping[str, Any], most: int, rng: np.random.Generator) -> int:
    """Return a whole number within its bounds, with one digit as often as with more.

    Args:
        most: most digits.
    """
    most = min(most, _MOST_DIGITS)
    low, high = schema.get("minimum", 0), schema.get("maximum", 10**most - 1)
    low = math.ceil(min(max(low, -_LARGEST), _LARGEST))
    high = max(low, math.floor(min(max(high, -_LARGEST), _LARGEST)))
    digits = int(rng.integers(1, most + 1))
    first, last = max(low, 10 ** (digits - 1) if digits > 1 else 0), min(high, 10**digits - 1)
    if first > last:
        first, last = low, high
    return int(rng.integers(first, last + 1))


def _random_digits(text: str, rng: np.random.Generator) -> str:
    """Return a number with other digits."""
    return "".join(str(rng.integers(10)) if one.isdigit() else one for one in text)
