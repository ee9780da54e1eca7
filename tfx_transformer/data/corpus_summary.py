"""The summary of a corpus: files, documents, bytes, tokens, and the blocks they make."""

from __future__ import annotations

import dataclasses

from tfx_transformer.data.corpus import BlockPlan, TokenFile
from tfx_transformer.data.summary import Line, Summary
from tfx_transformer.reprs import quantity


@dataclasses.dataclass(frozen=True, repr=False)
class CorpusSummary(Summary):
    """Figures of one part of a corpus.

    path: the file the corpus came from, or the first of them; start: index of the part's first id
    in the token file; steps: batches in an epoch.
    """

    files: int
    documents: int
    bytes: int
    tokens: int
    start: int
    bytes_per_token: float
    length: int
    blocks: int
    steps: int

    def head(self) -> str:
        part = "the end of " if self.start else ""
        others = f" and {quantity(self.files - 1, 'more file')}" if self.files > 1 else ""
        return f"{part}{self.path}{others}"

    def entries(self) -> list[Line]:
        read = f"{quantity(self.bytes, 'byte')}, {quantity(self.documents, 'document')}"
        steps = quantity(self.steps, "step")
        return [
            ("text", read + self.left_out()),
            ("tokens", f"{self.tokens:,}, {self.bytes_per_token:.2f} bytes each"),
            ("blocks", f"{self.blocks:,} of length {self.length:,}; {steps} an epoch"),
        ]


def describe_corpus(name: str, tokens: TokenFile, length: int, batch_size: int) -> CorpusSummary:
    """Return the figures of a part of a corpus; any `name` but "training" is read in order.

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
    """Return the figures of both parts."""
    parts = {"training": training, "validation": validation}
    return [describe_corpus(name, part, length, batch_size) for name, part in parts.items()]
