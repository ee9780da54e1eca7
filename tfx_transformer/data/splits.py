"""Which examples are held out for validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfx_transformer.errors import InputError


def split_by_key(
    keys: Sequence[str], share: float, seed: int, *, path: str, noun: str
) -> tuple[list[int], list[int]]:
    """Indices of the examples to train on and of those held out, both ascending.

    All examples with the same key go to the same side. The same for the same keys, share and seed.

    Args:
        keys: one per example: what training is not to have shown, such as the source text.
        share: of distinct keys to hold out; at least one, if there are two.
        path, noun: where the examples come from and what a key is, for the message.

    Raises:
        InputError: fewer than two distinct keys, or the share is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share to hold out is {share}.\n  Expected from 0 to 1.")
    distinct = list(dict.fromkeys(keys))
    if len(distinct) < 2:
        raise InputError(
            f"{path}: cannot be split into training and validation, "
            f"it has {len(distinct)} distinct {noun}.\n"
            "  Add rows, or give a validation file."
        )
    count = min(max(round(len(distinct) * share), 1), len(distinct) - 1)
    chosen = np.random.default_rng(seed).permutation(len(distinct))[:count]
    held_out = {distinct[i] for i in chosen}
    inside = [i for i, key in enumerate(keys) if key not in held_out]
    outside = [i for i, key in enumerate(keys) if key in held_out]
    return inside, outside
