"""What was read of a corpus: files, documents, bytes, tokens, and the blocks they make."""

from __future__ import annotations

import dataclasses

from tfx_transformer.data.corpus import BlockPlan, TokenFile
from tfx_transformer.data.summary import rows_left_out
from tfx_transformer.reprs import quantity


@dataclasses.dataclass(frozen=True)
class CorpusSummary:
    """Figures of one part of a corpus.

    path: the file the corpus came from, or the first of them; start: index of the part's first id
    in the token file; steps: batches in an epoch.
    """

    name: str
    path: str
    files: int
    documents: int
    bytes: int
    tokens: int
    start: int
    bytes_per_token: float
    length: int
    blocks: int
    steps: int
    bad_rows: int

    def panels(self, max_length: int) -> tuple[dict[str, list[int]], int]:
        """No panels: all blocks are of one length.

        Args:
            max_length: of the model.
        """
        return {}, max_length

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The table, for a terminal."""
        part = "the end of " if self.start else ""
        others = f" and {quantity(self.files - 1, 'more file')}" if self.files > 1 else ""
        left_out = rows_left_out(self.bad_rows)
        return [
            f"{self.name:<11} {part}{self.path}{others}",
            f"  text      {quantity(self.bytes, 'byte')}, {quantity(self.documents, 'document')}"
            f"{left_out}",
            f"  tokens    {self.tokens:,}, {self.bytes_per_token:.2f} bytes each",
            f"  blocks    {self.blocks:,} of length {self.length:,};"
            f" {quantity(self.steps, 'step')} an epoch",
        ]

    def to_dict(self) -> dict:
        """The figures as JSON values."""
        return dataclasses.asdict(self)


def describe_corpus(name: str, tokens: TokenFile, length: int, batch_size: int) -> CorpusSummary:
    """The figures of a part of a corpus; `name`: "training", or what is read in order.

    Raises:
        InputError: see `BlockPlan`.
    """
    plan = BlockPlan(tokens.tokens, length, batch_size, shuffle=name == "training")
    return CorpusSummary(
        name=name,
        path=tokens.files[0],
        files=len(tokens.files),
        documents=tokens.documents,
        bytes=tokens.bytes,
        tokens=tokens.tokens,
        start=tokens.start,
        bytes_per_token=round(tokens.bytes_per_token, 4),
        length=length,
        blocks=len(plan.lengths),
        steps=len(plan),
        bad_rows=len(tokens.bad_rows),
    )


def describe_corpora(
    training: TokenFile, validation: TokenFile, length: int, batch_size: int
) -> list[CorpusSummary]:
    """The figures of both parts."""
    parts = {"training": training, "validation": validation}
    return [describe_corpus(name, part, length, batch_size) for name, part in parts.items()]
