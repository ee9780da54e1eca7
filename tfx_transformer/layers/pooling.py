"""Many vectors to one."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_transformer.layers.attention import MASKED
from tfx_transformer.layers.masks import both, padding_mask
from tfx_transformer.layers.serializable import serializable

_MODES = (
    "mean",
    "first",
    "last",
    "max",
    "mean_sqrt_length",
    "weighted_mean",
    "class_tokens",
    "attention",
)


@serializable
class Pooling(keras.layers.Layer):
    """One vector for a whole text or image; padding does not count.

    mean:       sum_i m_i x_i / sum_i m_i               Reimers & Gurevych (2019), section 3
    first:      x_0                                     Devlin et al. (2019), section 3
    last:       x_l, l the last that is not padding
    max:        max_i x_i, number by number
    mean_sqrt_length: sum_i m_i x_i / sqrt(sum_i m_i)
    weighted_mean: sum_i i m_i x_i / sum_i i m_i, i from 1   Muennighoff (2022), equation 2
    class_tokens: (x_0, … x_n-1) side by side           two: Touvron et al. (2021), section 4
    attention:  sum_i a_i x_i, a = softmax(x w + b)     SeqPool, Hassani et al. (2021), 3.2

    Args:
        mode: one of these names.
        count: n, of "class_tokens".

    Call arguments:
        x: float (batch, length, hidden_dim).
        attention_mask: m, bool (batch, length), False for padding; None: no padding.
        mask: the same, which Keras fills in from x; padding may then be anywhere, and x_0 and x_l
            are the first and the last vector that is not padding.

    Returns: float (batch, hidden_dim); of "class_tokens" (batch, n * hidden_dim).
    """

    def __init__(self, mode: str, count: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if mode not in _MODES:
            raise ValueError(f"Pooling: there is no mode {mode!r}.")
        self.supports_masking = True
        self.mode = mode
        self.count = count
        self.score = None
        if mode == "attention":
            self.score = keras.layers.Dense(1, name="score", dtype=self.dtype_policy)

    def build(self, x_shape, attention_mask_shape=None):
        if self.score is not None:
            self.score.build(x_shape)

    def call(self, x, attention_mask=None, mask=None, x_mask=None):
        padding = padding_mask(mask, x_mask)
        if self.mode == "class_tokens":
            return ops.reshape(x[:, : self.count], (-1, self.count * x.shape[-1]))
        if self.mode in ("first", "last") and padding is not None:
            weights = self._only(both(padding, attention_mask))
            return ops.sum(x * ops.expand_dims(ops.cast(weights, x.dtype), -1), axis=1)
        if self.mode == "first":
            return x[:, 0]
        mask = both(attention_mask, padding)
        if mask is None:
            mask = ops.ones(ops.shape(x)[:2], "bool")
        if self.mode == "max":
            hidden = ops.cast(MASKED, x.dtype)
            return ops.max(ops.where(ops.expand_dims(mask, -1), x, hidden), axis=1)
        if self.mode == "attention":
            scores = self.score(x)[:, :, 0]
            hidden = ops.cast(MASKED, scores.dtype)
            weights = ops.softmax(scores + ops.where(mask, ops.zeros_like(hidden), hidden))
        else:
            weights = ops.cast(mask, x.dtype)
            if self.mode == "last":
                # Padding or nothing follows the last vector: only its weight stays.
                following = ops.pad(weights[:, 1:], [[0, 0], [0, 1]])
                weights = weights * (1 - following)
            else:
                if self.mode == "weighted_mean":
                    places = ops.arange(1, ops.shape(x)[1] + 1)[None]
                    if padding is not None:  # padding at the start does not count
                        places = ops.cumsum(ops.cast(mask, "int32"), axis=1)
                    weights = weights * ops.cast(places, x.dtype)
                total = ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1)
                root = self.mode == "mean_sqrt_length"
                weights = weights / (ops.sqrt(total) if root else total)
        return ops.sum(x * ops.expand_dims(weights, -1), axis=1)

    def _only(self, mask):
        """bool (batch, length): True for the first or the last vector that is not padding."""
        count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
        wanted = 1 if self.mode == "first" else count[:, -1:]
        return ops.logical_and(mask, ops.equal(count, wanted))

    def compute_mask(self, x, mask=None):
        return None  # one vector is left

    def get_config(self):
        return {**super().get_config(), "mode": self.mode, "count": self.count}
