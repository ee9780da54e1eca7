"""Losses that prefer one answer to another, and the share of pairs in which a model does.

All compare the log-probabilities of two answers to a prompt, in rows 2i (chosen) and 2i + 1
(rejected), as a `CausalLM` returns them for inputs with `labels`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.errors import InputError
from tfx_transformer.layers.serializable import serializable


class _PreferenceLoss(keras.losses.Loss):
    """The base of losses of pairs with a weight beta.

    Call arguments:
        y_true: float (2 * pairs, 2): log-probability of each answer by the reference, and its count
            of tokens.
        y_pred: float (2 * pairs,), log p of each answer.

    Returns: float32 (pairs,) before the mean.
    """

    rows_of_example = 2

    def __init__(self, beta: float = 0.1, name: str = "loss", **kwargs: Any) -> None:
        kwargs.setdefault("reduction", "mean_with_sample_weight")
        super().__init__(name=name, **kwargs)
        if not beta > 0:
            raise InputError(f"beta is {beta}.\n  Expected more than 0.")
        self.beta = beta

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@serializable
class DPOLoss(_PreferenceLoss):
    """Direct preference optimization: Rafailov et al. (2023), equation 7.

    loss_i = -log sigmoid(beta ((log p(c_i) - log q(c_i)) - (log p(r_i) - log q(r_i))))

    p is the model and q the reference, the model before the training; c_i and r_i are the chosen
    and the rejected answer to prompt i.

    Args:
        beta: above 0; the smaller, the further the model may move away from the reference. 0.1 in
            Rafailov et al.

    Call arguments: see `data.preferences`, whose batches hold them.
    """

    def call(self, y_true, y_pred):
        gains = ops.cast(y_pred, "float32") - ops.cast(y_true, "float32")[:, 0]
        return ops.softplus(-self.beta * (gains[0::2] - gains[1::2]))


@serializable
class ORPOLoss(_PreferenceLoss):
    """Odds ratio preference optimization: Hong et al. (2024), equations 6 and 7.

    loss_i = -m(c_i) - beta log sigmoid(o(c_i) - o(r_i)),  o(a) = log(e^m(a) / (1 - e^m(a)))

    m(a) is the mean log-probability of a token of answer a; the first term is that of fine-tuning
    on the chosen answers. It needs no reference.

    Args:
        beta: weight of the odds ratio, above 0; Hong et al. call it lambda and use 0.1.

    Call arguments: see `data.preferences`, whose batches hold them.
    """

    def call(self, y_true, y_pred):
        counts = ops.cast(y_true, "float32")[:, 1]
        # A probability of 1 has no odds.
        means = ops.minimum(ops.cast(y_pred, "float32") / counts, -1e-6)
        odds = means - ops.log(-ops.expm1(means))
        return self.beta * ops.softplus(odds[1::2] - odds[0::2]) - means[0::2]


@serializable
class PreferredShare(keras.metrics.Mean):
    """Share of the pairs whose chosen answer has the higher log-probability; arguments as for
    `DPOLoss`, weights float (pairs,)."""

    def __init__(self, name: str = "preferred", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(ops.cast(prefers_chosen(y_pred), "float32"), sample_weight)


def prefers_chosen(scores: Tensor) -> Tensor:
    """Return bool (pairs,), True where the chosen answer is the likelier one.

    Args:
        scores: float (2 * pairs,), log p of each answer.
    """
    return scores[0::2] > scores[1::2]
