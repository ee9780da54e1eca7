"""A text as the sum of the vectors of its tokens."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.layers.embedding import TokenEmbedding
from tfx_transformer.layers.serializable import serializable


@serializable
class TokenBag(keras.layers.Layer):
    """The sum of one trained vector for each token of a text, in any order.

    y = sum_i m_i B[id_i]

    A continuous bag of words, as in Joulin et al. (2016), section 2. In training whole tokens are
    dropped.

    Args:
        input_dim: vocabulary size, the rows of the table.
        output_dim: width of the vectors.
        dropout: share of tokens that training drops.
        kwargs: see `keras.layers.Layer`.

    Call arguments:
        token_ids: int (batch, length).
        attention_mask: m, bool (batch, length), False for padding.

    Returns: float (batch, output_dim).
    """

    def __init__(
        self, input_dim: int, output_dim: int, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.table = TokenEmbedding(input_dim, output_dim, name="table", dtype=self.dtype_policy)
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, token_ids_shape, attention_mask_shape=None):
        self.table.build(token_ids_shape)

    def call(self, token_ids, attention_mask, training=None):
        return self.add_up(self.table(token_ids), attention_mask, training=training)

    def add_up(self, vectors: Tensor, attention_mask: Tensor, training: bool | None = None) -> Any:
        """Return the sum of the vectors of tokens, float (batch, output_dim).

        Args:
            vectors: float (batch, length, output_dim), rows of the table.
            attention_mask: see the call.
        """
        counted = ops.expand_dims(ops.cast(attention_mask, vectors.dtype), -1)
        return ops.sum(vectors * self.dropout(counted, training=training), axis=1)

    def compute_output_spec(self, token_ids, attention_mask, training=None):
        shape = (token_ids.shape[0], self.table.output_dim)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "input_dim": self.table.input_dim,
            "output_dim": self.table.output_dim,
            "dropout": self.dropout.rate,
        }
