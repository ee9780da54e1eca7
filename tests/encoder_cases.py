"""Encoder-only models with every part that a model may have, and what they read."""

import numpy as np
from tiny_models import CONVOLUTIONS, PATCHES

from tfx_transformer.config import STYLES
from tfx_transformer.models.encoders import Classifier, Embedder, MaskedLM

LENGTHS = np.array([[11], [3], [7]])
IDS = np.where(
    np.arange(11) < LENGTHS, np.random.default_rng(0).integers(3, 23, (3, 11)), 0
).astype("int32")
PAIRS = IDS[:, 2:9]
POSITIONS = np.array([[4, 10], [2, 0], [6, 1]], "int32")
TEXTS = {"token_ids": IDS}
MASKED = {**TEXTS, "masked_positions": POSITIONS}
COLOURS = np.random.default_rng(1).uniform(0, 255, (3, 15, 15, 3)).astype("float32")
BERT = {**STYLES["bert"], "activation": "gelu_tanh"}
# Every part that a model may have, in some model: task, settings, inputs, right answers.
CASES = {
    "masked": (MaskedLM, BERT, MASKED, POSITIONS),
    "untied": (MaskedLM, {"tie_embeddings": False}, MASKED, POSITIONS),
    "texts": (Classifier, {"num_classes": 5, **BERT}, TEXTS, np.array([4, 0, 2])),
    "labels": (
        Classifier,
        {"num_classes": 5, "multi_label": True, "pooling": "attention"},
        TEXTS,
        np.eye(5)[[4, 0, 2]] + np.eye(5)[[1, 1, 1]],
    ),
    "patches": (
        Classifier,
        {"num_classes": 5, "position": "learned", **PATCHES},
        {"images": COLOURS},
        np.eye(5)[[4, 0, 2]],
    ),
    "convolutions": (
        Classifier,
        {"num_classes": 5, **CONVOLUTIONS, "linear_cells": 3, "linear_patches": 2},
        {"images": COLOURS[:, :11, :11]},
        np.eye(5)[[4, 0, 2]],
    ),
    "segments": (
        Classifier,
        {"num_classes": 5, "num_segments": 2, "pooler": True, "pooling": "first"},
        TEXTS,
        np.array([4, 0, 2]),
    ),
    "few_texts": (
        Classifier,
        {"num_classes": 5, **STYLES["classifier"]},
        TEXTS,
        np.array([4, 0, 2]),
    ),
    "class_tokens": (
        Classifier,
        {
            "num_classes": 5,
            "position": "learned",
            "class_tokens": 2,
            "pooling": "class_tokens",
            **PATCHES,
        },
        {"images": COLOURS},
        np.eye(5)[[4, 0, 2]],
    ),
    "pairs": (Embedder, {"position": "learned"}, {**TEXTS, "pair_token_ids": PAIRS}, np.arange(3)),
}


def values(model):
    """Every weight by its path, but for the state of dropout."""
    return {w.path: np.asarray(w) for w in model.weights if "seed_generator" not in w.path}
