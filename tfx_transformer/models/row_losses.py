"""The loss of each row of a held-out text, and from these the interval of its perplexity."""

from __future__ import annotations

import math
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tfx_transformer.data.batches import Batches
from tfx_transformer.evaluation.intervals import Interval, bootstrap_interval
from tfx_transformer.models.decoding import compile_function
from tfx_transformer.models.losses import scores_of


class RowLosses(NamedTuple):
    """Losses of rows, such as blocks of a text.

    nats: float64 (rows,), the sum of -ln p of the tokens of a row that weigh; tokens: float64
    (rows,), the sum of their weights.
    """

    nats: np.ndarray
    tokens: np.ndarray

    def loss(self, indices: np.ndarray | None = None) -> float:
        """Return the mean loss of a token, in nats, over the rows at `indices`; None: all rows."""
        nats, tokens = self if indices is None else (part[indices] for part in self)
        return float(nats.sum() / tokens.sum())

    def intervals(self, bytes_per_token: float | None = None) -> dict[str, Interval | None]:
        """Return the 95 % intervals of "perplexity" and, with `bytes_per_token`, "bits_per_byte".

        Rows are resampled, so the intervals hold for other texts like this one. Too few rows give
        no interval.

        Args:
            bytes_per_token: mean number of bytes of a token of the text.
        """
        loss = bootstrap_interval(self.loss, len(self.tokens))
        if loss is None:
            return {}
        found: dict[str, Interval | None] = {"perplexity": Interval(*map(math.exp, loss))}
        if bytes_per_token:
            scale = math.log(2) * bytes_per_token
            found["bits_per_byte"] = Interval(loss.low / scale, loss.high / scale)
        return found


def row_losses(model: keras.Model, batches: Batches) -> RowLosses:
    """Return the losses of a model on rows of tokens, without rows in which no token weighs.

    Args:
        model: a model that gives logits of tokens.
        batches: (inputs, labels, weights), in order; labels and weights are (batch, length).
    """

    def step(*batch):
        inputs, labels, weights = model.with_targets(batch)
        losses = scores_of(labels, model(inputs, training=False)).losses
        weights = ops.cast(weights, losses.dtype)
        return ops.sum(losses * weights, axis=1), ops.sum(weights, axis=1)

    run = compile_function(step, None)
    parts = [tuple(map(ops.convert_to_numpy, run(*batch))) for batch in batches]
    nats, tokens = (np.concatenate(side).astype("float64") for side in zip(*parts, strict=True))
    return RowLosses(nats[tokens > 0], tokens[tokens > 0])
