"""NumPy under the names of keras.ops, so that the decoding algorithms are written once for both."""

from __future__ import annotations

import numpy as np
from numpy import (  # noqa: F401
    any,
    arange,
    argmax,
    concatenate,
    cumsum,
    exp,
    expand_dims,
    log,
    logical_and,
    logical_not,
    logical_or,
    max,
    maximum,
    min,
    minimum,
    ones,
    repeat,
    reshape,
    shape,
    sort,
    squeeze,
    sum,
    take,
    take_along_axis,
    where,
    zeros,
)


def cast(x, dtype):
    """x with another dtype; see keras.ops.cast."""
    return np.asarray(x).astype(dtype)


def full(dimensions, fill_value, dtype=None):
    """See keras.ops.full."""
    return np.full(dimensions, fill_value, dtype)


# From this width on, `top_k` looks at the largest value of each block first.
_WIDE, _BLOCK = 4096, 64


def top_k(x, k):
    """The k largest values along the last axis and their indices, largest first; among equal
    values the lower index comes first, as in keras.ops.top_k."""
    width = x.shape[-1]
    if k == 1:
        indices = np.argmax(x, axis=-1, keepdims=True)
    elif width >= _WIDE and width >= k * _BLOCK:
        rows = [_top_of_blocks(row, k) for row in x.reshape(-1, width)]
        indices = np.stack(rows).reshape(*x.shape[:-1], k)
    elif k >= width:
        indices = np.argsort(-x, axis=-1, kind="stable")
    else:
        # Ties at the border: take everything that reaches the k-th value.
        border = np.partition(x, -k, axis=-1)[..., -k, None]
        rows = np.where(x >= border, x, -np.inf)
        indices = np.argpartition(-rows, k - 1, axis=-1)[..., :k]
        if np.any(np.sum(x >= border, axis=-1) > k):
            indices = np.argsort(-rows, axis=-1, kind="stable")[..., :k]
        values = np.take_along_axis(x, indices, axis=-1)
        order = np.lexsort((indices, -values), axis=-1)
        indices = np.take_along_axis(indices, order, axis=-1)
    return np.take_along_axis(x, indices, axis=-1), indices


def _top_of_blocks(x, k):
    """The indices of the k largest values of a vector, in the order of `top_k`.

    The k-th largest of the blocks' largest values is a bound that at least k values reach, and few
    others.
    """
    whole = len(x) // _BLOCK * _BLOCK
    largest = np.max(x[:whole].reshape(-1, _BLOCK), axis=1)
    found = np.flatnonzero(x >= np.partition(largest, -k)[-k])
    if len(found) < k:  # some values are NaN
        found = np.arange(len(x))
    return found[np.lexsort((found, -x[found]))[:k]]


def softmax(x, axis=-1):
    """exp(x) / sum exp(x), without overflow."""
    y = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return y / np.sum(y, axis=axis, keepdims=True)


def log_softmax(x, axis=-1):
    """log softmax(x), without overflow."""
    y = x - np.max(x, axis=axis, keepdims=True)
    return y - np.log(np.sum(np.exp(y), axis=axis, keepdims=True))
