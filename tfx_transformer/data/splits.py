"""Which examples are held out for validation."""

from __future__ import annotations

import numpy as np

from tfx_transformer.data.file_rows import Rows, hashes
from tfx_transformer.errors import InputError


def check_share(share: float) -> None:
    """Raise if no such share of the examples can be held out.

    Raises:
        InputError: it is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share to hold out is {share}.\n  Expected from 0 to 1.")


def split_by_key(
    keys: Rows[str], share: float, seed: int, *, path: str, noun: str
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the examples to train on and of those held out, int (examples,), both ascending.

    All examples with the same key go to the same side. The same for the same keys, share and seed.

    Args:
        keys: one per example: what training is not to have shown, such as the source text.
        share: of distinct keys to hold out; at least one, if there are two.
        path, noun: where the examples come from and what a key is, for the message.

    Raises:
        InputError: fewer than two distinct keys, or the share is not from 0 to 1.
    """
    check_share(share)
    numbers = _numbered(keys)
    distinct = int(numbers.max(initial=-1)) + 1
    if distinct < 2:
        raise InputError(
            f"{path}: cannot be split into training and validation, "
            f"it has {distinct} distinct {noun}.\n"
            "  Add rows, or give a validation file."
        )
    count = min(max(round(distinct * share), 1), distinct - 1)
    held_out = np.zeros(distinct, bool)
    held_out[np.random.default_rng(seed).permutation(distinct)[:count]] = True
    outside = held_out[numbers]
    return np.flatnonzero(~outside), np.flatnonzero(outside)


def _numbered(keys: Rows[str]) -> np.ndarray:
    """int (examples,): for each key a number, from 0 in the order in which keys appear first."""
    _, first, place = np.unique(hashes(keys), return_index=True, return_inverse=True)
    numbers = np.empty(len(first), int)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[place]
