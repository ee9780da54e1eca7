"""The summary of pairs to translate: rows, lengths in tokens, duplicates, overlap, truncation."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from tfx_transformer.data.file_rows import hashes, sample, zipped
from tfx_transformer.data.summary import Line, TwoTextsSummary, describe_sets
from tfx_transformer.data.translation_pair import Pairs
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, repr=False)
class PairsSummary(TwoTextsSummary):
    """Figures of one set of pairs. For texts that stay in their file, lengths are those of a
    sample, and counts of tokens are extrapolated from it."""

    overlapping: ClassVar[str] = "with a source that is in training too"

    def tokens(self) -> int:
        measured = sum(sum(lengths) + len(lengths) for lengths in self.lengths.values())
        return round(measured * self.rows / len(self.lengths["source"]))

    def entries(self) -> list[Line]:
        return [
            self.rows_line(),
            self.tokens_line(),
            self.truncated_line(),
            self.repeated_line(),
            *self.overlap_lines(),
        ]


def describe_pairs(
    training: Pairs, validation: Pairs | None, tokenizer: Tokenizer, max_length: int
) -> list[PairsSummary]:
    """Return the figures of training pairs and, if given, of validation pairs.

    Args:
        max_length: most tokens of each text, end included; longer texts are cut.
    """
    shown = hashes(training.source)
    describe = functools.partial(_describe, tokenizer=tokenizer, max_length=max_length, shown=shown)
    return describe_sets(training, validation, describe)


def _describe(
    name: str, pairs: Pairs, tokenizer: Tokenizer, max_length: int, shown: np.ndarray
) -> PairsSummary:
    both = zipped([pairs.source, pairs.target])
    measured = [[tokenizer.count(text) for text in pair] for pair in sample(both)]
    truncated = sum(max(counts) >= max_length for counts in measured)
    return PairsSummary(
        name=name,
        path=pairs.path,
        columns=pairs.columns,
        rows=len(pairs),
        bad_rows=len(pairs.bad_rows),
        duplicates=len(pairs) - len(np.unique(hashes(both))),
        overlap=0 if name == "training" else int(np.isin(hashes(pairs.source), shown).sum()),
        truncated=round(truncated * len(pairs) / len(measured)),
        lengths={"source": [s for s, _ in measured], "target": [t for _, t in measured]},
    )
