"""The loss of each row of a held-out text, from which its perplexity has an interval."""

from __future__ import annotations

import math
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tfx_transformer.data.batches import Batches
from tfx_transformer.evaluation.intervals import Interval, bootstrap_interval
from tfx_transformer.models.decoding import compile_function
from tfx_transformer.models.losses import token_losses


class RowLosses(NamedTuple):
    """Losses of rows, such as blocks of a text.

    nats: float64 (rows,), -ln p of all tokens of a row that weigh; tokens: float64 (rows,), how
    many these are.
    """

    nats: np.ndarray
    tokens: np.ndarray

    def loss(self, chosen: np.ndarray | None = None) -> float:
        """Return the mean loss of a token, in nats, of all rows or of those at some indices."""
        nats, tokens = self if chosen is None else (part[chosen] for part in self)
        return float(nats.sum() / tokens.sum())

    def intervals(self, bytes_per_token: float | None = None) -> dict[str, Interval | None]:
        """Return the 95 % intervals of "perplexity" and, if it is known how many bytes a token has,
        of "bits_per_byte": rows are resampled, so they are those of other texts like this one.

        Args:
            bytes_per_token: of the text.
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
        model: that gives logits of tokens.
        batches: in order, of (inputs, labels, weights), the last two (batch, length).
    """

    def step(inputs, labels, weights):
        losses = token_losses(labels, model(inputs, training=False))
        weights = ops.cast(weights, losses.dtype)
        return ops.sum(losses * weights, axis=1), ops.sum(weights, axis=1)

    run = compile_function(step, None)
    parts = [tuple(map(ops.convert_to_numpy, run(*batch))) for batch in batches]
    nats, tokens = (np.concatenate(side).astype("float64") for side in zip(*parts, strict=True))
    return RowLosses(nats[tokens > 0], tokens[tokens > 0])
