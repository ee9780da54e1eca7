"""Pairs of texts, such as sentences and their translations, from a table to batches for `fit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tfx_transformer.data.batches import Batches, BatchPlan, pad, tf_dataset
from tfx_transformer.data.conversations import Conversations
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.file_rows import Rows, mapped, sample, sizes
from tfx_transformer.data.sources import TableData
from tfx_transformer.data.splits import split_by_key
from tfx_transformer.data.tables import BadRow, check_two_columns, read_table
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, repr=False)
class Pairs(Examples):
    """Source and target texts, and the row of the file or table that each pair is in."""

    source: Rows[str]
    target: Rows[str]
    rows: Sequence[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)

    parts: ClassVar[tuple[str, ...]] = ("source", "target")

    def shown(self, index: int) -> str:
        return f"{short_repr(self.source[index])} → {short_repr(self.target[index])}"

    def texts(self) -> list[str]:
        """All texts, sources first, to train a tokenizer for both sides on; a sample of texts that
        stay in their file."""
        return sample(self.source) + sample(self.target)

    def conversations(self) -> Conversations:
        """Return each pair as a message and its answer, for a decoder-only model."""
        messages = [
            [{"role": "user", "content": source}, {"role": "assistant", "content": target}]
            for source, target in zip(self.source, self.target, strict=True)
        ]
        return Conversations(messages, list(self.rows), self.path, self.columns)


def read_pairs(
    path: TableData,
    source: str = "source",
    target: str = "target",
    *,
    skip_bad_rows: bool = False,
) -> Pairs:
    """Read a table of pairs.

    The whole file is checked. If it has more than 64 MiB, the texts stay in it: `source` and
    `target` are then `FileRows`, which need the file as long as they are used.

    Args:
        path: a table of any format (see `formats`); or a table in memory: a pandas DataFrame, a
            dictionary of columns, or a list of (source, target) or of dictionaries.
        source, target: names of the two columns.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.

    Raises:
        InputError: see `tables.read_table`.
    """
    columns = {"source": source, "target": target}
    check_two_columns(columns)
    table = read_table(path, columns, skip_bad_rows=skip_bad_rows, leave_in_file=columns)
    return Pairs(
        table.columns["source"],
        table.columns["target"],
        table.rows,
        path=str(table.path),
        columns=table.used,
        bad_rows=table.bad_rows,
    )


def split_pairs(pairs: Pairs, share: float = 0.1, seed: int = 0) -> tuple[Pairs, Pairs]:
    """Return training and validation pairs, the same for the same pairs, share and seed.

    All pairs with the same source go to the same side, so no validation source is in training.

    Args:
        share: share of the distinct sources that goes to validation; at least one does.

    Raises:
        InputError: there are fewer than two distinct sources.
    """
    inside, outside = split_by_key(
        pairs.source, share, seed, path=pairs.path or "pairs", noun="source"
    )
    return pairs.take(inside), pairs.take(outside)


def encode_source(tokenizer: Tokenizer, text: str, max_length: int) -> list[int]:
    """Return the ids that an encoder reads: those of the text, cut to fit, and the end."""
    return tokenizer.encode_first(text, max_length - 1) + [tokenizer.end_id]


def pairs(
    texts: Pairs,
    tokenizer: Tokenizer,
    *,
    batch_size: int = 64,
    max_length: int = 128,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Seq2SeqLM.fit` and `evaluate`.

    Each batch is ({`encoder_token_ids`, `decoder_token_ids`}, labels, sample weights). The ids of
    the encoder are int32 (batch, source length), those of the decoder and the labels int32 (batch,
    target length), the weights float32 of the same shape; texts of similar length are together.
    Labels are the decoder's ids one step ahead; padding weighs 0. Longer texts are cut to
    `max_length` tokens, end included. Every iteration over the data set is the next epoch, in the
    order `BatchPlan` gives for (seed, epoch). Texts that stay in their file are read, and encoded,
    when their batch is made.
    """

    def encode(text):
        return encode_source(tokenizer, text, max_length)

    sources, targets = mapped(encode, texts.source), mapped(encode, texts.target)
    lengths = np.stack([sizes(sources), sizes(targets)], axis=1)
    plan = BatchPlan(lengths, batch_size, shuffle=shuffle, seed=seed)

    def batch(indices):
        chosen = [targets[i] for i in indices]
        labels = pad(chosen, tokenizer.padding_id)
        inputs = {
            "encoder_token_ids": pad([sources[i] for i in indices], tokenizer.padding_id),
            "decoder_token_ids": pad(
                [[tokenizer.start_id, *ids[:-1]] for ids in chosen], tokenizer.padding_id
            ),
        }
        return inputs, labels, (labels != tokenizer.padding_id).astype("float32")

    return tf_dataset(plan, batch)
