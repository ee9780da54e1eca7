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
from tfx_transformer.models.losses import WeightedLoss


class _PreferenceLoss(WeightedLoss):
    """The base of losses of pairs with a weight beta.

    Call arguments:
        y_true: float (2 * pairs, 2): log-probability of each answer by the reference, and its count
            of tokens.
        y_pred: float (2 * pairs,), log p of each answer.

    Returns: float32 (pairs,) before the mean.
    """

    rows_of_example = 2

    def __init__(self, beta: float = 0.1, name: str = "loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not beta > 0:
            raise InputError(f"beta is {beta}.\n  Expected more than 0.")
        self.beta = beta

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@serializable
class DPOLoss(_PreferenceLoss):
    """Direct preference optimization: Rafailov et al. (2023), equation 7.

    loss_i = -log sigmoid(beta ((log p(c_i) - log q(c_i)) - (log p(r_i) - log q(r_i)))) - w m(c_i)

    p is the model and q the reference, the model before the training; c_i and r_i are the chosen
    and the rejected answer to prompt i; m(c_i) is the mean log-probability of a token of c_i by p.

    Args:
        beta: above 0; the smaller, the further the model may move away from the reference. 0.1 in
            Rafailov et al.
        sft_weight: w, 0 or more; above 0 the model also learns to write the chosen answers (Pang
            et al. 2024, equation 1).

    Call arguments: see `data.preferences`, whose batches hold them.
    """

    def __init__(
        self, beta: float = 0.1, name: str = "loss", sft_weight: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(beta, name, **kwargs)
        if not sft_weight >= 0:
            raise InputError(f"sft_weight is {sft_weight}.\n  Expected 0 or more.")
        self.sft_weight = sft_weight

    def get_config(self):
        return {**super().get_config(), "sft_weight": self.sft_weight}

    def call(self, y_true, y_pred):
        scores, known = ops.cast(y_pred, "float32"), ops.cast(y_true, "float32")
        gains = scores - known[:, 0]
        loss = ops.softplus(-self.beta * (gains[0::2] - gains[1::2]))
        if self.sft_weight:
            loss -= self.sft_weight * (scores / known[:, 1])[0::2]
        return loss


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
class RehearsedLoss(WeightedLoss):
    """A loss of preferences plus that of answers to repeat, so that a model does not forget them.

    loss_i = loss(c_i, r_i) - weight (m(a_i) + m(b_i)) / 2

    m(a) is the mean log-probability of a token of answer a. Rows 4i and 4i + 1 are the chosen and
    the rejected answer, rows 4i + 2 and 4i + 3 the two answers to repeat.

    Args:
        loss: `DPOLoss` or `ORPOLoss`.
        weight: weight of the answers to repeat, 0 or more.

    Call arguments: see `data.preferences` with `rehearsed`, whose batches hold them.
    """

    rows_of_example = 4

    def __init__(
        self, loss: keras.losses.Loss, weight: float = 1.0, name: str = "loss", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        if not weight >= 0:
            raise InputError(f"the weight of rehearsed rows is {weight}.\n  Expected 0 or more.")
        self.loss, self.weight = loss, weight

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss, "weight": self.weight}

    @classmethod
    def from_config(cls, config):
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})

    def call(self, y_true, y_pred):
        scores = ops.reshape(ops.cast(y_pred, "float32"), (-1, 4))
        targets = ops.reshape(ops.cast(y_true, "float32"), (-1, 4, 2))
        means = scores[:, 2:] / targets[:, 2:, 1]
        compared = self.loss.call(
            ops.reshape(targets[:, :2], (-1, 2)), ops.reshape(scores[:, :2], (-1,))
        )
        return compared - self.weight * ops.mean(means, axis=1)


@serializable
class PreferredShare(keras.metrics.Mean):
    """Share of the pairs whose chosen answer has the higher log-probability; arguments as for
    `DPOLoss`, weights float (pairs,).

    Args:
        rows: rows of a pair: 2, or 4 for `RehearsedLoss`.
    """

    def __init__(self, name: str = "preferred", rows: int = 2, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.rows = rows

    def get_config(self):
        return {**super().get_config(), "rows": self.rows}

    def update_state(self, y_true, y_pred, sample_weight=None):
        found = ops.cast(prefers_chosen(y_pred, self.rows), "float32")
        super().update_state(found, sample_weight)


def prefers_chosen(scores: Tensor, rows: int = 2) -> Tensor:
    """Return bool (pairs,), True where the chosen answer is the likelier one.

    Args:
        scores: float (rows * pairs,), log p of each answer; the first two of a pair are compared.
    """
    return scores[0::rows] > scores[1::rows]
