"""The pairs of texts in each batch, for a loss that compares the pairs of a batch."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from tfx_transformer.data.batches import BatchPlan
from tfx_transformer.errors import InputError

# Batches, those of the nearest length, that are searched for a pair to exchange.
_NEAR = 100


class ContrastPlan(BatchPlan):
    """Batches of at least two pairs, in which no text is twice if that can be avoided.

    The contrastive loss takes every other text of a batch as a negative, so a text that is in the
    batch twice would be its own negative. A pair with a text that is twice in its batch is
    exchanged for a pair of another batch, if neither then repeats the texts exchanged. The 100
    batches of the nearest length are searched, the nearest first; if no pair fits, it stays.
    Batches in order (`shuffle=False`) are treated alike, so that a validation loss means the same.
    No pair is left out.

    A last batch of one pair joins its neighbour: alone the pair would have no negatives.

    Args:
        lengths: int (pairs, k), as for BatchPlan.
        texts: the texts of each pair; None: a text may be in a batch several times.
        batch_size: pairs in a batch, 2 or more; one batch may have one more.
        shuffle, seed: as for BatchPlan.

    Raises:
        InputError: there are fewer than two pairs, or batch_size is below 2.
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
        # A pair of two equal texts counts the text once.
        self._texts = [frozenset(pair) for pair in texts or ()]
        distinct = len(frozenset().union(*self._texts))
        self._repeats = distinct < sum(map(len, self._texts))

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size)
        return whole + (rest > 1)

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the indices of the pairs in every batch of an epoch (counted from 0)."""
        batches = super().order(epoch)
        alone = next((i for i, batch in enumerate(batches) if len(batch) == 1), None)
        if alone is not None:
            left_over = batches.pop(alone)
            neighbour = alone - 1 if alone else 0
            batches[neighbour] = np.concatenate([batches[neighbour], left_over])
        if self._repeats:
            self._separate_repeats(batches)
        return batches

    def _separate_repeats(self, batches: list[np.ndarray]) -> None:
        """Exchange pairs, in place, so that no batch repeats a text if that can be avoided."""
        means = [self.lengths[batch, -1].mean() for batch in batches]  # batches are sorted by it
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
        """Exchange a pair for the first one whose exchange repeats no text in either batch.

        Args:
            held: for each batch, the number of its pairs that have each text.
            here, place: index of the pair's batch, and of the pair in it.
            near: indices of the batches to search.
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


class FreshContrastPlan(ContrastPlan):
    """A `ContrastPlan` whose pairs have new numbers in every epoch: epoch * pairs + index."""

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the numbers of the pairs in every batch of an epoch (counted from 0)."""
        first = epoch * len(self.lengths) if self.shuffle else 0
        return [first + indices for indices in super().order(epoch)]
