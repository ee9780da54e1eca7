"""Losses by which a small model, the student, learns the answers of a larger one, the teacher."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.data.taught_text import UNLABELLED
from tfx_transformer.errors import InputError
from tfx_transformer.layers.serializable import serializable
from tfx_transformer.models.losses import (
    Perplexity,
    TokenAccuracy,
    WeightedLoss,
    each_token,
    scores_of,
)


def soft_divergence(
    teacher: Tensor, logits: Tensor, temperature: float = 1.0, multi_label: bool = False
) -> Tensor:
    """Return T^2 KL(p || q), float32 (…,): p and q are the probabilities of the teacher and of the
    student, by their logits divided by T.

    With T^2 the size of the gradient hardly depends on T (Hinton et al. 2015, section 2). With
    `multi_label` each class has a probability of its own, and the result is the mean of the
    divergences of the classes.

    Args:
        teacher, logits: float (…, classes).
        temperature: T, above 0.
    """
    t, z = (ops.cast(part, "float32") / temperature for part in (teacher, logits))
    if multi_label:
        p = ops.sigmoid(t)
        # log sigmoid(x) = -softplus(-x)
        apart = p * (ops.softplus(-z) - ops.softplus(-t))
        apart = apart + (1 - p) * (ops.softplus(z) - ops.softplus(t))
        return temperature**2 * ops.mean(apart, axis=-1)
    apart = ops.log_softmax(t, axis=-1) - ops.log_softmax(z, axis=-1)
    return temperature**2 * ops.sum(ops.softmax(t, axis=-1) * apart, axis=-1)


@serializable
class TaughtCrossentropy(WeightedLoss):
    """The loss of a student: its divergence from its teacher, and its cross-entropy by the labels.

    loss_i = a T^2 KL(softmax(t_i / T) || softmax(z_i / T)) - (1 - a) log softmax(z_i)[y_i]

    t_i and z_i are the logits of the teacher and of the student for a text, an image or a token,
    and y_i is its label. One without a label has the first term alone. Hinton et al. (2015),
    section 2. With `multi_label` both terms are means over the classes, each with a sigmoid of its
    own.

    Args:
        temperature: T, above 0: the higher, the more the unlikely classes count.
        share: a, from 0 to 1.
        multi_label: True if an example may have any number of classes.

    Call arguments:
        y_true: float (batch, …, 2, classes). First 1 for each class that the example has and 0 for
            the others, or their shares, or -1 for all if it has no label; then the logits of the
            teacher.
        y_pred: float (batch, …, classes), logits.
    """

    def __init__(
        self,
        temperature: float = 2.0,
        share: float = 0.5,
        multi_label: bool = False,
        name: str = "loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        _check(temperature, share)
        self.temperature = temperature
        self.share = share
        self.multi_label = multi_label

    def call(self, y_true, y_pred):
        labels, teacher = ops.cast(y_true[..., 0, :], "float32"), y_true[..., 1, :]
        taught = soft_divergence(teacher, y_pred, self.temperature, self.multi_label)
        logits = ops.cast(y_pred, "float32")
        if self.multi_label:
            labelled = ops.mean(ops.softplus(logits) - labels * logits, axis=-1)
        else:
            labelled = -ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1)
        labelled = ops.where(labels[..., 0] == UNLABELLED, 0.0, labelled)
        return self.share * taught + (1 - self.share) * labelled

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "share": self.share,
            "multi_label": self.multi_label,
        }


@serializable
class TaughtAccuracy(keras.metrics.Mean):
    """The share of the labelled examples whose label has the highest logit; with `multi_label` the
    share of classes that are right.

    Args:
        multi_label: True if an example may have any number of classes. Those with a logit above 0
            are predicted.

    Call arguments: as for `TaughtCrossentropy`.
    """

    def __init__(self, multi_label: bool = False, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.multi_label = multi_label

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = ops.cast(y_true[..., 0, :], "float32")
        if self.multi_label:
            right = ops.cast(ops.equal(labels > 0.5, y_pred > 0), "float32")
            right = ops.mean(right, axis=-1)
        else:
            right = ops.equal(ops.argmax(labels, axis=-1), ops.argmax(y_pred, axis=-1))
        weights = ops.cast(labels[..., 0] != UNLABELLED, "float32")
        if sample_weight is not None:
            weights = weights * ops.cast(sample_weight, "float32")
        super().update_state(*each_token(ops.cast(right, "float32"), weights))

    def get_config(self):
        return {**super().get_config(), "multi_label": self.multi_label}


@serializable
class TaughtError(WeightedLoss):
    """The loss of a student that predicts numbers: its errors by the teacher's and the data's.

    loss_i = a e(z_i - t_i) + (1 - a) e(z_i - y_i),  e(x) = x^2, or |x| with `absolute`

    z_i and t_i are the numbers of the student and of the teacher for a text, and y_i is that of the
    data. A text without a number has the first term alone.

    Args:
        share: a, from 0 to 1.
        absolute: True for the absolute error instead of the squared one.

    Call arguments:
        y_true: float (batch, 3), for each text its number, that of the teacher, and 1; or 0, that
            of the teacher, and 0 if it has none.
        y_pred: float (batch, 1).
    """

    def __init__(
        self, share: float = 0.5, absolute: bool = False, name: str = "loss", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        _check(1.0, share)
        self.share = share
        self.absolute = absolute

    def call(self, y_true, y_pred):
        apart = ops.cast(y_pred, "float32") - ops.cast(y_true[:, :2], "float32")
        errors = ops.abs(apart) if self.absolute else ops.square(apart)
        labelled = ops.cast(y_true[:, 2], "float32") * errors[:, 0]
        return self.share * errors[:, 1] + (1 - self.share) * labelled

    def get_config(self):
        return {**super().get_config(), "share": self.share, "absolute": self.absolute}


@serializable
class TaughtTokens(WeightedLoss):
    """The loss of a student that writes: its divergence from its teacher at each token, and the
    cross-entropy of the label.

    loss_i = a T^2 sum_v p_v (log p_v - log q_v) - (1 - a) log softmax(z_i)[y_i]

    p and q are the probabilities of the teacher and of the student, by their logits divided by T,
    of each of the teacher's likeliest tokens, and of all others together. So the first term is at
    most T^2 KL(p || q) over the whole vocabulary, and the answers of a teacher stay small. Hinton
    et al. (2015), section 2; for each token: Kim & Rush (2016), section 3.1.

    Args:
        likeliest: number of the teacher's likeliest tokens.
        temperature: T, above 0, by which the teacher's logits were divided too.
        share: a, from 0 to 1.

    Call arguments:
        y_true: float (batch, length, 1 + 2 likeliest): the label; the ids of the teacher's
            likeliest tokens; log p of each.
        y_pred: float (batch, length, vocabulary_size), logits.
    """

    def __init__(
        self,
        likeliest: int,
        temperature: float = 2.0,
        share: float = 0.5,
        name: str = "loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        _check(temperature, share)
        self.likeliest = likeliest
        self.temperature = temperature
        self.share = share

    def call(self, y_true, y_pred):
        ids = ops.cast(y_true[..., 1 : 1 + self.likeliest], "int32")
        log_p = ops.cast(y_true[..., 1 + self.likeliest :], "float32")
        logits = ops.cast(y_pred, "float32")
        log_q = ops.log_softmax(logits / self.temperature, axis=-1)
        log_q = ops.take_along_axis(log_q, ids, axis=-1)
        taught = ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)
        p, q = (1 - ops.sum(ops.exp(log), axis=-1) for log in (log_p, log_q))
        # Below 1e-6 the difference is a rounding error.
        others = p * (ops.log(ops.maximum(p, 1e-6)) - ops.log(ops.maximum(q, 1e-6)))
        taught = taught + ops.where(p > 1e-6, others, 0.0)
        labelled = scores_of(y_true[..., 0], logits).losses
        return self.share * self.temperature**2 * taught + (1 - self.share) * labelled

    def get_config(self):
        return {
            **super().get_config(),
            "likeliest": self.likeliest,
            "temperature": self.temperature,
            "share": self.share,
        }


@serializable
class TaughtTokenAccuracy(TokenAccuracy):
    """The share of tokens whose most probable prediction is the label; arguments of the call as for
    `TaughtTokens`."""

    takes_token_scores = False

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true[..., 0], y_pred, sample_weight)


@serializable
class TaughtPerplexity(Perplexity):
    """exp of the mean -log p of the labels, over the tokens that weigh; arguments of the call as
    for `TaughtTokens`."""

    takes_token_scores = False

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true[..., 0], y_pred, sample_weight)


@serializable
class TaughtCosines(WeightedLoss):
    """The squared differences of the cosines of a batch from those of a teacher.

    loss_i = 1/2 (c_ii - t_ii)^2 + 1/2 mean_{j != i} ((c_ij - t_ij)^2 + (c_ji - t_ji)^2) / 2

    c_ij and t_ij are the cosines of first text i with second text j, by the student and by the
    teacher. The vectors of the two may differ in width, and the student's encoder and bag of tokens
    may get other shares after the training, which a loss on the vectors themselves (Reimers &
    Gurevych 2020, equation 1) does not allow. Park et al. (2019), section 3.2, compare the cosines
    of differences of vectors.

    Call arguments:
        y_true: float (batch, 2, width), the teacher's vectors of the first and of the second texts.
        y_pred: float (batch, batch), the student's cosines of each first text with each second one.
    """

    compares_rows = True

    def call(self, y_true, y_pred):
        vectors = ops.normalize(ops.cast(y_true, "float32"), axis=-1, epsilon=1e-12)
        taught = ops.matmul(vectors[:, 0], ops.transpose(vectors[:, 1]))
        apart = ops.square(ops.cast(y_pred, "float32") - taught)
        own = ops.diagonal(apart)
        others = (ops.sum(apart, axis=0) + ops.sum(apart, axis=1)) / 2 - own
        count = ops.cast(ops.maximum(ops.shape(apart)[0] - 1, 1), "float32")
        return (own + others / count) / 2


def _check(temperature: float, share: float) -> None:
    """Raise if an argument of a loss is out of range."""
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature is {temperature}.\n  Expected more than 0.")
    if not 0 <= share <= 1:
        raise InputError(f"share is {share}.\n  Expected from 0 to 1.")
