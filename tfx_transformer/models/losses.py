"""Losses and metrics of predicting tokens, and losses of comparing texts.

Padding weighs nothing: it comes as sample weight 0.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.errors import InputError
from tfx_transformer.layers.serializable import serializable
from tfx_transformer.models.token_scores import TokenScores, score


def scores_of(token_ids: Tensor, predicted: Tensor | TokenScores) -> TokenScores:
    """Return the scores of tokens, int (batch, length), from float logits (batch, length,
    vocabulary_size), or from these scores."""
    return predicted if isinstance(predicted, TokenScores) else score(token_ids, predicted)


def each_token(values: Tensor, sample_weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return values and weights of all tokens in one row, for a `Mean`: given (batch, length),
    Keras averages over the length first, so tokens of longer batches would weigh less."""
    if sample_weight is not None:
        weights = ops.cast(sample_weight, values.dtype)
        if len(weights.shape) < len(values.shape):
            weights = ops.expand_dims(weights, -1)
        sample_weight = ops.reshape(ops.broadcast_to(weights, ops.shape(values)), (-1,))
    return ops.reshape(values, (-1,)), sample_weight


def disagreement(logits: Tensor, other: Tensor, multi_label: bool = False) -> Tensor:
    """Return the disagreement of two answers to the same inputs: the mean of both divergences.

    1/2 KL(p || q) + 1/2 KL(q || p) = 1/2 sum_c (p_c - q_c) (z_c - z'_c)

    p and q are the probabilities that belong to the logits z and z' (Liang et al. 2021, equation
    2). With `multi_label` each class is a choice of its own; divergences are averaged over the
    classes, as cross-entropies are.

    Args:
        logits, other: float (batch, classes), z and z'.

    Returns: float32 (batch,), 0 where both answers are the same.
    """
    probabilities, total = (ops.sigmoid, ops.mean) if multi_label else (ops.softmax, ops.sum)
    z, other = ops.cast(logits, "float32"), ops.cast(other, "float32")
    return total((probabilities(z) - probabilities(other)) * (z - other), axis=-1) / 2


