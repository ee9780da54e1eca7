"""More rows of tool calls: the same requests with other names, texts and numbers.

A model learns to copy values from requests into calls only if it sees many of them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.data.tool_calls import ToolCalls
from tfx_transformer.errors import InputError
from tfx_transformer.text.tools import Call

# Letters and digits by kind; each is replaced by one of its kind.
_KINDS = [
    np.arange(first, last + 1)
    for first, last in (
        (ord("a"), ord("z")), (ord("A"), ord("Z")), (ord("0"), ord("9")),
        (0x3042, 0x3093), (0x30A2, 0x30F3), (0x4E00, 0x9FA5),
        (0xAC00, 0xD7A3), (0x0430, 0x044F), (0x0410, 0x042F), (0x03B1, 0x03C9),
    )
]  # fmt: skip
_KIND_OF = {code: kind for kind in _KINDS for code in kind.tolist()}
_TRIES = 5
# The largest whole number that is drawn, and its digits: NumPy draws 64 bits.
_MOST_DIGITS = 18
_LARGEST = 10**_MOST_DIGITS - 1


class _Slot(NamedTuple):
    """An argument whose value is in the request: its name, and the place of the value."""

    name: str
    start: int
    end: int


@dataclasses.dataclass
class _Pool:
    """The values of an argument that is varied: texts, by whether they are ASCII, and the digits of
    the longest whole number."""

    texts: dict[bool, list[str]] = dataclasses.field(default_factory=dict)
    digits: int = 1


def vary_tool_calls(examples: ToolCalls, copies: int, seed: int = 0) -> ToolCalls:
    """Return the examples, followed by up to `copies` variants of each.

    An argument is varied if the request has its value exactly once; the value of an `enum` may
    differ in case. The variant has a new value in both places. For an `enum` it is any of its
    values; for a whole number, one from `minimum` to `maximum`, with at most as many digits as
    those of other rows; for another number, one with other digits; for a text, that of another
    row, a mixture of two, or random letters of the same script; a `pattern` is not followed. From
    random letters a model learns to copy texts that it has never seen. In half of the variants the
    first letter changes its case, unless a value begins there. A variant is left out if its request
    exists already, or if its call is not valid.

    Args:
        copies: most variants of each row; 0 adds none.
        seed: draws the values.

    Raises:
        InputError: copies is below 0.
    """
    if copies < 0:
        raise InputError(f"copies is {copies}.\n  Expected 0 or more.")
    rng = np.random.default_rng(seed)
    slots = [_slots(*pair, examples) for pair in _pairs(examples)]
    pools = _pools(examples, slots)
    utterances, calls = list(examples.utterances), list(examples.calls)
    indices = list(range(len(calls)))
    known = set(utterances)
    for _ in range(copies):
        for index, found in enumerate(slots):
            for _ in range(_TRIES):
                text, call = _varied(index, examples, found, pools, rng)
                if text not in known and not examples.tools.problem(call):
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
    for call, found in zip(examples.calls, slots, strict=True):
        for slot in found:
            pool = pools.setdefault((call.name, slot.name), _Pool())
            value = call.arguments[slot.name]
            if isinstance(value, str):
                pool.texts.setdefault(value.isascii(), []).append(value)
            elif isinstance(value, int):
                pool.digits = max(pool.digits, len(str(abs(value))))
    return pools


def _varied(
    index: int,
    examples: ToolCalls,
    slots: list[_Slot],
    pools: Mapping[tuple[str, str], _Pool],
    rng: np.random.Generator,
) -> tuple[str, Call]:
    """Return a request and its call with other values."""
    utterance, call = examples.utterances[index], examples.calls[index]
    arguments = dict(call.arguments)
    for slot in reversed(slots):
        schema = _schema(examples, call, slot.name)
        pool = pools[call.name, slot.name]
        value = arguments[slot.name] = _other(arguments[slot.name], schema, pool, rng)
        old = utterance[slot.start : slot.end]
        shown = str(value)
        if "enum" in schema and old[:1].isupper():
            shown = shown[:1].upper() + shown[1:]
        utterance = utterance[: slot.start] + shown + utterance[slot.end :]
    if rng.integers(2) and not (slots and slots[0].start == 0):
        utterance = utterance[:1].swapcase() + utterance[1:]
    return utterance, Call(call.name, arguments)


def _other(value: Any, schema: Mapping[str, Any], pool: _Pool, rng: np.random.Generator) -> Any:
    """Return another value of an argument."""
    if "enum" in schema:
        choices = _choices(schema)
        return choices[rng.integers(len(choices))]
    if isinstance(value, int):
        return _other_number(schema, pool.digits, rng)
    if isinstance(value, float):
        digits, exponent, power = repr(value).partition("e")
        return float(_random_letters(digits, rng) + exponent + power)
    alike = pool.texts[value.isascii()]
    drawn = alike[rng.integers(len(alike))]
    draw = rng.integers(3)
    if draw == 0:
        return drawn
    if draw == 1:
        return _random_letters(drawn, rng)
    return _mixture(drawn, alike[rng.integers(len(alike))], rng)


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


def _random_letters(text: str, rng: np.random.Generator) -> str:
    """Return a text with each letter and digit replaced by another one of the same kind."""
    return "".join(
        chr(rng.choice(_KIND_OF[ord(one)])) if ord(one) in _KIND_OF else one for one in text
    )


def _mixture(one: str, other: str, rng: np.random.Generator) -> str:
    """Return the beginning of a text and the end of another one, cut between words if there are
    blanks."""
    space = " " if " " in one or " " in other else ""
    first, second = (text.split(" ") if space else list(text) for text in (one, other))
    start = first[: rng.integers(1, len(first) + 1)]
    return space.join([*start, *second[rng.integers(len(second)) :]])
