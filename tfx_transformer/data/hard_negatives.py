"""Hard negatives: for each text the nearest text that does not belong to it, by the model that
trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer.errors import InputError

# One of this many nearest texts is drawn, so that epochs differ.
_DRAWN_FROM = 5
# Texts that are compared with all others at a time.
_BLOCK = 512
# Most steps that batches are made ahead of the training. Negatives count from so many steps after
# they were mined, so that no batch depends on how far ahead it was made.
_AHEAD = 16


class HardNegatives:
    """The hard negative of each pair in each epoch: the second text of another pair, by its index.

    Until the first mining counts, negatives are drawn at random. A text is not a negative if it
    belongs to the same text in any pair, or if its cosine is above `margin` times that of the pair:
    it may mean the same (de Souza P. Moreira et al. 2024, section 3, "TopK-PercPos").

    Args:
        first, second: texts of the pairs.
        margin: from 0 to 1.
        seed: of the draws.

    Attributes:
        tables: epoch from which a mining counts -> int (pairs,), the index of each pair's negative.

    Raises:
        InputError: the margin is out of range, or there are fewer than two pairs.
    """

    def __init__(
        self, first: Sequence[str], second: Sequence[str], margin: float = 0.95, seed: int = 0
    ) -> None:
        if not 0 < margin <= 1:
            raise InputError(f"negative_margin is {margin}.\n  Expected above 0, at most 1.")
        if len(first) < 2:
            raise InputError("there is only one pair.\n  Pairs are compared: give 2 or more.")
        self.first, self.second, self.margin, self.seed = first, second, margin, seed
        self.tables: dict[int, np.ndarray] = {}
        self._alike: dict[str, dict[str, list[int]]] = {"first": {}, "second": {}}
        for name, texts in (("first", first), ("second", second)):
            for index, text in enumerate(texts):
                self._alike[name].setdefault(text, []).append(index)

    def of(self, epoch: int, index: int) -> int:
        """Return the index of the pair whose second text is the negative of a pair."""
        begins = [begin for begin in self.tables if begin <= epoch]
        if begins:
            return int(self.tables[max(begins)][index])
        random = np.random.default_rng([self.seed, epoch, index, 2])
        return (index + 1 + int(random.integers(len(self.first) - 1))) % len(self.first)

    def excluded(self, indices: Sequence[int], negatives: Sequence[int]) -> np.ndarray:
        """Return the negatives that do not count for the first text of a pair: they are that text,
        or belong to it in any pair.

        Args:
            indices: indices of the pairs of a batch.
            negatives: indices of the pairs whose second texts are the negatives.

        Returns: bool (pairs, negatives), True if the negative does not count.
        """
        texts = [self.second[index] for index in negatives]
        own = [self._own(index) for index in indices]
        return np.array([[text in some for text in texts] for some in own])

    def _own(self, index: int) -> set[str]:
        """Return the first text of a pair, and all second texts that belong to it."""
        text = self.first[index]
        return {text, *(self.second[other] for other in self._alike["first"][text])}

    def begin_of(self, epoch: int, steps: int) -> int | None:
        """Return the epoch from which a mining after an epoch counts; None: mine in a later epoch.

        Args:
            epoch: the epoch that has ended, counted from 0.
            steps: of an epoch.
        """
        period = -(-_AHEAD // steps)
        return None if (epoch + 1) % period else epoch + 1 + period

    def mine(self, begin: int, first: np.ndarray, second: np.ndarray) -> None:
        """Choose negatives that count from an epoch on, and keep only the last earlier table.

        Args:
            begin: the epoch, counted from 0.
            first, second: float (pairs, width), of length 1, vectors of the texts.
        """
        random = np.random.default_rng([self.seed, begin, 3])
        found = [
            self._choose(start + row, cosines, random)
            for start in range(0, len(first), _BLOCK)
            for row, cosines in enumerate(first[start : start + _BLOCK] @ second.T)
        ]
        former = max((other for other in self.tables if other < begin), default=None)
        kept = {} if former is None else {former: self.tables[former]}
        self.tables = kept | {begin: np.array(found)}

    def _choose(self, index: int, cosines: np.ndarray, random: np.random.Generator) -> int:
        allowed = cosines <= self.margin * cosines[index]
        text = self.first[index]
        for name, same in (("first", text), ("second", self.second[index]), ("second", text)):
            allowed[self._alike[name].get(same, [])] = False
        (left,) = np.nonzero(allowed)
        if not len(left):
            return (index + 1 + int(random.integers(len(cosines) - 1))) % len(cosines)
        nearest = left[np.argsort(-cosines[left], kind="stable")[:_DRAWN_FROM]]
        return int(nearest[random.integers(len(nearest))])

    def state(self) -> dict[str, Any]:
        """Return the tables as JSON values."""
        return {str(begin): table.tolist() for begin, table in self.tables.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.tables = {int(begin): np.array(table) for begin, table in state.items()}
