"""More rows of tool calls: the same requests with other names, texts and numbers.

A model learns to copy a value from the request into the call only from many values.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.data.tool_calls import ToolCalls
from tfx_transformer.errors import InputError
from tfx_transformer.text.tools import Call

# Letters that replace others of the same kind.
_KINDS = [
    tuple(range(first, last + 1))
    for first, last in (
        (ord("a"), ord("z")), (ord("A"), ord("Z")), (ord("0"), ord("9")),
        (0x3042, 0x3093), (0x30A2, 0x30F3), (0x4E00, 0x9FA5),
        (0xAC00, 0xD7A3), (0x0430, 0x044F), (0x0410, 0x042F), (0x03B1, 0x03C9),
    )
]  # fmt: skip
_KIND_OF = {code: kind for kind in _KINDS for code in kind}
_TRIES = 5


class _Slot(NamedTuple):
    """An argument whose value is in the request as it is: its name, and the place of the value."""

    name: str
    start: int
    end: int


def vary_tool_calls(examples: ToolCalls, copies: int, seed: int = 0) -> ToolCalls:
    """Return the examples, then `copies` times all of them with other values.

    An argument is varied if its value is in the request exactly once and as it is, apart from upper
    and lower case of choices. Another value of an `enum` is one of the others. Other numbers are
    drawn from `minimum` to `maximum`, or of up to as many digits as the column has. Other texts are
    values of other rows, mixtures of their words, or random letters of the same script; so a model
    learns to copy texts that it has never seen. Half of the variants begin with a letter of the
    other case, unless a value is there. A variant that is there already is left out.

    Args:
        copies: number of variants of each row; 0 adds none.
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
                if text not in known:
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
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            continue
        choices = _schema(examples, call, name).get("enum")
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


def _pattern(value: str) -> str:
    """Return the regular expression of a value that is not a part of a longer word or number."""
    before = r"(?<![A-Za-z0-9])" if value[0].isascii() and value[0].isalnum() else ""
    after = r"(?![A-Za-z0-9])" if value[-1].isascii() and value[-1].isalnum() else ""
    if value[0].isdigit():
        before += r"(?<![0-9][:.,])"
    if value[-1].isdigit():
        after += r"(?![:.,][0-9])"
    return before + re.escape(value) + after


def _pools(examples: ToolCalls, slots: Sequence[list[_Slot]]) -> dict[tuple[str, str], list[Any]]:
    """Return the values of each argument that is varied somewhere."""
    pools: dict[tuple[str, str], list[Any]] = {}
    for call, found in zip(examples.calls, slots, strict=True):
        for slot in found:
            pools.setdefault((call.name, slot.name), []).append(call.arguments[slot.name])
    return pools


def _varied(
    index: int,
    examples: ToolCalls,
    slots: list[_Slot],
    pools: Mapping[tuple[str, str], list[Any]],
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


def _other(
    value: Any, schema: Mapping[str, Any], pool: Sequence[Any], rng: np.random.Generator
) -> Any:
    """Return another value of an argument."""
    if "enum" in schema:
        return schema["enum"][rng.integers(len(schema["enum"]))]
    if isinstance(value, int):
        return _other_number(schema, [one for one in pool if isinstance(one, int)], rng)
    if isinstance(value, float):
        return float(_random_letters(repr(value), rng))
    alike = [one for one in pool if isinstance(one, str) and one.isascii() == value.isascii()]
    drawn = str(rng.choice(alike))
    draw = rng.integers(3)
    if draw == 0:
        return drawn
    if draw == 1:
        return _random_letters(drawn, rng)
    return _mixture(drawn, str(rng.choice(alike)), rng)


def _other_number(schema: Mapping[str, Any], pool: Sequence[int], rng: np.random.Generator) -> int:
    """Return a whole number within its bounds, with one digit as often as with more."""
    most = max(len(str(abs(one))) for one in pool)
    low = int(schema.get("minimum", 0))
    high = max(low, int(schema.get("maximum", 10**most - 1)))
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