def reduced(values: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    """Return one loss from those of the examples, reduced as in Keras's losses.

    Args:
        values: float (batch,).
        weights: sample weights, float (batch,); None: 1 each.
        reduction: "mean_with_sample_weight", the sum divided by that of the weights; "sum"; or
            another one, the sum divided by the number of examples.
    """
    weights = ops.ones_like(values) if weights is None else ops.cast(weights, values.dtype)
    total = ops.sum(weights * values)
    if reduction == "sum":
        return total
    count = ops.sum(weights) if reduction == "mean_with_sample_weight" else ops.size(values)
    return ops.divide_no_nan(total, ops.cast(count, values.dtype))


class WeightedLoss(keras.losses.Loss):
    """The base of losses with one value per example. Their weighted sum is divided by the sum of
    the weights, unless `reduction` says otherwise.

    Attributes:
        compares_rows: True if the loss of an example depends on the other rows of its batch.
        rows_of_example: rows of an example in a batch, one after the other.
    """

    compares_rows = False
    rows_of_example = 1

    def __init__(self, name: str = "loss", **kwargs: Any) -> None:
        kwargs.setdefault("reduction", "mean_with_sample_weight")
        super().__init__(name=name, **kwargs)


def reduction_of(loss: Any) -> str:
    """Return the reduction of a loss: see `reduced`.

    Args:
        loss: what a model was compiled with: a `keras.losses.Loss`, or a name or function, whose
            reduction is "sum_over_batch_size".
    """
    return loss.reduction if isinstance(loss, keras.losses.Loss) else "sum_over_batch_size"


@serializable
class TokenCrossentropy(WeightedLoss):
    """Cross-entropy of the next token with label smoothing, averaged over the tokens that weigh.

    loss = (1 - e) * -log p(y) + e * mean_v(-log p(v))         Szegedy et al. (2016), section 7

    The sum over tokens is divided by the sum of their sample weights, so a batch of short and long
    texts weighs each token alike and padding does not dilute it.

    Args:
        label_smoothing: e, from 0 to below 1; 0.1 in Vaswani et al. (2017), 5.4.

    Call arguments:
        y_true: int (batch, length).
        y_pred: float (batch, length, vocabulary_size), or the `TokenScores` of y_true.
    """

    takes_token_scores = True

    def __init__(self, label_smoothing: float = 0.0, name: str = "loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise InputError(
                f"label_smoothing is {label_smoothing}.\n  Expected from 0 to below 1."
            )
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        scores = scores_of(y_true, y_pred)
        if not self.label_smoothing:
            return scores.losses
        # mean_v(-log p(v)) = -log p(y) + logit(y) - mean_v(logit(v)): no second softmax needed.
        return scores.losses + self.label_smoothing * scores.gaps

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@serializable
class Perplexity(keras.metrics.Mean):
    """exp of the mean -log p(y) over the tokens that weigh; without label smoothing."""

    takes_token_scores = True

    def __init__(self, name: str = "perplexity", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(*each_token(scores_of(y_true, y_pred).losses, sample_weight))

    def result(self):
        return ops.exp(super().result())


@serializable
class BitsPerByte(keras.metrics.Mean):
    """Mean of -log2 p(y) over the tokens that weigh, per byte of text instead of per token.

    It compares models with different tokenizers (Gao et al. 2020, section 3.1).

    Args:
        bytes_per_token: mean number of bytes of a token of the text.
    """

    takes_token_scores = True

    def __init__(self, bytes_per_token: float, name: str = "bits_per_byte", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.bytes_per_token = bytes_per_token

    def update_state(self, y_true, y_pred, sample_weight=None):
        bits = scores_of(y_true, y_pred).losses / (math.log(2) * self.bytes_per_token)
        super().update_state(*each_token(bits, sample_weight))

    def get_config(self):
        return {**super().get_config(), "bytes_per_token": self.bytes_per_token}


@serializable
class TokenAccuracy(keras.metrics.Mean):
    """Share of tokens whose most probable prediction is right, among the tokens that weigh."""

    takes_token_scores = True

    def __init__(self, name: str = "token_accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(*each_token(scores_of(y_true, y_pred).hits, sample_weight))


class _Contrast(WeightedLoss):
    """A loss over the cosines of a batch, divided by a temperature."""

    compares_rows = True

    def __init__(self, temperature: float, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not temperature > 0:
            raise InputError(f"temperature is {temperature}.\n  Expected more than 0.")
        self.temperature = temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@serializable
class InBatchContrast(_Contrast):
    """The loss of finding each text's pair among all pairs of the batch, and each pair's text.

    loss_i = -1/2 log(exp(c_ii / t) / sum_j exp(c_ij / t))
             -1/2 log(exp(c_ii / t) / sum_j exp(c_ji / t))

    InfoNCE (van den Oord et al. 2018, eq. 4) of cosines c as in Gao et al. (2021, SimCSE), eq. 1,
    in both directions.

    Args:
        temperature: t, above 0; 0.05 in Gao et al.

    Call arguments:
        y_true: not used: the right answers are the diagonal.
        y_pred: float (batch, batch), cosines of each text with each pair; further columns are the
            cosines with hard negatives.
    """

    def __init__(self, temperature: float = 0.05, name: str = "loss", **kwargs: Any) -> None:
        super().__init__(temperature, name, **kwargs)

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, "float32") / self.temperature
        own = logits[:, : ops.shape(logits)[0]]
        among_pairs, among_texts = ops.logsumexp(logits, axis=1), ops.logsumexp(own, axis=0)
        return (among_pairs + among_texts) / 2 - ops.diagonal(own)


@serializable
class LabelContrast(_Contrast):
    """The loss of finding the texts with the same label among all other texts of the batch.

    loss_i = -1/|P_i| sum_{p in P_i} log(exp(c_ip / t) / sum_{j != i} exp(c_ij / t))

    c are the cosines of the vectors, and P_i the other texts with the label of text i; the loss of
    a text without any is 0. Khosla et al. (2020), equation 2.

    Args:
        temperature: t, above 0; 0.1 in Khosla et al.

    Call arguments:
        y_true: int (batch,), labels.
        y_pred: float (batch, width), vectors of any length.
    """

    def __init__(self, temperature: float = 0.1, name: str = "loss", **kwargs: Any) -> None:
        super().__init__(temperature, name, **kwargs)

    def call(self, y_true, y_pred):
        vectors = ops.normalize(ops.cast(y_pred, "float32"), axis=-1, epsilon=1e-12)
        scores = ops.matmul(vectors, ops.transpose(vectors)) / self.temperature
        labels = ops.reshape(y_true, (-1, 1))
        itself = ops.eye(ops.shape(labels)[0], dtype="bool")
        scores = ops.where(itself, -1e9, scores)
        alike = ops.logical_and(ops.equal(labels, ops.transpose(labels)), ~itself)
        logs = scores - ops.logsumexp(scores, axis=1, keepdims=True)
        found = ops.sum(ops.where(alike, logs, 0.0), axis=1)
        return -found / ops.maximum(ops.sum(ops.cast(alike, "float32"), axis=1), 1.0)


@serializable
class ScoredCosine(WeightedLoss):
    """The squared difference of the cosine of a text and its pair from their score.

    loss_i = (c_ii - y_i)^2                    Reimers & Gurevych (2019), section 3, "regression"

    Call arguments:
        y_true: float (batch,), scores from 0 to 1.
        y_pred: float (batch, batch), cosines of each text with each pair; the diagonal counts.
    """

    compares_rows = True

    def call(self, y_true, y_pred):
        return ops.square(ops.cast(ops.diagonal(y_pred), "float32") - ops.cast(y_true, "float32"))


@serializable
class ScoredCorrelation(WeightedLoss):
    """One minus the correlation of the cosines of a batch's pairs with their scores.

    loss_i = (z(c)_i - z(y)_i)^2 / 2,  z(x) = (x - mean(x)) / std(x);  the mean of all is 1 - r

    r is Pearson's correlation of the cosines c_ii with the scores y_i. Unlike `ScoredCosine` it
    leaves scale and zero of the cosines free: only their order and distances count. In a batch
    whose scores are all the same, z(y) is 0.

    Call arguments:
        y_true: float (batch,), scores.
        y_pred: float (batch, batch), cosines of each text with each pair; the diagonal counts.
    """

    compares_rows = True

    def call(self, y_true, y_pred):
        cosines = _standardize(ops.cast(ops.diagonal(y_pred), "float32"))
        return ops.square(cosines - _standardize(ops.cast(y_true, "float32"))) / 2


@serializable
class Matryoshka(WeightedLoss):
    """The mean of a loss over the widths to which vectors are cut (Kusupati et al. 2022, eq. 1).

    Args:
        loss: of cosines (batch, batch), such as `InBatchContrast`.

    Call arguments:
        y_true: as for `loss`.
        y_pred: float (batch, batch, widths), see `Embedder`.
    """

    compares_rows = True

    def __init__(self, loss: keras.losses.Loss, name: str = "loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.loss = loss

    def call(self, y_true, y_pred):
        count = y_pred.shape[-1]
        return sum(self.loss.call(y_true, y_pred[:, :, i]) for i in range(count)) / count

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss}

    @classmethod
    def from_config(cls, config):
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})


def _standardize(x: Tensor) -> Tensor:
    x = x - ops.mean(x)
    return x / ops.sqrt(ops.mean(ops.square(x)) + 1e-8)
