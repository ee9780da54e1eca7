"""Neighbouring tokens as vectors or as logits: the evidence of a bag of n-grams."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_transformer.layers.embedding import TokenEmbedding
from tfx_transformer.layers.serializable import serializable

# Prime, so that pairs spread over any number of buckets; small enough for int32 products of ids.
_FACTOR = 1_009


@serializable
class NGramEmbedding(TokenEmbedding):
    """One trained vector per bucket of token pairs; a pair is a token and the one before it.

    y_i = s B[(1009 id_{i-1} + id_i) mod buckets],  id_{-1} = 0

    Hashed bigrams as in Joulin et al. (2016), section 2.2. Vectors begin as zeros: a pair not seen
    in training adds nothing.

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


# So small that 53 h + 997 id stays below 2^24 for ids below 2,800: there, GPUs that compute in
# float32 give the same hashes.
_FACTORS = 53, 997
MOST_BUCKETS = 1 << 18
LONGEST = 3
# The least squared norm, so that a text without a known n-gram is not divided by 0.
_LEAST = 1e-6


@serializable
class NGramLogits(keras.layers.Layer):
    """A linear classifier of a bag of hashed n-grams: the tokens, pairs and triples of a text.

    logits = sum_i m_i r[b_i] W[b_i] / sqrt(sum_i m_i r[b_i]^2)
    b = h_1, ..., h_longest of every token:  h_n begins as n;  h_n <- (53 h_n + 997 id) mod buckets
    for each of the last n tokens;  ids before the first token are 0

    m_i is 0 for padding and 1 for other tokens, r the rarity of a bucket. Hashed n-grams as in
    Weinberger et al. (2009); beside a deep model as in Cheng et al. (2016), figure 1. Both tables
    begin as zeros; `evaluation.linear` fits them at once, without gradient steps.

    Args:
        buckets: rows of the tables, at most 2^18.
        classes: C.
        longest: tokens of the longest n-grams, 1 to 3.
        kwargs: see `keras.layers.Layer`.

    Call arguments:
        token_ids: int (batch, length), ids below 2,000,000.
        attention_mask: m, bool (batch, length), False for padding.

    Returns: float (batch, C); zeros for a text without a known n-gram.
    """

    def __init__(self, buckets: int, classes: int, longest: int = LONGEST, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket_count = buckets
        self.classes = classes
        self.longest = longest
        part = {"embeddings_initializer": "zeros", "trainable": False, "dtype": self.dtype_policy}
        self.rarity = TokenEmbedding(buckets, 1, name="rarity", **part)
        self.kernel = TokenEmbedding(buckets, classes, name="kernel", **part)

    def build(self, token_ids_shape, attention_mask_shape=None):
        self.rarity.build(token_ids_shape)
        self.kernel.build(token_ids_shape)

    @property
    def output_weight(self) -> keras.Variable:
        """The weight that the logits are proportional to."""
        return self.kernel.embeddings

    def buckets(self, token_ids):
        """Return the bucket of every n-gram, int32 (batch, longest * length): tokens, pairs,
        triples."""
        token_ids = ops.cast(token_ids, "int32")
        last = [token_ids]
        while len(last) < self.longest:
            ids = last[-1]
            last.append(ops.concatenate([ops.zeros_like(ids[:, :1]), ids[:, :-1]], axis=1))
        found = []
        for size in range(1, self.longest + 1):
            bucket = ops.full_like(token_ids, size)
            for ids in reversed(last[:size]):
                bucket = ops.mod(_FACTORS[0] * bucket + _FACTORS[1] * ids, self.bucket_count)
            found.append(bucket)
        return ops.concatenate(found, axis=1)

    def call(self, token_ids, attention_mask):
        buckets = self.buckets(token_ids)
        rarity = self.rarity(buckets)
        mask = ops.concatenate([attention_mask] * self.longest, axis=1)
        rarity = rarity * ops.expand_dims(ops.cast(mask, rarity.dtype), -1)
        length = ops.sqrt(ops.maximum(ops.sum(rarity * rarity, axis=1), _LEAST))
        return ops.sum(rarity * self.kernel(buckets), axis=1) / length

    def compute_output_spec(self, token_ids, attention_mask):
        return keras.KerasTensor((token_ids.shape[0], self.classes), dtype=self.compute_dtype)

    def get_config(self):
        own = {"buckets": self.bucket_count, "classes": self.classes, "longest": self.longest}
        return {**super().get_config(), **own}
