"""Token ids to vectors, and vectors to logits over the vocabulary."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.layers.rounding import StraightThrough
from tfx_transformer.layers.serializable import serializable


@serializable
class TokenEmbedding(keras.layers.ReversibleEmbedding):
    """One trained vector per token; in reverse, one logit per token.

    embed:    y = scale * E[id]
    reverse:  logits = x E^T  (tied, Press & Wolf 2017)  or  x R  (untied)

    Args:
        input_dim: vocabulary size.
        output_dim: hidden_dim.
        scale: factor on the embedded vectors; sqrt(hidden_dim) in Vaswani et al. (2017), 3.4.
        mask_zero: id 0 is padding: the vectors get a Keras mask. In reverse a mask is passed on.
        tie_weights and the rest: see `keras.layers.ReversibleEmbedding`.

    Attributes:
        rounding: rounds the tables in each call; None: they are not rounded.

    Call arguments:
        inputs: int (batch, length); reverse: float (batch, length, hidden_dim).
        reverse: False or True.

    Returns: float (batch, length, hidden_dim); reverse: float (batch, length, vocabulary_size).
    """

    def __init__(self, input_dim: int, output_dim: int, scale: float = 1.0, **kwargs: Any) -> None:
        # After scaling, vectors have unit variance, about that of the sinusoidal positions.
        kwargs.setdefault(
            "embeddings_initializer", keras.initializers.RandomNormal(stddev=output_dim**-0.5)
        )
        super().__init__(input_dim, output_dim, **kwargs)
        self.supports_masking = True
        self.scale = scale
        self.rounding: StraightThrough | None = None

    def lookup(self, table: Tensor, token_ids: Tensor) -> Tensor:
        """table[token_ids]; the exporter swaps this for an operation that keeps int8 tables."""
        return ops.take(table, token_ids, axis=0)

    @property
    def reverse_variables(self) -> list[keras.Variable]:
        """The variables that `reverse` reads."""
        return [self._embeddings if self.tie_weights else self.reverse_embeddings]

    def call(self, inputs, reverse=False):
        if not reverse:
            vectors = self.lookup(self._rounded(self.embeddings, -1), ops.cast(inputs, "int32"))
            vectors = ops.cast(vectors, self.compute_dtype)
            return vectors * ops.cast(self.scale, vectors.dtype)
        # One flat matrix product: a batched one would repeat the table for every row.
        flat = ops.reshape(inputs, (-1, self.output_dim))
        if self.tie_weights:
            kernel = ops.transpose(self._rounded(self.embeddings, -1))
        else:
            kernel = self._rounded(self.reverse_embeddings, 0)
        logits = ops.matmul(flat, ops.cast(kernel, flat.dtype))
        return ops.reshape(logits, (*ops.shape(inputs)[:-1], self.input_dim))

    def _rounded(self, table, axis):
        """Return a table as the layer computes with it; axis: that of the width."""
        return table if self.rounding is None else self.rounding(table, axis)

    def compute_mask(self, inputs, mask=None):
        backwards = len(inputs.shape) > 2 and keras.backend.is_float_dtype(inputs.dtype)
        return ops.not_equal(inputs, 0) if self.mask_zero and not backwards else mask

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
