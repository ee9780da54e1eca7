"""The summary of instructions: rows, tokens, tokens in the loss, truncation and packing."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import json
import sys
from typing import ClassVar

import numpy as np

from tfx_transformer.data.batches import BatchPlan
from tfx_transformer.data.conversations import Conversations
from tfx_transformer.data.instruction_batches import encode_conversations
from tfx_transformer.data.packing import pack, padded_length
from tfx_transformer.data.summary import LengthsSummary, Line, describe_sets
from tfx_transformer.reprs import quantity
from tfx_transformer.text.prompts import ChatTemplate


@dataclasses.dataclass(frozen=True, repr=False)
class InstructionsSummary(LengthsSummary):
    """Figures of one set of conversations.

    turns: most answers in a conversation; tokens: of the usable conversations, after cutting;
    loss_tokens: those of them that count in the loss; unusable: rows left out because no answer
    begins within `max_length`; packed_rows: rows after packing; efficiency: share of a batch's
    slots that hold tokens, {"packed", "unpacked"}. A conversation that makes several examples is as
    long as the longest of them.
    """

    turns: int
    unusable: int
    tokens: int
    loss_tokens: int
    packed_rows: int
    efficiency: dict[str, float]

    overlapping: ClassVar[str] = "with a first prompt that is in training too"
    panel: ClassVar[str] = "conversation"

    def entries(self) -> list[Line]:
        turns = f", up to {self.turns} answers each" if self.turns > 1 else ""
        packed, unpacked = (f"{100 * self.efficiency[k]:.1f} %" for k in ("packed", "unpacked"))
        share = 100 * self.loss_tokens / max(self.tokens, 1)
        rows = quantity(self.packed_rows, "row")
        return [
            ("rows", f"{self.rows:,}{self.named_columns()}{turns}{self.left_out()}"),
            ("tokens", f"{self.tokens:,}, {share:.1f} % count in the loss; {self.lengths_text()}"),
            self.truncated_line(),
            ("unusable", self.share(self.unusable, self.rows)),
            ("packed", f"{rows}, {packed} full; unpacked {unpacked}"),
            self.repeated_line(),
            *self.overlap_lines(),
        ]


def describe_instructions(
    training: Conversations,
    validation: Conversations | None,
    template: ChatTemplate,
    max_length: int,
    batch_size: int = 16,
) -> list[InstructionsSummary]:
    """Return the figures of training conversations and, if given, of validation conversations.

    Args:
        max_length: most tokens of a conversation, and of a packed row; longer ones are cut.
        batch_size: rows of a batch, for the efficiency.

    Raises:
        InputError: the template fails on a conversation.
    """
    shown = set(training.first_prompts())
    describe = functools.partial(
        _describe, template=template, max_length=max_length, batch_size=batch_size, shown=shown
    )
    return describe_sets(training, validation, describe)


def _describe(
    name: str,
    conversations: Conversations,
    template: ChatTemplate,
    max_length: int,
    batch_size: int,
    shown: set[str],
) -> InstructionsSummary:
    encoded = encode_conversations(conversations, template, sys.maxsize)
    lengths = [max((len(both[0]) for both in several if both), default=0) for several in encoded]
    weights = [[both[1][:max_length] for both in several if both] for several in encoded]
    examples = [[row for row in several if any(row[1:])] for several in weights]
    usable = [bool(several) for several in examples]
    kept = list(itertools.chain.from_iterable(examples))
    read = np.array([len(row) - 1 for row in kept], "int64")  # of the last id only the label
    packed = pack(read, max_length)
    prompts = conversations.first_prompts() if name != "training" else []
    counts = collections.Counter(
        json.dumps(messages, sort_keys=True) for messages in conversations.messages
    )
    return InstructionsSummary(
        name=name,
        path=conversations.path,
        columns=conversations.columns,
        rows=len(conversations),
        turns=max(sum(m["role"] == "assistant" for m in c) for c in conversations.messages),
        bad_rows=len(conversations.bad_rows),
        duplicates=sum(n - 1 for n in counts.values()),
        overlap=sum(prompt in shown for prompt in prompts),
        truncated=sum(n > max_length for n in itertools.compress(lengths, usable)),
        unusable=usable.count(False),
        tokens=sum(map(len, kept)),
        loss_tokens=sum(map(sum, kept)),
        packed_rows=len(packed),
        efficiency={
            "packed": _packed_efficiency(packed, int(read.sum()), batch_size, max_length),
            "unpacked": _unpacked_efficiency(read, batch_size, max_length),
        },
        max_length=max_length,
        lengths=lengths,
    )


def _packed_efficiency(rows: list[np.ndarray], tokens: int, batch_size: int, length: int) -> float:
    """Share of the slots of an epoch's batches, all of one shape, that hold tokens."""
    size = min(batch_size, len(rows))
    batches = -(-len(rows) // batch_size)
    return tokens / (batches * size * length) if rows else 0.0


def _unpacked_efficiency(lengths: np.ndarray, batch_size: int, max_length: int) -> float:
    """The same share for batches of one conversation a row, as long as their longest row."""
    if not len(lengths):
        return 0.0
    batches = BatchPlan(lengths, batch_size).order(0)
    slots = sum(len(rows) * padded_length(lengths[rows].max(), max_length) for rows in batches)
    return float(lengths.sum() / slots)
