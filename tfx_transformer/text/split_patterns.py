"""The regular expressions of tokenizers from anywhere, which split texts into pieces.

tiktoken trusts its pattern. One that matches nothing, or that needs too many steps, makes it panic;
one that looks ahead far takes quadratic time; and text that a pattern does not match is left out.
So an unknown pattern is tried on short texts before it is used, and checked at each use.
"""

from __future__ import annotations

import functools
import random
import re
import time
from collections.abc import Iterator

import tiktoken

from tfx_transformer import flags
from tfx_transformer.errors import InputError

# References and recursion, which no pattern of a tokenizer needs.
_UNUSABLE = re.compile(r"\\[1-9]|\\[kg]|\(\?R|\(\?P[=>]|\(\?&")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_MAX_LENGTH = 10_000
_MAX_REPEAT = 1_000  # product of all counts in braces, which may be nested

# Characters of every class that patterns ask for: letters of several scripts and cases, marks,
# digits, blanks, line ends, signs, and others.
_CHARACTERS = "aSZéß猫カひ한اſ\u0301 \t\n\r\xa0\u3000\u200d07½.,'’-_/|<😀\x00\ue000"
_MAX_CHARACTERS = 80

# Lengths of texts that a pattern is tried on, and the seconds for each: good ones need a tenth.
_LENGTHS = (16, 32, 64, 128, 256, 512, 1_024)
_LONG = 4_096
_SECONDS, _SECONDS_A_CHARACTER = 0.02, 5e-6
# The seconds that a text of `tokenizer.SLICE` characters may take in use.
_MOST_SECONDS = 1.0


def usable(pattern: object) -> str:
    """Return a split pattern as it is, if it is usable.

    Raises:
        ValueError: it is not text, is too long, or has parts that no tokenizer needs.
    """
    if not isinstance(pattern, str) or len(pattern) > _MAX_LENGTH or _UNUSABLE.search(pattern):
        raise ValueError("the split pattern is not usable")
    product = 1
    for least, most in _REPEAT.findall(re.sub(r"\\[pPxu]\{[^}]*\}", "", pattern)):
        product *= max(int(most or least), 1)
    if product > _MAX_REPEAT:
        raise ValueError("the split pattern repeats too often")
    return pattern


@functools.lru_cache(maxsize=64)
def check(pattern: str) -> None:
    """Try a pattern on short texts of all kinds of characters, its own among them.

    Raises:
        ValueError: it makes tiktoken panic, takes too long, or leaves characters out.
    """
    ranks = {bytes([byte]): byte for byte in range(256)}
    with flags.silence():  # a panic is written to standard error, too
        encoding = tiktoken.Encoding(
            "tried", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
        )
        for text in _texts(pattern):
            began = time.thread_time()
            try:
                data = bytes(encoding.encode_ordinary(text))
            except BaseException as error:
                if not _is_panic(error):
                    raise
                raise ValueError(f"the split pattern fails on {_show(text)}") from error
            if data != text.encode():
                raise ValueError(f"the split pattern does not match all of {_show(text)}")
            if time.thread_time() - began > _SECONDS + _SECONDS_A_CHARACTER * len(text):
                raise ValueError(f"the split pattern takes too long on {_show(text)}")


def encode(encoding: tiktoken.Encoding, text: str, known: bool) -> list[int]:
    """`encoding.encode_ordinary(text)`.

    Args:
        encoding: encoding with a checked pattern.
        text: text of at most `tokenizer.SLICE` characters.
        known: True if the pattern is one of ours. For others, encoding also checks that no
            character is left out.

    Raises:
        InputError: the pattern cannot split the text, or takes too long.
    """
    began = 0.0 if known else time.thread_time()
    try:
        ids = encoding.encode_ordinary(text)
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise _unusable("fails on", text) from error
    if known:
        return ids
    if (
        encoding.decode_bytes(ids)
        != text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    ):
        raise _unusable("does not match all of", text)
    if time.thread_time() - began > _MOST_SECONDS:
        raise _unusable("takes too long on", text)
    return ids


def _texts(pattern: str) -> Iterator[str]:
    """Yield runs of one character, with and without another at the end, and mixtures; short ones
    first."""
    own = [c for c in dict.fromkeys(pattern) if c.isprintable()]
    characters = list(dict.fromkeys([*_CHARACTERS, *own]))[:_MAX_CHARACTERS]
    draw = random.Random(0)
    for length in (*_LENGTHS, _LONG):
        few = characters if length < _LONG else characters[:8]
        for character in few:
            yield character * length
            yield character * (length - 1) + draw.choice(characters)
        for longest in (1, 3, 40):
            runs = (draw.choice(characters) * draw.randint(1, longest) for _ in range(length))
            yield "".join(runs)[:length]


def _is_panic(error: BaseException) -> bool:
    """Return True if Rust gave up; the class is outside `Exception`, and cannot be imported."""
    return type(error).__name__ == "PanicException"


def _show(text: str) -> str:
    return repr(text if len(text) <= 24 else f"{text[:24]}…")


def _unusable(what: str, text: str) -> InputError:
    return InputError(
        f"the tokenizer's split pattern {what} {_show(text)}.\n"
        "  Its tokenizer.json is damaged, or was never usable: copy it again, or use another."
    )
