"""Pairs of neighbouring tokens as vectors: the evidence of a bag of n-grams."""

from __future__ import annotations

from typing import Any

from keras import ops

from tfx_transformer.layers.embedding import TokenEmbedding
from tfx_transformer.layers.serializable import serializable

# Prime, so that pairs spread over any number of buckets; small enough for int32 products of ids.
_FACTOR = 1_009


@serializable
class NGramEmbedding(TokenEmbedding):
    """One trained vector per bucket of token pairs, for each token with the one before it.

    y_i = s B[(1009 id_{i-1} + id_i) mod buckets],  id_{-1} = 0

    Hashed bigrams as in Joulin et al. (2016), section 2.2. Vectors begin as zeros: a pair that
    training did not show adds nothing.

    Args:
        input_dim: buckets, the rows of the table.
        output_dim: hidden_dim.
        kwargs: see `TokenEmbedding`.

    Call arguments:
        token_ids: int (batch, length), ids below 2,000,000.

    Returns: float (batch, length, hidden_dim).
    """

    def __init__(self, input_dim: int, output_dim: int, **kwargs: Any) -> None:
        kwargs.setdefault("embeddings_initializer", "zeros")
        super().__init__(input_dim, output_dim, **kwargs)

    def call(self, token_ids):
        token_ids = ops.cast(token_ids, "int32")
        # Not by `pad`: LiteRT's GPU delegates pad floats only.
        before = ops.concatenate([ops.zeros_like(token_ids[:, :1]), token_ids[:, :-1]], axis=1)
        return super().call(ops.mod(_FACTOR * before + token_ids, self.input_dim))

    def compute_output_spec(self, token_ids):
        return super().compute_output_spec(token_ids)
