"""Texts that are generated at the same time in rows, and begin and end independently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tfx_transformer.runtime.causal import FEWEST_TOGETHER, CausalEngine
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine, Steps

# Number of rows that take turns if the file computes one at a time.
TURNS = 4


class Rows(Protocol):
    """Rows of an engine; each holds a text that is being generated.

    Attributes:
        count: number of rows.
    """

    count: int

    def begin(self, row: int, ids: Sequence[int]) -> int:
        """Read a prompt into a row; return the id to decode first."""

    def room(self, ids: Sequence[int]) -> int:
        """Return the most tokens that can be written after a prompt."""

    def step(self, rows: Sequence[int], ids: Sequence[int]) -> np.ndarray:
        """Return float32 (rows, vocabulary_size): logits after one more token in each of these
        rows."""


class CausalRows:
    """Rows of a decoder-only model; see `Rows`.

    Each row has its own key/value cache. `FEWEST_TOGETHER` rows or more are computed by one call of
    `decode_<rows>`, if the file has it; fewer rows one after the other by `decode`, with the same
    caches.
    """

    def __init__(self, engine: CausalEngine) -> None:
        self._context = engine.config.max_sequence_length
        self._together = None
        if engine.rows == 1:
            self._single = [engine.session() for _ in range(TURNS)]
        else:
            self._together = engine.session(engine.rows)
            self._single = [engine.session(cache=cache) for cache in self._together.caches]
        self.count = len(self._single)
        self._positions = np.zeros(self.count, "int32")

    def begin(self, row: int, ids: Sequence[int]) -> int:
        """See `Rows`."""
        *before, last = ids
        if before:
            self._single[row].extend(before, 0)
        self._positions[row] = len(before)
        return last

    def room(self, ids: Sequence[int]) -> int:
        """See `Rows`."""
        return self._context - len(ids)

    def step(self, rows: Sequence[int], ids: Sequence[int]) -> np.ndarray:
        """See `Rows`."""
        positions = self._positions[list(rows)]
        self._positions[list(rows)] += 1
        if self._together is not None and len(rows) >= FEWEST_TOGETHER:
            tokens = np.zeros(self.count, "int32")
            tokens[list(rows)] = ids
            # Rows without a text write into slot 0, which the next prompt overwrites.
            places = np.zeros(self.count, "int32")
            places[list(rows)] = positions
            return self._together.step(tokens, places)[list(rows)]
        logits = [
            self._single[row].step(np.array([index], "int32"), position)
            for row, index, position in zip(rows, ids, positions, strict=True)
        ]
        return np.concatenate(logits)


class Seq2SeqRows:
    """Rows of an encoder-decoder, which take turns; see `Rows`."""

    def __init__(self, engine: Seq2SeqEngine) -> None:
        self._engine = engine
        self.count = TURNS
        self._steps: dict[int, Steps] = {}
        self._positions = np.zeros(self.count, "int32")

    def begin(self, row: int, ids: Sequence[int]) -> int:
        """See `Rows`."""
        self._steps[row] = self._engine.start(ids)
        self._positions[row] = 0
        return self._engine.config.start_id

    def room(self, ids: Sequence[int]) -> int:
        """See `Rows`."""
        return self._engine.config.max_sequence_length

    def step(self, rows: Sequence[int], ids: Sequence[int]) -> np.ndarray:
        """See `Rows`."""
        logits = []
        for row, index in zip(rows, ids, strict=True):
            found, _ = self._steps[row].step(
                np.array([index], "int32"), int(self._positions[row]), None
            )
            logits.append(found)
            self._positions[row] += 1
        return np.concatenate(logits)


# Engine of models that write text -> its rows.
KINDS = {CausalEngine: CausalRows, Seq2SeqEngine: Seq2SeqRows}


def new_rows(engine: CausalEngine | Seq2SeqEngine) -> Rows:
    """Return the rows of an engine, all free."""
    return KINDS[type(engine)](engine)
