"""Relative positions of tokens: a trained score for each distance."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.layers.position import token_positions
from tfx_transformer.layers.serializable import serializable


@serializable
class RelativePositions(keras.layers.Layer):
    """Scores for attention to add to its own, by head and by the distance of a key from a query.

    scores[h, q, k] = B[bucket(k - q), h]

    Raffel et al. (2020), section 2.1: half of the buckets hold one distance each; the others hold
    more and more, up to a largest distance. If keys are on both sides, each side has half of the
    buckets.

    Args:
        num_heads: heads of the attention that adds the scores.
        num_buckets: rows of B.
        max_distance: from it on all distances share a bucket.
        causal: keys come before queries only.

    Call arguments:
        start: int or int tensor, scalar or (batch,); position of the first query.
        length: number of queries.
        keys: number of keys, which begin at position 0.
        beside: number of keys next to each other that share a position.

    Returns: float (1 or batch, num_heads, length, keys), the compute dtype.
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        causal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.causal = causal

    def build(self, input_shape=None):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_buckets, self.num_heads),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, start, length, keys, beside=1):
        queries = ops.expand_dims(token_positions(start, length), -1)
        distances = ops.arange(keys, dtype="int32") // beside - queries
        most = self.max_distance
        # A row for each distance from -most to most, so that no logarithm runs in the graph.
        rows = ops.take(self.embeddings, self._buckets(), axis=0)
        scores = ops.take(rows, ops.clip(distances, -most, most) + most, axis=0)
        scores = ops.reshape(scores, (-1, length, keys, self.num_heads))
        return ops.cast(ops.transpose(scores, (0, 3, 1, 2)), self.compute_dtype)

    def _buckets(self) -> np.ndarray:
        """int32 (2 * max_distance + 1,): the bucket of each distance from -max_distance on."""
        distances = np.arange(-self.max_distance, self.max_distance + 1)
        count, behind = self.num_buckets, 0
        if self.causal:
            distances = np.maximum(-distances, 0)
        else:
            count //= 2
            behind, distances = count * (distances > 0), np.abs(distances)
        exact = count // 2
        # In float32, as the models were trained.
        far = np.log(np.maximum(distances, 1).astype("float32") / np.float32(exact))
        far = far / np.float32(np.log(self.max_distance / exact)) * np.float32(count - exact)
        far = np.minimum(exact + far.astype("int32"), count - 1)
        return (behind + np.where(distances < exact, distances, far)).astype("int32")

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "causal": self.causal,
        }
