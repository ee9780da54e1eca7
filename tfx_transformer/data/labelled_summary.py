"""What was read of labelled texts: rows, labels, tokens, what is cut, repeated or seen before."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from tfx_transformer.data.file_rows import hashes, sample
from tfx_transformer.data.labelled_text import LabelledTexts
from tfx_transformer.data.labels import alike_labels, alike_line
from tfx_transformer.data.summary import PERCENTILES, rows_left_out, share_of
from tfx_transformer.text.tokenizer import Tokenizer

# More labels than these are counted, but not all of them named.
_LABELS_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class LabelledTextsSummary:
    """Figures of one set of labelled texts.

    labels: examples of each known label; unlabelled: rows without label; duplicates: rows whose
    texts and labels stand in the file before; contradictions: rows whose texts stand there before
    with other labels; overlap: rows whose texts training shows too; truncated: rows that are cut;
    tokens: of all rows, as they are cut; lengths: tokens of each row, before it is cut. Tokens
    count the start and the ends (see `text.framing`); of texts that stay in their file lengths are
    those of a sample, and what is counted in tokens is extrapolated from it.
    """

    name: str
    path: str
    columns: dict[str, str]
    rows: int
    bad_rows: int
    labels: dict[str, int]
    unlabelled: int
    duplicates: int
    contradictions: int
    overlap: int
    truncated: int
    tokens: int
    max_length: int
    lengths: list[int]

    def percentiles(self) -> list[int]:
        """Length of a row at each of `PERCENTILES`."""
        return np.percentile(self.lengths, PERCENTILES, method="higher").tolist()

    def single(self) -> list[str]:
        """The labels of a single example: it is not held out, so nothing measures them."""
        return [name for name, count in self.labels.items() if count == 1]

    def panels(self, max_length: int) -> tuple[dict[str, list[int]], int]:
        """The lengths to draw, for each panel of the picture, and the most that a model reads.

        Args:
            max_length: not used; the figures have their own.
        """
        return {"text": self.lengths}, self.max_length

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The table, for a terminal."""
        half, most, _, longest = self.percentiles()
        named = f" ({', '.join(map(repr, self.columns.values()))})" if self.columns else ""
        left_out = rows_left_out(self.bad_rows)
        lines = [
            f"{self.name:<11} {self.path}",
            f"  rows      {self.rows:,}{named}{left_out}",
            f"  labels    {self._label_line()}",
            f"  tokens    {self.tokens:,}; per row: half ≤ {half}, 95 % ≤ {most},"
            f" longest {longest}",
            f"  truncated {share_of(self.truncated, self.rows)}",
            f"  repeated  {share_of(self.duplicates, self.rows)}",
        ]
        if single := self.single():
            shown = _listed([repr(name) for name in single])
            lines.insert(3, f"  single    {shown}: one example, which only one side can have")
        if self.unlabelled:
            lines.insert(3, f"  unlabelled {share_of(self.unlabelled, self.rows)}")
        if warning := alike_line(list(self.labels)):
            lines.insert(3, warning)
        if self.contradictions:
            share = share_of(
                self.contradictions, self.rows, "with a text that has another label too"
            )
            lines.append(f"  doubtful  {share}")
        if self.name != "training":
            overlap = share_of(self.overlap, self.rows, "with a text that is in training too")
            lines.append(f"  overlap   {overlap}")
        return lines

    def to_dict(self) -> dict:
        """The figures as JSON values, without the single lengths."""
        values = dataclasses.asdict(self)
        del values["lengths"]
        values["percentiles"] = list(PERCENTILES)
        return (
            values
            | {"row_tokens": self.percentiles(), "single": self.single()}
            | {"alike": alike_labels(list(self.labels))}
        )

    def _label_line(self) -> str:
        counts = collections.Counter(self.labels).most_common()
        if len(counts) <= _LABELS_SHOWN:
            return f"{len(counts)}: " + ", ".join(f"{name!r} {count:,}" for name, count in counts)
        (most, largest), (least, smallest) = counts[0], counts[-1]
        return f"{len(counts):,}, from {least!r} {smallest:,} to {most!r} {largest:,}"


def describe_labelled_texts(
    training: LabelledTexts,
    held_out: LabelledTexts | None,
    tokenizer: Tokenizer,
    names: Sequence[str],
    max_length: int,
) -> list[LabelledTextsSummary]:
    """The figures of training examples and, if given, of held-out ones.

    Args:
        names: the known labels; others are not counted.
        max_length: most tokens a model takes of a row, start and ends included; more are cut.
    """
    shown = hashes(training.texts)
    sets = {"training": training} | ({"validation": held_out} if held_out else {})
    return [
        _describe(name, examples, tokenizer, names, max_length, shown)
        for name, examples in sets.items()
    ]


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


def _listed(names: list[str]) -> str:
    more = len(names) - _LABELS_SHOWN
    return ", ".join(names[:_LABELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
