"""Which pairs of texts stand in which batch, where a batch is more than the sum of its pairs."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from tfx_transformer.data.batches import BatchPlan
from tfx_transformer.errors import InputError

# Batches, those of the nearest length, in which a place is looked for.
_NEAR = 100


class ContrastPlan(BatchPlan):
    """Batches of at least two pairs, in which no text stands twice where that can be avoided.

    The contrast within a batch takes every other text of it for one that means something else. A
    text that stands in the batch twice would be taken for its own opposite. So each pair with a
    text that its batch has already changes places with a pair of the batch of the nearest length,
    of the 100 nearest, where neither repeats a text; only if there is none it stays. That is done
    in order, too (`shuffle=False`), so that a validation loss means the same: pairs change places,
    but none is left out.

    A pair that is left over joins another batch: alone it would have nothing to be told from.

    Args:
        lengths: int (pairs, k), as for BatchPlan.
        texts: for each pair its texts; None if they may stand in a batch several times.
        batch_size: pairs in a batch, 2 or more; one batch may have one more.
        shuffle, seed: as for BatchPlan.

    Raises:
        InputError: fewer than two pairs, or than two in a batch.
    """

    def __init__(
        self,
        lengths,
        texts: Sequence[tuple[str, str]] | None,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        if batch_size < 2:
            raise InputError(
                f"batch_size is {batch_size}.\n  Pairs are compared: expected 2 or more."
            )
        if len(lengths) < 2:
            raise InputError("there is only one pair.\n  Pairs are compared: give 2 or more.")
        super().__init__(lengths, batch_size, shuffle=shuffle, seed=seed)
        # A pair of twice the same text holds it once.
        self._texts = [frozenset(pair) for pair in texts or ()]
        distinct = len(frozenset().union(*self._texts))
        self._repeats = distinct < sum(map(len, self._texts))

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size)
        return whole + (rest > 1)

    def order(self, epoch: int) -> list[np.ndarray]:
        """Indices of the pairs of every batch of an epoch (counted from 0)."""
        batches = super().order(epoch)
        alone = next((i for i, batch in enumerate(batches) if len(batch) == 1), None)
        if alone is not None:
            left_over = batches.pop(alone)
            neighbour = alone - 1 if alone else 0
            batches[neighbour] = np.concatenate([batches[neighbour], left_over])
        if self._repeats:
            self._part(batches)
        return batches

    def _part(self, batches: list[np.ndarray]) -> None:
        """Makes pairs that share a text change places, so that they stand in different batches."""
        means = [self.lengths[batch, -1].mean() for batch in batches]  # what they are sorted by
        ranked = [batches[i] for i in np.argsort(means, kind="stable")]
        held = [collections.Counter(t for i in batch for t in self._texts[i]) for batch in ranked]
        for here, batch in enumerate(ranked):
            near = range(max(here - _NEAR, 0), min(here + _NEAR + 1, len(ranked)))
            near = sorted(near, key=lambda there: abs(there - here))[1 : _NEAR + 1]
            for place, pair in enumerate(batch):
                if any(held[here][text] > 1 for text in self._texts[pair]):
                    self._exchange(ranked, held, here, place, near)

    def _exchange(
        self,
        batches: list[np.ndarray],
        held: list[collections.Counter],
        here: int,
        place: int,
        near: Sequence[int],
    ) -> None:
        """Exchanges a pair for the first one with which neither batch holds a text twice.

        Args:
            held: how many pairs of each batch have each text.
            here, place: where the pair stands.
            near: the batches to look in.
        """
        pair = batches[here][place]
        texts = self._texts[pair]
        for there in near:
            if any(held[there][text] for text in texts):
                continue
            for spot, other in enumerate(batches[there]):
                others = self._texts[other]
                if any(held[here][text] for text in others):
                    continue
                batches[here][place], batches[there][spot] = other, pair
                for batch, leaving, coming in ((here, texts, others), (there, others, texts)):
                    held[batch].subtract(leaving)
                    held[batch].update(coming)
                return
