"""What was read of pairs of sentences: rows, tokens, scores, what is cut, what training shows."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np

from tfx_transformer.data.sentence_pair import SentencePairs
from tfx_transformer.data.summary import PERCENTILES, rows_left_out, share_of
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class SentencePairsSummary:
    """Figures of one set of pairs. Lengths are in tokens, without start and end.

    scores: on the file's own scale, {"lowest", "mean", "highest"}; None if the pairs have none;
    duplicates: pairs that stand in the file before, in either order; overlap: pairs with a text
    that training shows too; truncated: pairs with a text that is cut; lengths: {"first", "second"}.
    """

    name: str
    path: str
    columns: dict[str, str]
    rows: int
    bad_rows: int
    scores: dict[str, float] | None
    duplicates: int
    overlap: int
    truncated: int
    lengths: dict[str, list[int]]

    def percentiles(self, column: str) -> list[int]:
        """Length of `column` at each of `PERCENTILES`."""
        return np.percentile(self.lengths[column], PERCENTILES, method="higher").tolist()

    def tokens(self) -> int:
        """All tokens of both columns, starts and ends included."""
        return sum(sum(lengths) + 2 * len(lengths) for lengths in self.lengths.values())

    def panels(self, max_length: int) -> tuple[dict[str, list[int]], int]:
        """The lengths to draw, for each panel of the picture, and the most that a model reads.

        Args:
            max_length: of the model.
        """
        return self.lengths, max_length - 1

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The table, for a terminal."""
        first, second = (self.percentiles(c) for c in ("first", "second"))
        columns = " ↔ ".join(repr(self.columns.get(c, c)) for c in ("first", "second"))
        left_out = rows_left_out(self.bad_rows)
        scores = "none: each pair means the same"
        if self.scores:
            scores = f"{self.scores['lowest']:g} to {self.scores['highest']:g}"
            scores += f", mean {self.scores['mean']:.3g} ({self.columns.get('score', 'score')!r})"
        lines = [
            f"{self.name:<11} {self.path}",
            f"  rows      {self.rows:,} ({columns}){left_out}",
            f"  scores    {scores}",
            f"  tokens    {self.tokens():,}; per text: half ≤ {first[0]} ↔ {second[0]},"
            f" 95 % ≤ {first[1]} ↔ {second[1]}, longest {first[3]} ↔ {second[3]}",
            f"  truncated {share_of(self.truncated, self.rows)}",
            f"  repeated  {share_of(self.duplicates, self.rows)}",
        ]
        if self.name != "training":
            overlap = share_of(self.overlap, self.rows, "with a text that is in training too")
            lines.append(f"  overlap   {overlap}")
        return lines

    def to_dict(self) -> dict:
        """The figures as JSON values, without the single lengths."""
        values = dataclasses.asdict(self)
        del values["lengths"]
        values["tokens"] = self.tokens()
        values["percentiles"] = list(PERCENTILES)
        return values | {f"{c}_tokens": self.percentiles(c) for c in self.lengths}


def describe_sentence_pairs(
    training: SentencePairs,
    validation: SentencePairs | None,
    tokenizer: Tokenizer,
    max_length: int,
) -> list[SentencePairsSummary]:
    """The figures of training pairs and, if given, of validation pairs.

    Args:
        max_length: most ids a model takes of each text, start and end included; longer is cut.
    """
    shown = set(training.texts())
    sets = {"training": training} | ({"validation": validation} if validation else {})
    return [_describe(name, pairs, tokenizer, max_length, shown) for name, pairs in sets.items()]


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
