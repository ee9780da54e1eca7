"""The words that mattered: the fall of a label's probability when a word is removed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# Texts are cut at spaces and, in scripts that are written without spaces, where the script changes.
# A punctuation mark belongs to the piece before it.
_PIECES = re.compile(
    r"[\u3400-\u4dbf\u4e00-\u9fff\u3005-\u3007]+|[\u3040-\u309f]+|[\u30a0-\u30ff]+"
    r"|[^\s\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)
# Most pieces of a text: in longer texts a piece has several words.
_MOST_PIECES = 48


class Piece(NamedTuple):
    """A piece of a text, and its effect.

    text: the piece; column: index of the text in its row; start: index of the piece in the text;
    weight: the fall of the label's probability without the piece, from -1 to 1. Below 0 the piece
    is evidence against the label.
    """

    text: str
    column: int
    start: int
    weight: float


def occlusion(
    probabilities: Callable[[Sequence], np.ndarray], item: str | Sequence[str], label: int
) -> list[Piece]:
    """Return the pieces of a text with the weight of each for a label, p(label | text) -
    p(label | text without the piece): Zeiler and Fergus (2014), section 4.2, for words.

    Args:
        probabilities: (texts, or rows of texts) -> float (n, C), such as
            `TextClassifier.probabilities`; or predicted numbers, float (n, 1), in their own unit.
        item: a text, or the texts of a row.
        label: id of the label; 0 for a number.
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
    """Return the start and end of the pieces of a text, at most `most`."""
    words = [found.span() for found in _PIECES.finditer(text)]
    if not words:
        return []
    each = -(-len(words) // most)
    groups = [words[i : i + each] for i in range(0, len(words), each)]
    return [(group[0][0], group[-1][1]) for group in groups]


def _without(texts: list[str], column: int, start: int, end: int) -> list[str]:
    text = texts[column]
    return [*texts[:column], text[:start] + text[end:], *texts[column + 1 :]]
