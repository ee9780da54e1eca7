"""Padding, as Keras marks it: a mask that travels with a tensor."""

from __future__ import annotations

from keras import ops


def padding_mask(*masks):
    """The first mask there is, as bool (batch, length), False for padding; None: there is none.

    Keras fills in `mask` of a layer that is given one tensor, `x_mask` and `memory_mask` of one
    that is given several; of a list of tensors, such as a projected memory, a list.
    """
    for mask in masks:
        if mask is not None and not isinstance(mask, (list, tuple)):
            return ops.cast(mask, "bool")
    return None


def both(mask, other):
    """Return where both masks are True; None is a mask that is True everywhere."""
    if mask is None or other is None:
        return other if mask is None else mask
    return ops.logical_and(mask, other)
