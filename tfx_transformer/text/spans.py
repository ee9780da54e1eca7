"""Labelled spans of a text, and the tags of its tokens that are equivalent to them.

Tags are those of IOB2 (Tjong Kim Sang and Veenstra 1999): `B-PERSON` begins a span, `I-PERSON`
continues it, `O` is in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfx_transformer.text.offsets import Offsets
from tfx_transformer.text.words import is_inside_word

OUTSIDE = "O"


class Span(NamedTuple):
    """A stretch of a text with a label.

    start, end: number of characters (code points) before the span, and up to its end; label: such
    as "PERSON".
    """

    start: int
    end: int
    label: str


def best_path(scores: np.ndarray, first: np.ndarray, steps: Sequence[np.ndarray]) -> list[int]:
    """Return the tag of each token on the most probable path (Viterbi 1967).

    Args:
        scores: logarithms of probabilities, float (tokens, tags).
        first: added to the scores of the first token, float (tags,).
        steps: added from the tag of a token to that of the next, float (tags, tags) for each token
            but the last.
    """
    best = scores[0] + first
    back = []
    for row, step in zip(scores[1:], steps, strict=True):
        sums = best[:, None] + step
        choice = sums.argmax(axis=0)
        back.append(choice)
        best = sums[choice, np.arange(len(row))] + row
    path = [int(best.argmax())]
    for choice in reversed(back):
        path.append(int(choice[path[-1]]))
    return path[::-1]


def tag_names(labels: Sequence[str]) -> list[str]:
    """Return the tags of some labels: `O`, then a `B-` and an `I-` of each."""
    return [OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in "BI")]


def tags_of(spans: Sequence[Span], offsets: Offsets) -> list[str]:
    """Return the tag of each token of a text.

    A token belongs to the first span that holds a part of it. Blanks between the tokens of a span
    are `O`, and so is every token of length 0.

    Args:
        spans: spans of the text that do not overlap.
        offsets: offsets of its tokens.
    """
    tags = [OUTSIDE] * len(offsets)
    ordered = sorted(spans)
    index, begun = 0, False
    for place, (start, end) in enumerate(offsets):
        while index < len(ordered) and ordered[index].end <= start:
            index, begun = index + 1, False
        if start == end or index == len(ordered) or ordered[index].start >= end:
            continue
        tags[place] = f"{'I' if begun else 'B'}-{ordered[index].label}"
        begun = True
    return tags


def count_inexact(spans: Sequence[Span], text: str, offsets: Offsets) -> int:
    """Return how many spans begin or end inside a token or a word of their text."""
    inside = {place for start, end in offsets for place in range(start + 1, end)}
    return sum(
        any(edge in inside or is_inside_word(text, edge) for edge in span[:2]) for span in spans
    )


def span_text(text: str, spans: Sequence[Span]) -> str:
    """Return spans as readable text, such as "PERSON: Ann Lee, PLACE: Oslo"; "–" for none."""
    return ", ".join(f"{span.label}: {text[span.start : span.end]}" for span in spans) or "–"
