"""The words that mattered: how far a label's probability falls when a word is taken out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# Scripts that are written without spaces are cut where the script changes, others at spaces. A mark
# goes with what is before it.
_PIECES = re.compile(
    r"[\u3400-\u4dbf\u4e00-\u9fff\u3005-\u3007]+|[\u3040-\u309f]+|[\u30a0-\u30ff]+"
    r"|[^\s\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)
# Longer texts are cut into so many pieces of several words.
_MOST_PIECES = 48


class Piece(NamedTuple):
    """A piece of a text, and what it did.

    text: the piece; column: index of the text, of a row with several; start: of the piece in the
    text; weight: how much lower the label's probability is without the piece, from -1 to 1. Below
    0 the piece spoke against the label.
    """

    text: str
    column: int
    start: int
    weight: float


def occlusion(
    probabilities: Callable[[Sequence], np.ndarray], item: str | Sequence[str], label: int
) -> list[Piece]:
    """Return the pieces of a text with what each did for a label (Zeiler and Fergus 2014, section
    4.2, for words): p(label | text) - p(label | text without the piece).

    Args:
        probabilities: texts, or rows of texts -> float (n, C), such as
            `TextClassifier.probabilities`; or of numbers instead, on their own scale.
        item: a text, or the texts of a row.
        label: id of the label; of a single number 0.
    """
    texts = [item] if isinstance(item, str) else list(item)
    spans = [
        (column, start, end)
        for column, text in enumerate(texts)
        for start, end in _spans(text, max(1, _MOST_PIECES // len(texts)))
    ]
    if not spans:
        return []
    rows = [texts] + [_without(texts, *span) for span in spans]
    found = probabilities([row[0] if isinstance(item, str) else tuple(row) for row in rows])
    falls = found[0, label] - found[1:, label]
    return [
        Piece(texts[column][start:end], column, start, float(fall))
        for (column, start, end), fall in zip(spans, falls, strict=True)
    ]


def _spans(text: str, most: int) -> list[tuple[int, int]]:
    """Return where the pieces of a text begin and end, at most so many."""
    words = [found.span() for found in _PIECES.finditer(text)]
    if not words:
        return []
    each = -(-len(words) // most)
    groups = [words[i : i + each] for i in range(0, len(words), each)]
    return [(group[0][0], group[-1][1]) for group in groups]


def _without(texts: list[str], column: int, start: int, end: int) -> list[str]:
    text = texts[column]
    return [*texts[:column], text[:start] + text[end:], *texts[column + 1 :]]
