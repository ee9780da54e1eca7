"""The summary of pairs of sentences: rows, tokens, scores, truncation and overlap."""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import ClassVar

import numpy as np

from tfx_transformer.data.sentence_pair import SentencePairs
from tfx_transformer.data.summary import Line, TwoTextsSummary, describe_sets
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, repr=False)
class SentencePairsSummary(TwoTextsSummary):
    """Figures of one set of pairs.

    scores: on the file's own scale, {"lowest", "mean", "highest"}; None if the pairs have none;
    duplicates: repeated pairs, in either order.
    """

    scores: dict[str, float] | None

    arrow: ClassVar[str] = "↔"

    def tokens(self) -> int:
        return sum(sum(lengths) + 2 * len(lengths) for lengths in self.lengths.values())

    def entries(self) -> list[Line]:
        scores = "none: each pair means the same"
        if self.scores:
            scores = f"{self.scores['lowest']:g} to {self.scores['highest']:g}"
            scores += f", mean {self.scores['mean']:.3g} ({self.columns.get('score', 'score')!r})"
        return [
            self.rows_line(),
            ("scores", scores),
            self.tokens_line(),
            self.truncated_line(),
            self.repeated_line(),
            *self.overlap_lines(),
        ]


def describe_sentence_pairs(
    training: SentencePairs,
    validation: SentencePairs | None,
    tokenizer: Tokenizer,
    max_length: int,
) -> list[SentencePairsSummary]:
    """Return the figures of training pairs and, if given, of validation pairs.

    Args:
        max_length: most ids of each text, start and end included; longer texts are cut.
    """
    shown = set(training.texts())
    describe = functools.partial(_describe, tokenizer=tokenizer, max_length=max_length, shown=shown)
    return describe_sets(training, validation, describe)


def _describe(
    name: str, pairs: SentencePairs, tokenizer: Tokenizer, max_length: int, shown: set[str]
) -> SentencePairsSummary:
    lengths = {
        "first": [tokenizer.count(text) for text in pairs.first],
        "second": [tokenizer.count(text) for text in pairs.second],
    }
    both = list(zip(pairs.first, pairs.second, strict=True))
    counts = collections.Counter(tuple(sorted(texts)) for texts in both)
    return SentencePairsSummary(
        name=name,
        path=pairs.path,
        columns=pairs.columns,
        rows=len(pairs),
        bad_rows=len(pairs.bad_rows),
        scores=_score_figures(pairs),
        duplicates=sum(n - 1 for n in counts.values()),
        overlap=0 if name == "training" else sum(not shown.isdisjoint(texts) for texts in both),
        truncated=sum(max(pair) > max_length - 2 for pair in zip(*lengths.values(), strict=True)),
        lengths=lengths,
    )


def _score_figures(pairs: SentencePairs) -> dict[str, float] | None:
    if pairs.scores is None:
        return None
    low, high = pairs.scale or (0.0, 1.0)
    scores = low + (high - low) * np.array(pairs.scores)
    figures = {"lowest": scores.min(), "mean": scores.mean(), "highest": scores.max()}
    return {name: round(float(value), 4) for name, value in figures.items()}
