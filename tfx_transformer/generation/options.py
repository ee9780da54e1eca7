"""The choice of the next token, as one validated value."""

from __future__ import annotations

import dataclasses
import json
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import json_files
from tfx_transformer.errors import InputError

# Schemas and regular expressions come from strangers too. Real ones stay far below these.
MAX_FORM = 64 * 1024
MAX_CHOICES = 1000
_MAX_DEPTH = 50

# The expected value of each option, for messages.
_EXPECTED = {
    "max_new_tokens": "a whole number of at least 1",
    "beams": "a whole number from 1 to 64",
    "length_penalty": "from 0 to 10",
    "temperature": "from 0 (greedy) to 100",
    "top_k": "0 (all tokens) or a larger whole number",
    "top_p": "above 0, at most 1 (all tokens)",
    "repetition_penalty": "above 0, at most 100; 1 is no penalty",
    "seed": "a whole number of 0 or more",
    "stop": "a text, or several, none of them empty",
    "regex": f"a regular expression of at most {MAX_FORM:,} characters",
    "choices": f"1 to {MAX_CHOICES:,} different texts, none of them empty, together at most "
    f"{MAX_FORM:,} characters long",
    "free": "True or False",
    "logprobs": "a whole number from 0 to 20",
}


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """Options of generation; the defaults are greedy decoding.

    Attributes:
        max_new_tokens: Most tokens to write. Default: as many as the model can.
        beams: Hypotheses of beam search; 1: no search.
        length_penalty: The score of a beam is divided by its length to this power (Wu et al. 2016,
            equation 14, with lp = length^a); 0 favours short texts.
        temperature: 0 takes the most probable token; above 0, tokens are drawn from
            softmax(logits / temperature). Default: 1 if top-k or top-p is given, else 0.
        top_k: Draw only among the k most probable tokens (Fan et al. 2018); 0: all.
        top_p: Draw only among the most probable tokens that together reach p (Holtzman et al.
            2020); 1: all.
        repetition_penalty: Makes tokens already written less probable: divides their logits, or
            multiplies them if negative (Keskar et al. 2019, 4.1); 1: none.
        seed: Seed of the draws; the same one draws the same tokens in every engine. Greedy
            decoding and beam search draw nothing.
        stop: Text before which an answer ends; repeat it for several.
        schema (FILE.json): JSON Schema that answers follow; in Python also the schema itself.
        regex (REGEX): Regular expression that answers match as a whole.
        choices: Text that an answer may be; repeat it for each choice.
        free: Let a model that calls tools write other texts too.
        logprobs (N): Say how probable each token was, and the N most probable ones.

    Raises:
        InputError: a value is of another type or out of range, or one option would make another
            one do nothing: beams with temperature, top_k, top_p, repetition_penalty, stop or
            logprobs; length_penalty without beams; top_k or top_p with temperature 0; beams or
            stop with schema, regex or choices; more than one of these three.
    """

    max_new_tokens: int | None = None
    beams: int = 1
    length_penalty: float = 1.0
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: str | Sequence[str] = ()
    schema: Path | str | Mapping[str, Any] | None = None
    regex: str | None = None
    choices: Sequence[str] = ()
    free: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        for name in ("stop", "choices"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if self.schema is not None:
            object.__setattr__(self, "schema", _read_schema(self.schema))
        for name, fits in self._checks().items():
            if not fits:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}.\n  Expected {_EXPECTED[name]}."
                )
        self._check_combinations()
        if self.temperature is None:
            drawn = self.top_k > 0 or self.top_p < 1
            object.__setattr__(self, "temperature", 1.0 if drawn else 0.0)

    @property
    def has_form(self) -> bool:
        """True if answers are of a given form."""
        return bool(self.schema or self.regex or self.choices)

    def without_form(self) -> GenerationOptions:
        """Return the options of answers of any form."""
        return dataclasses.replace(self, schema=None, regex=None, choices=(), free=True)

    def _checks(self) -> dict[str, bool]:
        """Return by option True if its value is valid, else False."""
        stop = self.stop
        return {
            "max_new_tokens": self.max_new_tokens is None or _is_whole(self.max_new_tokens, 1),
            "beams": _is_whole(self.beams, 1) and self.beams <= 64,
            "length_penalty": _is_number(self.length_penalty) and 0 <= self.length_penalty <= 10,
            "temperature": self.temperature is None
            or (_is_number(self.temperature) and 0 <= self.temperature <= 100),
            "top_k": _is_whole(self.top_k, 0),
            "top_p": _is_number(self.top_p) and 0 < self.top_p <= 1,
            "repetition_penalty": _is_number(self.repetition_penalty)
            and 0 < self.repetition_penalty <= 100,
            "seed": _is_whole(self.seed, 0),
            "stop": isinstance(stop, tuple) and all(isinstance(s, str) and s for s in stop),
            "regex": self.regex is None or _is_short_text(self.regex),
            "choices": isinstance(self.choices, tuple)
            and all(map(_is_short_text, self.choices))
            and len(set(self.choices)) == len(self.choices) <= MAX_CHOICES
            and sum(map(len, self.choices)) <= MAX_FORM,
            "free": isinstance(self.free, bool),
            "logprobs": self.logprobs is None
            or (_is_whole(self.logprobs, 0) and self.logprobs <= 20),
        }

    def _check_combinations(self) -> None:
        """Refuse two options of which one would be ignored."""
        neutral = {
            "temperature": (None, 0),
            "top_k": (0,),
            "top_p": (1,),
            "repetition_penalty": (1,),
            "stop": ((),),
            "schema": (None,),
            "regex": (None,),
            "choices": ((),),
            "logprobs": (None,),
        }
        for name, values in neutral.items():
            if self.beams > 1 and getattr(self, name) not in values:
                raise InputError(
                    f"beams and {name} exclude each other.\n"
                    "  Beam search looks for the most probable text; drop one of the two."
                )
        forms = [name for name in ("schema", "regex", "choices") if getattr(self, name)]
        given = [*forms, "stop"] if forms and self.stop else forms
        if len(given) > 1:
            raise InputError(
                f"{given[0]} and {given[1]} exclude each other.\n"
                "  An answer ends where its form does. Drop one of the two."
            )
        if self.beams == 1 and self.length_penalty != 1:
            raise InputError(
                f"length_penalty is {self.length_penalty} without beams.\n"
                "  It divides the scores of beam search. Ask for 2 beams or more, or drop it."
            )
        for name in ("top_k", "top_p"):
            if self.temperature == 0 and getattr(self, name) not in neutral[name]:
                raise InputError(
                    f"{name} and temperature 0 exclude each other.\n"
                    "  Temperature 0 takes the most probable token and draws none. Drop one of the "
                    "two;\n  without a temperature it is 1."
                )


