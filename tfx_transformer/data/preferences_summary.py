"""The summary of preferences: rows, tokens of both answers, and rows that are too long."""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import ClassVar

from tfx_transformer.data.preference_pairs import Preferences, encode_preferences, usable_pairs
from tfx_transformer.data.summary import Line, Summary, TwoTextsSummary, describe_sets
from tfx_transformer.reprs import quantity
from tfx_transformer.text.prompts import ChatTemplate


@dataclasses.dataclass(frozen=True, repr=False)
class PreferencesSummary(TwoTextsSummary):
    """Figures of one set of preferences.

    lengths: tokens of each prompt with its chosen answer, and with its rejected one; truncated:
    rows left out because one of the two is too long; longer: rows whose chosen answer is longer.
    """

    longer: int

    arrow: ClassVar[str] = "over"
    overlapping: ClassVar[str] = "with a prompt that is in training too"

    def tokens(self) -> int:
        return sum(map(sum, self.lengths.values()))

    def panels(self, max_length: int) -> tuple[dict[str, list[int]], int]:
        """See `Summary.panels`; the end of an answer is among its tokens."""
        return self.lengths, max_length

    def entries(self) -> list[Line]:
        return [
            self.rows_line(),
            self.tokens_line(),
            ("longer", self.share(self.longer, self.rows, "whose chosen answer is longer")),
            ("too long", self.share(self.truncated, self.rows, "left out")),
            self.repeated_line(),
            *self.overlap_lines(),
        ]


@dataclasses.dataclass(frozen=True, repr=False)
class RehearsedSummary(Summary):
    """Figures of the rows that are rehearsed beside preferences.

    truncated: rows left out because they are too long.
    """

    rows: int
    truncated: int

    def head(self) -> str:
        """See `Summary.head`."""
        longer = f", {quantity(self.truncated, 'longer one')} left out" if self.truncated else ""
        return f"{self.path}: {quantity(self.rows - self.truncated, 'row')}{longer}"

    def entries(self) -> list[Line]:
        return []


def describe_preferences(
    training: Preferences,
    validation: Preferences | None,
    template: ChatTemplate,
    max_length: int,
) -> list[PreferencesSummary]:
    """Return the figures of training rows and, if given, of validation rows.

    Args:
        max_length: most tokens of a prompt with its answer; rows with more are left out.
    """
    shown = set(training.prompts)
    describe = functools.partial(_describe, template=template, max_length=max_length, shown=shown)
    return describe_sets(training, validation, describe)


def _describe(
    name: str, examples: Preferences, template: ChatTemplate, max_length: int, shown: set[str]
) -> PreferencesSummary:
    pairs = encode_preferences(examples, template)
    rows = zip(examples.prompts, examples.chosen, examples.rejected, strict=True)
    counts = collections.Counter(rows)
    overlap = 0 if name == "training" else sum(prompt in shown for prompt in examples.prompts)
    return PreferencesSummary(
        name=name,
        path=examples.path,
        columns=examples.columns,
        rows=len(examples),
        bad_rows=len(examples.bad_rows),
        duplicates=sum(n - 1 for n in counts.values()),
        overlap=overlap,
        truncated=len(pairs) - len(usable_pairs(pairs, max_length)),
        lengths={
            "chosen": [len(chosen.ids) for chosen, _ in pairs],
            "rejected": [len(rejected.ids) for _, rejected in pairs],
        },
        longer=sum(chosen.count > rejected.count for chosen, rejected in pairs),
    )
