"""What was read, in one table: rows, lengths in tokens, duplicates, overlap, truncation."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfx_transformer.data.file_rows import hashes, sample, zipped
from tfx_transformer.data.translation_pair import Pairs
from tfx_transformer.reprs import quantity
from tfx_transformer.text.tokenizer import Tokenizer

PERCENTILES = (50, 95, 99, 100)


@dataclasses.dataclass(frozen=True)
class PairsSummary:
    """Figures of one set of pairs. Lengths are in tokens, without start and end; of texts that stay
    in their file, of a sample, and what is counted in tokens is extrapolated from it."""

    name: str
    path: str
    columns: dict[str, str]
    rows: int
    bad_rows: int
    duplicates: int
    overlap: int
    truncated: int
    lengths: dict[str, list[int]]

    def percentiles(self, column: str) -> list[int]:
        """Length of `column` at each of `PERCENTILES`."""
        return np.percentile(self.lengths[column], PERCENTILES, method="higher").tolist()

    def tokens(self) -> int:
        """All tokens of both columns, ends included."""
        measured = sum(sum(lengths) + len(lengths) for lengths in self.lengths.values())
        return round(measured * self.rows / len(self.lengths["source"]))

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
        source, target = (self.percentiles(c) for c in ("source", "target"))
        columns = " → ".join(repr(self.columns.get(c, c)) for c in ("source", "target"))
        left_out = rows_left_out(self.bad_rows)
        lines = [
            f"{self.name:<11} {self.path}",
            f"  rows      {self.rows:,} ({columns}){left_out}",
            f"  tokens    {self.tokens():,}; per text: half ≤ {source[0]} → {target[0]},"
            f" 95 % ≤ {source[1]} → {target[1]}, longest {source[3]} → {target[3]}",
            f"  truncated {share_of(self.truncated, self.rows)}",
            f"  repeated  {share_of(self.duplicates, self.rows)}",
        ]
        if self.name != "training":
            overlap = share_of(self.overlap, self.rows, "with a source that is in training too")
            lines.append(f"  overlap   {overlap}")
        return lines

    def to_dict(self) -> dict:
        """The figures as JSON values, without the single lengths."""
        values = dataclasses.asdict(self)
        del values["lengths"]
        values["tokens"] = self.tokens()
        values["percentiles"] = list(PERCENTILES)
        return values | {f"{c}_tokens": self.percentiles(c) for c in self.lengths}


def describe_pairs(
    training: Pairs, validation: Pairs | None, tokenizer: Tokenizer, max_length: int
) -> list[PairsSummary]:
    """The figures of training pairs and, if given, of validation pairs.

    Args:
        max_length: most tokens a model takes of each text, end included; longer is truncated.
    """
    shown = hashes(training.source)
    sets = {"training": training} | ({"validation": validation} if validation else {})
    return [_describe(name, pairs, tokenizer, max_length, shown) for name, pairs in sets.items()]


def _describe(name, pairs: Pairs, tokenizer: Tokenizer, max_length: int, shown) -> PairsSummary:
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


def rows_left_out(count: int, noun: str = "bad row") -> str:
    """Such as ", 1 bad row left out", or nothing."""
    return f", {quantity(count, noun)} left out" if count else ""


def share_of(part: int, whole: int, which: str = "", noun: str = "row") -> str:
    """Such as "1 row (1.5 %) with a text that is in training too", or "none"."""
    if not part:
        return "none"
    return f"{quantity(part, noun)} ({100 * part / whole:.1f} %) {which}".rstrip()
