"""Padding, as Keras marks it: a mask that travels with a tensor."""

from __future__ import annotations

from keras import ops


def padding_mask(*masks):
    """Return the first mask that is given, as bool (batch, length), False for padding, or None.

    Keras fills in `mask` of a layer that gets one tensor, `x_mask` and `memory_mask` of one that
    gets several. For a list of tensors, such as a projected memory, it gives a list: no mask.
    """
    for mask in masks:
        if mask is not None and not isinstance(mask, (list, tuple)):
            return ops.cast(mask, "bool")
    return None


def both(mask, other):
    """Return the mask that is True where both are; None is a mask that is True everywhere."""
    if mask is None or other is None:
        return other if mask is None else mask
    return ops.logical_and(mask, other)
