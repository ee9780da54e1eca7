"""The summary of scored texts: rows, numbers, tokens, truncation, repeated rows and overlap."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from tfx_transformer.data.file_rows import hashes, sample
from tfx_transformer.data.scored_text import ScoredTexts
from tfx_transformer.data.summary import LengthsSummary, Line, describe_sets
from tfx_transformer.reprs import significant
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, repr=False)
class ScoredTextsSummary(LengthsSummary):
    """Figures of one set of scored texts.

    numbers: of each row; duplicates: rows with the texts and number of an earlier one;
    contradictions: rows with the texts of an earlier one and another number; tokens: of all rows,
    after cutting. Tokens count the start and the ends (see `text.framing`). For texts that stay in
    their file, lengths are those of a sample, and counts of tokens are extrapolated from it.
    """

    numbers: list[float]
    contradictions: int
    tokens: int

    unwritten = ("lengths", "numbers")

    def entries(self) -> list[Line]:
        least, low, half, high, most = (
            significant(value) for value in np.percentile(self.numbers, (0, 5, 50, 95, 100))
        )
        lines = [
            ("rows", f"{self.rows:,}{self.named_columns()}{self.left_out()}"),
            ("numbers", f"{least} to {most}; 5 % ≤ {low}, half ≤ {half}, 95 % ≤ {high}"),
            ("tokens", f"{self.tokens:,}; {self.lengths_text()}"),
            self.truncated_line(),
            self.repeated_line(),
        ]
        if self.contradictions:
            which = "with a text that has another number too"
            lines.append(("doubtful", self.share(self.contradictions, self.rows, which)))
        return lines + self.overlap_lines()

    def figures(self) -> dict[str, Any]:
        values = np.asarray(self.numbers)
        return super().figures() | {
            "mean": float(values.mean()),
            "deviation": float(values.std()),
            "histogram": _histogram(values),
        }


def describe_scored_texts(
    training: ScoredTexts,
    held_out: ScoredTexts | None,
    tokenizer: Tokenizer,
    max_length: int,
) -> list[ScoredTextsSummary]:
    """Return the figures of training examples and, if given, of held-out ones.

    Args:
        max_length: most tokens of a row, start and ends included; longer rows are cut.
    """
    shown = hashes(training.texts)
    describe = functools.partial(_describe, tokenizer=tokenizer, max_length=max_length, shown=shown)
    return describe_sets(training, held_out, describe)


def _describe(
    name: str, examples: ScoredTexts, tokenizer: Tokenizer, max_length: int, shown: np.ndarray
) -> ScoredTextsSummary:
    measured = sample(examples.texts)
    lengths = [1 + sum(1 + tokenizer.count(text) for text in texts) for texts in measured]
    scale = len(examples) / len(lengths)
    texts = hashes(examples.texts)
    distinct = len(set(zip(texts.tolist(), examples.numbers, strict=True)))
    return ScoredTextsSummary(
        name=name,
        path=examples.path,
        columns=examples.columns,
        rows=len(examples),
        bad_rows=len(examples.bad_rows),
        duplicates=len(examples) - distinct,
        contradictions=distinct - len(np.unique(texts)),
        overlap=0 if name == "training" else int(np.isin(texts, shown).sum()),
        truncated=round(scale * sum(length > max_length for length in lengths)),
        tokens=round(scale * sum(min(length, max_length) for length in lengths)),
        max_length=max_length,
        lengths=lengths,
        numbers=examples.numbers,
    )


def _histogram(values: np.ndarray) -> dict[str, list[float]]:
    """Return the counts of numbers between rounded edges, which show no single row's number."""
    counts, edges = np.histogram(values, bins=10)
    return {"counts": counts.tolist(), "edges": [float(f"{edge:.3g}") for edge in edges]}
