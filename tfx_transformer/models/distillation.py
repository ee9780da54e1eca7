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
from tfx_transformer.models.losses import WeightedLoss


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

    t_i and z_i are the logits of the teacher and of the student, and y_i is the label. A text
    without a label has the first term alone. Hinton et al. (2015), section 2. With `multi_label`
    both terms are means over the classes, each with a sigmoid of its own.

    Args:
        temperature: T, above 0: the higher, the more the unlikely classes count.
        share: a, from 0 to 1.
        multi_label: True if a text may have any number of classes.

    Call arguments:
        y_true: float (batch, 2, classes). First 1 for each class that the text has and 0 for the
            others, or -1 for all if it has no label; then the teacher's logits.
        y_pred: float (batch, classes), logits.
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
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature is {temperature}.\n  Expected more than 0.")
        if not 0 <= share <= 1:
            raise InputError(f"share is {share}.\n  Expected from 0 to 1.")
        self.temperature = temperature
        self.share = share
        self.multi_label = multi_label

    def call(self, y_true, y_pred):
        labels, teacher = ops.cast(y_true[:, 0], "float32"), y_true[:, 1]
        taught = soft_divergence(teacher, y_pred, self.temperature, self.multi_label)
        logits = ops.cast(y_pred, "float32")
        if self.multi_label:
            labelled = ops.mean(ops.softplus(logits) - labels * logits, axis=-1)
        else:
            labelled = -ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1)
        labelled = ops.where(labels[:, 0] == UNLABELLED, 0.0, labelled)
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
    """The share of the labelled texts whose label has the highest logit; with `multi_label` the
    share of classes that are right.

    Args:
        multi_label: True if a text may have any number of classes. Those with a logit above 0 are
            predicted.

    Call arguments: as for `TaughtCrossentropy`.
    """

    def __init__(self, multi_label: bool = False, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.multi_label = multi_label

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = ops.cast(y_true[:, 0], "float32")
        if self.multi_label:
            right = ops.cast(ops.equal(labels > 0.5, y_pred > 0), "float32")
            right = ops.mean(right, axis=-1)
        else:
            right = ops.equal(ops.argmax(labels, axis=-1), ops.argmax(y_pred, axis=-1))
        weights = ops.cast(labels[:, 0] != UNLABELLED, "float32")
        if sample_weight is not None:
            weights = weights * ops.cast(sample_weight, "float32")
        super().update_state(ops.cast(right, "float32"), weights)

    def get_config(self):
        return {**super().get_config(), "multi_label": self.multi_label}


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
