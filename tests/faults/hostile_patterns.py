"""Split patterns of tokenizer.json that panic, take too long or drop text, and some that do not;
`limited.py` loads each and encodes texts with it, which may answer or refuse.

Where it answers, the text must come back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tfx_transformer.text.tokenizer import PATTERN, Tokenizer

SECONDS = 5.0  # of a load and eleven texts of 20,000 characters
MAY_ANSWER = True
COUNT = 200

GOOD = (
    PATTERN,
    r"(?s:.)",
    r"(?s:.)+",
    r"\p{L}+|\P{L}+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
BAD = (
    "",
    "x*",
    "(?:a|a)+(?=b)|.",
    ".(?=.*x)|.",
    "a",
    "^",
    "$",
    r"\b",
    "(?=a)",
    ".*",
    ".+",
    r"\s+",
    "[^x]+",
    "(a+)+$|.",
    "(.*)(.*)(.*)x|(?s:.)",
    "(?s:.)(?=(?s:.)*q)|(?s:.)",
    "(?s:.)(?!.*z.*z)|(?s:.)",
    r"(\w+\s?)+(?=#)|(?s:.)",
    r"(?:\p{L}+\s*)+(?=!)|(?s:.)",
    r"\p{L}{1000}{1000}|(?s:.)",
    "(?:a(?=b)){1000}{1000}|.",
    r"\d+(?=\D*\d*k)|(?s:.)",
    r"\K|.",
    "[",
    "(",
    "*",
    "\\",
)

_ATOMS = (
    "a",
    "x",
    r"\p{L}",
    r"\p{N}",
    r"\s",
    r"\S",
    ".",
    " ",
    "[^a]",
    r"\w",
    r"\d",
    "(?s:.)",
    "日",
)
_REST = ("", "|(?s:.)", "|.", r"|\s+|\S")


def pattern(draw: random.Random, depth: int = 0) -> str:
    """A pattern at random: atoms, repeats, sequences, choices and looks around."""
    kind = draw.random()
    if depth > 2 or kind < 0.4:
        return draw.choice(_ATOMS)
    inner = pattern(draw, depth + 1)
    if kind < 0.6:
        return inner + draw.choice(("*", "+", "?", "{1,3}", "*?", "+?"))
    other = pattern(draw, depth + 1)
    if kind < 0.8:
        return inner + other
    if kind < 0.9:
        return f"(?:{inner}|{other})" + draw.choice(("", "*", "+"))
    return draw.choice(("(?=", "(?!", "(?<=", "(?>")) + inner + ")"


def texts() -> list[str]:
    draw = random.Random(1)
    any_letters = "".join(chr(draw.randrange(32, 0x3000)) for _ in range(20_000))
    mixed = "".join(draw.choice("abx 0é日\n") for _ in range(20_000))
    runs = [c * 20_000 for c in "ax0\n 日"]
    return [*runs, "the cat " * 2_500, "日本 " * 6_000, "é b\n" * 5_000, any_letters, mixed]


@cache
def tree() -> str:
    return Tokenizer.train(["the cat sat on the mat"], 262).to_json()


def encode_with(split: str) -> list[list[int]]:
    """Load the tokenizer with this pattern, and encode all texts."""
    changed = json.loads(tree())
    changed["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = split
    tokenizer = Tokenizer.from_json(json.dumps(changed))
    encoded = [tokenizer.encode(text) for text in texts()]
    assert [tokenizer.decode(ids) for ids in encoded] == texts()
    return encoded


def _case(split: str) -> Callable[[Path], Callable[[], object]]:
    return lambda folder: lambda: encode_with(split)


_draw = random.Random(7)
PATTERNS = [*GOOD, *BAD]
PATTERNS += [pattern(_draw) + _draw.choice(_REST) for _ in range(COUNT - len(PATTERNS))]
CASES = {f"{number}: {split}": _case(split) for number, split in enumerate(PATTERNS)}
tree()
