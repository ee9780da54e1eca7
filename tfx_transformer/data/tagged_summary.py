"""The summary of tagged texts: rows, labels, spans, tokens, windows, repeated rows and overlap."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from tfx_transformer.data.summary import (
    LengthsSummary,
    Line,
    describe_sets,
    label_figures,
    label_lines,
)
from tfx_transformer.data.tagged_text import TaggedTexts
from tfx_transformer.reprs import quantity
from tfx_transformer.text.spans import count_inexact
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, repr=False)
class TaggedTextsSummary(LengthsSummary):
    """Figures of one set of tagged texts.

    labels: number of spans of each known label; spans: of all; unmarked: rows without a span;
    inexact: spans that begin or end inside a token or a word, where a model cannot begin or end
    one; windowed: rows that a model reads in several windows; known: held-out spans whose text and
    label are those of a training span, 0 for training; tokens: of all rows. Tokens count the start
    and the end.
    """

    labels: dict[str, int]
    spans: int
    unmarked: int
    inexact: int
    windowed: int
    known: int
    tokens: int

    def entries(self) -> list[Line]:
        lines = [
            ("rows", f"{self.rows:,}{self.named_columns()}{self.left_out()}"),
            *label_lines(self.labels),
            ("spans", f"{self.spans:,}; {self.share(self.unmarked, self.rows)} without one"),
            ("tokens", f"{self.tokens:,}; {self.lengths_text()}"),
            ("windows", self.share(self.windowed, self.rows, "read in several")),
            self.repeated_line(),
        ]
        if self.inexact:
            share = f"({100 * self.inexact / self.spans:.1f} %)"
            what = f"{quantity(self.inexact, 'span')} {share} cut a token or a word"
            lines.append(("inexact", what))
        if self.name != "training" and self.spans:
            share = f"({100 * self.known / self.spans:.1f} %)"
            lines.append(("known", f"{quantity(self.known, 'span')} {share} also in training"))
        return lines + self.overlap_lines()

    def figures(self) -> dict[str, Any]:
        return super().figures() | label_figures(self.labels)


def describe_tagged_texts(
    training: TaggedTexts,
    held_out: TaggedTexts | None,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    max_length: int,
) -> list[TaggedTextsSummary]:
    """Return the figures of training examples and, if given, of held-out ones.

    Args:
        labels: the known labels; others are not counted.
        max_length: most tokens that a model reads at once, start and end included.
    """
    describe = functools.partial(
        _describe,
        tokenizer=tokenizer,
        labels=labels,
        max_length=max_length,
        shown=set(training.texts),
        marked=set(_marked(training)),
    )
    return describe_sets(training, held_out, describe)


def _describe(
    name: str,
    examples: TaggedTexts,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    max_length: int,
    shown: set[str],
    marked: set[tuple[str, str]],
) -> TaggedTextsSummary:
    around = tokenizer.frame.size(1)
    lengths, inexact = [], 0
    for text, spans in zip(examples.texts, examples.spans, strict=True):
        ids, offsets = tokenizer.encode_with_offsets(text)
        lengths.append(len(ids) + around)
        inexact += count_inexact(spans, text, offsets)
    counts = collections.Counter(span.label for spans in examples.spans for span in spans)
    is_training = name == "training"
    return TaggedTextsSummary(
        name=name,
        path=examples.path,
        columns=examples.columns,
        rows=len(examples),
        bad_rows=len(examples.bad_rows),
        labels={label: counts[label] for label in labels},
        spans=counts.total(),
        unmarked=sum(not spans for spans in examples.spans),
        inexact=inexact,
        windowed=sum(length > max_length for length in lengths),
        known=0 if is_training else sum(one in marked for one in _marked(examples)),
        duplicates=len(examples) - len(set(zip(examples.texts, examples.spans, strict=True))),
        overlap=0 if is_training else sum(text in shown for text in examples.texts),
        truncated=0,
        tokens=sum(lengths),
        max_length=max_length,
        lengths=lengths,
    )


def _marked(examples: TaggedTexts) -> list[tuple[str, str]]:
    """Return the text and the label of every span."""
    return [
        (text[span.start : span.end], span.label)
        for text, spans in zip(examples.texts, examples.spans, strict=True)
        for span in spans
    ]
