"""The summary of labelled texts: rows, labels, tokens, truncation, repeated rows and overlap."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer.data.file_rows import hashes, sample
from tfx_transformer.data.labelled_text import LabelledTexts
from tfx_transformer.data.summary import (
    LengthsSummary,
    Line,
    describe_sets,
    label_figures,
    label_lines,
)
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, repr=False)
class LabelledTextsSummary(LengthsSummary):
    """Figures of one set of labelled texts.

    labels: number of examples of each known label; unlabelled: rows without a label; duplicates:
    rows with the texts and labels of an earlier one; contradictions: rows with the texts of an
    earlier one and other labels; tokens: of all rows, after cutting. Tokens count the start and the
    ends (see `text.framing`). For texts that stay in their file, lengths are those of a sample, and
    counts of tokens are extrapolated from it.
    """

    labels: dict[str, int]
    unlabelled: int
    contradictions: int
    tokens: int

    def entries(self) -> list[Line]:
        lines = [
            ("rows", f"{self.rows:,}{self.named_columns()}{self.left_out()}"),
            *label_lines(self.labels),
            ("tokens", f"{self.tokens:,}; {self.lengths_text()}"),
            self.truncated_line(),
            self.repeated_line(),
        ]
        if self.unlabelled:
            lines.insert(2, ("unlabelled", self.share(self.unlabelled, self.rows)))
        if self.contradictions:
            which = "with a text that has another label too"
            lines.append(("doubtful", self.share(self.contradictions, self.rows, which)))
        return lines + self.overlap_lines()

    def figures(self) -> dict[str, Any]:
        return super().figures() | label_figures(self.labels)


def describe_labelled_texts(
    training: LabelledTexts,
    held_out: LabelledTexts | None,
    tokenizer: Tokenizer,
    names: Sequence[str],
    max_length: int,
) -> list[LabelledTextsSummary]:
    """Return the figures of training examples and, if given, of held-out ones.

    Args:
        names: the known labels; others are not counted.
        max_length: most tokens of a row, start and ends included; longer rows are cut.
    """
    shown = hashes(training.texts)
    describe = functools.partial(
        _describe, tokenizer=tokenizer, names=names, max_length=max_length, shown=shown
    )
    return describe_sets(training, held_out, describe)


def _describe(
    name: str,
    examples: LabelledTexts,
    tokenizer: Tokenizer,
    names: Sequence[str],
    max_length: int,
    shown: np.ndarray,
) -> LabelledTextsSummary:
    measured = sample(examples.texts)
    lengths = [1 + sum(1 + tokenizer.count(text) for text in texts) for texts in measured]
    scale = len(examples) / len(lengths)
    counts = collections.Counter(label for labels in examples.labels for label in labels)
    texts = hashes(examples.texts)
    sets = np.fromiter((hash(frozenset(several)) for several in examples.labels), "int64")
    distinct = len(np.unique(texts * 1_000_003 ^ sets))
    return LabelledTextsSummary(
        name=name,
        path=examples.path,
        columns=examples.columns,
        rows=len(examples),
        bad_rows=len(examples.bad_rows),
        labels={label: counts[label] for label in names},
        unlabelled=sum(not labels for labels in examples.labels),
        duplicates=len(examples) - distinct,
        contradictions=distinct - len(np.unique(texts)),
        overlap=0 if name == "training" else int(np.isin(texts, shown).sum()),
        truncated=round(scale * sum(length > max_length for length in lengths)),
        tokens=round(scale * sum(min(length, max_length) for length in lengths)),
        max_length=max_length,
        lengths=lengths,
    )