def _read_schema(given: Path | str | Mapping[str, Any]) -> str:
    """Return a schema as JSON.

    Args:
        given: a file, JSON, or the schema itself.

    Raises:
        InputError: it cannot be read, or is too long or too deep.
    """
    file = given if isinstance(given, Path) else None
    try:
        value = json_files.read_object(file) if file else given
        if isinstance(value, str):
            value = json_files.parse(value[: MAX_FORM + 1])
        if not isinstance(value, Mapping):
            raise ValueError("it is not an object")
        if _depth(value) > _MAX_DEPTH:
            raise ValueError(f"it has more than {_MAX_DEPTH} levels")
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if len(text) > MAX_FORM:
            raise ValueError(f"it has more than {MAX_FORM:,} characters")
        return text
    except InputError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"the schema cannot be read: {error}.\n"
            '  Expected a JSON Schema, such as {"type": "object", "properties": {…}}.',
            file,
        ) from error


def _depth(value: Any) -> int:
    """Return how many levels a JSON value has; all beyond `_MAX_DEPTH` count as one."""
    depth, level = 0, [value]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        inner = [list(one.values()) if isinstance(one, Mapping) else one for one in level]
        level = [one for part in inner if isinstance(part, list | tuple) for one in part]
    return depth


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_FORM


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: object, least: int) -> bool:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and value >= least
