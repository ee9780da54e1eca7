"""Scores of marked spans: F1 of whole spans, as seqeval counts them; their confusion and mistakes.

A span is right if its start, end and label are right (Tjong Kim Sang and De Meulder 2003, section
2.5; `mode="strict"` of seqeval).
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfx_transformer.evaluation.intervals import Interval, bootstrap_interval

# The name of "no span" in a confusion matrix.
NOTHING = "–"


class AnySpan(Protocol):
    """A span; one that a model has marked has a `probability` too."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def label(self) -> str: ...


Spans = Sequence[Sequence[AnySpan]]


class Counts(NamedTuple):
    """Numbers of right, marked and true spans in each text, each int (texts,)."""

    hits: np.ndarray
    guesses: np.ndarray
    truths: np.ndarray

    def f1(self, chosen: np.ndarray | None = None) -> float:
        """Return the micro F1 of all spans, or of those in some texts; 0 without spans.

        Args:
            chosen: int, indices of texts, some repeated.
        """
        hits, guesses, truths = (
            int((values if chosen is None else values[chosen]).sum()) for values in self
        )
        return _f1(hits, guesses, truths)


def count_spans(marked: Spans, truth: Spans) -> Counts:
    """Return the numbers of right, marked and true spans in each text.

    Raises:
        ValueError: the numbers of texts differ.
    """
    if len(marked) != len(truth):
        raise ValueError(f"spans of {len(marked)} texts do not fit those of {len(truth)}.")
    found = [
        (len(_keys(ours) & _keys(theirs)), len(_keys(ours)), len(_keys(theirs)))
        for ours, theirs in zip(marked, truth, strict=True)
    ]
    table = np.array(found, int).reshape(-1, 3).T
    return Counts(*table)


def score_spans(marked: Spans, truth: Spans) -> dict[str, Any]:
    """Return the scores of marked spans.

    Args:
        marked, truth: the spans of each text; equal spans in a text count once.

    Returns:
        entity_f1, precision, recall: of all spans together (micro).
        macro_f1: mean F1 of all labels that are marked or true.
        exact_match: share of the texts whose spans are all right and complete.
        count: number of true spans.
        per_class: for each label its precision, recall, f1 and count.

    Raises:
        ValueError: there is no text; for others see `count_spans`.
    """
    counts = count_spans(marked, truth)
    if not len(counts.truths):
        raise ValueError("there is no text to score.")
    hits, guesses, truths = (collections.Counter[str]() for _ in range(3))
    for ours, theirs in zip(marked, truth, strict=True):
        for table, keys in (
            (hits, _keys(ours) & _keys(theirs)),
            (guesses, _keys(ours)),
            (truths, _keys(theirs)),
        ):
            table.update(label for _, _, label in keys)
    per_class = {
        label: {
            "precision": _ratio(hits[label], guesses[label]),
            "recall": _ratio(hits[label], truths[label]),
            "f1": _f1(hits[label], guesses[label], truths[label]),
            "count": truths[label],
        }
        for label in sorted({*guesses, *truths})
    }
    right = (counts.hits == counts.guesses) & (counts.hits == counts.truths)
    return {
        "entity_f1": counts.f1(),
        "precision": _ratio(hits.total(), guesses.total()),
        "recall": _ratio(hits.total(), truths.total()),
        "macro_f1": float(np.mean([one["f1"] for one in per_class.values()] or [0.0])),
        "exact_match": float(right.mean()),
        "count": truths.total(),
        "per_class": per_class,
    }


def f1_interval(counts: Counts) -> Interval | None:
    """Return the bootstrap interval of F1 over texts; None if there are fewer than two."""
    return bootstrap_interval(counts.f1, len(counts.truths))


def f1_difference(ours: Counts, theirs: Counts) -> Interval | None:
    """Return the bootstrap interval of the difference of two F1s of the same texts, ours minus
    theirs; None if there are fewer than two."""
    return bootstrap_interval(lambda chosen: ours.f1(chosen) - theirs.f1(chosen), len(ours.truths))


def span_confusion(marked: Spans, truth: Spans) -> tuple[list[str], np.ndarray]:
    """Return the confusion matrix of labels, for spans that overlap.

    Each true span is counted with the marked one that shares most of its characters, the first of
    equal ones; with `NOTHING` if none shares any. A marked span that shares no character with a
    true one is counted with `NOTHING` too.

    Returns: the labels and `NOTHING`; int (labels + 1, labels + 1), true labels in rows.
    """
    both = [*marked, *truth]
    names = [*sorted({span.label for spans in both for span in spans}), NOTHING]
    number = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), int)
    for ours, theirs in zip(marked, truth, strict=True):
        for span in theirs:
            best = max(ours, key=lambda one, span=span: _overlap(one, span), default=None)
            met = best is not None and _overlap(best, span) > 0
            counts[number[span.label], number[best.label if best and met else NOTHING]] += 1
        for span in ours:
            if all(_overlap(span, one) <= 0 for one in theirs):
                counts[number[NOTHING], number[span.label]] += 1
    return names, counts


def span_mistakes(
    texts: Sequence[str], marked: Spans, truth: Spans, count: int = 50
) -> list[dict[str, Any]]:
    """Return the texts with wrong spans, the most probable first; then those with missing spans
    only, in the order of the file.

    Args:
        texts: the texts that were marked.
        marked: their marked spans, each with a `probability`.
        truth: their true spans.
        count: most texts to return.

    Returns: for each "input"; "label" and "predicted", the true and marked spans as `label: text`;
        "probability" of the most probable wrong span (0 if none is wrong); "true" and "marked",
        lists of dictionaries with "start", "end", "label" and "right" (bool).
    """
    found = []
    for text, ours, theirs in zip(texts, marked, truth, strict=True):
        if _keys(ours) == _keys(theirs):
            continue
        wrong = [span for span in ours if _key(span) not in _keys(theirs)]
        found.append(
            {
                "input": text,
                "label": _list_spans(text, theirs),
                "predicted": _list_spans(text, ours),
                "probability": max(
                    (float(getattr(s, "probability", 0)) for s in wrong), default=0.0
                ),
                "true": _dictionaries(theirs, _keys(ours)),
                "marked": _dictionaries(ours, _keys(theirs)),
            }
        )
    return sorted(found, key=lambda one: -one["probability"])[:count]


def _dictionaries(
    spans: Sequence[AnySpan], right: set[tuple[int, int, str]]
) -> list[Mapping[str, Any]]:
    return [
        {
            "start": span.start,
            "end": span.end,
            "label": span.label,
            "right": _key(span) in right,
        }
        for span in spans
    ]


def _list_spans(text: str, spans: Sequence[AnySpan]) -> str:
    return ", ".join(f"{s.label}: {text[s.start : s.end]}" for s in spans) or NOTHING


def _key(span: AnySpan) -> tuple[int, int, str]:
    return span.start, span.end, span.label


def _keys(spans: Sequence[AnySpan]) -> set[tuple[int, int, str]]:
    return set(map(_key, spans))


def _overlap(one: AnySpan, other: AnySpan) -> int:
    return min(one.end, other.end) - max(one.start, other.start)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _f1(hits: int, guesses: int, truths: int) -> float:
    return _ratio(2 * hits, guesses + truths)
