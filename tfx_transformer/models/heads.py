"""Classifiers with a head that was trained on the vectors of another model: by a page, or from few
rows."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.json_files import read_object
from tfx_transformer.models.encoders import Classifier, Embedder, EncoderModel

_MOST_CLASSES = 1000


class Head(NamedTuple):
    """A softmax head: logits = weights @ vector + bias.

    labels: of the classes; weights: float32 (classes, width); bias: float32 (classes,).
    """

    labels: list[str]
    weights: np.ndarray
    bias: np.ndarray


def read_head(path: str | os.PathLike) -> Head:
    """Return the head in a file that a page has saved.

    Raises:
        InputError: the file is not such a head, or its vectors had a prompt.
    """
    path = Path(path)
    values = read_object(path)
    if values.get("prompt"):
        raise InputError(
            f"{path}: its texts had the prompt {str(values['prompt'])[:40]!r}, which a classifier "
            "does not put before texts.\n"
            "  Teach the page with an empty prompt, or train on the examples that it saves as CSV."
        )
    try:
        return _head(values)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a classifier that a page has saved ({error}).\n"
            "  Expected the file that the button 'Save the classifier' of a page has made."
        ) from error


def _head(values: dict[str, Any]) -> Head:
    labels = values["labels"]
    if values["format"] != 1:
        raise ValueError(f"format {values['format']!r}")
    if not isinstance(labels, list) or not all(isinstance(name, str) and name for name in labels):
        raise ValueError("its labels are not texts")
    if not 2 <= len(set(labels)) == len(labels) <= _MOST_CLASSES:
        raise ValueError(f"expected 2 to {_MOST_CLASSES:,} different labels")
    weights, bias = (np.array(values[name], "float32") for name in ("weights", "bias"))
    if weights.ndim != 2 or len(weights) != len(labels) or bias.shape != (len(labels),):
        raise ValueError("weights and bias do not fit the labels")
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise ValueError("a weight is not a finite number")
    return Head(labels, weights, bias)


def add_head(base: EncoderModel, head: Head) -> Classifier:
    """Return a classifier that reads as `base` and labels by the head.

    Args:
        base: an `Embedder`, or a `Classifier` of images.
        head: trained on the vectors that `base` makes.

    Raises:
        InputError: `base` makes other vectors, or its vectors pass projections.
    """
    config = base.config
    # A linear part has logits of the classes of `base`.
    changes: dict[str, Any] = {"num_classes": len(head.labels), "linear_cells": 0}
    changes["multi_label"] = False
    if isinstance(base, Embedder):
        if config.projections:
            raise InputError(
                "the embedder has projections after its pooling, which a classifier does not "
                "have.\n  Train on the examples that the page saves as CSV."
            )
        changes |= {"unit_features": config.normalize, "pooler": False, "pooler_norm": False}
        changes |= {"prompts": {}, "default_prompt": None}
    elif not (isinstance(base, Classifier) and config.image_size):
        raise InputError(
            f"a {base.task} model gives no vectors for a head.\n"
            "  Expected an embedder, or a classifier of images."
        )
    model = Classifier(dataclasses.replace(config, **changes), dtype=base.dtype_policy)
    kernel, bias = model.logits.weights
    if kernel.shape != head.weights.T.shape:
        raise InputError(
            f"the head is for vectors of width {head.weights.shape[1]:,}; those of the bundle have "
            f"{kernel.shape[0]:,}.\n  Choose the bundle that the page was made of."
        )
    kernel.assign(head.weights.T)
    bias.assign(head.bias)
    theirs = {weight.path: weight for weight in base.weights}
    for weight in model.weights:
        if not weight.path.startswith("logits/") and "seed_generator" not in weight.path:
            weight.assign(theirs[weight.path].value)
    return model
